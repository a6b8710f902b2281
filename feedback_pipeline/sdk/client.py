"""What an agent calls: reads what was learned, records what it does, and says what people thought of it."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from feedback_pipeline.errors import NotFound, NothingLearned, StoreError, UserError
from feedback_pipeline.learning.features import CATEGORIES
from feedback_pipeline.schemas.runs import LearningStarted, Run
from feedback_pipeline.sdk.applying import account, choose
from feedback_pipeline.sdk.encoding import APPLICATIONS
from feedback_pipeline.sdk.handing_in import hand_in
from feedback_pipeline.sdk.handlers import HANDLERS, Handler
from feedback_pipeline.sdk.keeping import KeptAnswers, readable
from feedback_pipeline.sdk.options import (
    DEFAULT_SPOOL,
    DEFAULT_URL,
    SPOOL_VARIABLE,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    ClientOptions,
    Outstanding,
)
from feedback_pipeline.sdk.outbox import Outbox
from feedback_pipeline.sdk.recording import Recording
from feedback_pipeline.sdk.results import Applied, ExpectedQuality, LearnedImprovements, ReviewReceipt
from feedback_pipeline.sdk.transport import Fetched, ForecastQuery, open_transport


class LearningClient:
    """One service, for any number of agents and threads.

    As a context manager it delivers what was recorded when the block ends; so does the end of the program.

    Args:
        url: http:// address of the API, or postgresql:// URL of the database; None = FEEDBACK_API_URL, else this machine's.
        token: For HTTP; None = FEEDBACK_API_TOKEN.
        spool: Folder for what must outlive the process; None = FEEDBACK_SPOOL, else `.feedback/spool`. Processes may share it.
        options: How it behaves.

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
        self.options = options or ClientOptions()
        address = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        secret = token or os.environ.get(TOKEN_VARIABLE)
        self._transport = open_transport(address, secret, self.options.timeout_seconds, self.options.score_bounds)
        identity = self._transport.identity
        # What is meant for one service never reaches another.
        own = blake2b(identity.encode(), digest_size=8).hexdigest()
        folder = Path(spool or os.environ.get(SPOOL_VARIABLE) or DEFAULT_SPOOL).absolute() / own
        self._improvements = KeptAnswers(LearnedImprovements, folder / "answers", identity, self.options)
        self._forecasts = KeptAnswers(ExpectedQuality, None, identity, self.options)
        self._outbox = Outbox(self._transport, folder, self.options.outbox)

    def improvements(self, agent_name: str) -> LearnedImprovements:
        """What the agent can apply; when the service is away what it said last, which then is `stale`.

        Raises:
            NotFound: the agent has never been learned from.
            NothingLearned: nothing has been learned yet.
            StoreError: the service cannot be asked, and nothing is kept from earlier.
            UserError: the service does not accept the request.
        """
        return self._improvements.get(agent_name, lambda etag: self._transport.improvements(agent_name, etag))

    def kept_improvements(self, agent_name: str) -> LearnedImprovements | None:
        """What `improvements` returns without asking the service; None if it would have to ask."""
        return self._improvements.fresh(agent_name)

    def forecast(
        self,
        execution_id: str | None = None,
        *,
        agent_name: str | None = None,
        features: Mapping[str, Any] | None = None,
        reviewers: Sequence[str] = (),
    ) -> ExpectedQuality:
        """How an output will be judged: of an execution that nobody has reviewed, or of features.

        Args:
            execution_id: What to forecast; or give features.
            agent_name: Whose output; needed with features.
            features: Numbers and categories by name.
            reviewers: Also what these would say.

        Raises:
            UserError: not exactly one of execution and features, or no such execution.
            NothingLearned: no model has been trained yet.
            StoreError: the service cannot be asked, and nothing is kept from earlier.
        """
        if (execution_id is None) == (features is None):
            raise UserError("a forecast is of an execution or of features; pass exactly one of them")
        if features is not None and agent_name is None:
            raise UserError("a forecast from features needs agent_name")
        query = ForecastQuery(agent_name, execution_id, dict(features or {}), tuple(reviewers))
        key = repr((agent_name, execution_id, sorted(query.features.items(), key=lambda item: item[0]), query.reviewers))
        return self._forecasts.get(key, lambda _: Fetched(self._transport.forecast(query)))

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
        """A context manager that times an execution and records it, also if it fails.

        Args:
            agent_name: Who executes.
            execution_id: By which reviews name it; None = a new one.
            agent_type: Kind of the agent.
            content_id: The piece of content that several outputs may be versions of.
            input_data: What it executes with; `keywords` and the categories in it become features.
            metadata: Anything else; numbers under `features` become features.
        """
        told = {
            "agent_type": agent_type,
            "content_id": content_id,
            "input_data": None if input_data is None else dict(input_data),
            "metadata": None if metadata is None else dict(metadata),
        }
        return Recording(self._outbox, agent_name, execution_id, told)

    def submit_review(
        self, execution_id: str | None = None, *, client_id: UUID | str | None = None, **fields: Any
    ) -> ReviewReceipt:
        """Hand in what a person said of an output.

        Args:
            execution_id: Of which execution; or pass workflow_id.
            client_id: A UUID; the same review sent again under it changes nothing. None = a new one.
            **fields: The others of `schemas.reviews.Review`: reviewer_id, stage, decision, quality_scores, comments, ...

        Returns:
            Whether the service has it; if it is away, or does not know the execution yet, the review is on the disk and is sent
            as soon as possible.

        Raises:
            UserError: the review is not valid, or the service refuses it.
            StoreUnavailable: it cannot be handed in now, and the disk does not take it.
        """
        review = {"client_id": str(client_id or uuid4()), "execution_id": execution_id} | fields
        return hand_in(self._transport, self._outbox, review, self.options.review_seconds)

    def learn(self, agent_name: str) -> LearningStarted:
        """Start a learning pass now, or say which one is under way.

        Raises:
            StoreError: the service cannot be asked.
            UserError: it does not accept the request, or the client speaks to the database.
        """
        return readable(LearningStarted, self._transport.learn(agent_name))

    def run(self, run_id: str) -> Run:
        """How far a learning pass has come.

        Raises:
            StoreError: the service cannot be asked.
            UserError: there is no such run, or the client speaks to the database.
        """
        return readable(Run, self._transport.run(run_id))

    def apply(
        self,
        agent_name: str,
        input_data: Any,
        *,
        execution_id: str,
        predicted_quality: float | None = None,
        handlers: Mapping[str, Handler] = HANDLERS,
    ) -> Applied:
        """Adapt an input to what was learned, and record what was applied and what was held out, before the outcome.

        Nothing learned, or nothing to be had, is no error: the input stays as it is, and the account says why.

        Args:
            agent_name: Who will execute.
            input_data: A mapping or a text.
            execution_id: Of the execution; it decides the draw.
            predicted_quality: P(approve) as far as is known now; None = it is forecast from the categories of the input.
            handlers: By kind of action.

        Raises:
            UserError: the input is neither a mapping nor a text, or the service does not accept the token.
            StoreUnavailable: what was decided cannot be recorded.
        """
        try:
            improvements, reason = self.improvements(agent_name), None
        except (NotFound, NothingLearned, StoreError) as error:
            improvements, reason = None, str(error)
        choice = choose(improvements.recommendations if improvements else [], input_data, execution_id, handlers)
        drawn = bool(choice.applied or choice.held_out)
        if drawn and predicted_quality is None and self.options.predict:
            predicted_quality = self._predicted(agent_name, input_data)
        moment = datetime.now(UTC)
        for record in choice.applications(agent_name, execution_id, predicted_quality, moment):
            self._outbox.put(APPLICATIONS, _returning(record))
        return Applied(
            input_data=choice.adapted,
            learning_applied=account(choice, execution_id, improvements, predicted_quality, reason),
        )

    def _predicted(self, agent_name: str, input_data: Any) -> float | None:
        """From what is known before the execution alone: what it makes of it is part of the effect that is measured."""
        given = input_data if isinstance(input_data, Mapping) else {}
        categories = {name: given[name] for name in CATEGORIES if isinstance(given.get(name), str)}
        try:
            return self.forecast(agent_name=agent_name, features=categories).p_approve
        except (UserError, StoreError):
            return None  # recorded as such: there was no forecast

    def flush(self, seconds: float = 10.0) -> Outstanding:
        """Wait until the service has all that was recorded, or for so long; what is left waits on the disk."""
        return self._outbox.flush(seconds)

    @property
    def outstanding(self) -> Outstanding:
        """How what was recorded fares."""
        return self._outbox.look()

    def close(self, seconds: float = 5.0) -> Outstanding:
        """Put everything on the disk, try to deliver it within the time, and let go of the connections."""
        left = self._outbox.close(seconds)
        self._transport.close()
        return left

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _returning(record: Mapping[str, Any]) -> Callable[[], Mapping[str, Any]]:
    return lambda: record
