"""Whether the best of many cuts is better than chance makes it, and how far it moves from sample to sample.

Under the null the approvals of a stratum are spread over its outputs at random: the approvals above a cut are a sum over strata
of independent hypergeometric numbers. The test statistic is the largest G2 over the cuts. Two p-values are valid for it: the
share of random reshufflings with one as large, and the sum over cuts of the exact probability of a G2 as large (Bonferroni),
which is never below the exact p-value of the maximum. The second needs no reshuffling and reaches below 1 / (rounds + 1). The
rule, fixed before the data are seen: the sum where it is at most .005, else reshufflings. Both are functions of the same
statistic and the sum is an upper bound, so {sum <= a} lies within {exact p <= a} and choosing between the two gains nothing (but
for the noise of a limited number of reshufflings).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, special

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.threshold_scan import BINS, Binned, allowed, likelihood_ratio, margins, scan

_BOUND = 0.005
_WORTH_BOUNDING = 1.5 * _BOUND  # by the chi-squared approximation
_WORD = 64
_MOST_SHUFFLED = 20_000_000  # outputs x reshufflings of a stage
_STAGES = ((1, 6), (2, 10), (13, 10))
"""Times 64 reshufflings, and how many as large as the observed one are enough to stop after them."""
_MAX_CELLS = 20_000_000
_BOOTSTRAPS = 200
_NEAR = 2  # bins
_MANY = 1000  # outputs: some 30 in a bin
_FLOOR = 1e-15
_TINY = 1e-6
_MANY_STRATA = 200
_AT_ONCE = 32  # strata
_TOLERANCE = 1e-9


def p_values(batch: Sequence[Binned], observed: Floats, seeds: Sequence[tuple[int, ...]]) -> Floats:
    """p-value of the largest G2 of each feature (K,), the features of all members of the batch one after the other.

    Args:
        batch: Features, outcomes, strata of each member.
        observed: Largest G2 of each feature (K,).
        seeds: Of the reshufflings of each member; features of the same outputs share them.
    """
    n, total, wins = margins(batch)
    cuts = allowed(n)
    above = total - np.cumsum(n, axis=1)[:, :-1]
    expected = np.concatenate([_by_stratum(binned) @ (binned.wins / binned.size) for binned in batch])
    low, high = _critical(above, total, wins[:, None], expected, observed)
    low, high = np.where(cuts, low, -1.0), np.where(cuts, high, total + 1.0)
    approximate = cuts.sum(axis=1) * special.chdtrc(1.0, np.maximum(observed, 0.0))
    p, first = np.full(len(observed), np.nan), 0
    for binned, seed in zip(batch, seeds, strict=True):
        own = slice(first, first + len(binned.bins))
        strong = np.flatnonzero(approximate[own] <= _WORTH_BOUNDING)
        if len(strong):
            p[first + strong] = _bounds(binned.select(strong), cuts[first + strong], low[first + strong], high[first + strong])
        weak = np.flatnonzero(~(p[own] <= _BOUND))
        if len(weak):
            generator = np.random.default_rng(seed)
            p[first + weak] = _reshuffled(binned.select(weak), low[first + weak], high[first + weak], generator)
        first = own.stop
    return p


def _by_stratum(binned: Binned) -> Ints:
    """Outputs above each cut by stratum (J, B - 1, S)."""
    n_strata = len(binned.size)
    key = (np.arange(len(binned.bins))[:, None] * BINS + binned.bins) * n_strata + binned.stratum
    n = np.bincount(key.ravel(), minlength=len(binned.bins) * BINS * n_strata).reshape(-1, BINS, n_strata)
    below = np.cumsum(n, axis=1)
    above: Ints = below[:, -1:] - below[:, :-1]
    return above


def _critical(above: Floats, total: Floats, wins: Floats, expected: Floats, observed: Floats) -> tuple[Floats, Floats]:
    """Approvals above each cut, up to and from which its G2 is as large as the observed one (J, B - 1), by bisection.

    G2 grows on either side of what is expected.
    """
    sign = np.array([-1.0, 1.0])[:, None, None]
    start = np.stack([np.floor(expected), np.ceil(expected)])
    near, far = np.full(start.shape, -1.0), np.broadcast_to(total + 1.0, start.shape)
    for _ in range(int(total.max() + 2).bit_length()):
        middle = np.floor((near + far) / 2.0)
        large = likelihood_ratio(above, total, wins, start + sign * middle - expected)
        reaches = large >= observed[:, None] - _TOLERANCE
        near, far = np.where(reaches, near, middle), np.where(reaches, middle, far)
    low, high = start + sign * far
    return low, high


def _bounds(binned: Binned, cuts: npt.NDArray[np.bool_], low: Floats, high: Floats) -> Floats:
    """Sum over the cuts of the probability of a G2 as large (J,), at most 1.

    Where that is tiny, or the strata are many, it is the sum of closed bounds on the probabilities.
    """
    above = _by_stratum(binned)
    each = np.where(cuts, _serfling(above, binned.size, binned.wins, low, high), 0.0)
    closed = each.sum(axis=1)
    rest = cuts & (closed > _TINY)[:, None] & (len(binned.size) <= _MANY_STRATA)
    if rest.any():
        each[rest] = tail_probabilities(above[rest], binned.size, binned.wins, low[rest], high[rest])
    total: Floats = np.minimum(each.sum(axis=1), 1.0)
    return total


def _serfling(above: Ints, size: Ints, wins: Ints, low: Floats, high: Floats) -> Floats:
    """Upper bound on P(A <= low or A >= high) for `tail_probabilities`, above (..., S).

    m of n drawn without replacement: E exp(t (A - mean)) <= exp(t^2 m (1 - (m - 1) / n) / 8) (Serfling 1974), for either side of
    the cut and, as drawing and winning can be exchanged, for wins or others in the place of m.
    """
    drawn, won = np.minimum(above, size - above), np.minimum(wins, size - wins)
    width = np.minimum(*(m * (1.0 - (np.maximum(m, 1) - 1.0) / size) for m in (drawn, won))).sum(axis=-1)
    mean = (above * (wins / size)).sum(axis=-1)
    distances = np.maximum(mean - low, 0.0), np.maximum(high - mean, 0.0)
    bound: Floats = sum(np.exp(-2.0 * d * d / np.maximum(width, _FLOOR)) for d in distances) + _FLOOR
    return bound


def tail_probabilities(above: Ints, size: Ints, wins: Ints, low: Floats, high: Floats) -> Floats:
    """P(A <= low or A >= high), A a sum of hypergeometrics over strata: above (R, S) of size (S,) outputs, wins (S,) of them won.

    The distributions are convolved by their discrete Fourier transforms, in a window that leaves out less than 1e-16; 1e-15 is
    added for that and for rounding, so the result is an upper bound.
    """
    mean = above * (wins / size)
    spread = mean * (1.0 - wins / size) * (size - above) / np.maximum(size - 1, 1)
    # Rounded so that the middles of the strata add up to the middle of the sum.
    middle = np.diff(np.round(np.cumsum(mean, axis=1)), axis=1, prepend=0.0).astype(np.intp)
    log_factorial = special.gammaln(np.arange(int(size.max()) + 1) + 1.0)

    def density(first: int, last: int) -> Floats:
        """Of the sum over some strata less its middle, as if on a circle (R, length): 0 up, then negative ones from the end."""
        half = int(np.ceil(9.0 * np.sqrt(spread[:, first:last].sum(axis=1).max()) + 20.0))
        half = min(half, int(np.minimum(wins, size - wins)[first:last].sum()) + 1)
        length = 1 << int(2 * half + 1).bit_length()
        if last - first == 1:
            offset = np.fft.fftfreq(length, 1.0 / length).astype(np.intp)
            own = first, size[first], wins[first]
            return _hypergeometric(middle[:, own[0], None] + offset, above[:, own[0], None], *own[1:], log_factorial)
        # A few at a time: what is narrow is convolved on a small circle.
        step = max(1, -(-(last - first) // _AT_ONCE))
        spectrum = np.ones((len(above), length // 2 + 1), dtype=np.complex128)
        for at in range(first, last, step):
            spectrum *= fft.rfft(_on_circle(density(at, min(at + step, last)), length), axis=1)
        return fft.irfft(spectrum, n=length, axis=1)

    whole = density(0, len(size))
    offset = np.fft.fftfreq(whole.shape[1], 1.0 / whole.shape[1])
    centre = middle.sum(axis=1)[:, None]
    outside = (offset <= low[:, None] - centre) | (offset >= high[:, None] - centre)
    tails: Floats = np.maximum((whole * outside).sum(axis=1), 0.0) + _FLOOR
    return tails


def _on_circle(density: Floats, length: int) -> Floats:
    """The same density on a longer circle (or the same)."""
    half = density.shape[1] // 2
    wide = np.zeros((len(density), length))
    wide[:, :half], wide[:, length - half :] = density[:, :half], density[:, -half:]
    return wide


def _hypergeometric(k: Ints, drawn: Ints, size: int, wins: int, log_factorial: Floats) -> Floats:
    """P(k of the drawn are among the wins), 0 where that cannot be."""
    possible = (k >= np.maximum(drawn + wins - size, 0)) & (k <= np.minimum(drawn, wins))
    k = np.where(possible, k, np.maximum(drawn + wins - size, 0))
    f = log_factorial
    constant = f[wins] + f[size - wins] + f[drawn] + f[size - drawn] - f[size]
    logs = constant - f[k] - f[wins - k] - f[drawn - k] - f[size - wins - drawn + k]
    return np.where(possible, np.exp(logs), 0.0)


def _reshuffled(binned: Binned, low: Floats, high: Floats, rng: np.random.Generator) -> Floats:
    """Share of reshufflings within strata whose largest G2 is as large as the observed one (J,); more of them where in doubt."""
    n = len(binned.stratum)
    extreme, rounds = np.zeros(len(low)), np.zeros(len(low))
    low, high = low.astype(np.float32), high.astype(np.float32)
    alive, width = np.arange(len(low)), max(_MAX_CELLS // (n * (BINS - 1)), 1)
    words = _outcomes_shuffled(binned, rng)
    at_once = max(_MAX_CELLS // (n * _WORD), 1)
    for stage, (times, enough) in enumerate(_STAGES):
        if stage and n * times * _WORD > _MOST_SHUFFLED:
            break
        shuffled = _within_strata(binned, words[None].repeat(times, axis=0), rng) if stage else words[None]
        for first in range(0, len(alive), width):
            columns = alive[first : first + width]
            above = binned.select(columns).above().T
            for some in range(0, times, at_once):
                won = (above @ _outcomes(shuffled[some : some + at_once])).reshape(len(columns), BINS - 1, -1)
                as_large = (won <= low[columns, :, None]) | (won >= high[columns, :, None])
                extreme[columns] += as_large.any(axis=1).sum(axis=1)
        rounds[alive] += times * _WORD
        alive = alive[extreme[alive] < enough]
        if not len(alive):
            break
    p: Floats = (extreme + 1.0) / (rounds + 1.0)
    return p


def _outcomes_shuffled(binned: Binned, rng: np.random.Generator) -> npt.NDArray[np.uint64]:
    """64 reshufflings of the outcomes within strata, one in each bit (n,).

    Eight are drawn, one in each bit of a byte; the bytes are shuffled eight times. Shuffling the words of these again makes 64
    more at the cost of one. Any two of all these are independent, for the product of a permutation with a random one that the
    other has not is random; so shares of them are as precise as if each had been drawn on its own.
    """
    outcome = np.broadcast_to(binned.approved.astype(np.uint8), (8, len(binned.approved)))
    one = np.packbits(_within_strata(binned, outcome, rng), axis=0)
    eight = _within_strata(binned, one.repeat(8, axis=0), rng)
    words: npt.NDArray[np.uint64] = np.ascontiguousarray(eight.T).view(np.uint64)[:, 0]
    return words


def _within_strata(binned: Binned, rows: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    """Each row (m, n) shuffled within strata."""
    drawn = np.empty_like(rows)
    for first, last in itertools.pairwise(np.concatenate([[0], np.cumsum(binned.size)])):
        drawn[:, first:last] = rng.permuted(rows[:, first:last], axis=1)
    return drawn


def _outcomes(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """The bits of the words (m, n) as numbers (n, 64 m); sums of them are exact."""
    bits = np.unpackbits(np.ascontiguousarray(words.T).view(np.uint8), axis=1)
    return bits.astype(np.float32)


def bootstrapped(batch: Sequence[Binned], best: Ints, seeds: Sequence[tuple[int, ...]]) -> dict[str, Floats]:
    """Interval of each feature's cut, widened to the edges of its bins, and share of bootstrap cuts within 2 bins (K,).

    The shares of the strata are held; their common level is drawn anew. From 1,000 outputs on, the outputs of a bin (some 30) and
    the sum of their residuals are drawn from their normal distributions instead of output by output.

    Args:
        batch: Features, outcomes, strata of each member.
        best: Cut of each feature (K,), the features of all members one after the other.
        seeds: Of the draws of each member.
    """
    drawn = [_drawn(binned, np.random.default_rng(seed)) for binned, seed in zip(batch, seeds, strict=True)]
    count, excess = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    _, total, wins = margins(batch)
    share = wins[:, None] / total
    total, level = count.sum(axis=2), excess.sum(axis=2)
    wins = np.clip(total * share + level, 0.0, total)
    chosen = np.argmax(scan(count, wins, excess - count * (level / total)[:, :, None])[0], axis=2)
    low, high = np.quantile(chosen, [0.025, 0.975], axis=1, method="inverted_cdf").astype(np.intp)
    edges, rows = np.concatenate([binned.edges for binned in batch]), np.arange(len(best))
    stability = (np.abs(chosen - best[:, None]) <= _NEAR).mean(axis=1)
    return {"cut_low": edges[rows, low], "cut_high": edges[rows, high + 2], "stability": stability}


def _drawn(binned: Binned, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Outputs and sum of their residuals in each bin of each bootstrap draw (J, 200, B)."""
    n, residual = len(binned.stratum), binned.residual
    shape = (len(binned.bins), _BOOTSTRAPS, BINS)
    if n < _MANY:
        draw = rng.integers(0, n, (_BOOTSTRAPS, n))
        place = np.arange(shape[0] * _BOOTSTRAPS).reshape(shape[0], _BOOTSTRAPS, 1) * BINS
        key = (binned.bins[:, draw] + place).ravel()
        weights = np.broadcast_to(residual[draw], (shape[0], *draw.shape)).ravel()
        count = np.bincount(key, minlength=int(np.prod(shape))).astype(np.float64)
        sums = np.asarray(np.bincount(key, weights, minlength=count.size), dtype=np.float64)
        return count.reshape(shape), sums.reshape(shape)
    sizes, sums, squares = (binned.per_bin(weight)[:, None] for weight in (None, residual, residual**2))
    mean = sums / np.maximum(sizes, 1.0)
    sd = np.sqrt(np.maximum(squares / np.maximum(sizes, 1.0) - mean**2, 0.0))
    # Independent sizes are those of a draw whose number of outputs is itself drawn.
    count = np.maximum(sizes + np.sqrt(sizes) * rng.normal(size=shape[1:]), 0.0)
    return count, count * mean + np.sqrt(count) * sd * rng.normal(size=shape[1:])
