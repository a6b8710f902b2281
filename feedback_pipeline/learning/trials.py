"""What becomes of a recommendation: candidate -> probation -> active -> retired, decided by its confidence sequence.

A recommendation goes on trial when it is published: half of the executions apply it. It is kept, and applied more often, once the
lower bound of its uplift in approval lies above 0. It is retired once the upper bound lies below 2 points, or when 3,000
executions have not shown that it helps. A retired one stays so; a new finding opens a new trial (`trial_openings`). One that is
not recommended any more is a candidate: nothing applies it, and what is still decided of its executions can retire it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.confidence_sequences import Sequences
from feedback_pipeline.learning.panel import Ints
from feedback_pipeline.learning.trial_states import ACTIVE, CANDIDATE, PATIENCE, PROBATION, RETIRED, WORTH

_NONE: Final = np.iinfo(np.intp).max

Texts = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Verdicts:
    """What the looks at G trials decided.

    Attributes:
        state: The state now (G,).
        decided_at: Executions after which it was reached now (G,); 0 = it was reached before.
    """

    state: Texts
    decided_at: Ints


def decide(state: Texts, looked: Ints, group: Ints, sequences: Sequences) -> Verdicts:
    """Follow the confidence sequences of G trials from where they were last looked at; the first bound that is crossed decides.

    Looking after every execution or once at the end comes to the same. Retiring goes before keeping: an uplift that is certain
    and certainly below 2 points is not worth it.

    Args:
        state: State of each trial so far (G,); retired ones stay so, and candidates are only retired.
        looked: Executions that were decided at the last look (G,). The newest execution is always looked at: after reviews were
            deleted there may be fewer than before.
        group: Trial of each execution (N,), in order within each trial.
        sequences: Their confidence sequences.
    """
    n, low, high = sequences.n, sequences.low, sequences.high
    size = len(state)
    last = np.zeros(size, dtype=np.intp)
    np.maximum.at(last, group, n)
    new = n > np.minimum(looked, last - 1)[group]
    worthless = high < WORTH
    helps = (low > 0) & ~worthless
    unproven = (n >= PATIENCE) & ~(low > 0)
    probation, settled = state == PROBATION, (state == ACTIVE) | (state == CANDIDATE)
    kept = _first(new & helps & probation[group], group, n, size)
    dropped = _first(new & (worthless | unproven) & probation[group], group, n, size)
    kept = np.where(kept < dropped, kept, _NONE)
    # From where it is kept on, only a bound below what is worth it retires it.
    held = settled[group] | (n > kept[group])
    given_up = _first(new & worthless & held, group, n, size)
    retired = np.where(settled | (kept < _NONE), given_up, dropped)
    decided = np.where(retired < _NONE, retired, np.where(kept < _NONE, kept, 0))
    after = np.where(retired < _NONE, RETIRED, np.where(kept < _NONE, ACTIVE, state)).astype(object)
    return Verdicts(after, decided.astype(np.intp))


def _first(holds: npt.NDArray[np.bool_], group: Ints, n: Ints, size: int) -> Ints:
    """The smallest n of each group at which the condition holds (G,)."""
    found = np.full(size, _NONE, dtype=np.intp)
    np.minimum.at(found, group[holds], n[holds])
    return found
