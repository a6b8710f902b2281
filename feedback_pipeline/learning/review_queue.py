"""Which outputs to read first: mostly by a rule, partly by chance, with the probability that each is read.

Two lists hold all N outputs: one in order of the rule (ties by identity), one in random order. Of every ten slots the 2nd, 5th
and 9th take the next entry of the random list, the others the next of the rule's; an entry that already stands in the queue
is skipped. The queue is what remains, so its first places are the rule's best and a simple random sample of all outputs,
whatever the rule thinks of them: what is measured on reviews weighted by 1 / propensity is unbiased.

The propensity of an output for the first k places is the probability, over random orders with the rule's order fixed, that
it is one of them. With r its place by the rule (from 0), sigma(r) the slot of the rule's entry r, rho(b) that of the random
entry b, and before slot s A(s) entries of the rule and B(s) random ones:

    1/N sum over b with rho(b) < sigma(r) of G(rho(b))  +  (1 - B(sigma(r)) / N) G(sigma(r))
    G(s) = P(A(s) + H < k),   H ~ hypergeometric: how many of B(s) random others are not among the rule's first A(s)

since before an output that first comes up in slot s there stand A(s) + H others.
"""

import hashlib
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints

RANDOM_SHARE = 0.3
BY_RULE, BY_CHANCE = "rule", "chance"
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class ReviewQueue:
    """The queue, beside the outputs as they were given (N,).

    Attributes:
        rank: Place of each output, from 1.
        chosen_by: "rule" or "chance": the list it first came up in.
        propensity: Probability to stand in the first `places`.
        places: k.
    """

    rank: Ints
    chosen_by: npt.NDArray[np.object_]
    propensity: Floats
    places: int


def lowest_approval(p_approve: Floats) -> Floats:
    """Priority that reads the least likely approvals first; an output without a forecast (NaN) comes up by chance only."""
    return -p_approve


def daily_seed(seed: int, day: date) -> int:
    """Seed of the random list of one day: whoever asks again that day sees the same queue.

    With one seed for ever, outputs that chance passed over once would stand behind all that come later, and their
    propensities would be too high.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}:{day.isoformat()}".encode(), digest_size=6).digest())


def review_queue(
    priority: Floats, identity: npt.NDArray[np.object_], seed: int, places: int, random_share: float = RANDOM_SHARE
) -> ReviewQueue:
    """Order outputs without a review.

    Args:
        priority: Higher is read earlier by the rule (N,); NaN last.
        identity: Distinct names of the outputs (N,). Each draws its random place from its name and the seed, so other outputs
            coming and going leave the order of the rest as it was.
        seed: Of the random list.
        places: k, the places the propensity is about: how many outputs will be read.
        random_share: Share of the slots that are the random list's.

    Raises:
        LearningError: two outputs have the same name, or an argument is out of range.
    """
    if places < 1 or not 0.0 <= random_share <= 1.0:
        raise LearningError(f"a queue needs at least one place and a share within 0..1, got {places} and {random_share}")
    names = np.array([str(name) for name in identity], dtype=object)
    by_name = np.argsort(names)
    if (names[by_name][1:] == names[by_name][:-1]).any():
        raise LearningError("two outputs of the queue have the same name: give each one once")
    name_place = _places(by_name)
    key = np.where(np.isnan(priority), np.inf, -priority)
    rule = _places(np.lexsort((name_place, key)))
    drawn = pd.util.hash_array(names, hash_key=f"{seed % 10**16:016d}", categorize=False)
    chance = _places(np.lexsort((name_place, drawn)))
    slots = _Slots.of(len(names), random_share)
    of_rule, of_chance = slots.rule[rule], slots.chance[chance]
    rank = _places(np.argsort(np.minimum(of_rule, of_chance))) + 1
    chosen = np.where(of_chance < of_rule, BY_CHANCE, BY_RULE).astype(object)
    return ReviewQueue(rank, chosen, propensities(len(names), places, random_share)[rule], places)


def propensities(n: int, places: int, random_share: float = RANDOM_SHARE) -> Floats:
    """Probability of the output in each place of the rule (N,) to stand in the first `places` of the queue."""
    slots = _Slots.of(n, random_share)
    if not n or places >= n:
        return np.ones(n)
    slot = np.arange(len(slots.is_random))
    of_chance: Ints = np.cumsum(slots.is_random) - slots.is_random
    of_rule = slot - of_chance
    early = _still_early(of_rule, of_chance, n, places)
    by_chance = np.concatenate([[0.0], np.cumsum(early * slots.is_random)]) / n
    reached = slots.rule < _NEVER
    at = np.where(reached, slots.rule, len(slot))
    before = np.append(of_chance, slots.is_random.sum())[at]
    by_rule = np.where(reached, (1.0 - before / n) * np.append(early, 0.0)[at], 0.0)
    return np.asarray(np.clip(by_chance[at] + by_rule, 0.0, 1.0), dtype=np.float64)


def _still_early(of_rule: Ints, of_chance: Ints, n: int, places: int) -> Floats:
    """G of each slot: P(fewer than `places` others stand before an output that first comes up in it).

    Beyond the end of a list all others stand before it, so with fewer places than outputs: 0.
    """
    drawn, others = np.minimum(of_chance, n - 1), np.maximum(n - 1 - of_rule, 0)
    room = places - 1 - of_rule
    mean = drawn * (others / max(n - 1, 1))
    # Ten standard deviations and thirty away from its mean a hypergeometric tail is below 1e-15 (Bernstein).
    gap, reach = room - mean, 10.0 * np.sqrt(mean * (1.0 - others / max(n - 1, 1))) + 30.0
    early = (gap > 0).astype(np.float64)
    near = np.abs(gap) <= reach
    early[near] = stats.hypergeom.cdf(room[near], n - 1, others[near], drawn[near])
    return early


@dataclass(frozen=True)
class _Slots:
    """Slot of each entry of the two lists (N,), _NEVER where none is left; and whose each slot is."""

    rule: npt.NDArray[np.int64]
    chance: npt.NDArray[np.int64]
    is_random: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, n: int, share: float) -> "_Slots":
        # The list with more slots gets through all outputs in that many.
        size = int(np.ceil(n / max(share, 1.0 - share))) + 2 if n else 0
        before = np.floor(share * np.arange(size + 1) + 0.5)
        is_random = before[1:] > before[:-1]
        return cls(_first(np.flatnonzero(~is_random), n), _first(np.flatnonzero(is_random), n), is_random)


def _first(slots: Ints, n: int) -> npt.NDArray[np.int64]:
    entries = np.full(n, _NEVER, dtype=np.int64)
    entries[: len(slots)] = slots[:n]
    return entries


def _places(order: Ints) -> Ints:
    """Place of each row in an order, from 0."""
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return place
