"""What a reviewer likes, read off the personal model: a level of a category, a range of lengths, features of style.

Uncertainty comes from normal draws of the effects; every reviewer is read with the same draws, so one reviewer's result does
not depend on who else is there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtr

from feedback_pipeline.learning.features import TEXT_FEATURES
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.reviewers import ReviewerModel
from feedback_pipeline.learning.reviewers_design import LENGTH
from feedback_pipeline.learning.reviewers_score import PersonalModel

STYLE_FEATURES: Final[tuple[str, ...]] = tuple(name for name in TEXT_FEATURES if name not in (LENGTH, "sentence_count"))

_DRAWS = 500
_CHUNK = 2_000_000
_LIKELY = 0.5
_SURE = 0.95
_LEAST_CURVATURE = 0.02  # of a scale of 10 points, per squared standard deviation of log length

NO_DATA: Final = "no review of this reviewer enters the model"
ALIKE: Final = "too few reviews per reviewer to tell personal tastes apart"


@dataclass(frozen=True)
class Choice:
    """The level of a category a reviewer likes best.

    Attributes:
        value: The level, or None.
        probability: That the likeliest level is the best one, NaN where there is no estimate.
        reason: Why the value is None.
    """

    value: str | None
    probability: float
    reason: str | None


@dataclass(frozen=True)
class LengthRange:
    """The lengths a reviewer likes: those that cost at most a fortieth of the scale against the best one.

    Attributes:
        min: Words; max: words; best: words, all within the observed 1st to 99th percentile; None without a preference.
        sd: Standard deviation of the best length, words.
        reason: Why there is none.
    """

    min: float | None
    max: float | None
    best: float | None
    sd: float | None
    reason: str | None


@dataclass(frozen=True)
class StyleSlope:
    """A feature of style that moves this reviewer differently from the others.

    Attributes:
        feature: Name.
        difference: Points (or logits) per standard deviation of the feature, on top of the population's.
        se: Its standard deviation.
        population: The population's points per standard deviation.
        probability: That the difference has this sign.
    """

    feature: str
    difference: float
    se: float
    population: float
    probability: float


def choices(personal: PersonalModel, category: str, seed: int) -> list[Choice]:
    """The preferred level of every reviewer (R,): the largest effect, if it is the best one with probability >= .5."""
    model, columns = personal.model, personal.encoding.positions("level", category)
    own = _own_positions(model.personal, columns)
    if not columns:
        return [Choice(None, np.nan, f"the outputs do not differ in {category}")] * len(model.rows)
    if own is None:
        return [Choice(None, np.nan, ALIKE)] * len(model.rows)
    names = [personal.encoding.columns[i].level for i in columns]
    found = []
    for some, mean, draws in _drawn(personal, np.array(columns), own, seed):
        best = mean.argmax(axis=1)
        probability = (draws.argmax(axis=2) == best[:, None]).mean(axis=1)
        for reviewer, level, p in zip(some, best, probability, strict=True):
            found.append(_choice(names[level], float(p), category) if model.rows[reviewer] else Choice(None, np.nan, NO_DATA))
    return found


def _choice(level: str, probability: float, category: str) -> Choice:
    if probability >= _LIKELY:
        return Choice(level, probability, None)
    return Choice(None, probability, f"no {category} stands out: the likeliest is the best with probability {probability:.2f}")


def length_ranges(personal: PersonalModel, width: float, seed: int) -> list[LengthRange]:
    """The liked lengths of every reviewer (R,).

    Args:
        personal: The model.
        width: Range of the response: hi - lo of the scores.
        seed: Of the draws.
    """
    model, encoding = personal.model, personal.encoding
    scale = encoding.scale(LENGTH)
    columns = [*encoding.positions("slope", LENGTH), *encoding.positions("square", LENGTH)]
    if scale is None:
        return [_no_range("the lengths of the outputs are unknown or all the same")] * len(model.rows)
    own = _own_positions(model.personal, columns)
    if own is None:
        return [_no_range(ALIKE)] * len(model.rows)
    found = []
    for some, mean, draws in _drawn(personal, np.array(columns), own, seed):
        best = scale.value(_best(mean, scale.low, scale.high))
        sd = scale.value(_best(draws, scale.low, scale.high)).std(axis=1)
        bent = (draws[:, :, 1] < 0).mean(axis=1)
        least, most = _range(mean, scale.low, scale.high, 0.025 * width)
        bounds = scale.value(np.column_stack([least, most]))
        reasons = np.select(
            [
                model.rows[some] == 0,
                (mean[:, 1] >= -_LEAST_CURVATURE * width / 10.0) | (bent < _SURE),
                (least <= scale.low) & (most >= scale.high),
            ],
            [NO_DATA, "no best length: the score does not fall towards both ends", "all usual lengths are about as good"],
            default="",
        )
        rows = zip(bounds.tolist(), best.tolist(), sd.tolist(), reasons.tolist(), strict=True)
        found += [_no_range(why) if why else LengthRange(low, high, top, spread, None) for (low, high), top, spread, why in rows]
    return found


def _no_range(reason: str) -> LengthRange:
    return LengthRange(None, None, None, None, reason)


def best_lengths(personal: PersonalModel) -> Floats:
    """The length where the parabola of each reviewer is highest within the usual lengths (R,), whether published or not."""
    model, encoding = personal.model, personal.encoding
    scale = encoding.scale(LENGTH)
    columns = [*encoding.positions("slope", LENGTH), *encoding.positions("square", LENGTH)]
    own = _own_positions(model.personal, columns)
    if scale is None:
        return np.full(len(model.rows), np.nan)
    effect = model.population[columns] + (model.effects[:, own] if own is not None else np.zeros((len(model.rows), 2)))
    return scale.value(_best(effect, scale.low, scale.high))


def _best(effect: Floats, low: float, high: float) -> Floats:
    """Where slope z + square (z^2 - 1) is largest within low..high; effects (..., 2)."""
    slope, square = effect[..., 0], effect[..., 1]
    top = np.divide(-slope, 2.0 * square, out=np.zeros_like(slope), where=square < 0)
    # An upward parabola is highest at the end its slope between the ends points to.
    end = np.where(slope + square * (low + high) >= 0, high, low)
    best: Floats = np.where(square < 0, np.clip(top, low, high), end)
    return best


def _range(effect: Floats, low: float, high: float, tolerance: float) -> tuple[Floats, Floats]:
    slope, square = effect[:, 0], np.minimum(effect[:, 1], -1e-12)
    top = -slope / (2.0 * square)
    reach = np.sqrt((top - np.clip(top, low, high)) ** 2 - tolerance / square)
    return np.clip(top - reach, low, high), np.clip(top + reach, low, high)


def style_slopes(personal: PersonalModel, features: Sequence[str] = STYLE_FEATURES) -> list[tuple[StyleSlope, ...]]:
    """The slopes on style features that differ from the population with 95 % probability, reviewer by reviewer (R,)."""
    model, encoding = personal.model, personal.encoding
    found: list[list[StyleSlope]] = [[] for _ in model.rows]
    for feature in features:
        columns = encoding.positions("slope", feature)
        own = _own_positions(model.personal, columns)
        if not columns or own is None:
            continue
        difference = model.effects[:, own[0]]
        se = np.sqrt(np.maximum(_difference_variance(model, own[0]), 0.0))
        probability = ndtr(np.divide(np.abs(difference), se, out=np.zeros(len(se)), where=se > 0))
        for reviewer in np.flatnonzero(probability >= _SURE):
            facts = (difference[reviewer], se[reviewer], model.population[columns[0]], probability[reviewer])
            found[reviewer].append(StyleSlope(feature, *(float(fact) for fact in facts)))
    return [tuple(slopes) for slopes in found]


def _own_positions(personal: Ints, columns: Sequence[int]) -> list[int] | None:
    """Where the columns stand among the personal ones; None when reviewers do not differ in them."""
    where = {int(column): i for i, column in enumerate(personal)}
    own = [where[column] for column in columns if column in where]
    return own if own and len(own) == len(columns) else None


def _kept(model: ReviewerModel, some: Ints) -> Floats:
    """How far the sum of population and own effect follows the population's, personal columns (r, Q, Q).

    d (b + u) / d b = V diag(1/tau2): all of it for a reviewer without rows, nothing for one whose own rows say everything.
    Without it a team of two or three would look as if nothing were known of its members.
    """
    tau2 = model.variances.personal
    kept: Floats = model.uncertainty[some] / np.where(tau2 > 0, tau2, 1.0)
    fixed = np.flatnonzero(tau2 <= 0)
    kept[:, fixed, fixed] = 1.0
    return kept


def _total_covariance(model: ReviewerModel, some: Ints, own: list[int]) -> Floats:
    """Covariance of population + own effect in some personal columns (r, L, L)."""
    kept = _kept(model, some)[:, own]
    shared = model.population_covariance[np.ix_(model.personal, model.personal)]
    covariance: Floats = model.uncertainty[some][:, own][:, :, own] + kept @ shared @ kept.transpose(0, 2, 1)
    return covariance


def _difference_variance(model: ReviewerModel, own: int) -> Floats:
    """Variance of the own effect in one personal column (R,), with what the population's uncertainty adds."""
    given_back = -_kept(model, np.arange(len(model.rows)))[:, own]
    given_back[:, own] += 1.0
    shared = model.population_covariance[np.ix_(model.personal, model.personal)]
    variance: Floats = model.uncertainty[:, own, own] + ((given_back @ shared) * given_back).sum(axis=1)
    return variance


def _drawn(personal: PersonalModel, columns: Ints, own: list[int], seed: int) -> Iterator[tuple[Ints, Floats, Floats]]:
    """Some reviewers, their effects (r, L), and draws of those (r, draws, L), until all have been read."""
    model = personal.model
    noise = np.random.default_rng(seed).standard_normal((_DRAWS, len(columns)))
    n = len(model.rows)
    for some in np.array_split(np.arange(n), max(n * _DRAWS * len(columns) // _CHUNK, 1)):
        mean = model.population[columns] + model.effects[some][:, own]
        value, vector = np.linalg.eigh(_total_covariance(model, some, own))
        root = vector * np.sqrt(np.maximum(value, 0.0))[:, None, :]
        yield some, mean, mean[:, None, :] + noise @ root.transpose(0, 2, 1)
