"""What is expected of an output before anyone reads it."""

from typing import Annotated, Any

from pydantic import Field

from feedback_pipeline.schemas.answers import Answer, Lenient, Page, Strict
from feedback_pipeline.schemas.texts import AgentName, JsonObject, Name


class Champion(Lenient):
    """The model that forecasts."""

    model_version: int
    candidate: str
    since: str
    mlflow_run_id: str | None
    metrics: dict[str, Any]


class FeatureForecast(Lenient):
    """The expected judgement of an output by one reviewer; reviewer_id null = the average reviewer."""

    agent_name: str
    reviewer_id: str | None
    score: float | None
    low: float | None
    high: float | None
    p_approve: float | None
    abstain: bool
    reason: str | None
    model_version: int


class Forecast(FeatureForecast):
    """As a forecast of features, of the output of an execution."""

    execution_id: str
    made_at: str


class Forecasts(Page):
    """Forecasts of outputs without a review, least likely approvals first."""

    agent_name: str | None
    execution_id: str | None
    champion: Champion
    forecasts: list[Forecast]
    reason: str | None


class FeatureForecastRequest(Strict):
    """An output that need not exist, described by its features."""

    agent_name: AgentName
    features: JsonObject = Field(
        description="numbers and categories by name; what the champion does not know is named in `ignored`, what is missing is "
        "taken as missing"
    )
    reviewers: list[Name] = Field(default_factory=list, max_length=100, description="also what these would say")


class FeatureForecasts(Answer):
    """Forecasts of given features: the average reviewer first, then the named ones in order."""

    agent_name: str
    champion: Champion
    forecasts: list[FeatureForecast]
    ignored: Annotated[list[str], Field(description="features the champion does not know")]
