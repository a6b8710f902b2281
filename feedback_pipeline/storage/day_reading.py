"""Reading days from the source tables: the queries of a set of days, their texts measured block by block."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.sql import SQL

from feedback_pipeline.learning.features import TEXT_FEATURES
from feedback_pipeline.learning.text import Documents, text_features
from feedback_pipeline.settings import ScoreBounds
from feedback_pipeline.storage.copying import copy_blocks, copy_table
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.day_assembly import DayTables, assemble_days, usable_outputs, usable_reviews
from feedback_pipeline.storage.day_ranges import moment
from feedback_pipeline.storage.extraction_sql import (
    DECISION_POINTS,
    OUTPUTS,
    REVIEWS,
    TEXTS,
    ExtractionQueries,
    OutputQueries,
    unusable_confidences,
)
from feedback_pipeline.storage.ledger import Reason
from feedback_pipeline.storage.refusals import Refusals
from feedback_pipeline.storage.source_columns import source_columns

GROUP_REVIEWS: Final = 100_000


class DayReader:
    """Reads days and collects what cannot be used.

    Args:
        conn: A connection inside one snapshot.
        beside: A second connection of the same snapshot: reviews and decision points are read while outputs are gathered.
        bounds: Score bounds by aspect, "*" for the others.
        with_texts: Whether texts are read; without them their features are missing.
    """

    def __init__(self, conn: Connection, beside: Connection, bounds: ScoreBounds, *, with_texts: bool = True) -> None:
        self.refusals = Refusals()
        self._conn, self._beside, self._bounds, self._with_texts = conn, beside, bounds, with_texts
        self._columns = source_columns(conn)

    def read(self, days: Sequence[date]) -> dict[date, DayTables]:
        """Read days that have reviews."""
        queries = ExtractionQueries(self._columns, days)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(self._read_beside, queries)
            runs = copy_table(self._conn, queries.outputs(), OUTPUTS)
            rows, points = reading.result()
        texts = measured_texts(self._conn, queries, runs["performance_id"]) if self._with_texts else {}
        self._refuse_confidences(runs)
        reviews = usable_reviews(rows, self._bounds, self.refusals)
        outputs = usable_outputs(runs, points, texts, self.refusals)
        return assemble_days(rows.select(["feedback_id", "reviewed_at"]), reviews, outputs, self.refusals)

    def _read_beside(self, queries: ExtractionQueries) -> tuple[pa.Table, pa.Table]:
        rows = copy_table(self._beside, queries.reviews(), REVIEWS)
        return rows, copy_table(self._beside, queries.decision_points(), DECISION_POINTS)

    def refuse_before(self, first_day: date) -> None:
        """Refuse reviews before the first day that the ledger does not hold yet."""
        query = SQL(
            "SELECT r.id::text FROM review_feedback r WHERE r.reviewed_at < {} AND NOT EXISTS (SELECT FROM rejected_feedback l "
            "WHERE l.source = 'review_feedback' AND l.row_id = r.id::text AND l.reason = {})"
        ).format(moment(first_day), str(Reason.BEFORE_FIRST_DAY))
        early = copy_table(self._conn, query, pa.schema([("id", pa.string())]))
        self.refusals.add("review_feedback", early["id"], Reason.BEFORE_FIRST_DAY, "reviewed_at")

    def _refuse_confidences(self, runs: pa.Table) -> None:
        concerned = runs["performance_id"].filter(pc.greater(pc.fill_null(runs["unusable_confidences"], 0), 0)).to_pylist()
        if not concerned:
            return
        query = unusable_confidences(self._columns, concerned)
        found = copy_table(self._conn, query, pa.schema([("id", pa.string()), ("finite", pa.bool_())]))
        for finite, reason in ((True, Reason.NUMBER_OUT_OF_BOUNDS), (False, Reason.NOT_A_FINITE_NUMBER)):
            ids = found["id"].filter(pc.equal(found["finite"], finite))
            self.refusals.add("agent_decisions", ids, reason, "confidence_score")


def grouped_days(conn: Connection, days: Sequence[date]) -> Iterator[list[date]]:
    """Split days with reviews so that each group has about GROUP_REVIEWS of them: memory does not grow with the history."""
    if not days:
        return
    query = SQL(
        "SELECT feedback_utc_day(reviewed_at), count(*) FROM review_feedback "
        "WHERE reviewed_at >= {} AND reviewed_at < {} GROUP BY 1"
    ).format(moment(days[0]), moment(days[-1] + timedelta(days=1)))
    counts: dict[date, int] = dict(conn.execute(query).fetchall())
    group: list[date] = []
    size = 0
    for day in days:
        if group and size + counts[day] > GROUP_REVIEWS:
            yield group
            group, size = [], 0
        group.append(day)
        size += counts[day]
    yield group


def measured_texts(conn: Connection, queries: OutputQueries, ids: pa.ChunkedArray) -> dict[str, npt.NDArray[np.float64]]:
    """Text features of the outputs with these performance ids (N,), NaN = missing; texts are dropped block by block."""
    result = {name: np.full(len(ids), np.nan) for name in TEXT_FEATURES}
    known = ids.combine_chunks()
    for block in copy_blocks(conn, queries.texts(), TEXTS):
        place = pc.index_in(block["performance_id"].combine_chunks(), value_set=known).to_numpy()
        measured = text_features(_documents(block["content"]), _documents(block["keywords"]))
        for name, values in measured.items():
            result[name][place] = values
    return result


def _documents(column: pa.ChunkedArray) -> Documents:
    array = column.combine_chunks()
    _, offsets, data = array.buffers()
    data = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    positions = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return Documents(data, positions, array.is_null().to_numpy(zero_copy_only=False))
