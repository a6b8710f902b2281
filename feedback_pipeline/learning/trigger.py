"""Whether a learning pass is due: one decision from counts and times, with its reason in numbers.

It remembers nothing and asks nobody: the same state gives the same answer, whoever asks and however often. A moment later than
`now` means that a clock was moved, so no wait is counted from it: waiting for a clock could take for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

UNKNOWN_AGENT: Final = "unknown agent"
"""Under this name count reviews whose workflow or execution is gone."""

_LEAST_BACKLOG: Final = 300
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
        """So many pending reviews start a pass whoever they are of: no more are looked up to be counted by agent."""
        return max(_LEAST_BACKLOG, _BACKLOG_THRESHOLDS * max([self.threshold, *self.thresholds.values()]))

    def threshold_of(self, agent_name: str) -> int:
        """Pending reviews of this agent that start a pass."""
        return self.thresholds.get(agent_name, self.threshold)


@dataclass(frozen=True)
class Pending:
    """Changes that no pass has published yet.

    Attributes:
        batch_id: The same for the same changes of reviews; "" = there are no changes at all.
        counts: Changed reviews by agent: those that are or were training data, inside the window; at most `Policy.backlog` of
            them are looked up.
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
        of_batch: How many runs were ever started for this batch.
    """

    in_flight: tuple[str, datetime] | None = None
    failed: Sequence[datetime] = ()
    failed_of_batch: int = 0
    of_batch: int = 0


@dataclass(frozen=True)
class Run:
    """Start a pass now.

    Attributes:
        kind: fired, or retry of a batch that has failed.
        reason: Why, in numbers.
        run_key: The same for every evaluation of the same state.
    """

    kind: str
    reason: str
    run_key: str


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
        run_id, since = runs.in_flight
        return Wait("in_flight", f"learn run {run_id[:8]} is queued or under way since {in_words(now - since)}")
    if not pending.batch_id:
        return Skip("nothing has changed since the last learning run")
    due = _due(pending, policy, now)
    if due is None:
        return Wait("waiting", _below(pending, policy, now))
    held = _held_by_failures(runs, policy, now) or _unsettled(pending, policy, now)
    if held is not None:
        return Wait(held.kind, f"{due}; {held.reason}")
    kind = "retry" if runs.failed_of_batch else "fired"
    retried = f"; retry {runs.failed_of_batch} of {MAX_RETRIES}" if runs.failed_of_batch else ""
    return Run(kind, due + retried, f"{pending.batch_id}/{runs.of_batch + 1}")


def _due(pending: Pending, policy: Policy, now: datetime) -> str | None:
    """Why a pass is due, or None."""
    if pending.in_all > policy.backlog:
        return f"{pending.in_all:,} new reviews in all{_oldest(pending, now)}"
    crossing = [name for name, count in pending.counts.items() if count >= policy.threshold_of(name)]
    if crossing:
        return _counted(pending, crossing, policy, now)
    if pending.demanded is not None:
        return pending.demanded
    if pending.oldest is not None and now - pending.oldest >= policy.age_limit:
        n, waits = pending.in_all, in_words(now - pending.oldest)
        return (
            f"{n} new {'review' if n == 1 else 'reviews'}; the oldest change waits {waits}, at most {in_words(policy.age_limit)}"
        )
    return None


def _below(pending: Pending, policy: Policy, now: datetime) -> str:
    if pending.counts:
        return _counted(pending, list(pending.counts), policy, now)
    return f"changes that are no new reviews of the window{_oldest(pending, now)}; learned after {in_words(policy.age_limit)}"


def _held_by_failures(runs: Runs, policy: Policy, now: datetime) -> Wait | None:
    """Why failures of before keep a pass that is due from starting."""
    if not runs.failed:
        return None
    since = now - runs.failed[0]
    if runs.failed_of_batch > MAX_RETRIES:
        return Wait(
            "gave_up",
            f"gave up after {runs.failed_of_batch} failed runs, the last {in_words(since)} ago; waits for new reviews or for "
            "somebody: the log of the run says what to correct, then `feedback-pipeline learn`",
        )
    pause = policy.first_pause * PAUSES[min(len(runs.failed), len(PAUSES)) - 1]
    if timedelta(0) <= since < pause:
        runs_failed = "1 run" if len(runs.failed) == 1 else f"{len(runs.failed)} runs in a row"
        return Wait("pausing", f"{runs_failed} failed, the next starts in {in_words(pause - since)}")
    return None


def _unsettled(pending: Pending, policy: Policy, now: datetime) -> Wait | None:
    """Why changes that still come keep a pass that is due from starting."""
    if pending.newest is None:
        return None
    quiet = now - pending.newest
    if not timedelta(0) <= quiet < policy.quiet:
        return None
    since = pending.crossed or pending.oldest
    if since is not None and not timedelta(0) <= now - since < policy.longest_wait:
        return None
    return Wait(
        "settling",
        f"the last change is {in_words(quiet)} old; starts after {in_words(policy.quiet)} without one, "
        f"at the latest {in_words(policy.longest_wait)} after the threshold",
    )


def _counted(pending: Pending, names: Sequence[str], policy: Policy, now: datetime) -> str:
    """The agents nearest to their thresholds: "drafter: 3 of 5 new reviews; oldest waits 2 h"."""
    nearest = sorted(names, key=lambda name: (-pending.counts[name] / policy.threshold_of(name), name))
    parts = [f"{name}: {pending.counts[name]} of {policy.threshold_of(name)}" for name in nearest[:_NAMED]]
    more = f" and {len(names) - _NAMED} more agents" if len(names) > _NAMED else ""
    return f"{', '.join(parts)} new reviews{more}{_oldest(pending, now)}"


def _oldest(pending: Pending, now: datetime) -> str:
    return f"; oldest waits {in_words(now - pending.oldest)}" if pending.oldest is not None else ""


def in_words(length: timedelta) -> str:
    """A length of time in its largest unit: 45 s, 3 min, 2 h, 6 d."""
    seconds = max(int(length.total_seconds()), 0)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
