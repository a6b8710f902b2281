"""Weeks of reviews beside what was applied in them, and what is measured of applying so far."""

from datetime import date
from typing import Any

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.reading_effects import read_effects
from feedback_pipeline.storage.reading_provenance import read_applications_by_week

_MEASURED = ("pattern_id", "trial", "agent_name", "text", "kind", "state", "n", "uplift", "low", "high", "since")


def with_effects(database: Database, weeks: list[dict[str, Any]], agent_name: str | None) -> dict[str, Any]:
    """The document of schema Analytics, without provenance.

    Args:
        database: In one snapshot.
        weeks: Of `feedback_weeks`.
        agent_name: Only of this agent; it may have no week.

    Raises:
        NotFound: the agent is not known.
    """
    effects = read_effects(database, agent_name)
    rows = [row for row in weeks if agent_name in (None, row["agent_name"])]
    first = min((date.fromisoformat(row["week"]) for row in rows), default=date.max)
    applied = read_applications_by_week(database, first) if rows else {}
    return {
        "agent_name": agent_name,
        "weeks": [
            row | dict(zip(("applied", "held_out"), applied.get((row["agent_name"], row["week"]), (0, 0)), strict=True))
            for row in sorted(rows, key=lambda row: (row["agent_name"], row["week"]))
        ],
        "effects": [{key: trial[key] for key in _MEASURED} for trial in effects["trials"]],
    }
