"""Small files under one root, each replaced whole or not at all: a local folder or any fsspec URL."""

import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from feedback_pipeline.errors import StoreUnavailable

_THREADS: Final = 8
_TEMPORARY: Final = ".tmp"


class Files:
    """Reads and writes whole files under a root.

    A reader sees the old or the new content of a file, never a part: local files are written beside and renamed, object
    stores put objects atomically.

    Args:
        root: Folder or fsspec URL, such as `memory://name`.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._fs, path = fsspec.core.url_to_fs(root)
        self._path = path.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def under(self, folder: str) -> "Files":
        """Return the same storage with a sub-folder as its root."""
        return Files(f"{self.root.rstrip('/')}/{folder}")

    def write(self, name: str, content: bytes) -> None:
        """Create or replace one file.

        Raises:
            StoreUnavailable: the storage refuses the write.
        """
        target = self._full(name)
        try:
            if self._local:
                _replace_local(Path(target), content)
            else:
                self._fs.pipe_file(target, content)
        except OSError as error:
            raise StoreUnavailable(
                f"cannot write {target}: {error}; check that the feature store is writable and has space"
            ) from error

    def read(self, name: str) -> bytes:
        """Return the content of one file.

        Raises:
            FileNotFoundError: there is no such file.
            StoreUnavailable: the storage cannot be read.
        """
        target = self._full(name)
        try:
            content: bytes = self._fs.cat_file(target)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreUnavailable(f"cannot read {target}: {error}; check that the feature store can be reached") from error
        return content

    def read_many(self, names: list[str]) -> list[bytes | None]:
        """Return the contents of many files, None for one that does not exist (any more)."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self._read_or_none, names))

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the files and folders directly under a folder; empty if it does not exist."""
        target = self._full(folder)
        try:
            self._fs.invalidate_cache(target)
            found = self._fs.ls(target, detail=False)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreUnavailable(f"cannot list {target}: {error}; check that the feature store can be reached") from error
        return sorted({str(name).rstrip("/").rsplit("/", 1)[-1] for name in found} - {""})

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all it holds; nothing happens if it does not exist."""
        target = self._full(name)
        try:
            self._fs.rm(target, recursive=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreUnavailable(f"cannot remove {target}: {error}; check that the feature store is writable") from error

    def _read_or_none(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/")


def _replace_local(target: Path, content: bytes) -> None:
    # The content must be on the disk before the name points at it, or a power cut leaves an empty file under a good name.
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{target.name}.{uuid.uuid4().hex}{_TEMPORARY}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
