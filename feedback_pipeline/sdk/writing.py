"""Puts records on the disk: what fits into the spool, what does not into the file of those refused."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.sdk.lines import Finish, Unfit, line_of
from feedback_pipeline.sdk.refused import Refused
from feedback_pipeline.sdk.spool import Spool

Taken = tuple[str, Finish, threading.Event | None]
"""A record as it was handed in: its kind, what makes its fields, and what is set once it is on the disk."""

_PAUSE_S: Final = 0.5
_log = logging.getLogger(__name__)


class Writer:
    """Writes, if need be again and again.

    Args:
        spool: Where to.
        refused: Where to with what can never be stored.
        ends: Whether the program ends, so that waiting for the disk is over.
    """

    def __init__(self, spool: Spool, refused: Refused, ends: Callable[[], bool]) -> None:
        self._spool, self._refused, self._ends = spool, refused, ends
        self._disk: str | None = None
        self._lost: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why records wait in memory, or that some were lost; None = neither."""
        return self._disk or self._lost

    def write(self, taken: Sequence[Taken]) -> None:
        """Write records; whatever is wrong with them, this returns, and says so."""
        try:
            lines = [line for kind, finish, _ in taken if (line := self._line(kind, finish)) is not None]
            if lines:
                self._on_the_disk(lambda: self._spool.append(lines), len(lines))
            for *_, written in taken:
                if written is not None:
                    written.set()
        except Exception as error:  # noqa: BLE001 - the thread must outlive everything, or records would vanish unseen
            _log.exception("writing %d records failed", len(taken))
            # It stays: what is lost does not come back.
            self._lost = f"writing records failed ({type(error).__name__}) and some may be lost; the log says more"

    def _line(self, kind: str, finish: Finish) -> bytes | None:
        """The record as a line of the spool; None if it can never be stored, which is said and kept elsewhere."""
        line = line_of(kind, finish)
        if not isinstance(line, Unfit):
            return line
        self._on_the_disk(lambda: self._refused.keep(kind, line.left.encode(errors="replace"), line.reason), 1)
        return None

    def _on_the_disk(self, write: Callable[[], None], records: int) -> None:
        """Callers are held up meanwhile once the queue is full."""
        while True:
            try:
                write()
            except StoreUnavailable as error:
                if str(error) != self._disk:
                    _log.error("records wait in memory: %s", error)
                self._disk = str(error)
                if self._ends():
                    _log.error("%d records are lost, since the program ends: %s", records, error)
                    return
                time.sleep(_PAUSE_S)
            else:
                self._disk = None
                return
