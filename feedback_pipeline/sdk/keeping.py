"""Answers that are kept: for a while they are not asked for again; when the service is away they stand in, across restarts."""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Final, Generic, TypeVar

from pydantic import ValidationError

from feedback_pipeline.errors import FeedbackError, NotFound, NothingLearned, StoreError, UserError
from feedback_pipeline.sdk.options import ClientOptions
from feedback_pipeline.sdk.results import Freshness
from feedback_pipeline.sdk.transport import Document, Fetched

M = TypeVar("M", bound=Freshness)
Fetch = Callable[[str | None], Fetched]

_MOST_IN_MEMORY: Final = 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kept(Generic[M]):
    answer: M
    etag: str | None
    confirmed_at: float


class KeptAnswers(Generic[M]):
    """The last answers of one kind.

    Args:
        model: What they are.
        folder: Where they outlive the process; None = they do not.
        identity: Of the service: what one said is never taken for what another says.
        options: How long they hold, and how long a service that was away is left alone.
        now: The time in seconds.
    """

    def __init__(
        self,
        model: type[M],
        folder: Path | None,
        identity: str,
        options: ClientOptions,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._model, self._folder, self._identity = model, folder, identity
        self._max_age, self._retry, self._now = options.max_age_seconds, options.retry_seconds, now
        self._kept: dict[str, _Kept[M]] = {}
        self._begin()
        # Since when, and why: asking again at once would bring the same.
        self._away: tuple[float, StoreError] | None = None
        self._nothing: dict[str, tuple[float, UserError]] = {}

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._guard = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}

    def fresh(self, key: str) -> M | None:
        """An answer that need not be asked for, None if there is none."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        age = self._now() - kept.confirmed_at
        return kept.answer.aged(age, None) if 0 <= age < self._max_age else None

    def get(self, key: str, fetch: Fetch) -> M:
        """The answer: a fresh one, else what the service says, else what it said last, which then is stale.

        Args:
            key: What is asked.
            fetch: Asks, given the tag of what is kept.

        Raises:
            StoreError: the service cannot be asked, and nothing is kept.
        """
        if self._owner != os.getpid():
            self._begin()  # a thread that a fork did not copy may have held them
        with self._guard:
            asking = self._asking.setdefault(key, threading.Lock())
        # One of many threads asks; the others wait for what it hears.
        with asking:
            kept = self._kept.get(key) or self._from_disk(key)
            found = self.fresh(key)
            return found if found is not None else self._ask(key, fetch, kept)

    def _ask(self, key: str, fetch: Fetch, kept: _Kept[M] | None) -> M:
        self._leave_alone(self._nothing.get(key))
        try:
            self._leave_alone(self._away)
            answer = self._fetch(key, kept, fetch)
        except StoreError as error:
            if kept is None:
                raise
            return kept.answer.aged(max(self._now() - kept.confirmed_at, 0.0), str(error))
        if answer.document is None and kept is not None:
            renewed = replace(kept, confirmed_at=self._now())
        elif answer.document is not None:
            renewed = _Kept(self._read(answer.document), answer.etag, self._now())
        else:
            raise StoreError("the service says that nothing has changed, but was not told since when; check its version")
        self._keep(key, renewed)
        return renewed.answer.aged(0.0, None)

    def _fetch(self, key: str, kept: _Kept[M] | None, fetch: Fetch) -> Fetched:
        try:
            answer = fetch(kept.etag if kept else None)
        except (NotFound, NothingLearned) as error:
            self._forget(key)
            self._nothing[key] = (self._now(), error)
            raise
        except StoreError as error:
            self._away = (self._now(), error)
            raise
        self._away = None
        return answer

    def _leave_alone(self, failed: tuple[float, FeedbackError] | None) -> None:
        if failed is not None and 0 <= self._now() - failed[0] < self._retry:
            raise failed[1].with_traceback(None)

    def _read(self, document: Document) -> M:
        try:
            return self._model.model_validate(document)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_input=False)[:5])
            raise StoreError(f"the answer of the service cannot be read ({fields}); use the same version of both") from None

    def _keep(self, key: str, kept: _Kept[M]) -> None:
        if len(self._kept) >= _MOST_IN_MEMORY:
            self._kept.clear()
            self._nothing.clear()
        self._kept[key] = kept
        if self._folder is None:
            return
        content = kept.answer.aged(0.0, None).model_dump(mode="json")
        text = json.dumps(
            {"key": key, "etag": kept.etag, "confirmed_at": kept.confirmed_at, "answer": content}, ensure_ascii=False
        )
        path = self._path(self._folder, key)
        beside = path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            _remove(beside)
            _log.warning("what the service says is not kept for the next start: %s (%s)", error.strerror, path.parent)

    def _from_disk(self, key: str) -> _Kept[M] | None:
        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["key"] != key:
                return None
            kept = _Kept(self._model.model_validate(found["answer"]), found["etag"], float(found["confirmed_at"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("what was kept in %s cannot be read (%s) and is asked for again", path, type(error).__name__)
            return None
        self._kept[key] = kept
        return kept

    def _forget(self, key: str) -> None:
        self._kept.pop(key, None)
        if self._folder is not None:
            _remove(self._path(self._folder, key))

    def _path(self, folder: Path, key: str) -> Path:
        named = blake2b(f"{self._model.__name__}\x1f{self._identity}\x1f{key}".encode(), digest_size=16).hexdigest()
        return folder / f"{named}.json"


def _remove(path: Path) -> None:
    """Delete a file; where the folder cannot be written that was said when the file was to be."""
    with suppress(OSError):
        path.unlink()
