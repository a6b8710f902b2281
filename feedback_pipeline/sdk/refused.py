"""Where records go that will never be stored."""

import json
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feedback_pipeline.errors import StoreUnavailable

_log = logging.getLogger(__name__)


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
