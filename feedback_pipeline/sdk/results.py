"""What the client returns: the documents of the service, and whether they are fresh."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from feedback_pipeline.schemas.answers import Lenient, Provenance
from feedback_pipeline.schemas.forecasts import Champion, FeatureForecast
from feedback_pipeline.schemas.improvements import Improvements


class Freshness(Lenient):
    """Whether a document is what the service says now."""

    stale: bool = Field(default=False, description="the service could not be asked: this is what it said last")
    stale_reason: str | None = Field(default=None, description="why it could not")
    age_seconds: float = Field(default=0.0, description="since the service last confirmed it")

    def aged(self, age_seconds: float, stale_reason: str | None) -> Self:
        """The same document with its freshness."""
        return self.model_copy(
            update={"stale": stale_reason is not None, "stale_reason": stale_reason, "age_seconds": age_seconds}
        )


class LearnedImprovements(Improvements, Freshness):
    """What one agent can apply."""


class ExpectedQuality(Freshness):
    """What the champion expects of an output: by the average reviewer first, then by the named ones."""

    agent_name: str | None
    execution_id: str | None = None
    champion: Champion
    forecasts: list[FeatureForecast]
    ignored: list[str] = Field(default_factory=list, description="features the champion does not know")
    reason: str | None = Field(default=None, description="why a forecast is missing")
    provenance: Provenance

    @property
    def p_approve(self) -> float | None:
        """Probability that the average reviewer approves; None where the champion does not say."""
        first = self.forecasts[0] if self.forecasts else None
        return None if first is None or first.reviewer_id is not None or first.abstain else first.p_approve


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True)


class ReviewReceipt(_Said):
    """What became of a review."""

    client_id: str
    delivered: bool = Field(description="the service has it; else it is on the disk and will be sent")
    reason: str | None = Field(default=None, description="why it is not delivered yet")


class AppliedImprovement(_Said):
    """A recommendation that an execution follows, or was kept from following so that its effect can be measured."""

    pattern_id: str
    trial: int
    improvement_type: str = Field(description="kind of the action")
    description: str
    confidence: float
    action: dict[str, Any]
    propensity: float = Field(description="probability with which it was applied")


class SkippedImprovement(_Said):
    """A recommendation that was neither applied nor held out."""

    pattern_id: str
    improvement_type: str
    reason: str


class LearningApplied(_Said):
    """What an execution did with what was learned."""

    execution_id: str
    improvements_applied: list[AppliedImprovement]
    held_out: list[AppliedImprovement]
    skipped: list[SkippedImprovement]
    total_patterns_considered: int
    high_confidence_patterns: int
    predicted_quality: float | None = Field(description="P(approve) before the execution; None = there was no forecast")
    learning_run_id: str | None
    stale: bool
    stale_reason: str | None = Field(description="why this is not the newest, or why nothing was applied")
    age_seconds: float


class Applied(_Said):
    """The input to execute with, and the account of how it came about."""

    input_data: Any
    learning_applied: LearningApplied
