"""What a person says of an output."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from feedback_pipeline.schemas.answers import Strict
from feedback_pipeline.schemas.executions import MAX_BATCH
from feedback_pipeline.schemas.texts import Moment, Name, Share, Text

ReviewDecision = Literal["approve", "reject", "request_changes"]
Score = Annotated[float, Field(allow_inf_nan=False)]
Stage = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=63)]


class AspectScore(Strict):
    """The score of one aspect, and what was wrong with it."""

    score: Score | None = None
    issues: list[Text] = Field(default_factory=list, max_length=100)


class Review(Strict):
    """One review of the output of an execution. Sent again under its `client_id` it changes nothing."""

    client_id: UUID = Field(description="made by the client, once for each review")
    execution_id: Name | None = Field(default=None, description="what is reviewed; or name its workflow")
    workflow_id: Name | None = Field(default=None, description="id of a content_review_workflows row")
    reviewer_id: Name | None = Field(
        default=None, description="null = not known who; such reviews are never taken for one person"
    )
    stage: Stage | None = Field(default=None, description="such as quality_check")
    decision: ReviewDecision | None = Field(default=None, description="null = comment only")
    quality_scores: dict[Name, Score | AspectScore | None] = Field(
        default_factory=dict, max_length=100, description="aspect to score, or to {score, issues}"
    )
    comments: Text | None = None
    improvement_suggestions: list[Text] | None = Field(default=None, max_length=100)
    feedback_confidence: Share | None = None
    is_training_data: bool = True
    reviewed_at: Moment | None = Field(default=None, description="null = now")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.execution_id is None) == (self.workflow_id is None):
            raise ValueError("name either execution_id or workflow_id")
        return self


class ReviewBatch(Strict):
    """Reviews to be stored together."""

    reviews: list[Review] = Field(min_length=1, max_length=MAX_BATCH)
