"""The tables of what follows from what was learned: recommendations, segments, and how the next outputs are to be spread."""

from collections.abc import Iterable, Sequence
from typing import Final

import pandas as pd

from feedback_pipeline.storage.copy_fields import Fields, copy_fields, fields, stable_ids, text_fields
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.json_documents import json_document
from feedback_pipeline.storage.publication_rows import ALLOCATION_COLUMNS, SEGMENT_COLUMNS, Publication

_COUNTS: Final = ("n", "n_scored", "outputs")


def write_advice(connection: Connection, run: Publication) -> dict[str, int]:
    """Replace recommendations and segments, add the allocation to its log; returns the rows per table.

    After the patterns, whose ids the evidence names.
    """
    return {
        "agent_recommendations": _write_recommendations(connection, run),
        "content_segments": _write_segments(connection, run),
        "content_allocations": _write_allocation(connection, run),
    }


def recommendation_ids(recommendations: pd.DataFrame) -> Fields:
    """The id of each recommendation, as 32 hexadecimal digits: the same for as long as its agent and identity are."""
    names = recommendations["agent_name"].tolist(), recommendations["identity"].tolist()
    return stable_ids(["recommendation"] * len(recommendations), *names)


def _write_recommendations(connection: Connection, run: Publication) -> int:
    frame = run.recommendations
    connection.execute("DELETE FROM agent_recommendations")
    columns: dict[str, Fields | str] = {
        "recommendation_id": recommendation_ids(frame),
        "agent_name": fields(frame["agent_name"]),
        "rank": list(map(str, map(int, frame["rank"]))),
        **{name: fields(frame[name]) for name in ("kind", "feature", "direction", "text")},
        **{name: text_fields(map(json_document, frame[name])) for name in ("target", "expected_effect", "action", "conflicts")},
        "confidence_score": fields(frame["confidence"].astype(float)),
        "q_value": fields(frame["q_value"].astype(float)),
        "evidence": text_fields(_evidence(connection, run)),
        "learning_run_id": run.learning_run_id,
        "computed_at": run.published_at.isoformat(),
    }
    copy_fields(connection, "agent_recommendations", columns, len(frame))
    return len(frame)


def _evidence(connection: Connection, run: Publication) -> Iterable[str]:
    """What each recommendation rests on: {learning_run_id, pattern_ids, n_contents, n_reviewers, window}."""
    frame = run.recommendations
    window = {"first": run.window_start, "last": run.window_end, "lookback_days": run.lookback_days}
    ids = pattern_ids_behind(connection, frame)
    counts = frame["n_contents"].tolist(), frame["n_reviewers"].tolist()
    return (
        json_document(
            {
                "learning_run_id": run.learning_run_id,
                "pattern_ids": pattern_ids,
                "n_contents": int(n_contents),
                "n_reviewers": int(n_reviewers),
                "window": window,
            }
        )
        for pattern_ids, n_contents, n_reviewers in zip(ids, *counts, strict=True)
    )


def pattern_ids_behind(connection: Connection, frame: pd.DataFrame) -> list[list[str]]:
    """Ids of the patterns behind each recommendation, as they stand in the table."""
    keys = frame["pattern_keys"].tolist()
    owners = [agent for agent, named in zip(frame["agent_name"], keys, strict=True) for _ in named]
    flat = [key for named in keys for key in named]
    ids = stable_ids(owners, [kind for kind, _ in flat], [description for _, description in flat])
    # A row that was there before this program came has an id of its own.
    foreign = connection.execute(
        "SELECT n.id::text, p.id::text FROM new_patterns n JOIN agent_learning_patterns p"
        " USING (agent_name, pattern_type, pattern_description) WHERE n.id <> p.id"
    ).fetchall()
    own = {ours.replace("-", ""): theirs for ours, theirs in foreign}
    written = iter([own.get(digits) or dashed(digits) for digits in ids])
    return [[next(written) for _ in named] for named in keys]


def dashed(digits: str) -> str:
    """Hexadecimal digits as Postgres writes a UUID."""
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _write_segments(connection: Connection, run: Publication) -> int:
    connection.execute("DELETE FROM content_segments")
    columns = _columns(run.segments, SEGMENT_COLUMNS) | {"learning_run_id": run.learning_run_id}
    copy_fields(connection, "content_segments", columns, len(run.segments))
    return len(run.segments)


def _write_allocation(connection: Connection, run: Publication) -> int:
    """A run that is published again replaces its own rows."""
    connection.execute(
        "DELETE FROM content_allocations WHERE learning_run_id = %s OR computed_at < %s::timestamptz - interval '1 year'",
        (run.learning_run_id, run.published_at),
    )
    columns = _columns(run.allocation, ALLOCATION_COLUMNS)
    columns |= {"learning_run_id": run.learning_run_id, "computed_at": run.published_at.isoformat()}
    copy_fields(connection, "content_allocations", columns, len(run.allocation))
    return len(run.allocation)


def _columns(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, Fields | str]:
    return {name: fields(frame[name].astype("int64") if name in _COUNTS else frame[name]) for name in names}
