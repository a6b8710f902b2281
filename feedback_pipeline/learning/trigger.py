"""Whether a learning pass is due: one decision from counts and times, with its reason in numbers.

It remembers nothing and asks nobody: the same state gives the same answer, whoever asks and however often. A moment later than
`now` means that a clock was moved, and nothing is put off until it comes: waiting for a clock could take for ever.
A reason names moments in the manner of `learning.moments`, and is told as of a moment: "oldest waits 2 h".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from feedback_pipeline.learning.moments import escaped, in_words, since, until

UNKNOWN_AGENT: Final = "unknown agent"
"""Under this name count reviews whose workflow or execution is gone."""

_LEAST_BACKLOG: Final = 300
_MOST_BACKLOG: Final = 600
_BACKLOG_THRESHOLDS: Final = 60

MAX_RETRIES: Final = 3
FIRST_PAUSE: Final = timedelta(minutes=1)
PAUSES: Final = (1, 5, 25)
"""First pauses to wait before the first, second and every later run after failures that nothing was published in between."""

_NAMED: Final = 3


@dataclass(frozen=True)
class Policy:
    """When to learn.

    Attributes:
        threshold: Pending reviews of one agent that start a pass.
        thresholds: The same for single agents.
        age_limit: A change that has waited for so long starts a pass whatever the counts.
        quiet: No change for so long before a pass starts: a burst of reviews makes one pass.
        longest_wait: So long after the threshold was crossed a pass starts although changes still come.
        first_pause: What to wait before the run after one that failed; it grows from run to run.
    """

    threshold: int = 5
    thresholds: Mapping[str, int] = field(default_factory=dict)
    age_limit: timedelta = timedelta(days=7)
    quiet: timedelta = timedelta(seconds=10)
    longest_wait: timedelta = timedelta(seconds=60)
    first_pause: timedelta = FIRST_PAUSE

    @property
    def backlog(self) -> int:
        """More pending reviews than that start a pass whoever they are of, and are not counted by agent one by one.

        60 times the largest threshold, at least 300 and at most 600, for every look pays for it; never less than a threshold.
        """
        largest = max([self.threshold, *self.thresholds.values()])
        return max(_LEAST_BACKLOG, min(_BACKLOG_THRESHOLDS * largest, _MOST_BACKLOG), largest)

    def threshold_of(self, agent_name: str) -> int:
        """Pending reviews of this agent that start a pass."""
        return self.thresholds.get(agent_name, self.threshold)


@dataclass(frozen=True)
class Pending:
    """Changes that no pass has published yet.

    Attributes:
        batch_id: The same for the same changes of reviews; "" = there are no changes at all.
        counts: Changed reviews by agent: those that are or were training data, inside the window; where there are more of them
            than `Policy.backlog`, those of the oldest hundred changes.
        in_all: Number of such reviews.
        oldest: When the oldest change was made, of any kind; None = none.
        newest: When the newest change of a review was made.
        crossed: When the first agent reached its threshold; None = none has.
        demanded: Why a pass is due whatever the counts: a table was emptied, a day differs from the database; else None.
    """

    batch_id: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    in_all: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    crossed: datetime | None = None
    demanded: str | None = None


@dataclass(frozen=True)
class Runs:
    """What the run records say.

    Attributes:
        in_flight: The run that is queued or under way, and since when; None = none is.
        failed: When runs ended that failed since the last publication, whatever they were to learn; latest first.
        failed_of_batch: How many of them were started for this batch.
        attempts: Number of the last attempt for this batch; those before it may have been deleted.
    """

    in_flight: tuple[str, datetime] | None = None
    failed: Sequence[datetime] = ()
    failed_of_batch: int = 0
    attempts: int = 0


@dataclass(frozen=True)
class Run:
    """Start a pass now.

    Attributes:
        kind: fired, or retry of a batch that has failed.
        reason: Why, in numbers.
        batch_id: What is to be learned.
        attempt: 1 for the first run of this batch.
    """

    kind: str
    reason: str
    batch_id: str
    attempt: int

    @property
    def run_key(self) -> str:
        """The same for every evaluation of the same state."""
        return f"{self.batch_id}/{self.attempt}"


@dataclass(frozen=True)
class Wait:
    """Something is pending, and its time has not come: waiting, settling, pausing, in_flight, gave_up."""

    kind: str
    reason: str


@dataclass(frozen=True)
class Skip:
    """Nothing is pending."""

    reason: str
    kind: str = "idle"


def decide(pending: Pending, runs: Runs, policy: Policy, now: datetime) -> Run | Wait | Skip:
    """Whether a pass starts now.

    Args:
        pending: What waits to be learned.
        runs: Runs of this installation.
        policy: Thresholds and times.
        now: The time, of the clock that dated the changes.
    """
    if runs.in_flight is not None:
        run_id, begun = runs.in_flight
        return Wait("in_flight", f"run {run_id[:8]} is queued or under way since {since(begun)}")
    if not pending.batch_id:
        return Skip("nothing has changed since the last learning run")
    due = _due(pending, policy, now)
    if due is None:
        return Wait("waiting", _below(pending, policy))
    start = after_failures(pending.batch_id, due, runs, policy, now)
    unsettled = _unsettled(pending, policy, now) if isinstance(start, Run) else None
    return start if unsettled is None else Wait(unsettled.kind, f"{due}; {unsettled.reason}")


def after_failures(batch_id: str, due: str, runs: Runs, policy: Policy, now: datetime) -> Run | Wait:
    """The next run of what is due: at once, after a pause that grows with the failures of before, or no more.

    Args:
        batch_id: What the run is for.
        due: Why it is due.
        runs: Those of before.
        policy: The first pause.
        now: The time.
    """
    held = _held_by_failures(runs, policy, now)
    if held is not None:
        return Wait(held.kind, f"{due}; {held.reason}")
    kind = "retry" if runs.failed_of_batch else "fired"
    retried = f"; retry {runs.failed_of_batch} of {MAX_RETRIES}" if runs.failed_of_batch else ""
    return Run(kind, due + retried, batch_id, runs.attempts + 1)


def _due(pending: Pending, policy: Policy, now: datetime) -> str | None:
    """Why a pass is due, or None."""
    if pending.in_all > policy.backlog:
        return f"{pending.in_all:,} new reviews in all{_oldest(pending)}"
    crossing = [name for name, count in pending.counts.items() if count >= policy.threshold_of(name)]
    if crossing:
        return _counted(pending, crossing, policy)
    if pending.demanded is not None:
        return pending.demanded
    if pending.oldest is None or timedelta(0) <= now - pending.oldest < policy.age_limit:
        return None
    reviews = f"{pending.in_all} new {'review' if pending.in_all == 1 else 'reviews'}"
    if pending.oldest > now:
        return f"{reviews}; the clock was moved: the oldest change is dated {until(pending.oldest)} ahead"
    return f"{reviews}; the oldest change waits {since(pending.oldest)}, at most {in_words(policy.age_limit)}"


def _below(pending: Pending, policy: Policy) -> str:
    if pending.counts:
        return _counted(pending, list(pending.counts), policy)
    return f"changes that are no new reviews of the window{_oldest(pending)}; learned after {in_words(policy.age_limit)}"


def _held_by_failures(runs: Runs, policy: Policy, now: datetime) -> Wait | None:
    """Why failures of before keep a pass that is due from starting."""
    if not runs.failed:
        return None
    passed = now - runs.failed[0]
    if runs.failed_of_batch > MAX_RETRIES:
        return Wait(
            "gave_up",
            f"gave up after {runs.failed_of_batch} failed runs, the last {since(runs.failed[0])} ago; waits for new reviews or "
            "for somebody: the log of the run says what to correct, then `feedback-pipeline learn`",
        )
    pause = policy.first_pause * PAUSES[min(len(runs.failed), len(PAUSES)) - 1]
    if timedelta(0) <= passed < pause:
        runs_failed = "1 run" if len(runs.failed) == 1 else f"{len(runs.failed)} runs in a row"
        return Wait("pausing", f"{runs_failed} failed, the next starts in {until(runs.failed[0] + pause)}")
    return None


def _unsettled(pending: Pending, policy: Policy, now: datetime) -> Wait | None:
    """Why changes that still come keep a pass that is due from starting."""
    if pending.newest is None:
        return None
    quiet = now - pending.newest
    if not timedelta(0) <= quiet < policy.quiet:
        return None
    due = pending.crossed or pending.oldest
    if due is not None and not timedelta(0) <= now - due < policy.longest_wait:
        return None
    return Wait(
        "settling",
        f"the last change is {since(pending.newest)} old; starts after {in_words(policy.quiet)} without one, "
        f"at the latest {in_words(policy.longest_wait)} after the threshold",
    )


def _counted(pending: Pending, names: Sequence[str], policy: Policy) -> str:
    """The agents nearest to their thresholds: "drafter: 3 of 5 new reviews; oldest waits 2 h"."""
    nearest = sorted(names, key=lambda name: (-pending.counts[name] / policy.threshold_of(name), name))
    parts = [f"{escaped(name)}: {pending.counts[name]} of {policy.threshold_of(name)}" for name in nearest[:_NAMED]]
    more = f" and {len(names) - _NAMED} more agents" if len(names) > _NAMED else ""
    return f"{', '.join(parts)} new reviews{more}{_oldest(pending)}"


def _oldest(pending: Pending) -> str:
    return f"; oldest waits {since(pending.oldest)}" if pending.oldest is not None else ""
