"""Brings records from the spool to the service: in order, in batches, again and again until each is stored or refused."""

import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from feedback_pipeline.errors import FeedbackError, StoreError, StoreUnavailable
from feedback_pipeline.schemas.executions import MAX_BATCH
from feedback_pipeline.sdk.encoding import REVIEWS
from feedback_pipeline.sdk.spool import Segment, Spool
from feedback_pipeline.sdk.transport import Acknowledgement, ServiceAway, Transport, Unacceptable

BATCH_BYTES: Final = 4 * 2**20
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
_log = logging.getLogger(__name__)


def spooled(kind: str, raw: bytes) -> bytes:
    """One line of the spool: the record under its kind."""
    return b'{"%s":%s}' % (kind.encode(), raw)


def unspooled(line: bytes) -> tuple[str, bytes]:
    """The kind and the record of a line of the spool, which is not parsed for that."""
    kind, _, rest = line.partition(b":")
    return kind[2:-1].decode(), rest[:-1]


def batches(lines: Sequence[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Records of one kind that follow each other, as many as the service takes at once."""
    kind, own, size = "", list[bytes](), 0
    for line in lines:
        its, raw = unspooled(line)
        if own and (its != kind or len(own) == MAX_BATCH or size + len(raw) > BATCH_BYTES):
            yield kind, own
            own, size = [], 0
        kind, size = its, size + len(raw) + 1
        own.append(raw)
    if own:
        yield kind, own


class Refused:
    """A file of the records that the service will never take as they are, each with the reason; nothing deletes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self.count = 0

    def keep(self, kind: str, raw: bytes, reason: str) -> None:
        """Write one down, and say so.

        Raises:
            StoreUnavailable: the disk does not take it.
        """
        try:
            with self._guard:
                self._append(kind, raw, reason)
        except OSError as error:
            raise StoreUnavailable(f"records cannot be kept in {self._path}: {error.strerror}; free space on its disk") from None
        self.count += 1
        _log.warning("a record of %s will not be stored: %s; it is kept in %s", kind, reason, self._path)

    def _append(self, kind: str, raw: bytes, reason: str) -> None:
        entry: dict[str, Any] = {"kind": kind, "reason": reason, "at": datetime.now(UTC).isoformat()}
        line = json.dumps(entry | {"record": raw.decode(errors="replace")}, ensure_ascii=False)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, line.encode(errors="replace") + b"\n")
        finally:
            os.close(file)


@dataclass
class Delivery:
    """Sends what a spool holds.

    Attributes:
        spool: Where from.
        transport: Where to.
        refused: What becomes of records that are not taken.
        stored: New to the service so far; in this process.
        known: The service had them already.
        trouble: Why the last attempt failed, None = it did not.
        pause: Seconds to wait before the next attempt.
        patience: So long a review may wait for its execution, which another process may have to send first.
    """

    spool: Spool
    transport: Transport
    refused: Refused
    stored: int = 0
    known: int = 0
    trouble: str | None = None
    pause: float = 0.0
    patience: float = 60.0
    _early: dict[bytes, float] = field(default_factory=dict)
    _again: list[bytes] = field(default_factory=list)
    _done: int = 0
    _segment: Segment | None = field(default=None)

    def attempt(self, goes_on: Callable[[], bool]) -> bool:
        """Send what there is; True if nothing is left.

        Args:
            goes_on: Asked between two segments.
        """
        try:
            self._send_all(goes_on)
        except FeedbackError as error:
            self._failed(error)
            return False
        except Exception as error:  # noqa: BLE001 - the thread must outlive everything, or records would wait unseen
            _log.exception("sending records failed")
            self._failed(StoreError(f"sending records failed ({type(error).__name__}); the log says more"))
            return False
        if self.trouble is not None:
            _log.warning("records reach the service again")
        self.trouble, self.pause = None, 0.0
        return self.spool.records == 0

    def _send_all(self, goes_on: Callable[[], bool]) -> None:
        while (segment := self.spool.next_segment()) is not None:
            self._send(segment)
            if self._again:
                # First written once more, then dropped: a crash in between sends it twice, which changes nothing.
                self.spool.append([spooled(REVIEWS, raw) for raw in self._again])
                self._again.clear()
            self.spool.drop(segment)
            if self._early and self.spool.records <= len(self._early):
                raise ServiceAway("reviews wait for the executions they are about, which the service does not know yet")
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
        if str(error) != self.trouble:
            _log.warning("records wait in the spool: %s", error)
        self.trouble = str(error)
        self.pause = min(max(2 * self.pause, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        if isinstance(error, ServiceAway) and error.retry_after is not None:
            self.pause = min(max(self.pause, error.retry_after), LONGEST_PAUSE_S)

    def _send(self, segment: Segment) -> None:
        """All of a segment; where an earlier attempt ended, it goes on."""
        if self._segment != segment:
            self._segment, self._done = segment, 0
            self._again.clear()
        for kind, items in batches(segment.lines()[self._done :]):
            self._deliver(kind, items)
            self._done += len(items)

    def _deliver(self, kind: str, items: Sequence[bytes]) -> None:
        """A batch that is refused as a whole is halved until it is known which record it is."""
        try:
            answer = self.transport.send(kind, items)
        except Unacceptable as error:
            if len(items) == 1:
                self.refused.keep(kind, items[0], str(error))
                return
            middle = len(items) // 2
            self._deliver(kind, items[:middle])
            self._deliver(kind, items[middle:])
            return
        self._count(kind, items, answer)

    def _count(self, kind: str, items: Sequence[bytes], answer: Acknowledgement) -> None:
        self.stored += answer.stored
        self.known += answer.known
        refused = dict(answer.refused)
        for place, raw in enumerate(items):
            if place in refused:
                self._refuse(kind, raw, refused[place])
            else:
                self._early.pop(raw, None)

    def _refuse(self, kind: str, raw: bytes, reason: str) -> None:
        since = self._early.setdefault(raw, time.monotonic()) if kind == REVIEWS else -math.inf
        if time.monotonic() - since < self.patience:
            self._again.append(raw)
            return
        self._early.pop(raw, None)
        self.refused.keep(kind, raw, reason)
