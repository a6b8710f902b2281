"""What an agent says of its executions."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from feedback_pipeline.schemas.answers import Strict
from feedback_pipeline.schemas.texts import AgentName, Amount, Count, JsonObject, Moment, Name, Share, Text

MAX_BATCH = 500


class Decision(Strict):
    """One decision on the way to an output."""

    decision_point: Name | None = Field(default=None, description="where it was made, such as draft")
    decision_type: Name | None = Field(default=None, description="kept where the table of decisions has such a column")
    confidence_score: Share | None = None
    alternatives: list[JsonObject | Text] | None = Field(default=None, max_length=1000, description="what else was considered")
    reasoning: Text | None = None
    input_data: JsonObject | None = None
    output_data: JsonObject | None = Field(default=None, description='{"content": "..."} is read as the text')
    created_at: Moment | None = None


class Execution(Strict):
    """One run of an agent, with what it made. Sent again under its `client_id` it changes nothing."""

    client_id: UUID = Field(description="made by the client, once for each execution")
    execution_id: Name = Field(description="several agents may share one")
    agent_name: AgentName
    agent_type: Annotated[Name, Field(max_length=100)] | None = None
    content_id: UUID | None = Field(default=None, description="the piece of content that several outputs may be versions of")
    status: Annotated[Name, Field(max_length=50)] = Field(default="success", description="only success is learned from")
    start_time: Moment
    duration_ms: Amount | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cost: Amount | None = None
    input_data: JsonObject | None = Field(default=None, description="of the last decision, where that has none of its own")
    output_data: JsonObject | None = Field(
        default=None, description="likewise; content is the text, keys as in `docs/reference.md`"
    )
    metadata: JsonObject = Field(default_factory=dict, description="any number under features becomes a feature")
    decisions: list[Decision] = Field(default_factory=list, max_length=200)
    error: Text | None = Field(default=None, description="what went wrong; kept in metadata")


class ExecutionBatch(Strict):
    """Executions to be stored together."""

    executions: list[Execution] = Field(min_length=1, max_length=MAX_BATCH)
