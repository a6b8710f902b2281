"""Records on their way to a service that fails in every way it can."""

import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from feedback_pipeline.errors import StoreError, StoreUnavailable, UserError
from feedback_pipeline.sdk import Bounds
from feedback_pipeline.sdk.delivery import EARLY_EVERY_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, Delivery
from feedback_pipeline.sdk.encoding import APPLICATIONS, EXECUTIONS, REVIEWS
from feedback_pipeline.sdk.lines import NO_RECORD, batches, spooled, unspooled
from feedback_pipeline.sdk.outbox import Outbox
from feedback_pipeline.sdk.refused import Refused
from feedback_pipeline.sdk.spool import Spool
from feedback_pipeline.sdk.transport import ServiceAway
from feedback_pipeline_tests.sdk.service import StandIn

REVIEW = {"client_id": uuid.UUID(int=9), "execution_id": "1"}
QUICK = Bounds(batch_seconds=0.0, sync=False, block_seconds=30.0)
FAILURES: list[Exception] = [ServiceAway("away"), StoreError("broken"), UserError("token"), KeyError("a bug")]


def execution(name: str, **fields: Any) -> Callable[[], Mapping[str, Any]]:
    base = {
        "client_id": uuid.uuid5(uuid.NAMESPACE_URL, name),
        "execution_id": name,
        "agent_name": "drafter",
        "start_time": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return lambda: base | fields


@contextmanager
def outbox(service: StandIn, folder: Path, bounds: Bounds = QUICK) -> Iterator[Outbox]:
    made = Outbox(service, folder, bounds)
    try:
        yield made
    finally:
        made.close(10)


def test_records_arrive_in_order_in_few_batches(tmp_path: Path) -> None:
    service = StandIn()
    with outbox(service, tmp_path) as own:
        for i in range(1200):
            own.put(EXECUTIONS, execution(str(i)))
        left = own.flush(30)
    assert (left.pending, left.stored, left.known, left.refused, left.trouble) == (0, 1200, 0, 0, None)
    assert service.executions == [str(i) for i in range(1200)]
    assert max(size for _, size in service.batches) <= 500


def test_kinds_keep_their_order(tmp_path: Path) -> None:
    lines = [spooled(kind, b'{"n":%d}' % n) for n, kind in enumerate([EXECUTIONS, EXECUTIONS, REVIEWS, EXECUTIONS, APPLICATIONS])]
    assert [unspooled(line) for line in lines[2:4]] == [(REVIEWS, b'{"n":2}'), (EXECUTIONS, b'{"n":3}')]
    assert [json.loads(line) for line in lines[2:3]] == [{REVIEWS: {"n": 2}}]
    assert [(kind, len(items)) for kind, items in batches(lines)] == [
        (EXECUTIONS, 2),
        (REVIEWS, 1),
        (EXECUTIONS, 1),
        (APPLICATIONS, 1),
    ]
    big = [spooled(EXECUTIONS, b'{"x":"%s"}' % (b"x" * 3 * 2**20)) for _ in range(3)]
    assert [len(items) for _, items in batches(big)] == [1, 1, 1]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_a_service_that_fails_gets_it_later(tmp_path: Path, failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    service = StandIn(failures=[failure] * 2)
    with caplog.at_level(logging.WARNING), outbox(service, tmp_path) as own:
        own.put(EXECUTIONS, execution("1"))
        assert own.flush(30).stored == 1
    assert service.executions == ["1"]
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "wait in the spool" in text]) == 1  # once for each reason
    assert said[-1] == "records reach the service again"


def test_pauses_grow_and_follow_the_service(tmp_path: Path) -> None:
    own = Spool(tmp_path, limit_bytes=10**6, sync=False)
    own.append([spooled(EXECUTIONS, b'{"execution_id":"1","client_id":"1"}')])
    service = StandIn(
        failures=[ServiceAway("away"), ServiceAway("away"), ServiceAway("away", 7.0), *[ServiceAway("away", 900.0)]]
    )
    delivery = Delivery(own, service, Refused(tmp_path / "refused.jsonl"))
    pauses = []
    while not delivery.attempt(lambda: True):
        pauses.append(delivery.pause)
    assert pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 7.0, LONGEST_PAUSE_S]
    assert (delivery.pause, delivery.trouble, delivery.stored) == (0.0, None, 1)
    own.close()


def test_one_bad_record_is_found_and_kept_apart(tmp_path: Path) -> None:
    service = StandIn(bad=frozenset({"13"}), refused=frozenset({"20", "21"}))
    with outbox(service, tmp_path) as own:
        for i in range(40):
            own.put(EXECUTIONS, execution(str(i)))
        left = own.flush(30)
    assert (left.pending, left.stored, left.refused) == (0, 37, 3)
    assert service.executions == [str(i) for i in range(40) if i not in (13, 20, 21)]
    kept = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert [(each["kind"], each["reason"], json.loads(each["record"])["execution_id"]) for each in kept] == [
        (EXECUTIONS, "it spoils the batch", "13"),
        (EXECUTIONS, "no such thing", "20"),
        (EXECUTIONS, "no such thing", "21"),
    ]


def in_spool(folder: Path, service: StandIn, limit: int = 10**6) -> tuple[Spool, Delivery]:
    own = Spool(folder, limit_bytes=limit, sync=False)
    return own, Delivery(own, service, Refused(folder / "refused.jsonl"))


def review_line(number: int, execution_id: str) -> bytes:
    return spooled(REVIEWS, b'{"client_id":"%d","execution_id":"%s"}' % (number, execution_id.encode()))


def execution_line(number: int, execution_id: str) -> bytes:
    return spooled(EXECUTIONS, b'{"client_id":"%d","execution_id":"%s"}' % (number, execution_id.encode()))


def refusals(folder: Path) -> list[tuple[str, str, str]]:
    path = folder / "refused.jsonl"
    kept = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(each["kind"], each["reason"], each["record"]) for each in kept]


def test_a_review_waits_for_its_execution_but_not_for_ever(tmp_path: Path) -> None:
    """The execution may lie in the spool of another process."""
    service = StandIn(early=frozenset({"1", "2"}))
    own, delivery = in_spool(tmp_path, service)
    own.append([review_line(n, str(n)) for n in (1, 2, 3)])
    for _ in range(2):
        delivery.hurry()
        assert not delivery.attempt(lambda: True)
        assert (own.records, own.held, service.executions, delivery.refused.count) == (2, 2, ["3"], 0)
    assert str(delivery.trouble).startswith("2 reviews wait for the executions")
    assert (delivery.pause, 0 < delivery.early_in <= EARLY_EVERY_S) == (0.0, True)
    # What comes behind them is sent meanwhile, and they are not tried each time.
    asked = len(service.batches)
    own.append([execution_line(4, "1")])
    service.early = frozenset({"2"})
    assert not delivery.attempt(lambda: True)
    assert (service.executions, len(service.batches)) == (["3", "1"], asked + 1)
    delivery.hurry()
    assert not delivery.attempt(lambda: True)
    assert (service.executions, own.records) == (["3", "1", "1"], 1)
    delivery.patience = 0.0
    delivery.hurry()
    assert delivery.attempt(lambda: True)
    assert (own.records, own.held, delivery.trouble, delivery.stored) == (0, 0, None, 3)
    assert [(kind, reason) for kind, reason, _ in refusals(tmp_path)] == [(REVIEWS, "too early")]
    own.close()
    assert [path.name for path in tmp_path.iterdir()] == ["refused.jsonl"]


def test_a_review_that_is_refused_for_another_reason_does_not_wait(tmp_path: Path) -> None:
    service = StandIn(refused=frozenset({"1"}))
    own, delivery = in_spool(tmp_path, service)
    own.append([review_line(1, "1")])
    assert delivery.attempt(lambda: True)
    assert (delivery.trouble, [reason for _, reason, _ in refusals(tmp_path)]) == (None, ["no such thing"])


def test_a_review_that_waits_does_not_need_room_in_a_full_spool(tmp_path: Path) -> None:
    """Writing it once more once did, and at the limit it and all behind it stayed for ever."""
    service = StandIn(early=frozenset({"1"}))
    lines = [review_line(1, "1"), *(execution_line(n, str(n)) for n in (2, 3))]
    own, delivery = in_spool(tmp_path, service, limit=sum(len(line) + 1 for line in lines))
    own.append(lines)
    with pytest.raises(StoreUnavailable):
        own.append([execution_line(4, "4")])
    assert not delivery.attempt(lambda: True)
    assert (service.executions, own.records, str(delivery.trouble)[:9]) == (["2", "3"], 1, "1 reviews")
    own.close()
    # After a restart all of the file is sent again, which changes nothing.
    again, delivery = in_spool(tmp_path, service, limit=1)
    delivery.adopt()
    assert not delivery.attempt(lambda: True)
    assert (again.records, delivery.known) == (1, 2)
    service.early = frozenset()
    delivery.hurry()
    assert delivery.attempt(lambda: True)
    assert service.executions == ["2", "3", "1"]
    again.close()
    assert list(tmp_path.iterdir()) == []


def test_the_same_review_twice_is_not_lost_while_it_waits(tmp_path: Path) -> None:
    service = StandIn(early=frozenset({"1"}))
    own, delivery = in_spool(tmp_path, service)
    for _ in range(2):
        own.append([review_line(1, "1")] * 2)
        assert not delivery.attempt(lambda: True)
    service.early = frozenset()
    delivery.hurry()
    assert delivery.attempt(lambda: True)
    assert (service.executions, own.records) == (["1"], 0)
    own.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "garbage", [b"\x80\xff\x00 garbage", b'{"poems":{}}', b'{"executions":7}', b'{"exec', b"{}"], ids=["bytes", *"abcd"]
)
def test_a_line_that_is_no_record_costs_itself_alone(tmp_path: Path, garbage: bytes) -> None:
    service = StandIn()
    left, _ = in_spool(tmp_path, service)
    left.append([execution_line(1, "1"), garbage, execution_line(2, "2")])
    left.close()
    own, delivery = in_spool(tmp_path, service)
    delivery.adopt()
    own.append([execution_line(3, "3")])
    assert unspooled(garbage) == (NO_RECORD, garbage)
    assert delivery.attempt(lambda: True)
    assert (service.executions, delivery.refused.count) == (["1", "2", "3"], 1)
    ((kind, reason, record),) = refusals(tmp_path)
    assert (kind, record) == ("unknown kind", garbage.decode(errors="replace"))
    assert "no record" in reason


def test_what_a_proxy_does_not_let_pass_goes_in_smaller_batches_and_is_never_refused(tmp_path: Path) -> None:
    service = StandIn(most=3, bad=frozenset({"2"}))
    own, delivery = in_spool(tmp_path, service)
    own.append([execution_line(n, str(n)) for n in range(8)])
    assert delivery.attempt(lambda: True)
    assert service.executions == [str(n) for n in range(8) if n != 2]
    service.most = 0
    own.append([execution_line(n, str(n)) for n in (8, 9)])
    for _ in range(3):
        assert not delivery.attempt(lambda: True)
    assert (own.records, str(delivery.trouble)) == (2, "a proxy takes less")
    # What was refused before an attempt failed is not written down again with the next.
    assert len(refusals(tmp_path)) == 1


def test_a_record_that_is_refused_before_its_batch_fails_is_written_down_once(tmp_path: Path) -> None:
    service = StandIn(bad=frozenset({"0"}), too_large=frozenset({"3"}))
    own, delivery = in_spool(tmp_path, service)
    own.append([execution_line(n, str(n)) for n in range(4)])
    for _ in range(3):
        assert not delivery.attempt(lambda: True)
    assert (service.executions, len(refusals(tmp_path))) == (["1", "2"], 1)
    service.too_large = frozenset()
    assert delivery.attempt(lambda: True)
    assert service.executions == ["1", "2", "3"]


def test_what_is_kept_comes_after_what_was_taken_before(tmp_path: Path) -> None:
    service = StandIn()
    with outbox(service, tmp_path) as own:
        for i in range(1000):
            own.put(EXECUTIONS, execution(str(i)))
        own.keep(REVIEWS, REVIEW)
        assert own.look().queued == 0
        own.flush(30)
    assert [each for each in service.received if each == str(REVIEW["client_id"])] == [list(service.received)[-1]]


class Hostile:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Unspeakable(Hostile):
    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__


def test_a_record_that_is_none_is_said_and_kept_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = StandIn()
    with caplog.at_level(logging.WARNING), outbox(service, tmp_path) as own:
        own.put(EXECUTIONS, execution("", cost=1.0))
        own.put(EXECUTIONS, execution("hostile", input_data={"a": Hostile()}))
        own.put(EXECUTIONS, execution("fine"))
        left = own.flush(30)
    assert (left.pending, left.stored, left.refused) == (0, 1, 2)
    assert "execution_id" in caplog.text
    assert "RuntimeError" in caplog.text
    assert len((tmp_path / "refused.jsonl").read_text().splitlines()) == 2


def test_a_record_that_cannot_even_be_shown_ends_nothing(tmp_path: Path) -> None:
    service = StandIn()
    with outbox(service, tmp_path) as own:
        own.put(EXECUTIONS, execution("unspeakable", input_data={"a": Unspeakable()}))
        own.put(EXECUTIONS, execution("", input_data={"a": Unspeakable()}))
        own.put(EXECUTIONS, lambda: {"execution_id": Unspeakable()})
        own.put(EXECUTIONS, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        own.put(EXECUTIONS, execution("fine"))
        left = own.flush(30)
    assert (left.pending, left.stored, left.refused, left.trouble) == (0, 1, 4, None)
    assert next(record for *_, record in refusals(tmp_path)) == "unspeakable"


def test_the_writer_outlives_what_nobody_foresaw_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = StandIn()
    with outbox(service, tmp_path) as own:
        own.put(EXECUTIONS, execution("1"), Hostile())  # type: ignore[arg-type]
        assert own.flush(30).pending == 0
        own.put(EXECUTIONS, execution("2"))
        left = own.flush(30)
    assert (left.pending, left.stored, service.executions) == (0, 2, ["1", "2"])
    assert "writing records failed (RuntimeError)" in str(left.trouble)
    assert "Traceback" in caplog.text


def test_what_was_not_sent_is_sent_by_the_next_process(tmp_path: Path) -> None:
    away = StandIn(failures=[ServiceAway("away")] * 1000)
    with outbox(away, tmp_path) as own:
        own.put(EXECUTIONS, execution("1"))
        own.keep(REVIEWS, REVIEW)
    assert own.look().spooled == 0  # it is no longer this one's
    service = StandIn()
    with outbox(service, tmp_path) as own:
        assert own.flush(30).stored == 2
    assert sorted(service.executions) == ["1", "1"]
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_full_queue_holds_the_caller_up_and_then_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "spool"
    blocked.write_text("a file where the folder should be")
    with outbox(StandIn(), blocked, Bounds(queue_size=3, block_seconds=0.05, batch_seconds=0, sync=False)) as own:
        own.put(EXECUTIONS, execution("0"))
        while own.look().trouble is None:  # until the writer has it in hand
            time.sleep(0.01)
        for i in range(1, 4):
            own.put(EXECUTIONS, execution(str(i)))
        assert not own.has_room
        with pytest.raises(StoreUnavailable, match=r"3 records wait in memory .* records cannot be kept"):
            own.put(EXECUTIONS, execution("4"))
        waiting = threading.Timer(0.02, blocked.unlink)
        waiting.start()
        left = own.flush(30)
        assert (left.stored, left.pending, left.trouble) == (4, 0, None)
        waiting.join()


def test_a_closed_one_takes_nothing(tmp_path: Path) -> None:
    own = Outbox(StandIn(), tmp_path, QUICK)
    own.put(EXECUTIONS, execution("1"))
    assert own.close(10).pending == 0
    with pytest.raises(UserError, match="closed"):
        own.put(EXECUTIONS, execution("2"))
    with pytest.raises(UserError, match="closed"):
        own.keep(REVIEWS, REVIEW)
    assert own.close(10).stored == 1


CHILD = """
import os, sys
from pathlib import Path
from feedback_pipeline.sdk import Bounds
from feedback_pipeline.sdk.encoding import EXECUTIONS
from feedback_pipeline.sdk.outbox import Outbox
from feedback_pipeline.sdk.transport import ServiceAway
from feedback_pipeline_tests.sdk.service import StandIn
from feedback_pipeline_tests.sdk.test_outbox import execution
own = Outbox(StandIn(failures=[ServiceAway("away")] * 10_000), Path(sys.argv[1]), Bounds(sync=False))
names = {own.new_name()}
own.put(EXECUTIONS, execution("parent"))
own.flush(0.2)
child = os.fork()
names.add(own.new_name())
own.put(EXECUTIONS, execution("child" if child == 0 else "after"))
own.close(5)
if child:
    os.waitpid(child, 0)
print(sorted(names)[-1])
"""


def test_after_a_fork_both_have_their_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    first, second = done.stdout.split()
    assert first != second
    service = StandIn()
    with outbox(service, tmp_path) as own:
        own.flush(30)
    assert sorted(service.executions) == ["after", "child", "parent"]


EXIT = """
import sys
from pathlib import Path
from feedback_pipeline.sdk.encoding import EXECUTIONS
from feedback_pipeline.sdk.outbox import Outbox
from feedback_pipeline.sdk import Bounds
from feedback_pipeline_tests.sdk.service import StandIn
from feedback_pipeline_tests.sdk.test_outbox import execution
service = StandIn()
own = Outbox(service, Path(sys.argv[1]), Bounds())
for i in range(100):
    own.put(EXECUTIONS, execution(str(i)))
import atexit
atexit._run_exitfuncs()
print(len(service.received))
"""


def test_the_end_of_the_program_delivers(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", EXIT, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "100\n"
    assert list(tmp_path.iterdir()) == []
