"""What is kept, for how long, and what is said about it."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from feedback_pipeline.errors import NotFound, StoreError
from feedback_pipeline.sdk import ClientOptions
from feedback_pipeline.sdk.keeping import KeptAnswers
from feedback_pipeline.sdk.results import Freshness
from feedback_pipeline.sdk.transport import Fetched, ServiceAway

OPTIONS = ClientOptions(max_age_seconds=60, retry_seconds=5)


class Answer(Freshness):
    value: int


@dataclass
class Service:
    """Answers with `value`, or fails with `failure`; its clock is turned by hand."""

    value: int = 1
    failure: Exception | None = None
    time: float = 1000.0
    asked: list[str | None] = field(default_factory=list)

    def fetch(self, etag: str | None) -> Fetched:
        self.asked.append(etag)
        if self.failure is not None:
            raise self.failure
        tag = f"v{self.value}"
        return Fetched(None if etag == tag else {"value": self.value}, tag)

    def kept(self, folder: Path | None, identity: str = "service") -> KeptAnswers[Answer]:
        return KeptAnswers(Answer, folder, identity, OPTIONS, lambda: self.time)


def seen(answer: Answer) -> tuple[int, bool, float]:
    return answer.value, answer.stale, answer.age_seconds


def test_an_answer_is_asked_for_again_when_it_is_old_and_sent_again_when_it_changed(tmp_path: Path) -> None:
    service = Service()
    own = service.kept(tmp_path)
    assert own.fresh("a") is None
    assert seen(own.get("a", service.fetch)) == (1, False, 0)
    service.time += 59
    assert seen(own.get("a", service.fetch)) == (1, False, 59)
    service.time += 1
    assert seen(own.get("a", service.fetch)) == (1, False, 0)
    service.value, service.time = 2, service.time + 60
    assert seen(own.get("a", service.fetch)) == (2, False, 0)
    assert seen(own.get("b", service.fetch)) == (2, False, 0)
    assert service.asked == [None, "v1", "v1", None]
    service.time -= 10_000  # a clock that was set back proves nothing
    own.get("a", service.fetch)
    assert service.asked[4:] == ["v2"]


def test_what_was_said_last_stands_in_and_says_so(tmp_path: Path) -> None:
    service = Service()
    own = service.kept(tmp_path)
    own.get("a", service.fetch)
    service.failure, service.time = ServiceAway("it is away"), service.time + 100
    answer = own.get("a", service.fetch)
    assert (seen(answer), answer.stale_reason) == ((1, True, 100), "it is away")
    # It is left alone for a while, whatever is asked.
    service.time += 4
    assert own.get("a", service.fetch).stale
    with pytest.raises(ServiceAway, match="it is away"):
        own.get("b", service.fetch)
    assert len(service.asked) == 2
    service.failure, service.value, service.time = None, 2, service.time + 1
    assert seen(own.get("a", service.fetch)) == (2, False, 0)


def test_it_outlives_the_process(tmp_path: Path) -> None:
    service = Service()
    service.kept(tmp_path).get("a", service.fetch)
    service.failure, service.time = StoreError("it is broken"), service.time + 30
    assert seen(service.kept(tmp_path).get("a", service.fetch)) == (1, False, 30)
    service.time += 3600
    assert seen(service.kept(tmp_path).get("a", service.fetch)) == (1, True, 3630)
    for other in (service.kept(tmp_path, "another service"), service.kept(None)):
        with pytest.raises(StoreError):
            other.get("a", service.fetch)
    service.failure = None
    assert not service.kept(tmp_path).get("a", service.fetch).stale
    assert service.asked[-1] == "v1"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"key": "a"}', '{"key": "b", "etag": null, "confirmed_at": 0, "answer": {}}']
)
def test_a_file_that_cannot_be_read_is_asked_for_again(tmp_path: Path, content: str) -> None:
    service = Service()
    service.kept(tmp_path).get("a", service.fetch)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    assert seen(service.kept(tmp_path).get("a", service.fetch)) == (1, False, 0)
    assert service.asked == [None, None]


def test_a_folder_that_cannot_be_written_costs_only_the_next_start(tmp_path: Path) -> None:
    service, blocked = Service(), tmp_path / "blocked"
    blocked.write_text("")
    own = service.kept(blocked)
    assert seen(own.get("a", service.fetch)) == (1, False, 0)
    assert seen(own.get("a", service.fetch)) == (1, False, 0)
    assert service.asked == [None]


def test_what_is_not_there_is_asked_for_once_in_a_while_and_not_kept(tmp_path: Path) -> None:
    service = Service()
    own = service.kept(tmp_path)
    own.get("a", service.fetch)
    service.failure, service.time = NotFound("no such agent"), service.time + 60
    for _ in range(3):
        with pytest.raises(NotFound):
            own.get("a", service.fetch)
    assert len(service.asked) == 2
    assert list(tmp_path.iterdir()) == []
    service.failure, service.time = None, service.time + 5
    assert seen(own.get("a", service.fetch)) == (1, False, 0)
    assert service.asked[-1] is None


def test_an_answer_of_another_version_is_an_error_not_an_answer(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="value"):
        Service().kept(tmp_path).get("a", lambda _: Fetched({"values": 1}))
    with pytest.raises(StoreError, match="nothing has changed"):
        Service().kept(tmp_path).get("a", lambda _: Fetched(None))


def test_an_answer_of_another_version_does_not_take_away_what_was_said_last(tmp_path: Path) -> None:
    service = Service()
    own = service.kept(tmp_path)
    own.get("a", service.fetch)
    service.time += 100
    asked = list[str | None]()

    def newer(etag: str | None) -> Fetched:
        asked.append(etag)
        return Fetched({"values": 1}, "v2")

    for _ in range(3):
        found = own.get("a", newer)
        assert (seen(found), "value" in str(found.stale_reason)) == ((1, True, 100), True)
    # It is left alone for a while, alone.
    assert asked == ["v1"]
    assert seen(own.get("b", service.fetch)) == (1, False, 0)
    service.time += 5
    assert seen(own.get("a", service.fetch)) == (1, False, 0)


def test_memory_does_not_grow_with_what_is_asked() -> None:
    service = Service()
    own = service.kept(None)
    for i in range(2500):
        service.failure = NotFound("nobody") if i % 2 else None
        if service.failure:
            with pytest.raises(NotFound):
                own.get(str(i), service.fetch)
        else:
            own.get(str(i), service.fetch)
    sizes = [len(value) for value in vars(own).values() if isinstance(value, dict)]
    assert len(sizes) == 3
    assert max(sizes) <= 1000
    # What is kept already pushes nothing out.
    service.failure, service.value = None, 1
    before = len(service.asked)
    for _ in range(3):
        own.get("2498", service.fetch)
    assert len(service.asked) == before


def test_of_many_threads_one_asks() -> None:
    service, begin = Service(), threading.Barrier(8)
    own = service.kept(None)
    found: list[Answer] = []

    def slow(etag: str | None) -> Fetched:
        time.sleep(0.05)
        return service.fetch(etag)

    def ask() -> None:
        begin.wait()
        found.append(own.get("a", slow))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ([answer.value for answer in found], service.asked) == ([1] * 8, [None])
