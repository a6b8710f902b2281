"""The sensor that relearns: the shell around `learning.trigger.decide`.

Belongs here: reading the state of the database and of the run records, and turning the decision into a run request. Does not
belong here: thresholds, pauses, reasons; they are the decision's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final

import dagster as dg

from feedback_pipeline.learning.moments import told
from feedback_pipeline.learning.trigger import Pending, Policy, Run, Runs, decide
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.jobs import learn
from feedback_pipeline.orchestration.looks import looks_every
from feedback_pipeline.orchestration.partitions import DAYS, range_tags
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, installation_tag_by
from feedback_pipeline.orchestration.run_states import (
    ATTEMPT_TAG,
    BATCH_TAG,
    Ours,
    name_starts,
    ours_of,
    run_in_flight,
    runs_of,
)
from feedback_pipeline.settings import Settings

if TYPE_CHECKING:
    from feedback_pipeline.storage.database import Connection
    from feedback_pipeline.storage.feature_store import FeatureStore

_TAGGED_AGENTS: Final = 20


@dg.sensor(
    name="new_feedback_sensor",
    job=learn,
    minimum_interval_seconds=looks_every(Settings().sensor_seconds),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts one learning pass over everything that changed, as soon as an agent has enough new reviews. Why it "
    "started one, or did not, is in the table trigger_decisions and in `feedback-pipeline status`.",
)
def new_feedback_sensor(
    context: dg.SensorEvaluationContext, database: DatabaseResource, feature_store: FeatureStoreResource
) -> dg.RunRequest | dg.SkipReason:
    """Asks for one run of `learn` when it is due and none is under way."""
    from feedback_pipeline.storage.kept_connection import KeptDatabase, kept_connection

    with in_own_words(), kept_connection(KeptDatabase(database.url)) as connection:
        ours = ours_of(context, installation_tag_by(connection))
        return evaluate(context.instance, connection, lambda: feature_store.of(ours.installation_id), Settings(), ours)


def evaluate(
    instance: dg.DagsterInstance,
    connection: "Connection",
    store: "Callable[[], FeatureStore]",
    settings: Settings,
    ours: Ours,
    *,
    now: datetime | None = None,
) -> dg.RunRequest | dg.SkipReason:
    """Decides from the database and the run records alone, and writes down what was decided.

    Args:
        instance: Where the run records are.
        connection: To the database with the pending changes, in autocommit mode.
        store: Opens the feature store, which is read only when a pass starts.
        settings: Thresholds and times.
        ours: Whose runs count.
        now: By default the clock of the database.
    """
    from feedback_pipeline.storage.database import read_at_one_moment
    from feedback_pipeline.storage.trigger_book import Entry, claim_start, note_decision

    policy = policy_of(settings)
    # The records before the changes: a pass that publishes in between leaves fewer changes. The other way round, changes that
    # it has just learned would start another one.
    active = run_in_flight(instance, ours)
    with read_at_one_moment(connection):
        state = _state(connection, policy, ours, instance, active)
        moment, pending = now or state.now, state.pending
        decision = decide(pending, state.runs, policy, moment)
        days = _stale(connection, store(), settings) if isinstance(decision, Run) else []
    reason, run_id = told(decision.reason, moment), None if active is None else active[0].run_id
    # A start is of its moment, everything else lasts.
    noted = reason if isinstance(decision, Run) else decision.reason
    entry = Entry(decision.kind, noted, pending.batch_id or None, run_id, pending.counts)
    name_starts(connection, instance, ours)
    if not isinstance(decision, Run):
        note_decision(connection, entry)
        return dg.SkipReason(reason)
    request = _request(decision, reason, pending, policy, ours, days)
    # Last of all: what follows is Dagster's, and a request that is lost there is made again after a while.
    if claim_start(connection, entry, decision.attempt):
        return request
    return dg.SkipReason(f"{reason}; a run for it was asked for a moment ago")


@dataclass(frozen=True)
class _State:
    pending: Pending
    runs: Runs
    now: datetime


def _state(
    connection: "Connection",
    policy: Policy,
    ours: Ours,
    instance: dg.DagsterInstance,
    active: tuple[dg.DagsterRun, datetime] | None,
) -> _State:
    """What the decision is made from; while a run learns there is nothing to count."""
    from feedback_pipeline.storage.triggers import read_clock, read_pending

    if active is not None:
        return _State(Pending(), Runs(in_flight=(active[0].run_id, active[1])), read_clock(connection))
    read = read_pending(connection, policy)
    if not read.pending.batch_id:
        return _State(read.pending, Runs(), read.now)
    return _State(read.pending, runs_of(instance, ours, read.pending.batch_id, read.published_by), read.now)


def policy_of(settings: Settings) -> Policy:
    """The thresholds and pauses of the settings."""
    return Policy(
        threshold=settings.learn_threshold,
        thresholds=settings.learn_thresholds,
        age_limit=timedelta(days=settings.learn_age_days),
        quiet=timedelta(seconds=settings.quiet_seconds),
        longest_wait=timedelta(seconds=settings.longest_wait_seconds),
        first_pause=timedelta(seconds=settings.retry_pause_seconds),
    )


def _stale(connection: "Connection", store: "FeatureStore", settings: Settings) -> list[date]:
    """The days that the run has to read, as every pass finds them; at least one, so that changes that touch none are settled."""
    from feedback_pipeline.storage.extraction import pending_days

    stale = pending_days(connection, store, settings)
    first, last = (date.fromisoformat(str(key)) for key in (DAYS.get_first_partition_key(), DAYS.get_last_partition_key()))
    # The clock of the database may be ahead of the one that makes the partitions.
    return [day for day in stale if first <= day <= last] or [last]


def _request(decision: Run, reason: str, pending: Pending, policy: Policy, ours: Ours, days: Iterable[date]) -> dg.RunRequest:
    """One run over the range that covers the days, whatever the number of agents."""
    counts = pending.counts
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TAGGED_AGENTS]
    about = {
        BATCH_TAG: decision.batch_id,
        ATTEMPT_TAG: str(decision.attempt),
        "feedback_pipeline/reviews": str(pending.in_all),
        # Only the oldest were looked up: the agents of a million reviews would take the database a while.
        "feedback_pipeline/agents": f"{'at least ' if pending.in_all > policy.backlog else ''}{len(counts)}",
        "feedback_pipeline/pending": ", ".join(f"{name}: {count}" for name, count in most),
        "feedback_pipeline/reason": reason,
    }
    return dg.RunRequest(run_key=decision.run_key, tags=range_tags(days) | dict(ours.tag) | about)
