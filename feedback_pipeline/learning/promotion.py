"""When a new model replaces the champion: on evidence that it forecasts better, never because one number is higher.

Both models are scored on the same reviews, none of which either was fitted on. D_c is the champion's loss less the
challenger's, summed over the reviews of content c, and L_c the champion's own loss. The relative gain g = sum D_c / sum L_c has
the standard error sqrt(C / (C - 1) sum (D_c - g L_c)^2) / sum L_c (a ratio of sums over C independent contents), and the
challenger is promoted where g - t_{.95, C-1} se > .005 and C >= 200.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from feedback_pipeline.learning.panel import Floats, Ints, group_sums

LEAST_GAIN = 0.005
MIN_CONTENTS = 200
LEVEL = 0.95
LITTLE = 0.1
"""A gain below it is little, whether it is certain or not."""
SIMPLEST = "mean"


@dataclass(frozen=True)
class Promotion:
    """Whether a challenger replaces the champion.

    Attributes:
        promoted: The verdict.
        gain: Share of the champion's loss that the challenger spares; NaN where undefined.
        lower: One-sided 95 % lower bound of it; NaN where undefined.
        n_contents: Contents compared.
        reason: Why it is not promoted, None where it is.
    """

    promoted: bool
    gain: float
    lower: float
    n_contents: int
    reason: str | None


def promotes(loss_champion: Floats, loss_challenger: Floats, content: Ints) -> Promotion:
    """Compare two models on the reviews both should have forecast.

    Args:
        loss_champion: Squared error of each review (M,), NaN where the champion has no forecast: such rows are left out.
        loss_challenger: Of the challenger (M,); without a forecast where the champion has one it is not promoted.
        content: Content of each review (M,), codes from 0.
    """
    rows = np.isfinite(loss_champion)
    absent = int((rows & ~np.isfinite(loss_challenger)).sum())
    _, cluster = np.unique(content[rows], return_inverse=True)
    n = int(cluster.max()) + 1 if len(cluster) else 0
    if absent:
        return Promotion(False, math.nan, math.nan, n, f"reviews without a finite forecast of the challenger: {absent}")
    own = group_sums(cluster, loss_champion[rows], n)
    spared = own - group_sums(cluster, loss_challenger[rows], n)
    total = float(own.sum())
    if n < 2 or total <= 0.0:
        return Promotion(False, math.nan, math.nan, n, _too_few(n) or "the champion errs nowhere on these reviews")
    gain = float(spared.sum()) / total
    error = math.sqrt(n / (n - 1.0) * float(((spared - gain * own) ** 2).sum())) / total
    lower = gain - float(special.stdtrit(n - 1.0, LEVEL)) * error
    reason = _against(lower, n)
    return Promotion(reason is None, gain, lower, n, reason)


def _against(lower: float, n: int) -> str | None:
    if n >= MIN_CONTENTS and lower <= LEAST_GAIN:
        return f"the gain may be {100 * lower:.1f} % or less; more than {100 * LEAST_GAIN:.1f} % has to be certain"
    return _too_few(n)


def _too_few(n: int) -> str | None:
    return f"{n} contents compared; a promotion needs {MIN_CONTENTS}" if n < MIN_CONTENTS else None


@dataclass(frozen=True)
class FirstChampion:
    """The first champion.

    Attributes:
        name: The model chosen.
        little_to_predict: Whether it is the mean, and not only for want of contents: nothing was shown to forecast better.
        tests: What decided, as "later v earlier" with the test: all of the candidates that were beaten, and of the choice.
    """

    name: str
    little_to_predict: bool
    tests: tuple[tuple[str, Promotion], ...]

    @property
    def too_few_to_tell(self) -> bool:
        """Whether more contents might have let another candidate win: it is clearly ahead, or nobody can say."""
        return _too_few_to_tell(self.tests)


def first_champion(names: Sequence[str], losses: Floats, content: Ints) -> FirstChampion:
    """Choose the simplest candidate that no more complex one beats by the rule.

    Args:
        names: Candidates from the simplest on.
        losses: Squared error of each review by each of them (M, candidates).
        content: Content of each review (M,).
    """
    tests: list[tuple[str, Promotion]] = []
    for candidate, name in enumerate(names):
        against = [
            (f"{names[later]} v {name}", promotes(losses[:, candidate], losses[:, later], content))
            for later in range(candidate + 1, len(names))
        ]
        tests += against
        if not any(test.promoted for _, test in against):
            break
    return FirstChampion(name, name == SIMPLEST and not _too_few_to_tell(tests), tuple(tests))


def _too_few_to_tell(tests: Sequence[tuple[str, Promotion]]) -> bool:
    held_back = [test for _, test in tests if test.n_contents < MIN_CONTENTS]
    ahead = [test for test in held_back if test.lower > LEAST_GAIN and test.gain > LITTLE]
    return not tests or bool(ahead) or any(math.isnan(test.lower) for test in held_back)
