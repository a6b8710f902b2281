"""From the rows of the database to the tables of each day: check, join outputs with their reviews, split by day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feedback_pipeline.learning.features import CATEGORIES, NUMERIC_FEATURES, TEXT_FEATURES, valid_range
from feedback_pipeline.storage.custom_features import custom_columns
from feedback_pipeline.storage.day_tables import DECISION_POINTS, FEATURE_TABLE, HUMAN_FEEDBACK
from feedback_pipeline.storage.ledger import DETAIL_LIMIT, Reason
from feedback_pipeline.storage.named_numbers import NamedNumbers, split_named_numbers, usable_custom_features, usable_scores
from feedback_pipeline.storage.refusals import Refusals, usable_numbers, where

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_EPOCH: Final = date(1970, 1, 1)
_DAY_US: Final = 86_400_000_000
_DECISIONS: Final = pa.array(["approve", "reject", "request_changes"])
_CATEGORY_LENGTH: Final = 64
_LONGEST_NAME: Final = 100  # what the published tables hold
_NO_NAME: Final = r"^\s*\*?\s*$|[[:cntrl:]]"
_LINE_BREAK: Final = "[\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029]"
_RUN_NUMBERS: Final = ("duration_ms", "input_tokens", "output_tokens", "cost")


@dataclass(frozen=True)
class DayTables:
    """What is stored of one day.

    Attributes:
        human_feedback: One row per (output, review).
        feature_table: One row per output.
        decision_points: One row per output and decision point.
        reviews: Reviews of the day in the database.
        refused_reviews: Those of them that belong to no output.
    """

    human_feedback: pa.Table
    feature_table: pa.Table
    decision_points: pa.Table
    reviews: int
    refused_reviews: int


@dataclass(frozen=True)
class Outputs:
    """Outputs with their features.

    Attributes:
        table: Columns of FEATURE_TABLE without content_id.
        custom: The agents' own features.
        points: Columns of DECISION_POINTS, in the order of the outputs.
        point_output: Position of the output of each of those rows.
        nameless: Executions with a run that is no output for want of a usable agent name.
    """

    table: pa.Table
    custom: NamedNumbers
    points: pa.Table
    point_output: Ints
    nameless: pa.Array


def usable_outputs(rows: pa.Table, points: pa.Table, texts: Mapping[str, Floats], refusals: Refusals) -> Outputs:
    """Check the outputs read; numbers that are none become missing.

    Args:
        rows: Columns of `OUTPUTS`.
        points: Columns of `extraction_sql.DECISION_POINTS`; those whose name cannot be used are left out.
        texts: Text features, arrays aligned with the rows; empty = not read, all missing.
        refusals: Receives what cannot be used.
    """
    named = usable_names(rows["agent_name"])
    nameless = rows.filter(pc.invert(named)).combine_chunks()
    refusals.add("agent_performance", nameless["performance_id"], Reason.UNUSABLE_NAME, "agent_name")
    kept = named.to_numpy()
    rows = rows.filter(named).combine_chunks()
    ids = rows["performance_id"].combine_chunks()
    columns = {
        name: rows[name] for name in ("agent_name", "execution_id", "retry_count", *NUMERIC_FEATURES) if name in rows.column_names
    }
    columns["agent_type"] = pc.utf8_slice_codeunits(rows["agent_type"], 0, _LONGEST_NAME)
    for name in _RUN_NUMBERS:
        concerned = ("agent_performance", ids, name)
        columns[name] = usable_numbers(rows[name], valid_range(name), concerned, refusals, Reason.NUMBER_OUT_OF_BOUNDS)
    for name in TEXT_FEATURES:
        values = texts[name][kept] if texts else np.full(len(ids), np.nan)
        columns[name] = pa.array(values, mask=np.isnan(values))
    for name in CATEGORIES:
        columns[name] = _short_text(rows[name])
    names = [field.name for field in FEATURE_TABLE if field.name != "content_id"]
    custom = usable_custom_features(split_named_numbers(rows["custom_names"], rows["custom_values"]), ids, refusals)
    table = pa.table({name: columns[name] for name in names})
    found, output = _usable_points(points, ids, refusals)
    keys = table.select(["agent_name", "execution_id"]).take(pa.array(output))
    found = pa.table({name: (keys if name in keys.column_names else found)[name] for name in DECISION_POINTS.names})
    return Outputs(table, custom, found, output, nameless["execution_id"].combine_chunks())


def _usable_points(points: pa.Table, ids: pa.Array, refusals: Refusals) -> tuple[pa.Table, Ints]:
    """The decision points of the runs `ids` with a usable name, in the order of the runs, and the place of each one's run."""
    place = pc.fill_null(pc.index_in(points["performance_id"].combine_chunks(), value_set=ids), -1).to_numpy()
    usable = usable_names(points["decision_point"]).to_numpy()
    refused = points["performance_id"].filter(pa.array(~usable & (place >= 0)))
    refusals.add("agent_performance", refused.unique(), Reason.UNUSABLE_NAME, "decision_point")
    kept = np.flatnonzero(usable & (place >= 0))
    kept = kept[np.argsort(place[kept], kind="stable")]
    return points.take(pa.array(kept)), place[kept]


def usable_reviews(rows: pa.Table, bounds: Mapping[str, tuple[float, float]], refusals: Refusals) -> pa.Table:
    """Check the reviews read.

    Args:
        rows: Columns of `REVIEWS`.
        bounds: Score bounds by aspect, "*" for the others.
        refusals: Receives what cannot be used.

    Returns:
        The reviews that have an execution: columns of HUMAN_FEEDBACK without agent_name.
    """
    found = pc.and_(pc.fill_null(rows["workflow_found"], False), pc.is_valid(rows["execution_id"]))
    refusals.add("review_feedback", rows["feedback_id"].filter(pc.invert(found)), Reason.DANGLING_KEY, "workflow_id")
    rows = rows.filter(found).combine_chunks()
    ids = rows["feedback_id"].combine_chunks()
    broken = pc.is_valid(rows["not_an_object"])
    refusals.add(
        "review_feedback", ids.filter(broken.combine_chunks()), Reason.SCORES_NOT_AN_OBJECT, rows["not_an_object"].filter(broken)
    )
    scores = usable_scores(split_named_numbers(rows["aspects"], rows["scores"]), ids, bounds, refusals)
    aspects, values = scores.lists(len(ids))
    columns = {name: rows[name] for name in rows.column_names} | {"aspects": aspects, "scores": values}
    columns["decision"] = _known_decisions(rows["decision"].combine_chunks(), ids, refusals)
    columns["feedback_confidence"] = usable_numbers(
        rows["feedback_confidence"],
        (0.0, 1.0),
        ("review_feedback", ids, "feedback_confidence"),
        refusals,
        Reason.CONFIDENCE_OUT_OF_BOUNDS,
    )
    return pa.table({name: columns[name] for name in HUMAN_FEEDBACK.names if name != "agent_name"})


def assemble_days(all_reviews: pa.Table, reviews: pa.Table, outputs: Outputs, refusals: Refusals) -> dict[date, DayTables]:
    """Join reviews and outputs by execution and split by the day of the review.

    Args:
        all_reviews: Every review read (feedback_id, reviewed_at).
        reviews: The usable ones, from `usable_reviews`.
        outputs: The outputs of their executions.
        refusals: Receives reviews whose execution has no output (but not where the run has been refused for its name), and
            features that are too many.

    Returns:
        The tables of every day that has a review in the database.
    """
    review, output = _matches(reviews["execution_id"], outputs.table["execution_id"])
    matched = np.zeros(reviews.num_rows, dtype=bool)
    matched[review] = True
    nameless = pc.is_in(reviews["execution_id"], value_set=outputs.nameless).to_numpy()
    failed = reviews["feedback_id"].take(where(~matched & ~nameless))
    refusals.add("review_feedback", failed, Reason.NO_SUCCESSFUL_EXECUTION, "workflow_id")
    days, counts = np.unique(_days(all_reviews["reviewed_at"]), return_counts=True)
    own_day = _days(reviews["reviewed_at"])
    used = np.bincount(np.searchsorted(days, own_day[matched]), minlength=len(days))
    order = np.argsort(own_day[review], kind="stable")
    review, output = review[order], output[order]
    bounds = np.searchsorted(own_day[review], np.append(days, days[-1:] + 1))
    result = {}
    for index, number in enumerate(days):
        day = _EPOCH + timedelta(days=int(number))
        part = slice(bounds[index], bounds[index + 1])
        feedback = reviews.take(pa.array(review[part]))
        feedback = feedback.add_column(0, "agent_name", outputs.table["agent_name"].take(pa.array(output[part])))
        features, rows = _feature_table(outputs, output[part], feedback["content_id"])
        features = _with_custom(features, outputs.custom, rows, day, refusals)
        read_reviews = int(counts[index])
        points = outputs.points.filter(pa.array(np.isin(outputs.point_output, rows)))
        refused = read_reviews - int(used[index])
        result[day] = DayTables(feedback.select(HUMAN_FEEDBACK.names), features, points, read_reviews, refused)
    return result


def _matches(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[Ints, Ints]:
    """Positions (left, right) of all equal pairs, ordered by left and then right."""
    encoded = pc.dictionary_encode(right.combine_chunks())
    code = encoded.indices.to_numpy()
    order = np.argsort(code, kind="stable")
    counts = np.bincount(code, minlength=len(encoded.dictionary))
    begin = np.cumsum(counts) - counts
    wanted = pc.fill_null(pc.index_in(left.combine_chunks(), value_set=encoded.dictionary), -1).to_numpy()
    rows = np.flatnonzero(wanted >= 0)
    repeats = counts[wanted[rows]]
    position = np.repeat(rows, repeats)
    within = np.arange(len(position)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return position, order[np.repeat(begin[wanted[rows]], repeats) + within]


def _feature_table(outputs: Outputs, output: Ints, content_id: pa.ChunkedArray) -> tuple[pa.Table, Ints]:
    """The rows of the distinct outputs among `output`, with the smallest content id of each; also their positions."""
    distinct, place = np.unique(output, return_inverse=True)
    encoded = pc.dictionary_encode(content_id.combine_chunks())
    by_rank = pc.array_sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(by_rank), dtype=np.int64)
    rank[by_rank] = np.arange(len(by_rank))
    smallest = np.full(len(distinct), len(by_rank), dtype=np.int64)
    np.minimum.at(smallest, place, rank[encoded.indices.to_numpy()])
    table = outputs.table.take(pa.array(distinct))
    return table.add_column(2, "content_id", encoded.dictionary.take(pa.array(by_rank[smallest]))), distinct


def with_custom(table: pa.Table, custom: NamedNumbers, rows: Ints) -> tuple[pa.Table, dict[str, list[str]]]:
    """Append the custom features of some outputs.

    Args:
        table: The outputs; agent_name is looked at.
        custom: Features of all outputs.
        rows: Which of all outputs those of the table are, ascending.

    Returns:
        The table, and by agent the names of its rarest features where it has too many: those have no column.
    """
    agents = pc.dictionary_encode(table["agent_name"].combine_chunks())
    spread = custom_columns(custom, rows, agents.indices.to_numpy().astype(np.int64))
    cut = {str(agents.dictionary[code]): names for code, names in spread.cut.items()}
    return pa.table({name: table[name] for name in table.column_names} | spread.columns), cut


def _with_custom(table: pa.Table, custom: NamedNumbers, rows: Ints, day: date, refusals: Refusals) -> pa.Table:
    """Append the custom features of a day's outputs; an agent that has too many is refused the rarest."""
    whole, cut = with_custom(table, custom, rows)
    if cut:
        found = [f"{agent} on {day.isoformat()}" for agent in cut]
        names = [", ".join(each)[:DETAIL_LIMIT] for each in cut.values()]
        refusals.add("agent_performance", pa.array(found), Reason.TOO_MANY_FEATURES, pa.array(names))
    return whole


def _days(moments: pa.ChunkedArray) -> Ints:
    days: Ints = pc.cast(moments, pa.int64()).to_numpy() // _DAY_US
    return days


def usable_names(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which names of agents and decision points can be used: not empty, not `*`, one line, no longer than the tables hold."""
    usable = pc.and_(pc.less_equal(pc.utf8_length(names), _LONGEST_NAME), pc.invert(pc.match_substring_regex(names, _NO_NAME)))
    return pc.fill_null(usable, False)


def _short_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    length = pc.utf8_length(values)
    usable = pc.and_(
        pc.and_(pc.greater(length, 0), pc.less_equal(length, _CATEGORY_LENGTH)),
        pc.invert(pc.match_substring_regex(values, _LINE_BREAK)),
    )
    return pc.if_else(usable, values, pa.scalar(None, pa.string()))


def _known_decisions(decisions: pa.Array, ids: pa.Array, refusals: Refusals) -> pa.Array:
    known = pc.is_in(decisions, value_set=_DECISIONS)
    unknown = pc.and_(pc.invert(known), pc.is_valid(decisions))
    refusals.add("review_feedback", ids.filter(unknown), Reason.UNKNOWN_DECISION, "decision")
    return pc.if_else(known, decisions, pa.scalar(None, pa.string()))
