"""Training the quality predictor: candidates compete forward in time, the winner gets honest error bars.

Nothing here is measured on rows a model was fitted on. Every candidate forecasts the same later reviews from earlier ones; the
simplest that no other beats by the promotion rule is chosen; its forward residuals give the intervals, its forward probabilities
the calibration. Then it is fitted on everything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.approval import ApprovalModel, fit_approval
from feedback_pipeline.learning.calibration import Platt
from feedback_pipeline.learning.conformal import Conformal, Coverage, coverage, forward_intervals
from feedback_pipeline.learning.noise_ceiling import Ceiling, noise_ceiling
from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.promotion import FirstChampion, first_champion
from feedback_pipeline.learning.quality_features import REVIEWER, leaking_features
from feedback_pipeline.learning.quality_metrics import Metrics, metrics, metrics_by_agent
from feedback_pipeline.learning.quality_models import CANDIDATES, COMPARISON, eligible
from feedback_pipeline.learning.quality_models_base import Names, QualityModel
from feedback_pipeline.learning.quality_predictor import ApprovalRoute, QualityPredictor, SeenRanges
from feedback_pipeline.learning.quality_rows import QualityRows
from feedback_pipeline.learning.quality_validation import Fold, forward_baseline, forward_chain, forward_forecasts

MIN_OUTPUTS: Final = 10
_MIN_DECISIONS: Final = 50
_ROUNDING: Final = 1e-9

Clock = Callable[[], float]


@dataclass(frozen=True)
class Candidate:
    """One model that competed.

    Attributes:
        name: In `quality_models.CANDIDATES`.
        prediction: Forward forecast of each review (M,), NaN where none was made.
        consensus: The same for the average reviewer: what is forecast of an output when nobody knows who will review it.
        metrics: Against the mean of the training rows, with intervals; by_agent: the same for each agent.
        consensus_metrics: Of `consensus`.
        share_of_ceiling: R2 over the ceiling of forecasts that know the reviewer, `Training.residual_ceiling`; NaN = unknown.
        seconds: What fitting and forecasting all windows took.
    """

    name: str
    prediction: Floats = field(repr=False)
    consensus: Floats = field(repr=False)
    metrics: Metrics
    consensus_metrics: Metrics
    by_agent: pd.DataFrame = field(repr=False)
    share_of_ceiling: float
    seconds: float


@dataclass(frozen=True)
class Training:
    """What came of a training.

    Attributes:
        rows: What it was learned from, without features that leak.
        candidates: By name, from the simplest on.
        choice: Which one is the simplest not beaten, with every test.
        predictor: The choice, fitted on all rows.
        p_approve: Forward probability of approval of each review (M,), NaN = none.
        coverage: Of its forward intervals; consensus_coverage: of those for the average reviewer.
        ceiling: Of any forecast that does not know the reviewer; residual_ceiling: of one that does.
        refused: Features left out because they repeat the score.
        reason: What was not possible with this little data, or None.
    """

    rows: QualityRows
    candidates: Mapping[str, Candidate]
    choice: FirstChampion
    predictor: QualityPredictor
    p_approve: Floats = field(repr=False)
    coverage: Coverage
    consensus_coverage: Coverage
    ceiling: Ceiling
    residual_ceiling: Ceiling
    refused: tuple[str, ...]
    reason: str | None

    @property
    def chosen(self) -> Candidate:
        """The candidate chosen."""
        return self.candidates[self.choice.name]

    @property
    def residual(self) -> Floats:
        """Review less forward forecast of the choice (M,), NaN = no forecast."""
        return self.rows.y - self.chosen.prediction

    @property
    def consensus_residual(self) -> Floats:
        """Review less forward forecast for the average reviewer (M,), NaN = no forecast."""
        return self.rows.y - self.chosen.consensus

    def losses(self) -> Floats:
        """Squared forward errors (M, candidates)."""
        return np.column_stack([(self.rows.y - one.prediction) ** 2 for one in self.candidates.values()])


def train(rows: QualityRows, bounds: tuple[float, float], seed: int, clock: Clock, threads: int = 1) -> Training:
    """Let the candidates compete and fit the winner.

    Args:
        rows: Reviews with an overall score.
        bounds: Lowest and highest overall score.
        seed: Of everything random.
        clock: Seconds; what a candidate took is a tag, never a number that decides.
        threads: Of the trees; no number depends on it.

    Raises:
        LearningError: fewer than 10 outputs with a score.
    """
    if rows.n_outputs < MIN_OUTPUTS:
        raise LearningError(f"{rows.n_outputs} outputs with a score; the quality predictor needs {MIN_OUTPUTS}")
    refused = leaking_features(rows.X, rows.y, rows.content)
    kept = rows if not refused else _without(rows, refused)
    names = eligible(kept.n_outputs)
    folds = forward_chain(kept.moment, kept.content)
    baseline = _but_for_rounding(forward_baseline(kept.y, folds), kept.y)
    build = {name: partial(_unfitted, name, kept, bounds, seed, threads) for name in names}
    candidates = {name: _compete(name, build[name], kept, seed, folds, baseline, clock) for name in names}
    # The forest is there to be compared with, not to be chosen.
    running = [name for name in names if name != COMPARISON]
    losses = np.column_stack([(kept.y - candidates[name].prediction) ** 2 for name in running])
    choice = first_champion(running, losses, kept.content)
    chosen = candidates[choice.name]
    residual, by_anybody = kept.y - chosen.prediction, kept.y - chosen.consensus
    reviewer = _reviewer_codes(kept)
    known_ceiling = noise_ceiling(kept.y, kept.output, reviewer, chosen.prediction)
    approval, p_approve = _approval_route(kept, chosen.prediction, residual, folds)
    predictor = QualityPredictor(
        candidate=choice.name,
        # One row is scored before a second thread has woken up.
        model=build[choice.name]().fit(kept.X, kept.y, content=kept.content).set_params(threads=1),
        bounds=bounds,
        conformal=Conformal.of(residual, kept.moment),
        consensus=Conformal.of(by_anybody, kept.moment),
        approval=approval,
        seen=SeenRanges.of(kept.X, kept.features),
    )
    return Training(
        rows=kept,
        candidates={name: _with_share(one, known_ceiling) for name, one in candidates.items()},
        choice=choice,
        predictor=predictor,
        p_approve=p_approve,
        coverage=_coverage(residual, chosen.prediction, kept),
        consensus_coverage=_coverage(by_anybody, chosen.consensus, kept),
        ceiling=noise_ceiling(kept.y, kept.output, reviewer),
        residual_ceiling=known_ceiling,
        refused=refused,
        reason=_too_little(kept.n_outputs),
    )


def _coverage(residual: Floats, prediction: Floats, rows: QualityRows) -> Coverage:
    return coverage(forward_intervals(residual, rows.moment).inside(residual), prediction)


def _too_little(n_outputs: int) -> str | None:
    missing = [name for name in CANDIDATES if name not in eligible(n_outputs)]
    return f"{n_outputs} outputs with a score: too few for {', '.join(missing)}" if missing else None


def _without(rows: QualityRows, refused: tuple[str, ...]) -> QualityRows:
    features = rows.features.without(refused)
    return QualityRows(features, features.select(rows.X), rows.y, rows.content, rows.output, rows.moment, rows.approved)


def _reviewer_codes(rows: QualityRows) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return Names.of(rows.X[REVIEWER]).codes(rows.X[REVIEWER])


def _unfitted(name: str, rows: QualityRows, bounds: tuple[float, float], seed: int, threads: int) -> QualityModel:
    model: QualityModel = CANDIDATES[name](rows.features, bounds, seed).set_params(threads=threads)
    return model


def _compete(
    name: str,
    build: Callable[[], QualityModel],
    rows: QualityRows,
    seed: int,
    folds: list[Fold],
    baseline: Floats,
    clock: Clock,
) -> Candidate:
    start = clock()
    forecasts = forward_forecasts(build, rows.X, rows.y, rows.content, folds)
    prediction, consensus = (_but_for_rounding(forecast, rows.y) for forecast in forecasts)
    seconds = clock() - start
    found, of_consensus = (metrics(rows.y, forecast, rows.content, baseline, seed) for forecast in (prediction, consensus))
    by_agent = metrics_by_agent(rows.y, prediction, rows.content, baseline, rows.X["agent_name"], seed)
    return Candidate(name, prediction, consensus, found, of_consensus, by_agent, np.nan, seconds)


def _but_for_rounding(forecast: Floats, y: Floats) -> Floats:
    """Forecasts that miss the score (M,) by rounding alone hit it: where all scores are equal nobody wins by such misses."""
    return np.where(np.abs(forecast - y) <= _ROUNDING * (1.0 + np.abs(y)), y, forecast)


def _with_share(candidate: Candidate, ceiling: Ceiling) -> Candidate:
    return replace(candidate, share_of_ceiling=candidate.metrics.r2.value / ceiling.share if ceiling.share else np.nan)


def _approval_route(
    rows: QualityRows, prediction: Floats, residual: Floats, folds: list[Fold]
) -> tuple[ApprovalRoute | None, Floats]:
    """The route from score to approval on all rows, and the forward probability of each forecast review.

    How far a score may be off is known from the windows before: the first window has no probability.
    """
    raw, before = np.full(len(rows.y), np.nan), np.full(len(rows.y), np.nan)
    # As published scores are: by what reviews have lately been above their forecasts, from the reviews before.
    centre = np.nan_to_num(forward_intervals(residual, rows.moment).centre)
    for earlier, later in folds:
        found, score_sd = _standards(rows, earlier), _spread(before)
        if found is not None and np.isfinite(score_sd):
            model, reviewers = found
            score = prediction[later] + centre[later]
            raw[later] = model.probability(score, score_sd**2, reviewers.codes(rows.X[REVIEWER].iloc[later]))
        before[later] = residual[later]
    whole, score_sd = _standards(rows, np.arange(len(rows.y))), _spread(residual)
    if whole is None or not np.isfinite(score_sd):
        return None, raw
    route = ApprovalRoute(*whole, score_sd, Platt.fit(raw, rows.approved, rows.moment))
    return route, _calibrated_forward(raw, rows, folds)


def _spread(residual: Floats) -> float:
    """Standard deviation of the forward residuals there are, NaN without any."""
    return float(np.nanstd(residual)) if np.isfinite(residual).any() else np.nan


def _calibrated_forward(raw: Floats, rows: QualityRows, folds: list[Fold]) -> Floats:
    """Each window calibrated on the forecasts of the windows before it; those of the first that has any stay as they are."""
    calibrated, before = raw.copy(), np.full(len(raw), np.nan)
    for _, later in folds:
        calibrated[later] = Platt.fit(before, rows.approved, rows.moment).probability(raw[later])
        before[later] = raw[later]
    return calibrated


def _standards(rows: QualityRows, some: np.ndarray[tuple[int], np.dtype[np.intp]]) -> tuple[ApprovalModel, Names] | None:
    """The approval model of the decisions of known reviewers among some rows, None where they are too few or all alike."""
    reviewers = Names.of(rows.X[REVIEWER].iloc[some])
    code, approved = reviewers.codes(rows.X[REVIEWER].iloc[some]), rows.approved[some]
    used = (code >= 0) & np.isfinite(approved)
    if used.sum() < _MIN_DECISIONS or np.ptp(approved[used]) == 0:
        return None
    return fit_approval(rows.y[some][used], approved[used], code[used], len(reviewers)), reviewers
