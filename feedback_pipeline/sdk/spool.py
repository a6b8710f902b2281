"""Records on disk until the service has them: JSON lines in segments, which are deleted whole once all of it is acknowledged.

A process writes into a folder of its own and holds a lock on it. What a process leaves behind, however it ended, is taken over by
the next one that starts, or by one that runs. Between the acknowledgement and the deletion a crash makes a segment be sent again;
records are known by their ids, so that changes nothing.
"""

import fcntl
import os
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.sdk.segments import Folder, Segment, sync_folder

SEGMENT_BYTES: Final = 4 * 2**20
_LOCK: Final = "lock"
_PREFIX: Final = "writer-"
_SUFFIX: Final = ".jsonl"


class Spool:
    """The spool of one process; one thread may append and another send.

    Args:
        folder: Shared by all processes that send to the same service.
        limit_bytes: So much may wait.
        sync: Every append is on the disk, not only with the operating system, when it returns.
    """

    def __init__(self, folder: Path, *, limit_bytes: int, sync: bool) -> None:
        self._root, self._limit, self._sync = folder, limit_bytes, sync
        self._guard = threading.Lock()
        self._own: Folder | None = None
        self._folders: dict[Path, Folder] = {}
        self._sealed: list[Segment] = []
        # By segment, how many of its records still wait.
        self._held: dict[Segment, int] = {}
        self._open: tuple[Path, int] | None = None
        self._open_records = self._open_bytes = 0

    @property
    def records(self) -> int:
        """Records that wait, those of ended processes included."""
        with self._guard:
            return self._open_records + sum(segment.records for segment in self._sealed) + sum(self._held.values())

    @property
    def held(self) -> int:
        """Those of them that wait although what lies behind them has been sent."""
        with self._guard:
            return sum(self._held.values())

    def append(self, lines: Sequence[bytes]) -> None:
        """Write records; all of them, or none.

        Raises:
            StoreUnavailable: the spool is full, or the disk does not take them.
        """
        block = b"".join(line + b"\n" for line in lines)
        with self._guard:
            waiting = self._open_bytes + sum(segment.size for segment in [*self._sealed, *self._held])
            if waiting and waiting + len(block) > self._limit:
                raise StoreUnavailable(
                    f"{waiting:,} bytes of records wait in {self._root}, and no more than {self._limit:,} may; "
                    "see why the service does not take them, or raise spool_bytes"
                )
            try:
                self._write(block)
            except OSError as error:
                raise StoreUnavailable(
                    f"records cannot be kept in {self._root}: {error.strerror}; free space on its disk"
                ) from None
            self._open_records += len(lines)
            self._open_bytes += len(block)

    def _write(self, block: bytes) -> None:
        if self._open is not None and self._open_bytes + len(block) > SEGMENT_BYTES:
            self._seal()
        if self._open is None:
            self._open = self._new_segment()
        _, file = self._open
        try:
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(file, rest) :]
            if self._sync:
                os.fdatasync(file)
        except OSError:
            self._cut_back(file)
            raise

    def _cut_back(self, file: int) -> None:
        """Half a line must not stand before the next one."""
        try:
            os.ftruncate(file, self._open_bytes)
        except OSError:
            self._seal()

    def _new_segment(self) -> tuple[Path, int]:
        own = self._own or self._new_folder()
        path = own.path / f"{time.time_ns():020d}{_SUFFIX}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        own.left += 1
        if self._sync:
            sync_folder(own.path)
        return path, file

    def _new_folder(self) -> Folder:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made under another name, so that nobody finds it before it is locked.
        hidden = self._root / f".{uuid.uuid4().hex}"
        hidden.mkdir(mode=0o700)
        lock = os.open(hidden / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = hidden.rename(self._root / f"{_PREFIX}{hidden.name[1:]}")
        self._own = self._folders[path] = Folder(path, lock)
        if self._sync:
            sync_folder(self._root)
        return self._own

    def _seal(self) -> None:
        if self._open is None:
            return
        path, file = self._open
        os.close(file)
        if self._open_records:
            self._sealed.append(Segment(path, self._open_records, self._open_bytes))
        else:
            self._remove(path)
        self._open, self._open_records, self._open_bytes = None, 0, 0

    def next_segment(self) -> Segment | None:
        """The oldest records that wait; nothing is added to them any more."""
        with self._guard:
            if not self._sealed:
                self._seal()
            return self._sealed[0] if self._sealed else None

    def drop(self, segment: Segment) -> None:
        """Delete records that the service has."""
        with self._guard:
            self._sealed.remove(segment)
            self._remove(segment.path)

    def hold(self, segment: Segment, records: int) -> None:
        """Keep the file of a segment of which the service has all but so many records, and go on to the next.

        Whoever takes the file over, should this process end, sends all of it again, which changes nothing.
        """
        with self._guard:
            self._sealed.remove(segment)
            self._held[segment] = records

    def settle(self, segment: Segment) -> None:
        """One record fewer is waited for; the file is deleted with the last."""
        with self._guard:
            self._held[segment] -= 1
            if not self._held[segment]:
                del self._held[segment]
                self._remove(segment.path)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        folder = self._folders[path.parent]
        folder.left -= 1
        if not folder.left and folder is not self._own:
            self._release(folder)

    def _release(self, folder: Folder) -> None:
        shutil.rmtree(folder.path, ignore_errors=True)
        os.close(folder.lock)
        del self._folders[folder.path]

    def adopt(self) -> int:
        """Take over what ended processes have left; returns how many records that is."""
        with self._guard:
            found = [
                segment
                for path in sorted(self._root.glob(f"{_PREFIX}*"))
                if path not in self._folders
                for segment in self._take_over(path)
            ]
            # Before what is new: by the time in their names.
            self._sealed = sorted([*self._sealed, *found], key=lambda segment: segment.path.name)
        return sum(segment.records for segment in found)

    def _take_over(self, path: Path) -> list[Segment]:
        try:
            lock = os.open(path / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            return []  # another process has just finished with it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return []
        segments = [Segment.of(each) for each in sorted(path.glob(f"*{_SUFFIX}"))]
        full = [segment for segment in segments if segment.records]
        folder = self._folders[path] = Folder(path, lock, len(full))
        if not full:
            self._release(folder)
        return full

    def close(self) -> None:
        """Let go of the folder; what waits in it is left to whoever comes next."""
        with self._guard:
            self._seal()
            for folder in list(self._folders.values()):
                if folder.left:
                    os.close(folder.lock)
                else:
                    self._release(folder)
            self._own, self._folders, self._sealed, self._held = None, {}, [], {}

    def disown(self) -> None:
        """In the child of a fork: the folder stays its parent's, and this object is not used any more."""
        # Without the guard: a thread that the child does not have may have held it.
        for folder in self._folders.values():
            os.close(folder.lock)
        if self._open is not None:
            os.close(self._open[1])
