"""The table trigger_decisions: why a learning pass was started by itself, or not; which runs failed, and what is to be told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from feedback_pipeline.learning.moments import told
from feedback_pipeline.storage.database import Connection

KEPT_DAYS: Final = 90
ASKED_AGAIN_AFTER: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(minutes=10)
_FIRST_PAUSE: Final = timedelta(seconds=10)
_BESIDE: Final = ("failed", "retrain", "safety_net")
"""Kinds that are no answer to the question whether a pass starts now."""
_LOOKED_UP: Final = 10


@dataclass(frozen=True)
class Entry:
    """One decision.

    Attributes:
        kind: What was decided.
        reason: Why, in numbers; its moments are told when it is read, see `learning.moments`.
        batch_id: Of the pending changes, or None.
        run_id: Dagster run it is about, or None.
        agents: Pending reviews by agent.
    """

    kind: str
    reason: str
    batch_id: str | None = None
    run_id: str | None = None
    agents: Mapping[str, int] = field(default_factory=dict)


def write_entry(connection: Connection, entry: Entry, alert: Mapping[str, object] | None = None) -> bool:
    """Add an entry; False if the failure of this run is in the book already.

    Args:
        connection: Where the book is.
        entry: What to write.
        alert: What the webhook is to be told of it; it stays until `alert_taken`.
    """
    added = connection.execute(
        "INSERT INTO trigger_decisions (kind, reason, batch_id, run_id, agents, alert) VALUES (%s, %s, %s, %s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        [entry.kind, entry.reason, entry.batch_id, entry.run_id, Jsonb(dict(entry.agents)), alert and Jsonb(dict(alert))],
    ).rowcount
    return bool(added)


def claim_start(connection: Connection, entry: Entry, attempt: int) -> bool:
    """Write down that the run of a batch and an attempt is asked for; False if somebody else has just asked for it.

    The caller knows of no run of this attempt. Whoever asked may have died before Dagster heard of it, so after 30 seconds it is
    asked for again; so it is when the clock was moved back behind the entry.
    """
    claimed = connection.execute(
        "INSERT INTO trigger_decisions AS book (kind, reason, batch_id, agents, attempt) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (batch_id, attempt) DO UPDATE SET kind = excluded.kind, reason = excluded.reason, agents = excluded.agents, "
        "run_id = NULL, decided_at = clock_timestamp() "
        "WHERE book.decided_at NOT BETWEEN clock_timestamp() - %s AND clock_timestamp()",
        [entry.kind, entry.reason, entry.batch_id, Jsonb(dict(entry.agents)), attempt, ASKED_AGAIN_AFTER],
    ).rowcount
    return bool(claimed)


def note_decision(connection: Connection, entry: Entry) -> None:
    """Add a decision not to start, if it says something else than the decision before.

    The same kind for the same agents is the same reason, of which the numbers are brought up to date: a state that lasts is one
    row, however many ticks it lasts.
    """
    last = connection.execute(
        "SELECT id, kind, run_id, agents, reason FROM trigger_decisions WHERE kind <> ALL(%s) ORDER BY id DESC LIMIT 1",
        [list(_BESIDE)],
    ).fetchone()
    if last is None or (last[1], last[2], set(last[3])) != (entry.kind, entry.run_id, set(entry.agents)):
        write_entry(connection, entry)
    elif (last[3], last[4]) != (dict(entry.agents), entry.reason):
        connection.execute(
            "UPDATE trigger_decisions SET reason = %s, batch_id = %s, agents = %s WHERE id = %s",
            [entry.reason, entry.batch_id, Jsonb(dict(entry.agents)), last[0]],
        )


def unnamed_starts(connection: Connection) -> Sequence[tuple[int, str, int]]:
    """The latest runs that were asked for and whose id is not known yet: (id of the entry, batch, attempt)."""
    return connection.execute(
        "SELECT id, batch_id, attempt FROM trigger_decisions WHERE attempt IS NOT NULL AND run_id IS NULL "
        "ORDER BY id DESC LIMIT %s",
        [_LOOKED_UP],
    ).fetchall()


def name_run(connection: Connection, entry_id: int, run_id: str) -> None:
    """Add the run to the entry that asked for it, which was written before the run had an id."""
    connection.execute("UPDATE trigger_decisions SET run_id = %s WHERE id = %s", [run_id, entry_id])


def failures_in_book(connection: Connection, run_ids: Sequence[str]) -> set[str]:
    """Those of the runs whose failure is in the book."""
    rows = connection.execute(
        "SELECT run_id FROM trigger_decisions WHERE kind = 'failed' AND run_id = ANY(%s)", [list(run_ids)]
    ).fetchall()
    return {run_id for (run_id,) in rows}


def next_alert(connection: Connection) -> tuple[int, dict[str, Any]] | None:
    """The oldest entry that the webhook must be told of now, and what; None = none.

    It is locked to the end of the transaction, so that nobody else tells it meanwhile.
    """
    return connection.execute(
        "SELECT id, alert FROM trigger_decisions WHERE alert IS NOT NULL AND (alert_after IS NULL "
        "OR alert_after NOT BETWEEN clock_timestamp() AND clock_timestamp() + %s) ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
        [LONGEST_PAUSE],
    ).fetchone()


def alert_taken(connection: Connection, entry_id: int) -> None:
    """The webhook has taken what it was to be told of the entry."""
    connection.execute("UPDATE trigger_decisions SET alert = NULL, alert_after = NULL WHERE id = %s", [entry_id])


def postpone_alerts(connection: Connection) -> None:
    """The webhook takes nothing at the moment: wait as long as the oldest alert has waited, from 10 seconds to 10 minutes."""
    connection.execute(
        "UPDATE trigger_decisions SET alert_after = clock_timestamp() + greatest(%s, least(%s, "
        "(SELECT clock_timestamp() - min(decided_at) FROM trigger_decisions WHERE alert IS NOT NULL))) WHERE alert IS NOT NULL",
        [_FIRST_PAUSE, LONGEST_PAUSE],
    )


def forget_old(connection: Connection) -> None:
    """Remove entries older than 90 days."""
    connection.execute("DELETE FROM trigger_decisions WHERE decided_at < now() - make_interval(days => %s)", [KEPT_DAYS])


def read_last_decision(connection: Connection) -> dict[str, Any] | None:
    """The last answer to the question whether a pass starts, as a document as of this moment; None before the first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "SELECT decided_at, kind, reason, batch_id, run_id, agents, clock_timestamp() AS now FROM trigger_decisions "
            "WHERE kind <> ALL(%s) ORDER BY id DESC LIMIT 1",
            [list(_BESIDE)],
        ).fetchone()
    if row is None:
        return None
    reason = told(row["reason"], row.pop("now"))
    return row | {"decided_at": row["decided_at"].isoformat(), "reason": reason}
