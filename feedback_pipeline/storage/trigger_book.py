"""The table trigger_decisions: why a learning pass was started by itself, or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from feedback_pipeline.storage.database import Connection

STARTS: Final = ("fired", "retry")
KEPT_DAYS: Final = 90
_BESIDE: Final = ("failed", "retrain", "safety_net")
"""Kinds that are no answer to the question whether a pass starts now."""


@dataclass(frozen=True)
class Entry:
    """One decision.

    Attributes:
        kind: What was decided.
        reason: Why, in numbers.
        batch_id: Of the pending changes, or None.
        run_id: Dagster run it is about, or None.
        agents: Pending reviews by agent.
    """

    kind: str
    reason: str
    batch_id: str | None = None
    run_id: str | None = None
    agents: Mapping[str, int] = field(default_factory=dict)


def write_entry(connection: Connection, entry: Entry) -> bool:
    """Add an entry; False if the failure of this run is in the book already."""
    added = connection.execute(
        "INSERT INTO trigger_decisions (kind, reason, batch_id, run_id, agents) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        [entry.kind, entry.reason, entry.batch_id, entry.run_id, Jsonb(dict(entry.agents))],
    ).rowcount
    return bool(added)


def note_decision(connection: Connection, entry: Entry) -> None:
    """Add a decision of the sensor: every start, and of the others those that say something else than the one before.

    The same kind for the same agents is the same reason: its numbers are brought up to date, the age of the oldest change is
    not; so a state that lasts is one row, however many ticks it lasts.
    """
    last = connection.execute(
        "SELECT id, kind, run_id, agents FROM trigger_decisions WHERE kind <> ALL(%s) ORDER BY id DESC LIMIT 1", [list(_BESIDE)]
    ).fetchone()
    if entry.kind in STARTS or last is None or (last[1], last[2], set(last[3])) != (entry.kind, entry.run_id, set(entry.agents)):
        write_entry(connection, entry)
    elif last[3] != dict(entry.agents):
        connection.execute(
            "UPDATE trigger_decisions SET reason = %s, batch_id = %s, agents = %s WHERE id = %s",
            [entry.reason, entry.batch_id, Jsonb(dict(entry.agents)), last[0]],
        )


def name_run(connection: Connection, batch_id: str, run_id: str) -> None:
    """Add the run to the last start of its batch, which was written before the run had an id."""
    connection.execute(
        "UPDATE trigger_decisions SET run_id = %s WHERE run_id IS NULL AND id = (SELECT max(id) FROM trigger_decisions "
        "WHERE batch_id = %s AND kind = ANY(%s))",
        [run_id, batch_id, list(STARTS)],
    )


def was_asked(connection: Connection, kind: str, reason: str) -> bool:
    """Whether the book has an entry of this kind with exactly this reason."""
    found = connection.execute("SELECT EXISTS (SELECT FROM trigger_decisions WHERE kind = %s AND reason = %s)", [kind, reason])
    return found.fetchone() == (True,)


def forget_old(connection: Connection) -> None:
    """Remove entries older than 90 days."""
    connection.execute("DELETE FROM trigger_decisions WHERE decided_at < now() - make_interval(days => %s)", [KEPT_DAYS])


def read_last_decision(connection: Connection) -> dict[str, Any] | None:
    """The last answer to the question whether a pass starts, as a document; None before the first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "SELECT decided_at, kind, reason, batch_id, run_id, agents FROM trigger_decisions WHERE kind <> ALL(%s) "
            "ORDER BY id DESC LIMIT 1",
            [list(_BESIDE)],
        ).fetchone()
    return row and row | {"decided_at": row["decided_at"].isoformat()}
