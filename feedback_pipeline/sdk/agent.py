"""An agent that applies what reviews have taught: a mix-in for any class with `execute(input, ...)`, sync or async."""

import asyncio
import inspect
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

from feedback_pipeline.errors import UserError
from feedback_pipeline.sdk.async_client import AsyncLearningClient
from feedback_pipeline.sdk.client import LearningClient
from feedback_pipeline.sdk.handlers import GUIDANCE, HANDLERS, Handler
from feedback_pipeline.sdk.recording import Recording, as_current
from feedback_pipeline.sdk.results import Applied

LEARNING_APPLIED = "learning_applied"
"""Key of the metadata of a result."""


@dataclass
class LearnedResult:
    """What an agent returned that has no metadata of its own.

    Attributes:
        output: As the agent returned it.
        metadata: `learning_applied`: what was applied, held out and skipped.
    """

    output: Any
    metadata: dict[str, Any] = field(default_factory=dict)


class LearningEnhancedAgent:
    """Put it before the class of the agent: `class Drafter(LearningEnhancedAgent, BaseAgent)`.

    Where `execute` is a coroutine function, the three methods below are awaited; else they return at once.

    Attributes:
        learning_client: A `LearningClient`, or the async one.
        learning_handlers: By kind of action; replace or add some with `{**HANDLERS, kind: own}`.
        records_executions: Whether `execute_with_learning` records the execution too; turn it off where the platform does.
    """

    learning_client: LearningClient | AsyncLearningClient
    learning_handlers: Mapping[str, Handler] = HANDLERS
    records_executions: bool = True

    @property
    def learning_agent_name(self) -> str:
        """Under which name the agent learns: its `agent_name`, else `metadata.name`, else `name`.

        Raises:
            UserError: it has none of them.
        """
        metadata = getattr(self, "metadata", None)
        for name in (getattr(self, "agent_name", None), getattr(metadata, "name", None), getattr(self, "name", None)):
            if isinstance(name, str) and name:
                return name
        raise UserError(f"{type(self).__name__} has no name to learn under; set agent_name")

    @property
    def _client(self) -> LearningClient:
        client = getattr(self, "learning_client", None)
        if isinstance(client, AsyncLearningClient):
            return client.sync
        if isinstance(client, LearningClient):
            return client
        raise UserError(f"{type(self).__name__} has no learning_client; set it to a LearningClient()")

    @property
    def _is_async(self) -> bool:
        return inspect.iscoroutinefunction(cast("Any", self).execute)

    def load_learned_improvements(self) -> Any:
        """Read what was learned (`LearnedImprovements`); it is kept, so that `apply_learned_improvements` need not wait.

        Raises:
            FeedbackError: as `LearningClient.improvements`.
        """
        if self._is_async:
            return asyncio.to_thread(self._client.improvements, self.learning_agent_name)
        return self._client.improvements(self.learning_agent_name)

    def apply_learned_improvements(self, input_data: Any, *, execution_id: str | None = None) -> Any:
        """Adapt an input, by lot, and record it (`Applied`): see `LearningClient.apply`. No execution_id = a new one."""
        named = execution_id or uuid4().hex
        return asyncio.to_thread(self._apply, input_data, named) if self._is_async else self._apply(input_data, named)

    def execute_with_learning(self, input_data: Any, *args: Any, execution_id: str | None = None, **options: Any) -> Any:
        """Execute with what was learned, and record both.

        Args:
            input_data: A mapping or a text.
            *args: For `execute`, after the input.
            execution_id: By which reviews name it; None = a new one.
            **options: For `execute`.

        Returns:
            What `execute` returns, with `learning_applied` in its metadata (a `metadata` attribute or key); what has no room
            for metadata comes as a `LearnedResult`. Where `execute` is a coroutine function, this is awaited.
        """
        named = execution_id or uuid4().hex
        run = self._execute_async if self._is_async else self._execute
        return run(named, input_data, args, options)

    def predicted_quality(self, input_data: Any) -> float | None:
        """P(approve) of what will be made of this input, for agents that know better than the quality predictor.

        Only what is known before the execution may count. None = it is forecast.
        """
        return None

    def describe_result(self, result: Any) -> str | Mapping[str, Any] | None:
        """What of a result is recorded as the output; override it where the text is elsewhere.

        A text, a mapping without metadata and guidance, or the `output`, `content` or `text` of an object; None = nothing.
        """
        if isinstance(result, LearnedResult):
            result = result.output
        if isinstance(result, Mapping):
            return {str(key): value for key, value in result.items() if key not in ("metadata", GUIDANCE)}
        for found in (result, *(getattr(result, name, None) for name in ("output", "content", "text"))):
            if isinstance(found, str | Mapping):
                return found
        return None

    def _apply(self, input_data: Any, execution_id: str) -> Applied:
        return self._client.apply(
            self.learning_agent_name,
            input_data,
            execution_id=execution_id,
            predicted_quality=self.predicted_quality(input_data),
            handlers=self.learning_handlers,
        )

    def _execute(self, named: str, input_data: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        applied = self._apply(input_data, named)
        if not self.records_executions:
            return _with_account(cast("Any", self).execute(applied.input_data, *args, **options), applied)
        with self._recording(named, applied) as recording, as_current(recording):
            result = cast("Any", self).execute(applied.input_data, *args, **options)
            self._note(recording, result)
        return _with_account(result, applied)

    async def _execute_async(self, named: str, input_data: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        applied = await asyncio.to_thread(self._apply, input_data, named)
        if not self.records_executions:
            return _with_account(await cast("Any", self).execute(applied.input_data, *args, **options), applied)
        async with self._recording(named, applied) as recording:
            with as_current(recording):
                result = await cast("Any", self).execute(applied.input_data, *args, **options)
            self._note(recording, result)
        return _with_account(result, applied)

    def _recording(self, execution_id: str, applied: Applied) -> Recording:
        """Of the input as it is executed with; the guidance is kept out, since it names reviewers."""
        given = applied.input_data if isinstance(applied.input_data, Mapping) else {}
        known = {str(key): value for key, value in given.items() if key != GUIDANCE}
        return self._client.record_execution(self.learning_agent_name, execution_id=execution_id, input_data=known)

    def _note(self, recording: Recording, result: Any) -> None:
        made = self.describe_result(result)
        if made is not None:
            recording.output(made)


def _with_account(result: Any, applied: Applied) -> Any:
    account = {LEARNING_APPLIED: applied.learning_applied.model_dump()}
    if isinstance(result, Mapping):
        return {**result, "metadata": {**(result.get("metadata") or {}), **account}}
    if not hasattr(result, "metadata"):
        return LearnedResult(result, account)
    if isinstance(result.metadata, MutableMapping):
        result.metadata.update(account)
    else:
        result.metadata = {**(result.metadata or {}), **account}
    return result
