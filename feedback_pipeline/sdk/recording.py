"""One execution while it runs: what it decides, uses and makes, and how long it takes."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

from feedback_pipeline.errors import UserError
from feedback_pipeline.sdk.encoding import EXECUTIONS
from feedback_pipeline.sdk.outbox import Outbox

SUCCESS: Final = "success"
FAILED: Final = "failed"
_DECISION: Final = (
    *(
        "decision_point",
        "decision_type",
        "confidence_score",
        "alternatives",
        "reasoning",
        "input_data",
        "output_data",
        "created_at",
    ),
)
_current: ContextVar["Recording | None"] = ContextVar("feedback_recording", default=None)


class Recording:
    """A context manager around an execution; `async with` never holds up the event loop.

    What it is given is copied one level deep and made JSON of later: what is nested in it must not be changed afterwards.

    Args:
        outbox: Where the record goes when the block ends.
        agent_name: Who executes.
        execution_id: By which reviews name it; None = a new one.
        told: Further fields of `schemas.executions.Execution`; None where they are not known.
    """

    __slots__ = (
        "_agent_name",
        "_changes",
        "_decisions",
        "_duration_ms",
        "_metadata",
        "_named",
        "_outbox",
        "_start_time",
        "_started",
        "_told",
    )

    def __init__(self, outbox: Outbox, agent_name: str, execution_id: str | None, told: Mapping[str, Any]) -> None:
        # Little is done here, in the time of the agent: the record is put together in the background.
        self._outbox, self._agent_name, self._told = outbox, agent_name, told
        self._named = outbox.new_name() if execution_id is None else execution_id
        self._changes: dict[str, Any] = {}
        self._metadata: dict[str, Any] = {}
        self._decisions: list[tuple[Any, ...]] = []

    @property
    def execution_id(self) -> str:
        """By which reviews name it."""
        return self._named

    def decision(
        self,
        point: str | None = None,
        *,
        confidence: float | None = None,
        reasoning: str | None = None,
        alternatives: Sequence[str | Mapping[str, Any]] | None = None,
        kind: str | None = None,
        input_data: Mapping[str, Any] | None = None,
        output_data: Mapping[str, Any] | None = None,
    ) -> None:
        """Note a decision.

        Args:
            point: Where it was made, such as draft.
            confidence: 0..1.
            reasoning: Why.
            alternatives: What else was considered.
            kind: Its type.
            input_data: What it was made from.
            output_data: What it led to; `content` is read as the text of the output.

        Raises:
            UserError: the confidence is none.
        """
        if confidence is not None and not 0 <= confidence <= 1:
            raise UserError("confidence is a share: a number from 0 to 1")
        given = None if input_data is None else dict(input_data)
        made = None if output_data is None else dict(output_data)
        others = None if alternatives is None else list(alternatives)
        self._decisions.append((point, kind, confidence, others, reasoning, given, made, datetime.now(UTC)))

    def tokens(self, *, input: int = 0, output: int = 0) -> None:
        """Add tokens that were used."""
        changes = self._changes
        changes["input_tokens"] = changes.get("input_tokens", 0) + input
        changes["output_tokens"] = changes.get("output_tokens", 0) + output

    def cost(self, amount: float) -> None:
        """Add what something cost, always in one currency."""
        self._changes["cost"] = self._changes.get("cost", 0.0) + amount

    def output(self, made: str | Mapping[str, Any]) -> None:
        """Note what was made: a text, or a document whose `content` is the text."""
        self._changes["output_data"] = {"content": made} if isinstance(made, str) else dict(made)

    def features(self, **numbers: float) -> None:
        """Note numbers about the output; each becomes a feature that is learned from."""
        self._metadata["features"] = self._metadata.get("features", {}) | numbers

    def note(self, **metadata: Any) -> None:
        """Note anything else that belongs to it, such as categories."""
        self._metadata |= metadata

    def fail(self, reason: str) -> None:
        """Mark it as failed; an exception that leaves the block does that too."""
        self._changes |= {"status": FAILED, "error": reason}

    def __enter__(self) -> Self:
        if not self._outbox.has_room:
            self._outbox.wait_for_room()  # before the work, not after it
        return self._begin()

    async def __aenter__(self) -> Self:
        if not self._outbox.has_room:
            await asyncio.to_thread(self._outbox.wait_for_room)
        return self._begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end(error)
        self._outbox.put(EXECUTIONS, self._record)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end(error)
        if self._outbox.has_room:
            self._outbox.put(EXECUTIONS, self._record)
        else:
            await asyncio.to_thread(self._outbox.put, EXECUTIONS, self._record)

    def _begin(self) -> Self:
        self._start_time = datetime.now(UTC)
        self._started = time.perf_counter()
        return self

    def _end(self, error: BaseException | None) -> None:
        self._duration_ms = (time.perf_counter() - self._started) * 1000.0
        if error is not None:
            # The message of an exception may hold anything; its type says enough.
            self.fail(type(error).__name__)

    def _record(self) -> Mapping[str, Any]:
        given = self._told.get("metadata") or {}
        return {
            "client_id": uuid4(),
            "agent_name": self._agent_name,
            "execution_id": self._named,
            "status": SUCCESS,
            "start_time": self._start_time,
            "duration_ms": self._duration_ms,
            **{name: value for name, value in self._told.items() if value is not None},
            **self._changes,
            "metadata": {**given, **self._metadata},
            "decisions": [dict(zip(_DECISION, decision, strict=True)) for decision in self._decisions],
        }


def current_recording() -> Recording | None:
    """The execution that runs here, for code deep inside an agent; None outside of `execute_with_learning`."""
    return _current.get()


@contextmanager
def as_current(recording: Recording) -> Iterator[None]:
    """Make a recording the current one inside the block."""
    token = _current.set(recording)
    try:
        yield
    finally:
        _current.reset(token)
