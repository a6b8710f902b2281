"""What a way to the service has to offer, whether HTTP or Postgres, and the errors that tell whether a retry can help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from feedback_pipeline.errors import StoreUnavailable, UserError
from feedback_pipeline.sdk.score_bounds import ScoreBounds

Document = dict[str, Any]


class ServiceAway(StoreUnavailable):
    """The service does not answer, or asks to be left alone for a while.

    Args:
        message: What is the matter.
        retry_after: Seconds it asked for, None = it said nothing.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BatchTooLarge(ServiceAway):
    """Something before the service takes no request of this size; nothing of it arrived, and less at once may."""


class Unacceptable(UserError):
    """What was sent will never be stored as it is."""


@dataclass(frozen=True)
class Fetched:
    """An answer.

    Attributes:
        document: None = what the caller has under its tag still holds.
        etag: Tag of the document, to ask again with.
    """

    document: Document | None
    etag: str | None = None


@dataclass(frozen=True)
class Acknowledgement:
    """What became of a batch; each item is in it once.

    Attributes:
        stored: New items.
        known: Items that had come before.
        refused: Place and reason of each item that was not stored.
        later: Places of those of them that may be stored later as they are; the others never will be.
    """

    stored: int
    known: int
    refused: Sequence[tuple[int, str]] = ()
    later: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ForecastQuery:
    """What is to be forecast: an execution, or features.

    Attributes:
        agent_name: Whose output; needed with features.
        execution_id: None = of the features.
        features: Numbers and categories by name.
        reviewers: Also what these would say.
    """

    agent_name: str | None
    execution_id: str | None
    features: Mapping[str, Any] = field(default_factory=dict)
    reviewers: tuple[str, ...] = ()


class Transport(Protocol):
    """A way to the service. Every call may raise ServiceAway (retry later), StoreError (it failed) and UserError (do not)."""

    @property
    def identity(self) -> str:
        """Which service this leads to, without secrets: what is kept for it never goes to another."""

    def improvements(self, agent_name: str, etag: str | None) -> Fetched:
        """The improvements of an agent, unless they are those of the tag."""

    def forecast(self, query: ForecastQuery) -> Document:
        """What the champion expects."""

    def send(self, kind: str, items: Sequence[bytes]) -> Acknowledgement:
        """Store a batch of JSON records of one kind; sent again they change nothing.

        Raises:
            Unacceptable: the batch will never be stored as a whole; nothing of it was.
            BatchTooLarge: something before the service does not let so much pass.
        """

    def learn(self, agent_name: str) -> Document:
        """Start a learning pass, or say which one is under way."""

    def run(self, run_id: str) -> Document:
        """How far a learning pass has come."""

    def close(self) -> None:
        """Let go of connections."""


def open_transport(url: str, token: str | None, timeout: float, bounds: ScoreBounds | None = None) -> Transport:
    """The transport for an address.

    Args:
        url: http:// or https:// address of the API, or postgresql:// URL of the database.
        token: For HTTP.
        timeout: Seconds that one answer may take.
        bounds: Of scores, for the database; None = those of the environment.

    Raises:
        UserError: it is neither, or cannot be used.
    """
    scheme = url.strip().partition("://")[0].lower()
    # Imported when needed: an agent that speaks HTTP has no use for a database driver.
    if scheme in ("http", "https"):
        from feedback_pipeline.sdk.http_transport import HttpTransport

        return HttpTransport(url, token, timeout)
    if scheme.startswith("postgres"):
        from feedback_pipeline.sdk.postgres_transport import PostgresTransport

        return PostgresTransport(url, bounds)
    raise UserError(
        "the address of the service must start with http://, https:// or postgresql://; set FEEDBACK_API_URL or pass url"
    )
