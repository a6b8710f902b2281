"""Applications beside what people decided of their outputs, from Postgres: the log, the open trials, the outcomes."""

from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from psycopg.sql import SQL

from feedback_pipeline.learning.panel import build_panel, output_outcomes
from feedback_pipeline.learning.quality_rows import nanoseconds
from feedback_pipeline.settings import ScoreBounds
from feedback_pipeline.storage.copying import copy_table
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.day_assembly import usable_reviews
from feedback_pipeline.storage.extraction_sql import REVIEWS, reviews
from feedback_pipeline.storage.refusals import Refusals
from feedback_pipeline.storage.source_columns import source_columns
from feedback_pipeline.storage.unreviewed import workflows_of

_APPLICATIONS: Final = pa.schema(
    [
        ("pattern_id", pa.string()),
        ("trial", pa.int64()),
        ("agent_name", pa.string()),
        ("execution_id", pa.string()),
        ("applied", pa.bool_()),
        ("propensity", pa.float64()),
        ("predicted_quality", pa.float64()),
        ("assigned_at", pa.timestamp("us", tz="UTC")),
    ]
)
_TRIALS: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("pattern_id", "agent_name", "state", "reason", "pattern_ids")),
        ("trial", pa.int64()),
        ("n", pa.int64()),
    ]
)
_APPLICATIONS_READ: Final = SQL(
    "SELECT a.pattern_id, a.trial, a.agent_name, a.execution_id, a.applied, a.propensity, a.predicted_quality, a.assigned_at"
    " FROM learning_applications a JOIN pattern_effects e USING (pattern_id, trial) WHERE a.agent_name = e.agent_name"
)
_TRIALS_READ: Final = SQL(
    "SELECT pattern_id, agent_name, state, reason,"
    " array_to_string(pattern_ids, ' '), trial, n FROM pattern_effects ORDER BY agent_name, started_at, pattern_id, trial"
)
# Only what can be an outcome of some assignment is read; a review dated in the future waits.
_LATER: Final = SQL(
    "EXISTS (SELECT FROM learning_applications a WHERE {} AND r.reviewed_at > a.assigned_at) AND r.reviewed_at <= now()"
)


def read_trials(connection: Connection) -> pd.DataFrame:
    """Every trial in a fixed order: pattern_id, agent_name, state, reason, pattern_ids (list), trial, n."""
    frame: pd.DataFrame = copy_table(connection, _TRIALS_READ, _TRIALS).to_pandas()
    named = frame["pattern_ids"].fillna("").str.split()
    return frame.assign(pattern_ids=named)


def read_decided_applications(connection: Connection, bounds: ScoreBounds) -> pd.DataFrame:
    """Every application of a known trial by its own agent, with the outcome of its output.

    The outcome is that of the reviews which are learned from, those given after this very assignment: the latest decision of each
    reviewer and stage, approved iff more than half of them approve. A review counts for each agent of its execution.

    Returns:
        pattern_id, trial, agent_name, execution_id, applied, propensity, predicted_quality, assigned_at, approved (1, 0,
        NaN = not decided yet), decided_at (ns since 1970 of the first decision, 0 = none).
    """
    frame: pd.DataFrame = copy_table(connection, _APPLICATIONS_READ, _APPLICATIONS).to_pandas()
    columns = source_columns(connection)
    condition = _LATER.format(workflows_of(columns, SQL("a.execution_id")))
    found = usable_reviews(copy_table(connection, reviews(columns, condition), REVIEWS), bounds, Refusals()).to_pandas()
    # What was assigned at different moments, by one agent or several, has each its own outcome.
    keys = ["agent_name", "execution_id", "assigned_at"]
    assigned = frame[keys].drop_duplicates().reset_index(drop=True).rename_axis("assignment").reset_index()
    pairs = assigned.merge(found, on="execution_id")
    # A decision that was there before the assignment is no outcome of it.
    pairs = pairs[pairs["reviewed_at"] > pairs["assigned_at"]]
    outputs = pairs[["assignment", "agent_name"]].drop_duplicates().rename(columns={"assignment": "execution_id"})
    own = pairs.assign(execution_id=pairs["assignment"])
    panel = build_panel(own, np.empty((len(own), 0)), (), outputs.assign(content_id=""))
    moments = pd.Series(nanoseconds(panel.reviews["reviewed_at"])).where(panel.reviews["decision"].notna().to_numpy())
    first = moments.groupby(panel.review_output).min().fillna(0).astype("int64")
    outcomes = pd.DataFrame(
        {"assignment": panel.outputs["execution_id"], "approved": output_outcomes(panel), "decided_at": first.to_numpy()}
    )
    joined = frame.merge(assigned, on=keys).merge(outcomes, on="assignment", how="left").drop(columns="assignment")
    return joined.assign(decided_at=joined["decided_at"].fillna(0).astype("int64"))
