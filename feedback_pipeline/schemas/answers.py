"""What every answer carries: where it comes from, where a list goes on, and what went wrong (RFC 9457)."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """What a caller sends: a name that is not known is a mistake, not a wish."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lenient(BaseModel):
    """What is answered: a newer service may say more, and an older client keeps working."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Window(Lenient):
    """Days learned from, UTC, both included; first null = from the beginning, last null = there was no review."""

    first: str | None
    last: str | None
    lookback_days: int | None


class Provenance(Lenient):
    """What an answer rests on: the last learning run and what went into it; all null before the first."""

    learning_run_id: str | None
    window: Window | None
    n_reviews: int | None
    n_contents: int | None
    computed_at: str | None = Field(description="when the learning run was published")


class Answer(Lenient):
    """A document with its provenance."""

    provenance: Provenance


class Page(Answer):
    """A part of a list; `next` is the cursor of the part that follows, null on the last."""

    next: str | None = Field(description="send it as `cursor` for what follows; it means nothing else")


class FieldProblem(Lenient):
    """One field that cannot be used; its value is not repeated."""

    where: list[str | int] = Field(description="path to the field")
    message: str


class Problem(Lenient):
    """An error as RFC 9457 describes it (application/problem+json)."""

    type: str = Field(description="which kind, for machines: urn:feedback-pipeline:<kind>")
    title: str
    status: int
    detail: str = Field(description="what is the matter and what to do next")
    errors: list[FieldProblem] | None = Field(default=None, description="the fields, where some cannot be used")
    refused: list["Refusal"] | None = Field(default=None, description="the items, where none could be stored")


class Refusal(Lenient):
    """One item of a batch that was not stored, and will not be as it is unless `later` says so."""

    place: int = Field(description="in the batch, from 0")
    client_id: str
    reason: str
    later: bool = Field(
        default=False, description="it may be stored later as it is: a review whose execution has not arrived yet; send it again"
    )


class Receipt(Answer):
    """What became of a batch: `stored` items are new, `known` ones had come before, `refused` ones were not stored."""

    stored: int
    known: int
    refused: list[Refusal]


Document = dict[str, Any]
Problem.model_rebuild()
