"""What an agent reads at run time: patterns, and recommendations with their trials."""

from typing import Any

from pydantic import Field

from feedback_pipeline.schemas.answers import Answer, Lenient


class Pattern(Lenient):
    """A pattern with a confidence above .5."""

    type: str
    description: str
    input_features: dict[str, Any]
    output_characteristics: dict[str, Any]
    feedback_signals: dict[str, Any]
    confidence: float | None
    sample_size: int
    applied_count: int
    success_rate: float | None
    success_rate_held_out: float | None


class Trial(Lenient):
    """Whether applying a recommendation helps so far, and how often to apply it."""

    state: str = Field(description="candidate, probation or active")
    trial: int = Field(description="from 1; 0 = not on trial")
    p_on: float = Field(description="probability with which to apply it; 0 = do not, and record nothing")
    salt: str = Field(description="of the assignment; use it as it is")
    uplift: float | None
    ci: tuple[float, float] | None
    n: int = Field(description="executions whose outcome is known")
    reason: str


class Recommendation(Lenient):
    """Something to do differently, with the evidence."""

    id: str
    rank: int
    kind: str
    feature: str | None
    direction: str
    target: dict[str, Any]
    expected_effect: dict[str, Any] | None
    confidence: float
    q_value: float | None
    evidence: dict[str, Any]
    text: str
    action: dict[str, Any] = Field(description="the recommendation for machines; `kind` says which")
    conflicts: list[str]
    trial: Trial


class Improvements(Answer):
    """What one agent can apply."""

    agent_name: str
    status: str
    reason: str | None
    total_patterns: int
    high_confidence_patterns: int
    patterns: list[Pattern]
    recommendations: list[Recommendation]
    learning_run_id: str
    computed_at: str
