"""Which segment the next outputs should go to: batched Thompson sampling, with the propensities it acted on.

Each arm is drawn from Beta(1 + approved, 1 + not approved) and the best draw gets the next output; a batch is drawn without
looking at its own results, because reviews come later. The propensity of an arm is the probability of being drawn; whoever
evaluates the policy later weighs by its inverse.
"""

from dataclasses import dataclass

import numpy as np

from feedback_pipeline.learning.panel import Floats, Ints

BATCH = 20
_DRAWS = 2000


@dataclass(frozen=True)
class Allocation:
    """The next batch.

    Attributes:
        outputs: Outputs each arm gets (A,), they sum to the batch.
        propensity: Probability that an output goes to each arm (A,), sums to 1, never 0.
    """

    outputs: Ints
    propensity: Floats


def allocate(approved: Floats, n: Floats, generator: np.random.Generator, batch: int = BATCH) -> Allocation:
    """Allocate the next outputs among A arms.

    Args:
        approved: Approved outputs of each arm (A,).
        n: Reviewed outputs of each arm (A,).
        generator: Seeded; the same state gives the same allocation.
        batch: Outputs to allocate.
    """
    draws = generator.beta(1.0 + approved, 1.0 + n - approved, size=(_DRAWS, len(n)))
    wins = np.bincount(draws.argmax(axis=1), minlength=len(n))
    # One win more for everybody: a propensity of 0 could never be weighed.
    propensity = (wins + 1.0) / (_DRAWS + len(n))
    return Allocation(generator.multinomial(batch, propensity), propensity)
