"""Whether the champion's errors have moved since it was chosen: two control charts over weekly means.

With s the standard deviation of the reference residuals, and m the mean of the N residuals of the reference and of the weeks
before, the mean of a week's n residuals gives

    z = (mean - m) / (s sqrt(d (1 / n + 1 / N))),      d = sum over contents (sum of its e)^2 / sum e^2, at least 1

where the design effect d counts that reviews of one content err together. Without a change these z are independent and
standard normal however short the reference (a self-starting chart, Hawkins 1987); against the reference's mean alone its error
would stand in every week. EWMA (Roberts 1959): E = .2 z + .8 E, alarm beyond 3 sqrt(.2 / 1.8 (1 - .8^2t)). CUSUM (Page 1954),
two-sided: C = max(0, C +- z - .5), alarm above 5. With 50 reviews a week and a long reference each alarms in some 4 of 100 calm
half-years and finds a lasting shift of .3 s in about three weeks.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.panel import Floats, Ints, group_sums

SMOOTHING, EWMA_LIMIT = 0.2, 3.0
SLACK, CUSUM_LIMIT = 0.5, 5.0
MIN_REFERENCE = 200
MIN_WEEK = 10
"""A week with fewer reviews is judged together with the next."""
EWMA, CUSUM = "ewma", "cusum"

_DAY = 86_400_000_000_000
_MONDAY = 3  # the first of January 1970 was a Thursday


@dataclass(frozen=True)
class Reference:
    """What the champion's errors were like when it was chosen.

    Attributes:
        mean, sd: Of its forward residuals, points; NaN where undefined.
        design_effect: By how much reviews of one content inflate the variance of a mean.
        n: Residuals.
        reason: Why drift cannot be watched, or None.
    """

    mean: float
    sd: float
    design_effect: float
    n: int
    reason: str | None

    @classmethod
    def of(cls, residual: Floats, content: Ints | None = None) -> "Reference":
        """Describe forward residuals (M,), NaN = none; `content` (M,) are codes of what they are about."""
        rows = np.isfinite(residual)
        known = residual[rows]
        n = len(known)
        if n < MIN_REFERENCE:
            return cls(math.nan, math.nan, 1.0, n, f"{n} residuals to compare with; drift needs {MIN_REFERENCE}")
        mean, sd = float(known.mean()), float(known.std(ddof=1))
        if sd <= 1e-12 * (1.0 + abs(mean)):
            return cls(mean, math.nan, 1.0, n, "the residuals to compare with do not vary")
        effect = 1.0
        if content is not None:
            _, cluster = np.unique(content[rows], return_inverse=True)
            error = known - mean
            effect = max(float((group_sums(cluster, error, int(cluster.max()) + 1) ** 2).sum() / (error @ error)), 1.0)
        return cls(mean, sd, effect, n, None)


@dataclass(frozen=True)
class Alarm:
    """The first alarm: the Monday (UTC) of its week, "ewma" or "cusum", whether reviews came out "higher" or "lower"."""

    week: str
    statistic: str
    direction: str
    value: float
    limit: float


@dataclass(frozen=True)
class Drift:
    """The charts and what they say.

    Attributes:
        weeks: One row per judged week: week (its Monday), n, mean, z, ewma, ewma_limit, cusum_higher, cusum_lower.
        alarm: The first alarm, or None.
        reason: Why nothing is watched, or None.
    """

    weeks: pd.DataFrame
    alarm: Alarm | None
    reason: str | None


def watch(
    reference: Reference,
    residual: Floats,
    moment: npt.NDArray[np.int64],
    until: int | None = None,
    since: int | None = None,
) -> Drift:
    """Follow the residuals since the champion was chosen.

    Args:
        reference: The errors at that time.
        residual: Review less forecast of each review since (M,), NaN = none.
        moment: When the review was given (M,), ns since 1970.
        until: Now, ns: a week that is not over by then is not judged yet. None judges all.
        since: An alarm of a week that was over by then, ns, has been answered; the charts go on from there. None = none was.
    """
    columns = _weekly(residual, moment, until) if reference.reason is None else _weekly(residual[:0], moment[:0], None)
    week, n, mean = columns
    z = _standardised(reference, n, mean)
    weeks = pd.DataFrame({"week": week, "n": n.astype(np.int64), "mean": mean, "z": z}).assign(**_charts(z))
    reason = reference.reason or (None if len(z) else "no week with enough reviews since")
    if since is None:
        return Drift(weeks, _first_alarm(weeks), reason)
    unanswered = weeks["week"].astype(object) >= monday(int(week_of(np.array([since], dtype=np.int64))[0]))
    return Drift(weeks, _first_alarm(weeks[unanswered].reset_index(drop=True)), reason)


def week_of(moment: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number of the week (Monday to Sunday, UTC) of each moment (M,), ns since 1970."""
    return np.asarray((moment // _DAY + _MONDAY) // 7, dtype=np.int64)


def monday(week: int) -> str:
    """ISO date of the Monday of a week."""
    return str(np.datetime64(week * 7 - _MONDAY, "D"))


def _weekly(residual: Floats, moment: npt.NDArray[np.int64], until: int | None) -> tuple[list[str], Floats, Floats]:
    """Monday, number and mean of each judged week, thin weeks added to the next."""
    rows = np.isfinite(residual)
    if until is not None:
        rows &= week_of(moment) < week_of(np.array([until], dtype=np.int64))[0]
    weeks, place = np.unique(week_of(moment[rows]), return_inverse=True)
    known = residual[rows]
    # Sums in an order that is the data's own, so that no order of rows changes a bit.
    order = np.lexsort((known, place))
    n = np.bincount(place, minlength=len(weeks)).astype(np.float64)
    total = group_sums(place[order], known[order], len(weeks))
    judged = list(_gathered(weeks, n, total))
    return [monday(week) for week, _, _ in judged], np.array([k for _, k, _ in judged]), np.array([m for _, _, m in judged])


def _gathered(weeks: npt.NDArray[np.int64], n: Floats, total: Floats) -> Iterator[tuple[int, float, float]]:
    count, points = 0.0, 0.0
    for week, more, sum_of in zip(weeks, n, total, strict=True):
        count, points = count + float(more), points + float(sum_of)
        if count >= MIN_WEEK:
            yield int(week), count, points / count
            count, points = 0.0, 0.0


def _standardised(reference: Reference, n: Floats, mean: Floats) -> Floats:
    known = reference.n + np.cumsum(n) - n
    before = (reference.n * reference.mean + np.cumsum(n * mean) - n * mean) / known
    error = reference.sd * np.sqrt(reference.design_effect * (1.0 / n + 1.0 / known))
    return np.asarray((mean - before) / error, dtype=np.float64)


def _charts(z: Floats) -> dict[str, Floats]:
    ewma, higher, lower = np.empty(len(z)), np.empty(len(z)), np.empty(len(z))
    smooth = up = down = 0.0
    for week, value in enumerate(z):
        smooth = SMOOTHING * float(value) + (1.0 - SMOOTHING) * smooth
        up, down = max(0.0, up + float(value) - SLACK), max(0.0, down - float(value) - SLACK)
        ewma[week], higher[week], lower[week] = smooth, up, down
    age = np.arange(1, len(z) + 1)
    limit = EWMA_LIMIT * np.sqrt(SMOOTHING / (2.0 - SMOOTHING) * (1.0 - (1.0 - SMOOTHING) ** (2 * age)))
    return {"ewma": ewma, "ewma_limit": limit, "cusum_higher": higher, "cusum_lower": lower}


def _first_alarm(weeks: pd.DataFrame) -> Alarm | None:
    ewma, limit = weeks["ewma"].to_numpy(), weeks["ewma_limit"].to_numpy()
    higher, lower = weeks["cusum_higher"].to_numpy(), weeks["cusum_lower"].to_numpy()
    alarms = np.flatnonzero((np.abs(ewma) > limit) | (higher > CUSUM_LIMIT) | (lower > CUSUM_LIMIT))
    if not len(alarms):
        return None
    at = int(alarms[0])
    week = str(weeks["week"].iloc[at])
    if abs(ewma[at]) > limit[at]:
        return Alarm(week, EWMA, "higher" if ewma[at] > 0 else "lower", float(ewma[at]), float(limit[at]))
    direction = "higher" if higher[at] > CUSUM_LIMIT else "lower"
    return Alarm(week, CUSUM, direction, float(max(higher[at], lower[at])), CUSUM_LIMIT)
