"""The files of a spool."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Folder:
    """The folder of one process, locked; `left` segments are in it."""

    path: Path
    lock: int
    left: int = 0


@dataclass(frozen=True)
class Segment:
    """Records that belong together only by their place in time.

    Attributes:
        path: The file.
        records: How many it holds.
        size: Its bytes.
    """

    path: Path
    records: int
    size: int

    @classmethod
    def of(cls, path: Path) -> "Segment":
        """The segment that a process has left."""
        content = path.read_bytes()
        return cls(path, content.count(b"\n"), len(content))

    def lines(self) -> list[bytes]:
        """The records, in the order in which they were written; a last one that its process did not finish is none."""
        return [line for line in self.path.read_bytes().split(b"\n")[:-1] if line]


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
