"""How a client behaves, what may wait in it, and how that fares."""

from dataclasses import dataclass, field
from typing import Final

from feedback_pipeline.sdk.score_bounds import ScoreBounds

URL_VARIABLE: Final = "FEEDBACK_API_URL"
TOKEN_VARIABLE: Final = "FEEDBACK_API_TOKEN"  # noqa: S105 - a name
SPOOL_VARIABLE: Final = "FEEDBACK_SPOOL"
DEFAULT_URL: Final = "http://127.0.0.1:8000"
DEFAULT_SPOOL: Final = ".feedback/spool"


@dataclass(frozen=True)
class Bounds:
    """What an outbox may take.

    Attributes:
        queue_size: Records in memory.
        block_seconds: So long a caller waits for room in the queue before it gets an error.
        spool_bytes: Records on the disk.
        batch_seconds: So long records gather before they are sent together.
        sync: Records survive a power failure once written, not only the end of the process.
    """

    queue_size: int = 10_000
    block_seconds: float = 5.0
    spool_bytes: int = 2**30
    batch_seconds: float = 0.2
    sync: bool = True


@dataclass(frozen=True)
class ClientOptions:
    """How a client behaves.

    Attributes:
        max_age_seconds: So long an answer is not asked for again.
        retry_seconds: So long a service that was away is not asked at all.
        timeout_seconds: So long one answer may take.
        review_seconds: So long `submit_review` waits for what was recorded before it.
        predict: `apply` asks how an execution would be judged, which may make effects measurable with fewer executions.
        score_bounds: (low, high) by aspect, "*" for the rest, for a client that speaks to the database; None = those of the
            environment, which should be those of the API.
        outbox: What may wait, in memory and on the disk.
    """

    max_age_seconds: float = 60.0
    retry_seconds: float = 5.0
    timeout_seconds: float = 10.0
    review_seconds: float = 10.0
    predict: bool = True
    score_bounds: ScoreBounds | None = None
    outbox: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True)
class Outstanding:
    """How the records of this process fare.

    Attributes:
        queued: In memory, not yet on the disk.
        spooled: On the disk, not yet with the service; those that ended processes left included.
        early: Those of them that are reviews of executions which the service does not know yet; they hold up nobody.
        stored: New to the service.
        known: It had them already.
        refused: It will not take them; they are in the file `refused.jsonl` of the spool.
        trouble: Why records wait, None = nothing is wrong.
    """

    queued: int
    spooled: int
    early: int
    stored: int
    known: int
    refused: int
    trouble: str | None

    @property
    def pending(self) -> int:
        """Records that the service does not have yet."""
        return self.queued + self.spooled

    @property
    def ahead(self) -> int:
        """Those of them that a new record comes after."""
        return max(self.pending - self.early, 0)
