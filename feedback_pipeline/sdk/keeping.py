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

from pydantic import BaseModel, ValidationError

from feedback_pipeline.errors import FeedbackError, NotFound, NothingLearned, StoreError
from feedback_pipeline.sdk.options import ClientOptions
from feedback_pipeline.sdk.results import Freshness
from feedback_pipeline.sdk.transport import Document, Fetched

M = TypeVar("M", bound=Freshness)
A = TypeVar("A", bound=BaseModel)
V = TypeVar("V")
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
        self._failed: dict[str, tuple[float, FeedbackError]] = {}

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
            # Whoever holds one that is let go of has it still; at worst two ask the same.
            asking = self._asking.get(key) or _put(self._asking, key, threading.Lock())
        # One of many threads asks; the others wait for what it hears.
        with asking:
            kept = self._kept.get(key) or self._from_disk(key)
            found = self.fresh(key)
            return found if found is not None else self._ask(key, fetch, kept)

    def _ask(self, key: str, fetch: Fetch, kept: _Kept[M] | None) -> M:
        try:
            self._leave_alone(self._failed.get(key))
            self._leave_alone(self._away)
            renewed = self._renewed(key, kept, fetch)
        except StoreError as error:
            if kept is None:
                raise
            return kept.answer.aged(max(self._now() - kept.confirmed_at, 0.0), str(error))
        self._keep(key, renewed)
        return renewed.answer.aged(0.0, None)

    def _renewed(self, key: str, kept: _Kept[M] | None, fetch: Fetch) -> _Kept[M]:
        answer = self._fetch(key, kept, fetch)
        if answer.document is None:
            if kept is None:
                raise StoreError("the service says that nothing has changed, but was not told since when; check its version")
            return replace(kept, confirmed_at=self._now())
        try:
            return _Kept(readable(self._model, answer.document), answer.etag, self._now())
        except StoreError as error:
            _put(self._failed, key, (self._now(), error))
            raise

    def _fetch(self, key: str, kept: _Kept[M] | None, fetch: Fetch) -> Fetched:
        try:
            answer = fetch(kept.etag if kept else None)
        except (NotFound, NothingLearned) as error:
            self._forget(key)
            _put(self._failed, key, (self._now(), error))
            raise
        except StoreError as error:
            self._away = (self._now(), error)
            raise
        self._away = None
        return answer

    def _leave_alone(self, failed: tuple[float, FeedbackError] | None) -> None:
        if failed is not None and 0 <= self._now() - failed[0] < self._retry:
            raise failed[1].with_traceback(None)

    def _keep(self, key: str, kept: _Kept[M]) -> None:
        _put(self._kept, key, kept)
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
        return _put(self._kept, key, kept)

    def _forget(self, key: str) -> None:
        self._kept.pop(key, None)
        if self._folder is not None:
            _remove(self._path(self._folder, key))

    def _path(self, folder: Path, key: str) -> Path:
        named = blake2b(f"{self._model.__name__}\x1f{self._identity}\x1f{key}".encode(), digest_size=16).hexdigest()
        return folder / f"{named}.json"


def readable(model: type[A], document: Document) -> A:
    """An answer of the service as what it should be.

    Raises:
        StoreError: it is not.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_input=False)[:5])
        raise StoreError(f"the answer of the service cannot be read ({fields}); use the same version of both") from None


def _put(where: dict[str, V], key: str, value: V) -> V:
    """Remember a value, and forget the others once they are many: they are only worth a question."""
    if key not in where and len(where) >= _MOST_IN_MEMORY:
        where.clear()
    where[key] = value
    return value


def _remove(path: Path) -> None:
    """Delete a file; where the folder cannot be written that was said when the file was to be."""
    with suppress(OSError):
        path.unlink()
