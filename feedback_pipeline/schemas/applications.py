"""What an agent says of a recommendation that it applied, or held out by lot, before anyone knows how that went."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from feedback_pipeline.schemas.answers import Strict
from feedback_pipeline.schemas.executions import MAX_BATCH
from feedback_pipeline.schemas.texts import AgentName, Moment, Name, Share


class Application(Strict):
    """One decision to apply a recommendation in an execution, or not to."""

    application_id: UUID = Field(description="made by the client: sent again it changes nothing")
    pattern_id: Name = Field(description="id of the recommendation")
    trial: Annotated[int, Field(ge=1, lt=2**31)]
    agent_name: AgentName
    execution_id: Name
    applied: bool
    propensity: Annotated[float, Field(gt=0, lt=1)] = Field(description="the p_on that was used")
    predicted_quality: Share | None = Field(default=None, description="P(approve) as it was forecast then; null = there was none")
    assigned_at: Moment = Field(description="when it was decided, before the review")


class ApplicationBatch(Strict):
    """Applications to be stored together, or none of them."""

    applications: list[Application] = Field(min_length=1, max_length=MAX_BATCH)
