"""A learning pass under way: that it was started, and how far it has come."""

from pydantic import Field

from feedback_pipeline.schemas.answers import Answer, Lenient


class Step(Lenient):
    """One step of a run."""

    step: str
    status: str = Field(description="waiting, running, done, failed or skipped")


class Run(Answer):
    """A run of Dagster."""

    run_id: str
    status: str = Field(description="queued, running, done, failed or cancelled")
    steps_done: int
    steps_total: int
    steps: list[Step]
    started_at: str | None
    ended_at: str | None
    page: str = Field(description="where the Dagster UI shows it")


class LearningStarted(Answer):
    """The run that learns; the same one for as long as it is under way."""

    run_id: str
    page: str
    already_running: bool
