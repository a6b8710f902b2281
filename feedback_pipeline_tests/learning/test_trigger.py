"""The decision whether to learn, as a table of cases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from feedback_pipeline.learning.moments import told
from feedback_pipeline.learning.trigger import (
    FIRST_PAUSE,
    MAX_RETRIES,
    PAUSES,
    UNKNOWN_AGENT,
    Pending,
    Policy,
    Run,
    Runs,
    Skip,
    Wait,
    after_failures,
    decide,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy(threshold=5, thresholds={"drafter": 3}, quiet=timedelta(seconds=10), longest_wait=timedelta(minutes=1))


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


HOURS_AGO = ago(hours=2), ago(hours=1)


def pending(
    oldest: datetime = HOURS_AGO[0], newest: datetime = HOURS_AGO[1], crossed: datetime | None = None, **counts: int
) -> Pending:
    return Pending("7-11-5", counts, sum(counts.values()), oldest, newest, crossed)


def failed(times: int, latest: timedelta = timedelta(seconds=1), *, of_batch: int | None = None) -> Runs:
    own = times if of_batch is None else of_batch
    return Runs(failed=[NOW - latest - timedelta(hours=n) for n in range(times)], failed_of_batch=own, attempts=own)


CROSSED = pending(crossed=ago(hours=1), writer=5)
CASES: dict[str, tuple[Pending, Runs, Run | Wait | Skip]] = {
    "nothing": (Pending(), Runs(), Skip("nothing has changed since the last learning run")),
    "nothing, though a run failed": (Pending(), failed(2), Skip("nothing has changed since the last learning run")),
    "below": (pending(writer=3), Runs(), Wait("waiting", "writer: 3 of 5 new reviews; oldest waits 2 h")),
    "below its own threshold": (pending(drafter=2), Runs(), Wait("waiting", "drafter: 2 of 3 new reviews; oldest waits 2 h")),
    "below, several: the nearest first": (
        pending(a=1, b=4, c=2, drafter=2, e=1),
        Runs(),
        Wait("waiting", "b: 4 of 5, drafter: 2 of 3, c: 2 of 5 new reviews and 2 more agents; oldest waits 2 h"),
    ),
    "only changes that are no reviews": (
        pending(),
        Runs(),
        Wait("waiting", "changes that are no new reviews of the window; oldest waits 2 h; learned after 7 d"),
    ),
    "crossed": (CROSSED, Runs(), Run("fired", "writer: 5 of 5 new reviews; oldest waits 2 h", "7-11-5", 1)),
    "crossed its own": (pending(drafter=3), Runs(), Run("fired", "drafter: 3 of 3 new reviews; oldest waits 2 h", "7-11-5", 1)),
    "one of two crossed: only that one is named": (
        pending(drafter=2, writer=9),
        Runs(),
        Run("fired", "writer: 9 of 5 new reviews; oldest waits 2 h", "7-11-5", 1),
    ),
    "reviews of nobody cross too": (
        replace(pending(), counts={UNKNOWN_AGENT: 5}),
        Runs(),
        Run("fired", "unknown agent: 5 of 5 new reviews; oldest waits 2 h", "7-11-5", 1),
    ),
    "too old": (
        pending(oldest=ago(days=7), writer=1),
        Runs(),
        Run("fired", "1 new review; the oldest change waits 7 d, at most 7 d", "7-11-5", 1),
    ),
    "not yet too old": (
        pending(oldest=ago(days=6, hours=23), writer=1),
        Runs(),
        Wait("waiting", "writer: 1 of 5 new reviews; oldest waits 6 d"),
    ),
    "more than are counted by agent": (
        replace(pending(writer=4), in_all=1234),
        Runs(),
        Run("fired", "1,234 new reviews in all; oldest waits 2 h", "7-11-5", 1),
    ),
    "demanded": (
        replace(pending(writer=1), demanded="table review_feedback was emptied"),
        Runs(),
        Run("fired", "table review_feedback was emptied", "7-11-5", 1),
    ),
    "still coming": (
        pending(newest=ago(seconds=3), crossed=ago(seconds=20), writer=6),
        Runs(),
        Wait(
            "settling",
            "writer: 6 of 5 new reviews; oldest waits 2 h; the last change is 3 s old; starts after 10 s without one, "
            "at the latest 1 min after the threshold",
        ),
    ),
    "still coming, but for too long": (
        pending(newest=ago(seconds=3), crossed=ago(seconds=60), writer=60),
        Runs(),
        Run("fired", "writer: 60 of 5 new reviews; oldest waits 2 h", "7-11-5", 1),
    ),
    "quiet again": (
        pending(newest=ago(seconds=10), crossed=ago(seconds=20), writer=6),
        Runs(),
        Run("fired", "writer: 6 of 5 new reviews; oldest waits 2 h", "7-11-5", 1),
    ),
    "a run is under way": (
        CROSSED,
        Runs(in_flight=("0123456789abcdef", ago(seconds=40))),
        Wait("in_flight", "run 01234567 is queued or under way since 40 s"),
    ),
    "just failed": (
        CROSSED,
        failed(1),
        Wait("pausing", "writer: 5 of 5 new reviews; oldest waits 2 h; 1 run failed, the next starts in 59 s"),
    ),
    "failed, paused": (
        CROSSED,
        failed(1, FIRST_PAUSE * PAUSES[0]),
        Run("retry", "writer: 5 of 5 new reviews; oldest waits 2 h; retry 1 of 3", "7-11-5", 2),
    ),
    "the pause grows": (
        CROSSED,
        failed(2, FIRST_PAUSE * PAUSES[0]),
        Wait("pausing", "writer: 5 of 5 new reviews; oldest waits 2 h; 2 runs in a row failed, the next starts in 4 min"),
    ),
    "the last retry": (
        CROSSED,
        failed(3, FIRST_PAUSE * PAUSES[2]),
        Run("retry", "writer: 5 of 5 new reviews; oldest waits 2 h; retry 3 of 3", "7-11-5", 4),
    ),
    "given up": (
        CROSSED,
        failed(1 + MAX_RETRIES, timedelta(days=2)),
        Wait(
            "gave_up",
            "writer: 5 of 5 new reviews; oldest waits 2 h; gave up after 4 failed runs, the last 2 d ago; waits for new reviews "
            "or for somebody: the log of the run says what to correct, then `feedback-pipeline learn`",
        ),
    ),
    "new reviews after that: another batch, after the pause": (
        CROSSED,
        failed(4, timedelta(minutes=20), of_batch=0),
        Wait("pausing", "writer: 5 of 5 new reviews; oldest waits 2 h; 4 runs in a row failed, the next starts in 5 min"),
    ),
    "and then": (
        CROSSED,
        failed(4, FIRST_PAUSE * PAUSES[2], of_batch=0),
        Run("fired", "writer: 5 of 5 new reviews; oldest waits 2 h", "7-11-5", 1),
    ),
    "the same ids learned before, as after a restored backup: a key of its own": (
        CROSSED,
        Runs(attempts=3),
        Run("fired", "writer: 5 of 5 new reviews; oldest waits 2 h", "7-11-5", 4),
    ),
    "the clock was moved back: the last change lies ahead": (
        pending(oldest=ago(hours=-3), newest=ago(hours=-2), crossed=ago(hours=-2), writer=6),
        Runs(),
        Run("fired", "writer: 6 of 5 new reviews; oldest waits 0 s", "7-11-5", 1),
    ),
    "the clock was a year ahead and was put right: nothing waits until it comes there again": (
        pending(oldest=ago(days=-365), newest=ago(days=-365), writer=1),
        Runs(),
        Run("fired", "1 new review; the clock was moved: the oldest change is dated 365 d ahead", "7-11-5", 1),
    ),
    "the same, and no change is a review of the window": (
        pending(oldest=ago(seconds=-2), newest=ago(hours=1)),
        Runs(),
        Run("fired", "0 new reviews; the clock was moved: the oldest change is dated 2 s ahead", "7-11-5", 1),
    ),
    "the clock was moved back: the failure lies ahead": (
        CROSSED,
        failed(1, timedelta(hours=-1)),
        Run("retry", "writer: 5 of 5 new reviews; oldest waits 2 h; retry 1 of 3", "7-11-5", 2),
    ),
    "the clock was moved back: the threshold was crossed ahead, changes still come": (
        pending(oldest=ago(hours=-1), newest=ago(seconds=1), crossed=ago(hours=-1), writer=6),
        Runs(),
        Run("fired", "writer: 6 of 5 new reviews; oldest waits 0 s", "7-11-5", 1),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_decision(case: str) -> None:
    state, runs, expected = CASES[case]
    decision = decide(state, runs, POLICY, NOW)
    assert replace(decision, reason=told(decision.reason, NOW)) == expected


def test_a_backlog_never_undercuts_a_threshold() -> None:
    state = replace(pending(writer=900, drafter=900), in_all=1800)
    assert isinstance(decide(state, Runs(), Policy(threshold=2000), NOW), Wait)
    assert isinstance(decide(state, Runs(), Policy(threshold=5, thresholds={"writer": 2000, "drafter": 901}), NOW), Wait)


def test_without_a_quiet_time_a_pass_starts_at_once() -> None:
    policy = replace(POLICY, quiet=timedelta(0))
    assert isinstance(decide(pending(newest=NOW, crossed=NOW, writer=5), Runs(), policy, NOW), Run)


def test_changes_that_never_stop_and_never_cross_do_not_put_off_for_ever_what_is_due() -> None:
    state = pending(oldest=ago(days=8), newest=ago(seconds=1))
    assert isinstance(decide(state, Runs(), POLICY, NOW), Run)


def test_a_thousand_agents_are_one_run_with_a_short_reason() -> None:
    counts = {f"agent-{n:04}": 5 for n in range(1000)}
    decision = decide(replace(pending(), counts=counts), Runs(), POLICY, NOW)
    assert isinstance(decision, Run)
    assert decision.reason.startswith(
        "agent-0000: 5 of 5, agent-0001: 5 of 5, agent-0002: 5 of 5 new reviews and 997 more agents"
    )


def test_what_is_looked_up_is_bounded_whatever_one_agent_has_for_a_threshold() -> None:
    assert Policy().backlog == 300
    assert Policy(threshold=50).backlog == 600
    assert Policy(thresholds={"x": 10_000}).backlog == 10_000


def test_a_reason_is_told_as_of_the_moment_when_it_is_read() -> None:
    decision = decide(pending(writer=3), Runs(), POLICY, NOW)
    assert told(decision.reason, NOW + timedelta(days=3)) == "writer: 3 of 5 new reviews; oldest waits 3 d"
    named = replace(pending(), counts={"{since 9} {": 1})
    assert told(decide(named, Runs(), POLICY, NOW).reason, NOW).startswith("{since 9} {: 1 of 5")


def test_what_is_no_batch_of_reviews_is_tried_again_like_one() -> None:
    assert after_failures("alarm", "why", Runs(), POLICY, NOW) == Run("fired", "why", "alarm", 1)
    assert isinstance(after_failures("alarm", "why", failed(1), POLICY, NOW), Wait)
    again = after_failures("alarm", "why", failed(1, FIRST_PAUSE * PAUSES[0]), POLICY, NOW)
    assert again == Run("retry", "why; retry 1 of 3", "alarm", 2)
    assert again.run_key == "alarm/2"
    assert isinstance(after_failures("alarm", "why", failed(1 + MAX_RETRIES, timedelta(days=9)), POLICY, NOW), Wait)
