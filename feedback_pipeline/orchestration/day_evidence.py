"""What a check of the extracted days observes: plain counts over Arrow tables, no Dagster.

A check passes when its observed value is at most its threshold; the details say which columns are behind it.
"""

import math
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from feedback_pipeline.learning.features import NUMERIC_FEATURES, valid_range

if TYPE_CHECKING:
    import pyarrow as pa

    from feedback_pipeline.settings import ScoreBounds

DECISIONS = ("approve", "reject", "request_changes")
OUTPUT_KEY = ["agent_name", "execution_id"]
# Lowest and highest value of each feature of the registry; a feature of the agents' own may have any.
RANGES = {name: valid_range(name) for name in NUMERIC_FEATURES}


@dataclass(frozen=True)
class Evidence:
    """An observed value, the largest value that passes, and where it comes from."""

    observed: float
    threshold: float
    details: dict[str, int | float | str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the observed value is within the threshold."""
        return self.observed <= self.threshold


def duplicate_reviews(reviews: "pa.Table") -> Evidence:
    """Rows of human_feedback beyond the first with the same output and review."""
    keys = [*OUTPUT_KEY, "feedback_id"]
    distinct = reviews.select(keys).group_by(keys).aggregate([]).num_rows
    return Evidence(reviews.num_rows - distinct, 0, {"reviews": reviews.num_rows})


def unusable_reviews(reviews: "pa.Table", days: tuple[date, date], bounds: "ScoreBounds") -> Evidence:
    """Values of human_feedback with a missing key or outside what they can be, by column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = {name: reviews[name].null_count for name in [*OUTPUT_KEY, "content_id", "feedback_id", "reviewed_at"]}
    known = pc.is_in(reviews["decision"], value_set=_strings(DECISIONS))
    bad["decision"] = _true(pc.and_(pc.is_valid(reviews["decision"]), pc.invert(known)))
    bad["feedback_confidence"] = _outside(reviews["feedback_confidence"], 0.0, 1.0)
    day = reviews["reviewed_at"].cast(pa.date32())
    bad["reviewed_at outside the days read"] = _true(pc.or_(pc.less(day, days[0]), pc.greater(day, days[1])))
    bad["aspects without a score"] = _true(
        pc.not_equal(pc.list_value_length(reviews["aspects"]), pc.list_value_length(reviews["scores"]))
    )
    bad["scores out of bounds"] = _scores_out_of_bounds(reviews, bounds)
    return Evidence(sum(bad.values()), 0, {name: count for name, count in bad.items() if count})


def _scores_out_of_bounds(reviews: "pa.Table", bounds: "ScoreBounds") -> int:
    import pyarrow.compute as pc

    aspects, scores = pc.list_flatten(reviews["aspects"]), pc.list_flatten(reviews["scores"])
    if len(aspects) != len(scores):
        return 0  # reported as aspects without a score
    named = [aspect for aspect in bounds if aspect != "*"]
    rest = pc.invert(pc.is_in(aspects, value_set=_strings(named)))
    count = _outside(pc.filter(scores, rest), *bounds["*"])
    return count + sum(_outside(pc.filter(scores, pc.equal(aspects, name)), *bounds[name]) for name in named)


def unpaired_outputs(reviews: "pa.Table", outputs: "pa.Table") -> tuple[Evidence, Evidence]:
    """Output days without a row in feature_table, and rows of feature_table beyond one for each output and day.

    feature_table holds an output once for every day on which it was reviewed, so its rows are compared with the distinct
    days of the reviews, output by output.

    Returns:
        Lost outputs, and surplus outputs.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    days = reviews.select(OUTPUT_KEY).append_column("day", reviews["reviewed_at"].cast(pa.date32()))
    expected = days.group_by(OUTPUT_KEY).aggregate([("day", "count_distinct")])
    found = (
        outputs.select(OUTPUT_KEY)
        .append_column("rows", _ones(outputs.num_rows))
        .group_by(OUTPUT_KEY)
        .aggregate([("rows", "sum")])
    )
    both = expected.join(found, OUTPUT_KEY, join_type="full outer")
    difference = pc.subtract(pc.fill_null(both["day_count_distinct"], 0), pc.fill_null(both["rows_sum"], 0))
    lost = pc.sum(pc.if_else(pc.greater(difference, 0), difference, 0)).as_py() or 0
    surplus = -(pc.sum(pc.if_else(pc.less(difference, 0), difference, 0)).as_py() or 0)
    counts: dict[str, int | float | str] = {"reviewed outputs": expected.num_rows, "rows": outputs.num_rows}
    return Evidence(lost, 0, counts), Evidence(surplus, 0, counts)


def unusable_features(outputs: "pa.Table") -> Evidence:
    """Values of feature_table that are no number, not finite or outside what they can be, by column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = {name: outputs[name].null_count for name in [*OUTPUT_KEY, "content_id"]}
    for name in outputs.column_names:
        column = outputs[name]
        if name in NUMERIC_FEATURES and not pa.types.is_floating(column.type):
            bad[name] = len(column)
        elif pa.types.is_floating(column.type):
            bad[name] = _outside(column, *RANGES.get(name, (-math.inf, math.inf))) + _true(pc.invert(pc.is_finite(column)))
    bad["retry_count"] = _true(pc.less(outputs["retry_count"], 0))
    return Evidence(sum(bad.values()), 0, {name: count for name, count in bad.items() if count})


def missing_values(outputs: "pa.Table", threshold: float) -> Evidence:
    """Share of missing values among the numeric features that any of these outputs has."""
    counts = {name: outputs[name].null_count for name in NUMERIC_FEATURES}
    measured = {name: count for name, count in counts.items() if count < outputs.num_rows}
    share = sum(measured.values()) / (len(measured) * outputs.num_rows) if measured else 0.0
    absent = ", ".join(sorted(set(counts) - set(measured))) if outputs.num_rows else ""
    worst = sorted(measured.items(), key=lambda item: (-item[1], item[0]))[:5]
    details: dict[str, int | float | str] = {f"missing: {name}": count / outputs.num_rows for name, count in worst if count}
    return Evidence(share, threshold, details | ({"no data at all": absent} if absent else {}))


def _strings(values: tuple[str, ...] | list[str]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(list(values), pa.string())


def _ones(count: int) -> "pa.Array":
    import pyarrow as pa

    return pa.repeat(pa.scalar(1, pa.int64()), count)


def _outside(values: "pa.ChunkedArray", low: float, high: float) -> int:
    import pyarrow.compute as pc

    return _true(pc.or_(pc.less(values, low), pc.greater(values, high)))


def _true(mask: "pa.ChunkedArray") -> int:
    import pyarrow.compute as pc

    return int(pc.sum(mask).as_py() or 0)
