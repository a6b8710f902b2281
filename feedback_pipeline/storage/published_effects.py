"""The table pattern_effects: which trials are open, and what was measured of them; the counters of the patterns behind them."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import pandas as pd
from psycopg.rows import class_row

from feedback_pipeline.learning.measured_advice import OpenTrial
from feedback_pipeline.learning.trial_states import (
    ACTIVE,
    CANDIDATE,
    PROBATION,
    RETIRED,
    measured_to_help,
    reason,
    share_applied,
)
from feedback_pipeline.storage.copy_fields import Fields, fields, stage_fields, text_fields
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.json_documents import json_document
from feedback_pipeline.storage.publication_rows import Publication
from feedback_pipeline.storage.published_advice import pattern_ids_behind

_NOTHING_YET: Final = "on trial: nothing is decided yet"
_GAVE_WAY: Final = "not recommended now: another recommendation about the same is"
_NOT_FOUND: Final = "not recommended now: these reviews do not show it, or show ten others more surely"
_KNOWN: Final = """
    SELECT DISTINCT ON (pattern_id) pattern_id, trial, agent_name, state, low, recommendation, since, EXISTS (
        SELECT FROM learning_applications a WHERE (a.pattern_id, a.trial) = (e.pattern_id, e.trial)
    ) AS applied FROM pattern_effects e ORDER BY pattern_id, trial DESC
"""
_PUT_ASIDE: Final = """
    UPDATE pattern_effects e SET state = %s, p_on = 0, since = %s, reason = CASE WHEN EXISTS (
        SELECT FROM agent_recommendations r
        WHERE r.agent_name = e.agent_name AND r.feature = e.recommendation ->> 'feature' AND r.direction <> 'ask'
    ) THEN %s ELSE %s END
    WHERE state IN (%s, %s) AND NOT EXISTS (SELECT FROM agent_recommendations r WHERE r.recommendation_id::text = e.pattern_id)
"""
_LISTED_AGAIN: Final = """
    SELECT pattern_id, trial, n, coalesce(uplift, 'NaN'), coalesce(low, 'NaN'), coalesce(high, 'NaN') FROM pattern_effects
    WHERE state = %s AND pattern_id IN (SELECT recommendation_id::text FROM agent_recommendations) ORDER BY pattern_id
"""
_TAKE_UP: Final = """
    UPDATE pattern_effects e SET state = t.state, p_on = t.p_on, reason = t.reason, since = %s
    FROM unnest(%s::text[], %s::integer[], %s::text[], %s::float8[], %s::text[]) AS t (pattern_id, trial, state, p_on, reason)
    WHERE (e.pattern_id, e.trial) = (t.pattern_id, t.trial)
"""
_MEASURED: Final = (
    *("state", "p_on", "n", "n_applied", "n_held_out", "n_waiting", "success_rate", "success_rate_held_out", "uplift", "low"),
    *("high", "reason"),
)
_COUNTED: Final = ("times_applied", "success_rate", "success_rate_held_out", "last_applied")


def read_newest_trials(connection: Connection) -> list[OpenTrial]:
    """The newest trial of every recommendation there ever was."""
    with connection.cursor(row_factory=class_row(OpenTrial)) as cursor:
        return cursor.execute(_KNOWN).fetchall()


def write_trials(connection: Connection, run: Publication) -> int:
    """Close the trials that were overtaken, open new ones, put aside those that are not recommended; returns the number opened.

    After the patterns, whose ids a trial names, and after the recommendations: what is on trial is listed among them.
    """
    _close(connection, run)
    frame = run.trials
    known = frame["recommendation"].tolist()
    columns: dict[str, Fields | str] = {
        "pattern_id": fields(frame["pattern_id"]),
        "trial": list(map(str, map(int, frame["trial"]))),
        "agent_name": fields(frame["agent_name"]),
        "target": text_fields(_or_null({} if one is None else one.get("target", {}) for one in known)),
        "recommendation": text_fields(_or_null(known)),
        "pattern_ids": ["{" + ",".join(ids) + "}" for ids in pattern_ids_behind(connection, frame)],
    }
    stage_fields(connection, "new_trials", "pattern_effects", columns, len(frame))
    connection.execute(
        "UPDATE pattern_effects e SET pattern_ids = n.pattern_ids, recommendation = coalesce(n.recommendation, e.recommendation),"
        " target = CASE WHEN n.recommendation IS NULL THEN e.target ELSE n.target END"
        " FROM new_trials n WHERE (e.pattern_id, e.trial) = (n.pattern_id, n.trial)"
    )
    # Nobody has applied them: they give their place to the next.
    connection.execute(
        "DELETE FROM pattern_effects e USING new_trials n"
        " WHERE e.pattern_id = n.pattern_id AND e.trial < n.trial AND e.state <> %s",
        (RETIRED,),
    )
    opened = connection.execute(
        "INSERT INTO pattern_effects (pattern_id, trial, agent_name, state, p_on, target, recommendation, pattern_ids, reason,"
        " since, started_at) SELECT pattern_id, trial, agent_name, %s, %s, target, recommendation, pattern_ids, %s, %s, %s"
        " FROM new_trials WHERE recommendation IS NOT NULL ON CONFLICT (pattern_id, trial) DO NOTHING",
        (PROBATION, share_applied(PROBATION), _NOTHING_YET, run.published_at, run.published_at),
    ).rowcount
    connection.execute(_PUT_ASIDE, (CANDIDATE, run.published_at, _GAVE_WAY, _NOT_FOUND, PROBATION, ACTIVE))
    _take_up(connection, run)
    return opened


def _take_up(connection: Connection, run: Publication) -> None:
    """Candidates that are recommended again go on with the measurements they have."""
    rows = []
    for pattern_id, trial, n, *numbers in connection.execute(_LISTED_AGAIN, (CANDIDATE,)):
        _, low, _ = numbers
        state = ACTIVE if measured_to_help(CANDIDATE, low) else PROBATION
        rows.append((pattern_id, trial, state, share_applied(state, n, low), reason(state, n, *numbers)))
    if rows:
        connection.execute(_TAKE_UP, (run.published_at, *map(list, zip(*rows, strict=True))))


def _close(connection: Connection, run: Publication) -> None:
    frame = run.closed_trials
    connection.execute(
        "UPDATE pattern_effects e SET state = %s, p_on = 0, reason = c.reason, since = %s"
        " FROM unnest(%s::text[], %s::integer[], %s::text[]) AS c (pattern_id, trial, reason)"
        " WHERE (e.pattern_id, e.trial) = (c.pattern_id, c.trial)",
        (RETIRED, run.published_at, *(frame[name].tolist() for name in ("pattern_id", "trial", "reason"))),
    )


def _or_null(values: Iterable[Any]) -> Iterable[str | None]:
    return (None if value is None else json_document(value) for value in values)


def write_effects(connection: Connection, effects: pd.DataFrame, now: datetime) -> None:
    """Write what was measured of the open trials.

    Args:
        connection: In a transaction.
        effects: pattern_id, trial, looks (a list) and the columns of `effectiveness.EFFECT_COLUMNS`.
        now: The time; the state holds since then where it changed.
    """
    columns: dict[str, Fields | str] = {
        "pattern_id": fields(effects["pattern_id"]),
        "trial": fields(effects["trial"]),
        **{name: fields(effects[name]) for name in _MEASURED},
        "looks": text_fields(json.dumps(looks, allow_nan=False) for looks in effects["looks"]),
        # The time it holds from, where that is new.
        "since": (now.isoformat() if changed else r"\N" for changed in effects["changed_at"].tolist()),
    }
    stage_fields(connection, "new_effects", "pattern_effects", columns, len(effects))
    measured = ", ".join(f"{name} = n.{name}" for name in (*_MEASURED, "looks"))
    connection.execute(
        f"UPDATE pattern_effects e SET {measured}, since = coalesce(n.since, e.since), computed_at = %s"  # noqa: S608
        " FROM new_effects n WHERE (e.pattern_id, e.trial) = (n.pattern_id, n.trial)".encode(),
        (now,),
    )


def write_counters(connection: Connection, counters: pd.DataFrame) -> int:
    """Set how often each pattern was applied and what came of it; returns the patterns that have changed.

    Args:
        connection: In a transaction.
        counters: pattern_id (of agent_learning_patterns), times_applied, success_rate, success_rate_held_out (NaN = undefined),
            last_applied (missing = never).
    """
    columns = {"id": fields(counters["id"])} | {name: fields(counters[name]) for name in _COUNTED}
    stage_fields(connection, "new_counters", "agent_learning_patterns", columns, len(counters))
    named = ", ".join(_COUNTED)
    own, new = (", ".join(f"{alias}.{name}" for name in _COUNTED) for alias in "pn")
    return connection.execute(
        f"UPDATE agent_learning_patterns p SET ({named}) = ROW ({new}) FROM new_counters n"  # noqa: S608 - constant names
        f" WHERE p.id = n.id AND ({own}) IS DISTINCT FROM ({new})".encode()
    ).rowcount
