"""The way of a record out of the agent: a bounded queue, a thread that writes the spool, a thread that sends it.

The caller only appends to the queue. The writer makes JSON of the record and puts it on the disk; from then on it outlives the
process. What does not fit is never dropped: the caller waits for a moment and gets an error.
"""

import atexit
import itertools
import logging
import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from feedback_pipeline.errors import StoreUnavailable, UserError
from feedback_pipeline.sdk.delivery import Delivery
from feedback_pipeline.sdk.lines import Finish
from feedback_pipeline.sdk.options import Bounds, Outstanding
from feedback_pipeline.sdk.refused import Refused
from feedback_pipeline.sdk.spool import Spool
from feedback_pipeline.sdk.transport import Transport
from feedback_pipeline.sdk.writing import Taken, Writer

WRITTEN_AT_ONCE: Final = 200
ADOPT_EVERY_S: Final = 60.0
AT_EXIT_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.1
# The agent goes on for a moment before a thread competes with it for the interpreter.
_GATHER_S: Final = 0.01
_log = logging.getLogger(__name__)


class Outbox:
    """Records on their way; its threads start with the first one.

    Args:
        transport: Where to.
        folder: Of the spool.
        bounds: What it may take.
    """

    def __init__(self, transport: Transport, folder: Path, bounds: Bounds) -> None:
        self._transport, self._folder, self._bounds = transport, folder, bounds
        self._reset()
        _everyone.add(self)
        if any(folder.glob("writer-*")):
            self._begin()  # what another process left is sent although this one may record nothing

    def _reset(self) -> None:
        self._queue: deque[Taken] = deque()
        self._spool = Spool(self._folder, limit_bytes=self._bounds.spool_bytes, sync=self._bounds.sync)
        self._refused = Refused(self._folder / "refused.jsonl")
        self._writer = Writer(self._spool, self._refused, lambda: self._closing)
        self._delivery = Delivery(self._spool, self._transport, self._refused)
        self._names = map("{}-{:x}".format, itertools.repeat(uuid.uuid4().hex), itertools.count())
        self._writing = 0
        self._arrived, self._due, self._kick = threading.Event(), threading.Event(), threading.Event()
        self._changed, self._start = threading.Condition(), threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closing = self._closed = False

    def put(self, kind: str, finish: Finish, written: threading.Event | None = None) -> None:
        """Take a record; what it is made of must not change afterwards.

        Args:
            kind: A key of `encoding.MODELS`.
            finish: Makes its fields, in the background.
            written: Is set when it is on the disk.

        Raises:
            StoreUnavailable: there is no room, and there was none for a while.
            UserError: the client is closed.
        """
        if self._closing or not self._threads:
            self._begin()
        if len(self._queue) >= self._bounds.queue_size:
            self.wait_for_room()
        self._queue.append((kind, finish, written))
        if not self._arrived.is_set():
            self._arrived.set()

    def new_name(self) -> str:
        """A name that nothing else has; a UUID each would make the agent wait for the threads behind it."""
        return next(self._names)

    @property
    def has_room(self) -> bool:
        """Whether `put` returns at once."""
        return len(self._queue) < self._bounds.queue_size

    def wait_for_room(self) -> None:
        """Return when there is room for a record.

        Raises:
            StoreUnavailable: there was none for a while.
        """
        with self._changed:
            if self._changed.wait_for(lambda: self.has_room, self._bounds.block_seconds):
                return
        why = self._writer.trouble or "they are made faster than the disk takes them"
        raise StoreUnavailable(f"{len(self._queue):,} records wait in memory and there is no room for another: {why}")

    def keep(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take a record and return when it is on the disk, after all that was taken before it.

        Raises:
            StoreUnavailable: the disk does not take it; it may do so later.
            UserError: the client is closed.
        """
        written = threading.Event()
        self.put(kind, lambda: fields, written)
        if not written.wait(self._bounds.block_seconds):
            raise StoreUnavailable(
                self._writer.trouble or f"records are written too slowly to {self._folder}; see what slows its disk"
            )

    def look(self) -> Outstanding:
        """How the records fare now."""
        with self._changed:
            queued, done = len(self._queue) + self._writing, self._delivery
            trouble = self._writer.trouble or done.trouble
            spooled, early = self._spool.records, self._spool.held
            return Outstanding(queued, spooled, early, done.stored, done.known, self._refused.count, trouble)

    def flush(self, seconds: float, *, with_early: bool = True) -> Outstanding:
        """Wait until the service has everything, or for so long; what waits for its next attempt is tried at once.

        Args:
            seconds: At most.
            with_early: Also for reviews whose execution the service does not know yet.
        """
        end = time.monotonic() + seconds
        if with_early:
            self._delivery.hurry()
        self._kick.set()
        self._due.set()
        with self._changed:
            while not self._closed and (left := end - time.monotonic()) > 0:
                seen = self.look()
                if not (seen.pending if with_early else seen.ahead):
                    break
                self._changed.wait(min(left, _LOOK_EVERY_S))
        return self.look()

    def close(self, seconds: float) -> Outstanding:
        """Put everything on the disk, try once to send it within the time, and end the threads."""
        self._closing = True
        self._arrived.set()
        for thread in self._threads:
            thread.join(seconds if thread is self._threads[-1] else None)
            self._kick.set()
            self._due.set()
        left = self.look()
        if left.pending and not self._closed:
            _log.warning(
                "%d records wait in %s for the next start: %s", left.pending, self._folder, left.trouble or "no time left"
            )
        self._closed = True
        if not any(thread.is_alive() for thread in self._threads):
            self._spool.close()
        return left

    def start_again_after_fork(self) -> None:
        """In the child: the records are its parent's to send, and the threads were not copied."""
        self._spool.disown()
        self._reset()

    def _begin(self) -> None:
        if self._closing:
            raise UserError("this client is closed; make a new one")
        with self._start:
            if not self._threads:
                work = {"writer": self._write_on, "sender": self._send_on}
                self._threads = [threading.Thread(target=run, name=f"feedback-{name}", daemon=True) for name, run in work.items()]
                for thread in self._threads:
                    thread.start()

    def _write_on(self) -> None:
        """The writer: from the queue to the disk, until the client is closed and the queue is empty."""
        while not (self._closing and not self._queue):
            self._arrived.wait()
            if not self._closing:
                time.sleep(_GATHER_S)
            self._arrived.clear()
            while self._queue:
                self._write_some()

    def _write_some(self) -> None:
        with self._changed:
            taken = [self._queue.popleft() for _ in range(min(len(self._queue), WRITTEN_AT_ONCE))]
            self._writing = len(taken)
        self._writer.write(taken)
        with self._changed:
            self._writing = 0
            self._changed.notify_all()
        self._due.set()

    def _send_on(self) -> None:
        """The sender: from the disk to the service, until the client is closed and one last attempt was made."""
        adopted = -ADOPT_EVERY_S
        while True:
            last = self._closing and not self._threads[0].is_alive()
            if time.monotonic() - adopted >= ADOPT_EVERY_S:
                adopted = time.monotonic()
                self._delivery.adopt()
            if last:
                self._delivery.hurry()
            self._delivery.attempt(lambda: not self._closed)
            with self._changed:
                self._changed.notify_all()
            if last:
                return
            self._wait()

    def _wait(self) -> None:
        """Until there is something to send; after a failure for its pause, whatever arrives."""
        if self._delivery.pause:
            self._kick.wait(self._delivery.pause)
        elif self._due.wait(min(ADOPT_EVERY_S, self._delivery.early_in)):
            self._due.clear()
            self._kick.wait(self._bounds.batch_seconds)
        self._kick.clear()


_everyone: "weakref.WeakSet[Outbox]" = weakref.WeakSet()


def _close_all() -> None:
    for outbox in list(_everyone):
        outbox.close(AT_EXIT_S)


def _start_again_after_fork() -> None:
    for outbox in list(_everyone):
        outbox.start_again_after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_start_again_after_fork)
