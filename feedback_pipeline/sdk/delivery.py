"""Brings records from the spool to the service: in order, in batches, again and again until each is stored or refused."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from feedback_pipeline.errors import FeedbackError, StoreError
from feedback_pipeline.sdk.lines import NO_RECORD, batches, in_order, spooled
from feedback_pipeline.sdk.refused import Refused
from feedback_pipeline.sdk.segments import Segment
from feedback_pipeline.sdk.spool import Spool
from feedback_pipeline.sdk.transport import Acknowledgement, BatchTooLarge, ServiceAway, Transport, Unacceptable

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
EARLY_EVERY_S: Final = 2.0
MOST_EARLY: Final = 10_000
_log = logging.getLogger(__name__)


@dataclass
class _Early:
    """A record that may be stored later: since when it waits, and the segments whose files stay for it."""

    since: float
    segments: list[Segment] = field(default_factory=list)


@dataclass
class _Progress:
    """How many records of a segment are done with, and which of them came early."""

    segment: Segment | None = None
    done: int = 0
    early: list[bytes] = field(default_factory=list)


@dataclass
class Delivery:
    """Sends what a spool holds.

    A record that may be stored later, a review before its execution, holds up nobody: it stays in its file, and what lies behind
    it is sent meanwhile.

    Attributes:
        spool: Where from.
        transport: Where to.
        refused: What becomes of records that are not taken.
        stored: New to the service so far; in this process.
        known: The service had them already.
        pause: Seconds to wait before the next attempt.
        patience: So long a review may wait for its execution, which another process may have to send first.
    """

    spool: Spool
    transport: Transport
    refused: Refused
    stored: int = 0
    known: int = 0
    pause: float = 0.0
    patience: float = 60.0
    _failure: str | None = None
    _early: dict[bytes, _Early] = field(default_factory=dict)
    _early_due: float = 0.0
    _progress: _Progress = field(default_factory=_Progress)

    @property
    def trouble(self) -> str | None:
        """Why records wait, None = the last attempt brought all of them."""
        if self._failure is None and self._early:
            return f"{len(self._early):,} reviews wait for the executions they are about, which the service does not know yet"
        return self._failure

    @property
    def early_in(self) -> float:
        """Seconds until records that came early are tried again."""
        return max(self._early_due - time.monotonic(), 0.0) if self._early else math.inf

    def hurry(self) -> None:
        """Try them with the next attempt."""
        self._early_due = 0.0

    def attempt(self, goes_on: Callable[[], bool]) -> bool:
        """Send what there is; True if nothing is left.

        Args:
            goes_on: Asked between two segments.
        """
        try:
            self._send_all(goes_on)
            self._send_early()
        except FeedbackError as error:
            self._failed(error)
            return False
        except Exception as error:  # noqa: BLE001 - the thread must outlive everything, or records would wait unseen
            _log.exception("sending records failed")
            self._failed(StoreError(f"sending records failed ({type(error).__name__}); the log says more"))
            return False
        if self._failure is not None:
            _log.warning("records reach the service again")
        self._failure, self.pause = None, 0.0
        return self.spool.records == 0

    def _send_all(self, goes_on: Callable[[], bool]) -> None:
        # Those that came early are in memory, so not too many may.
        while len(self._early) < MOST_EARLY and (segment := self.spool.next_segment()) is not None:
            self._send(segment)
            if not goes_on():
                return

    def adopt(self) -> None:
        """Take over what ended processes have left in the spool."""
        try:
            found = self.spool.adopt()
        except OSError as error:
            _log.warning("what other processes left in the spool cannot be read: %s", error.strerror)
            return
        if found:
            _log.info("%d records of processes that ended will be sent", found)

    def _failed(self, error: FeedbackError) -> None:
        if str(error) != self._failure:
            _log.warning("records wait in the spool: %s", error)
        self._failure = str(error)
        self.pause = min(max(2 * self.pause, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        if isinstance(error, ServiceAway) and error.retry_after is not None:
            self.pause = min(max(self.pause, error.retry_after), LONGEST_PAUSE_S)

    def _send(self, segment: Segment) -> None:
        """All of a segment; where an earlier attempt ended, it goes on."""
        if self._progress.segment != segment:
            self._progress = _Progress(segment)
        progress = self._progress
        for kind, items in batches(in_order(segment.lines())[progress.done :]):
            self._deliver(kind, items, progress)
        waiting = [line for line in progress.early if line in self._early]
        if not waiting:
            self.spool.drop(segment)
            return
        # The file stays as it is: writing what waits once more would take room that a full spool or disk does not have.
        self.spool.hold(segment, len(waiting))
        for line in waiting:
            self._early[line].segments.append(segment)

    def _send_early(self) -> None:
        """Those that came early once more, now and then."""
        if self.early_in > 0:
            return
        for kind, items in batches(list(self._early)):
            self._deliver(kind, items, _Progress())
        self._early_due = time.monotonic() + EARLY_EVERY_S

    def _deliver(self, kind: str, items: Sequence[bytes], progress: _Progress) -> None:
        """A batch that is refused as a whole is halved until it is known which record it is."""
        if kind == NO_RECORD:
            for line in items:
                self.refused.keep("unknown kind", line, "this line of the spool is no record that this version writes")
                progress.done += 1
            return
        try:
            answer = self.transport.send(kind, items)
        except (Unacceptable, BatchTooLarge) as error:
            if len(items) > 1:
                middle = len(items) // 2
                self._deliver(kind, items[:middle], progress)
                self._deliver(kind, items[middle:], progress)
                return
            if isinstance(error, BatchTooLarge):
                # The limit is not of the service: a small one would put aside everything, and once it is raised all is well.
                raise
            answer = Acknowledgement(0, 0, [(0, str(error))])
        self._settle(kind, items, answer, progress)

    def _settle(self, kind: str, items: Sequence[bytes], answer: Acknowledgement, progress: _Progress) -> None:
        refused = dict(answer.refused)
        # The early ones last: the same review twice in a batch is early once, and then known.
        for place in sorted(range(len(items)), key=answer.later.__contains__):
            line = spooled(kind, items[place])
            if place in answer.later and self._waits(line):
                progress.early.append(line)
                continue
            if place in refused:
                self.refused.keep(kind, items[place], refused[place])
            early = self._early.pop(line, None)
            for segment in early.segments if early else ():
                self.spool.settle(segment)
        self.stored += answer.stored
        self.known += answer.known
        progress.done += len(items)

    def _waits(self, line: bytes) -> bool:
        now = time.monotonic()
        return now - self._early.setdefault(line, _Early(now)).since < self.patience
