"""Documents that are shown rather than worked with: their keys are those of the command line, as docs/reference.md lists them."""

from typing import Any, Literal

from pydantic import Field

from feedback_pipeline.schemas.answers import Answer, Lenient, Page, Strict, Window
from feedback_pipeline.schemas.forecasts import Champion
from feedback_pipeline.schemas.texts import Name

Row = dict[str, Any]


class Agents(Page):
    """As `status --json`."""

    agents: list[Row]
    last_run: Row | None
    champion: Champion | None
    rejected: dict[str, int]
    trigger: Row | None
    forgetting: int = Field(description="forgettings that are not finished")


class Patterns(Page):
    """As `patterns AGENT --json`."""

    agent_name: str
    status: str
    patterns: list[Row]
    learning_run_id: str
    computed_at: str


class Correlations(Page):
    """As `findings AGENT --json`."""

    agent_name: str
    status: str
    parts: Row
    window: Window
    n_contents: int
    n_reviewers: int
    learning_run_id: str
    findings: list[Row]


class Strategy(Answer):
    """As `strategy AGENT --json`."""

    agent_name: str
    status: str
    reason: str | None
    segments: list[Row]
    allocation: dict[str, list[Row]]


class Reviewers(Page):
    """As `reviewers --json`."""

    reviewers: list[Row]


class Reviewer(Answer):
    """As one entry of `reviewers --json`."""

    reviewer_id: str
    label: str
    n_reviews: int
    severity: Row


class Agreement(Answer):
    """As `agreement --json`."""

    agent_name: str
    aspects: list[Row]
    reason: str | None
    components: list[list[str]]
    bridges: list[Row]


class Effectiveness(Page):
    """As `effectiveness --json`."""

    agent_name: str | None
    trials: list[Row]


class Queue(Answer):
    """As `queue --json`."""

    champion: Champion
    n_outputs: int
    random_share: float
    queue: list[Row]
    reason: str | None


class AutoApproval(Answer):
    """As `autoapproval --json`."""

    champion: Champion
    risks: list[Row]
    audit_rule: str


class FeedbackWeek(Lenient):
    """One agent in one ISO week."""

    agent_name: str
    week: str = Field(description="its Monday")
    reviews: int
    reviewers: int = Field(description="known ones")
    outputs: int = Field(description="first reviewed in this week")
    decided: int = Field(description="of them, those with a decision")
    approved: int
    approval_rate: float | None
    scores: dict[str, float] = Field(description="mean over the outputs by aspect, and overall; raw points")
    applied: int = Field(description="executions that applied a recommendation in this week")
    held_out: int = Field(description="executions that held one out")


class Analytics(Page):
    """Reviews, approvals, scores and learned effects per agent and week."""

    agent_name: str | None
    weeks: list[FeedbackWeek]
    effects: list[Row] = Field(description="what is measured of each trial so far; in the first part")


class Runs(Page):
    """Learning runs that published something; keys as `last_run` of `status --json`."""

    runs: list[Row]


class Links(Answer):
    """Where people find the rest; null where it is not served."""

    dagster: str
    mlflow: str | None


class Bin(Lenient):
    """Forecasts of about the same P(approve) beside what people decided."""

    low: float
    high: float
    n: int
    forecast: float | None = Field(description="mean P(approve); null = no output in it")
    approved: float | None = Field(description="share approved")


class Outcome(Lenient):
    """The first forecast that the champion of its time made of an output, beside the reviews that came later."""

    agent_name: str
    execution_id: str
    model_version: int
    p_approve: float | None
    approved: bool | None = Field(description="more than half of the decisions approve; null = nobody decided")
    score: float | None
    low: float | None
    high: float | None
    review_score: float | None = Field(description="overall score of the first review with one, points")
    abstain: bool
    made_at: str
    reviewed_at: str


class Outcomes(Page):
    """Forecasts beside outcomes, the latest reviews first."""

    agent_name: str | None
    n_outputs: int = Field(description="outputs with a forecast and a later review")
    n_decided: int = Field(description="those with a decision whose forecast does not abstain: what calibration is of")
    n_inside: int = Field(description="reviews inside the interval they were forecast with")
    n_intervals: int = Field(description="reviews with an interval")
    ece: float | None = Field(description="expected calibration error; null = nothing decided")
    calibration: list[Bin]
    outcomes: list[Outcome]


class DriftWeek(Lenient):
    """Errors (review less forecast) of the champion in one week, or in thin weeks together."""

    week: str = Field(description="its Monday")
    n: int
    mean: float
    z: float
    ewma: float
    ewma_limit: float
    cusum_higher: float
    cusum_lower: float


class Drift(Answer):
    """Whether reviews come out otherwise than the champion forecasts."""

    champion: Champion | None
    alarm: str | None = Field(description="since when, and which way; null = no alarm")
    reason: str | None = Field(description="why nothing is watched, else null")
    weeks: list[DriftWeek]


class ForgetRequest(Strict):
    """What is to be forgotten."""

    kind: Literal["reviewer", "feedback", "content"]
    id: Name


class Forgotten(Answer):
    """As `forget --json`."""

    receipts: list[Row]
