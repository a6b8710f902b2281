"""Forecasts beside what people then said: the evidence for coverage, for the charts of drift and for auto-approval."""

import math
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from psycopg.sql import SQL

from feedback_pipeline.learning.auto_approval import ALPHAS, AUDITED, CONFIDENCE, WEEKS, what_if
from feedback_pipeline.learning.panel import Floats, Ints, Panel, build_panel, output_means, output_outcomes, overall_scores
from feedback_pipeline.learning.quality_rows import nanoseconds
from feedback_pipeline.settings import ScoreBounds, Settings
from feedback_pipeline.storage.copying import copy_table
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.day_assembly import usable_reviews
from feedback_pipeline.storage.day_ranges import moment
from feedback_pipeline.storage.day_tables import score_matrix
from feedback_pipeline.storage.extraction_sql import REVIEWS, reviews, workflow_of_review
from feedback_pipeline.storage.reading import Document
from feedback_pipeline.storage.reading_forecasts import known_champion
from feedback_pipeline.storage.refusals import Refusals
from feedback_pipeline.storage.source_columns import source_columns
from feedback_pipeline.storage.unreviewed import workflows_of

Texts = npt.NDArray[np.object_]
Moments = npt.NDArray[np.int64]

AUDIT_RULE: Final = (
    f"Of the outputs that would be approved, {AUDITED:.0%} are drawn at random and read all the same, and each of them counts "
    f"{1 / AUDITED:.0f} times; every week the threshold is learned again from the {WEEKS} weeks before; where none passes, every "
    "output is read. Scores that change fast can outrun it."
).replace("%", " %")
_FORECASTS: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("agent_name", "execution_id")),
        ("model_version", pa.int64()),
        *((name, pa.float64()) for name in ("score", "low", "high", "p_approve")),
        ("abstain", pa.bool_()),
        ("made_at", pa.timestamp("us", tz="UTC")),
    ]
)
# Of each output, the first forecast for the average reviewer that the champion of its time made; those with a later review.
_FORECASTS_READ: Final = SQL(
    "SELECT f.agent_name, f.execution_id, f.model_version, f.score, f.low, f.high, f.p_approve, f.abstain, f.made_at FROM ("
    "SELECT DISTINCT ON (q.agent_name, q.execution_id) q.* FROM quality_forecasts q JOIN quality_models m USING (model_version)"
    " WHERE q.reviewer_id = '' AND q.made_at >= m.champion_since AND (m.champion_until IS NULL OR q.made_at < m.champion_until)"
    " ORDER BY q.agent_name, q.execution_id, q.made_at, q.model_version) AS f WHERE EXISTS ("
    "SELECT FROM content_review_workflows w JOIN review_feedback r ON {} WHERE {})"
)
# A review dated in the future waits, as in the extraction.
_LATER: Final = SQL("{same} AND r.reviewed_at > f.made_at AND r.reviewed_at >= {first} AND r.reviewed_at <= now()")


@dataclass(frozen=True)
class PastForecasts:
    """One row per output with a forecast and a review that came after it, in the order of agent and execution.

    Attributes:
        agent_name, execution_id: The output (N,).
        content: Code of what the output is about (N,).
        model_version: Who made the forecast (N,).
        score, low, high, p_approve: The forecast for the average reviewer (N,); NaN where undefined.
        abstained: Whether it was not to be relied on (N,).
        made_at: When (N,), ns since 1970.
        reviewed_at: When the first of these reviews was given (N,), ns.
        review_score: Overall score of the first review that has one (N,), NaN = none: what low and high are about.
        mean_score: Mean overall score of these reviews (N,), NaN = none.
        approved: 1 iff more than half of their decisions approve, else 0, NaN without one (N,).
    """

    agent_name: Texts
    execution_id: Texts
    content: Ints
    model_version: npt.NDArray[np.int64]
    score: Floats
    low: Floats
    high: Floats
    p_approve: Floats
    abstained: npt.NDArray[np.bool_]
    made_at: Moments
    reviewed_at: Moments
    review_score: Floats
    mean_score: Floats
    approved: Floats

    def __len__(self) -> int:
        """N."""
        return len(self.score)

    @property
    def relied_on(self) -> Floats:
        """P(approve) of each forecast (N,), NaN where it abstained."""
        return np.where(self.abstained, np.nan, self.p_approve)


def past_forecasts(connection: Connection, bounds: ScoreBounds, first: date | None = None) -> PastForecasts:
    """Join the forecasts of the champions with the reviews given after they were made.

    Of an output the first forecast counts that the champion of its time made. Reviews are those that are learned from: the latest
    of each reviewer and stage, refused scores left out.

    Args:
        connection: A connection inside a snapshot.
        bounds: Score bounds by aspect, "*" for the others.
        first: First UTC day of the reviews, None = all.
    """
    columns = source_columns(connection)
    later = _LATER.format(same=workflows_of(columns, SQL("f.execution_id")), first=moment(first or date.min))
    forecasts = copy_table(connection, _FORECASTS_READ.format(workflow_of_review(columns), later), _FORECASTS)
    of_a_forecast = SQL("EXISTS (SELECT FROM quality_forecasts f WHERE f.reviewer_id = '' AND {})").format(later)
    found = usable_reviews(copy_table(connection, reviews(columns, of_a_forecast), REVIEWS), bounds, Refusals())
    return _joined(forecasts.to_pandas(), found, bounds)


def read_auto_approval(database: Database, settings: Settings) -> Document:
    """What if the surest outputs were approved without a review: the table for each risk, from the past forecasts.

    Returns:
        champion, n_outputs (with a forecast and a later decision), n_abstained (those whose forecast abstained), risks (a row for
        each alpha, as `AutoApproval`), confidence (of each upper bound), audit_rule: what has to go with it.

    Raises:
        UserError: there is no champion.
    """
    with database.snapshot() as connection:
        champion = known_champion(connection)
        past = past_forecasts(connection, settings.score_bounds)
    decided = np.isfinite(past.approved)
    return {
        "champion": champion,
        "n_outputs": int(decided.sum()),
        "n_abstained": int((decided & ~np.isfinite(past.relied_on)).sum()),
        "risks": [_defined(asdict(risk)) for risk in what_if(past.relied_on, past.approved, ALPHAS)],
        "confidence": CONFIDENCE,
        "audit_rule": AUDIT_RULE,
    }


def _joined(forecasts: pd.DataFrame, found: pa.Table, bounds: ScoreBounds) -> PastForecasts:
    """Forecasts beside the reviews of their executions that came after them; a review counts for each agent of its execution."""
    sides = (forecasts["execution_id"], found["execution_id"].to_pandas())
    left, right = (
        pd.DataFrame({"execution_id": each, name: np.arange(len(each))}) for each, name in zip(sides, "fr", strict=True)
    )
    pairs = left.merge(right, on="execution_id")
    after = nanoseconds(found["reviewed_at"].to_pandas())[pairs["r"]] > nanoseconds(forecasts["made_at"])[pairs["f"]]
    forecast, review = pairs["f"].to_numpy()[after], pairs["r"].to_numpy()[after]
    given = found.take(pa.array(review))
    scores, aspects = score_matrix(given["aspects"], given["scores"])
    frame = given.drop_columns(["aspects", "scores"]).to_pandas()
    frame["agent_name"] = forecasts["agent_name"].to_numpy()[forecast]
    # Of several contents the smallest, as in the feature table.
    content = pd.Series(frame["content_id"].to_numpy()).groupby(forecast).min()
    outputs = forecasts.assign(content_id=content.reindex(np.arange(len(forecasts))).to_numpy(dtype=object))
    panel = build_panel(frame, scores, aspects, outputs)
    return _past(panel, overall_scores(panel.scores, panel.aspects, bounds))


def _past(panel: Panel, overall: Floats) -> PastForecasts:
    given = pd.DataFrame(
        {
            "output": panel.review_output,
            "moment": nanoseconds(panel.reviews["reviewed_at"]),
            "identity": panel.reviews["feedback_id"].to_numpy(dtype=object),
            "score": overall,
        }
    ).sort_values(["output", "moment", "identity"])
    # The first that is not missing.
    first = given.groupby("output")[["moment", "score"]].first()
    outputs = panel.outputs
    return PastForecasts(
        agent_name=outputs["agent_name"].to_numpy(dtype=object),
        execution_id=outputs["execution_id"].to_numpy(dtype=object),
        content=panel.output_content,
        model_version=outputs["model_version"].to_numpy(dtype=np.int64),
        **{name: outputs[name].to_numpy(dtype=np.float64) for name in ("score", "low", "high", "p_approve")},
        abstained=outputs["abstain"].to_numpy(dtype=bool),
        made_at=nanoseconds(outputs["made_at"]),
        reviewed_at=first["moment"].to_numpy(dtype=np.int64),
        review_score=first["score"].to_numpy(dtype=np.float64),
        mean_score=output_means(overall[:, None], panel.review_output, len(outputs))[:, 0],
        approved=output_outcomes(panel),
    )


def _defined(row: dict[str, Any]) -> Document:
    """NaN is null."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
