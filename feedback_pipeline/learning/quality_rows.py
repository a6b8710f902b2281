"""From reviews to the rows a forecast is learned from: features of the output, who made it, who reviewed it, which score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.features import CATEGORIES
from feedback_pipeline.learning.panel import Floats, Ints, Panel, overall_scores
from feedback_pipeline.learning.quality_features import AGENT, REVIEWER, FeatureList


@dataclass(frozen=True)
class QualityRows:
    """One row per deduplicated review with an overall score, in the panel's order.

    Attributes:
        features: Which columns of X count.
        X: The columns of `features`, agent_name and reviewer_id (None = unknown); nothing of it comes from a review's verdict.
        y: Overall score, the mean of the aspects present (M,).
        content: Content code of each row (M,): folds and bootstraps group by it.
        output: Output code of each row (M,), that of the panel.
        moment: When the review was given, ns (M,).
        approved: 1 approved, 0 not, NaN without a decision (M,).
    """

    features: FeatureList
    X: pd.DataFrame
    y: Floats
    content: Ints
    output: Ints
    moment: npt.NDArray[np.int64]
    approved: Floats

    @property
    def n_outputs(self) -> int:
        """Outputs with a score."""
        return len(np.unique(self.output))

    def take(self, rows: npt.NDArray[np.bool_] | Ints) -> "QualityRows":
        """Some of the rows."""
        return QualityRows(
            self.features,
            self.X[rows].reset_index(drop=True) if rows.dtype == bool else self.X.iloc[rows].reset_index(drop=True),
            self.y[rows],
            self.content[rows],
            self.output[rows],
            self.moment[rows],
            self.approved[rows],
        )


def review_rows(panel: Panel, bounds: dict[str, tuple[float, float]], features: FeatureList | None = None) -> QualityRows:
    """The reviews of a panel that have an overall score.

    Args:
        panel: Deduplicated reviews and their outputs.
        bounds: (low, high) by aspect, "*" for the rest.
        features: Columns of the outputs to use; all numbers and categories when left out.
    """
    features = features or features_of(panel.outputs)
    score = overall_scores(panel.scores, panel.aspects, bounds)
    scored = np.flatnonzero(~np.isnan(score))
    output = panel.review_output[scored]
    reviewer = np.array([*panel.reviewers, None], dtype=object)[panel.review_reviewer[scored]]
    decision = panel.reviews["decision"].iloc[scored]
    approves = (decision == "approve").to_numpy(dtype=bool, na_value=False)
    return QualityRows(
        features=features,
        X=_frame(panel.outputs.iloc[output], features, panel.agents[panel.output_agent[output]], reviewer),
        y=score[scored],
        content=panel.output_content[output],
        output=output,
        moment=nanoseconds(panel.reviews["reviewed_at"].iloc[scored]),
        approved=np.where(decision.notna().to_numpy(), approves.astype(np.float64), np.nan),
    )


def output_rows(outputs: pd.DataFrame, features: FeatureList, reviewers: Sequence[str | None] | None = None) -> pd.DataFrame:
    """Rows to score outputs that nobody has reviewed.

    Args:
        outputs: Rows of a feature table; a feature that is no column of it is missing everywhere.
        features: What the model uses.
        reviewers: Who would review each output; the average reviewer when left out.

    Raises:
        LearningError: there is not one reviewer for each output.
    """
    if reviewers is not None and len(reviewers) != len(outputs):
        raise LearningError(f"{len(outputs)} outputs and {len(reviewers)} reviewers: give one for each, or none at all")
    who = np.array(reviewers if reviewers is not None else [None] * len(outputs), dtype=object)
    absent: dict[str, float | None] = {name: np.nan for name in features.numeric if name not in outputs}
    absent |= {name: None for name in features.categories if name not in outputs}
    return _frame(outputs.assign(**absent), features, outputs[AGENT].to_numpy(dtype=object), who)


def features_of(outputs: pd.DataFrame) -> FeatureList:
    """The features of a feature table: its numbers, and the categories of the registry."""
    numbers = outputs.select_dtypes("number").columns
    return FeatureList.of([*numbers, *(name for name in CATEGORIES if name in outputs)])


def nanoseconds(moments: pd.Series) -> npt.NDArray[np.int64]:
    """Moments in ns, whatever the resolution they are kept in."""
    return np.asarray(moments.astype("datetime64[ns, UTC]").astype(np.int64), dtype=np.int64)


def _frame(
    outputs: pd.DataFrame, features: FeatureList, agent: npt.NDArray[np.object_], reviewer: npt.NDArray[np.object_]
) -> pd.DataFrame:
    columns: dict[str, npt.NDArray[Any]] = {
        name: outputs[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in features.numeric
    }
    columns |= {name: _texts(outputs[name].to_numpy(dtype=object)) for name in features.categories}
    columns |= {AGENT: _texts(agent), REVIEWER: _texts(reviewer)}
    return pd.DataFrame({name: pd.Series(value, dtype=value.dtype) for name, value in columns.items()}, index=range(len(outputs)))


def _texts(values: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Texts with None where one is missing: not NaN, which is a number."""
    texts = values.copy()
    texts[pd.isna(texts)] = None
    return texts
