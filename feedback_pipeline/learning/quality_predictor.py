"""A trained forecast as it is logged and loaded: score, interval and probability of approval of outputs nobody has reviewed.

A forecast abstains, with the reason, where past forecasts are too few for an honest interval, or where a feature lies outside of
what the model has seen.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.approval import ApprovalModel
from feedback_pipeline.learning.calibration import Platt
from feedback_pipeline.learning.conformal import Conformal
from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.quality_features import REVIEWER, FeatureList
from feedback_pipeline.learning.quality_models_base import Names, QualityModel

PREDICTION_COLUMNS: Final = ("score", "low", "high", "p_approve")
_MARGIN: Final = 0.5  # of the observed range: how far beyond it a value is still no stranger


@dataclass(frozen=True)
class SeenRanges:
    """What the model has seen of each numeric feature: from `low` to `high` (J,), NaN = nothing."""

    names: tuple[str, ...]
    low: Floats
    high: Floats

    @classmethod
    def of(cls, X: pd.DataFrame, features: FeatureList) -> "SeenRanges":
        """The observed ranges, widened by half of them on either side."""
        values = X[list(features.numeric)].to_numpy(dtype=np.float64).reshape(len(X), len(features.numeric))
        finite = np.isfinite(values)
        low = np.where(finite, values, np.inf).min(axis=0, initial=np.inf)
        high = np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf)
        seen = finite.any(axis=0)
        reach = _MARGIN * np.where(seen, high - low, 0.0)
        return cls(features.numeric, np.where(seen, low - reach, np.nan), np.where(seen, high + reach, np.nan))

    def strangers(self, X: pd.DataFrame) -> npt.NDArray[np.object_]:
        """The first feature that lies outside, of each row (M,), else None; a feature never seen is no stranger."""
        values = X[list(self.names)].to_numpy(dtype=np.float64).reshape(len(X), len(self.names))
        outside = (values < self.low) | (values > self.high)
        first = outside.argmax(axis=1) if len(self.names) else np.zeros(len(X), dtype=np.intp)
        named = np.array([*self.names, None], dtype=object)
        found: npt.NDArray[np.object_] = named[np.where(outside.any(axis=1), first, len(self.names))]
        return found


@dataclass(frozen=True)
class ApprovalRoute:
    """From an expected score to the probability of approval.

    Attributes:
        model: Standards of the reviewers it knows.
        reviewers: Their names.
        score_sd: Standard deviation of a review around its forecast, points.
        platt: What is still systematic, taken out.
    """

    model: ApprovalModel
    reviewers: Names
    score_sd: float
    platt: Platt

    def probability(self, score: Floats, reviewer: pd.Series) -> Floats:
        """P(approve) of each row (M,)."""
        raw = self.model.probability(score, self.score_sd**2, self.reviewers.codes(reviewer))
        return self.platt.probability(raw)


@dataclass(frozen=True)
class QualityPredictor:
    """A fitted model with what makes its forecasts honest.

    Attributes:
        candidate: Name of the model.
        model: The fitted estimator.
        bounds: Lowest and highest possible score.
        conformal: Centre and width of the intervals of a review by a reviewer it knows; consensus: by anybody else.
        approval: Route to the probability of approval, None where there are too few decisions.
        seen: Ranges of the numeric features.
    """

    candidate: str
    model: QualityModel
    bounds: tuple[float, float]
    conformal: Conformal
    consensus: Conformal
    approval: ApprovalRoute | None
    seen: SeenRanges

    def predict(self, X: pd.DataFrame) -> pd.DataFrame:
        """`forecast` without saying where it abstains: PREDICTION_COLUMNS, all numbers."""
        return self.forecast(X)[list(PREDICTION_COLUMNS)]

    def get_raw_model(self) -> "QualityPredictor":
        """Itself: what MLflow calls on the model it loaded."""
        return self

    def forecast(self, X: pd.DataFrame, lately: Conformal | None = None) -> pd.DataFrame:
        """Forecast every row.

        Args:
            X: The features, agent_name and reviewer_id (None = the average reviewer), columns in any order.
            lately: Of the scores it has published for the average reviewer, as their reviews have come in: where the intervals of
                such forecasts lie today. Without enough of them those of the training stay.

        Returns:
            score (recentred: what reviews have lately been), low, high (90 % interval of one review, NaN where there is none),
            p_approve (NaN where unknown), abstain, reason (None where it does not abstain); one row per row of X.

        Raises:
            LearningError: a column is missing.
        """
        known = self.model.features.select(X)
        raw = self.model.predict(known)
        by_name = self.model.reviewers_.codes(known[REVIEWER]) >= 0
        score, low, high = np.where(by_name, self._expected(raw, self.conformal), self._expected(raw, self.consensus))
        if lately is not None and lately.reason is None:
            low, high = np.where(by_name, (low, high), lately.interval(score, self.bounds))
        p = np.full(len(score), np.nan) if self.approval is None else self.approval.probability(score, known[REVIEWER])
        strangers = self.seen.strangers(known)
        outside = np.array([name is not None for name in strangers], dtype=bool)
        reason = np.array(
            [None if name is None else f"{name} lies outside what the model has seen" for name in strangers], dtype=object
        )
        untold = np.isnan(low)
        thin = np.array([self.consensus.reason, self.conformal.reason], dtype=object)[by_name.astype(np.intp)]
        reason[untold & ~outside] = thin[untold & ~outside]
        frame = pd.DataFrame({"score": score, "low": low, "high": high, "p_approve": p})
        frame["abstain"] = outside | untold
        frame["reason"] = pd.Series(reason, dtype=object)
        return frame

    def _expected(self, raw: Floats, conformal: Conformal) -> tuple[Floats, Floats, Floats]:
        """Score, low, high (M,); without an interval the score is what the model says."""
        score = raw if conformal.reason is not None else conformal.expected(raw, self.bounds)
        return (score, *conformal.interval(raw, self.bounds))
