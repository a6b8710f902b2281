"""The client for code that must not wait: the same calls, awaited."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from feedback_pipeline.schemas.runs import LearningStarted, Run
from feedback_pipeline.sdk.client import LearningClient
from feedback_pipeline.sdk.handlers import HANDLERS, Handler
from feedback_pipeline.sdk.options import ClientOptions, Outstanding
from feedback_pipeline.sdk.recording import Recording
from feedback_pipeline.sdk.results import Applied, ExpectedQuality, LearnedImprovements, ReviewReceipt


class AsyncLearningClient:
    """A `LearningClient` whose calls are awaited: what may wait for the network happens in a thread.

    Args:
        url: As for `LearningClient`.
        token: As for `LearningClient`.
        spool: As for `LearningClient`.
        options: As for `LearningClient`.

    Raises:
        UserError: the address cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        spool: str | Path | None = None,
        options: ClientOptions | None = None,
    ) -> None:
        self.sync = LearningClient(url, token=token, spool=spool, options=options)

    async def improvements(self, agent_name: str) -> LearnedImprovements:
        """As `LearningClient.improvements`; what is kept and fresh comes without a thread."""
        kept = self.sync.kept_improvements(agent_name)
        return kept if kept is not None else await asyncio.to_thread(self.sync.improvements, agent_name)

    async def forecast(
        self,
        execution_id: str | None = None,
        *,
        agent_name: str | None = None,
        features: Mapping[str, Any] | None = None,
        reviewers: Sequence[str] = (),
    ) -> ExpectedQuality:
        """As `LearningClient.forecast`."""
        return await asyncio.to_thread(
            self.sync.forecast, execution_id, agent_name=agent_name, features=features, reviewers=reviewers
        )

    def record_execution(
        self,
        agent_name: str,
        *,
        execution_id: str | None = None,
        agent_type: str | None = None,
        content_id: str | UUID | None = None,
        input_data: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Recording:
        """As `LearningClient.record_execution`, for `async with`."""
        return self.sync.record_execution(
            agent_name,
            execution_id=execution_id,
            agent_type=agent_type,
            content_id=content_id,
            input_data=input_data,
            metadata=metadata,
        )

    async def submit_review(
        self, execution_id: str | None = None, *, client_id: UUID | str | None = None, **fields: Any
    ) -> ReviewReceipt:
        """As `LearningClient.submit_review`."""
        return await asyncio.to_thread(self.sync.submit_review, execution_id, client_id=client_id, **fields)

    async def learn(self, agent_name: str) -> LearningStarted:
        """As `LearningClient.learn`."""
        return await asyncio.to_thread(self.sync.learn, agent_name)

    async def run(self, run_id: str) -> Run:
        """As `LearningClient.run`."""
        return await asyncio.to_thread(self.sync.run, run_id)

    async def apply(
        self,
        agent_name: str,
        input_data: Any,
        *,
        execution_id: str,
        predicted_quality: float | None = None,
        handlers: Mapping[str, Handler] = HANDLERS,
    ) -> Applied:
        """As `LearningClient.apply`."""
        return await asyncio.to_thread(
            self.sync.apply,
            agent_name,
            input_data,
            execution_id=execution_id,
            predicted_quality=predicted_quality,
            handlers=handlers,
        )

    async def flush(self, seconds: float = 10.0) -> Outstanding:
        """As `LearningClient.flush`."""
        return await asyncio.to_thread(self.sync.flush, seconds)

    @property
    def outstanding(self) -> Outstanding:
        """As `LearningClient.outstanding`."""
        return self.sync.outstanding

    async def close(self, seconds: float = 5.0) -> Outstanding:
        """As `LearningClient.close`."""
        return await asyncio.to_thread(self.sync.close, seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
