"""Partial pooling of correlations over agents: DerSimonian-Laird means, shrunken effects, confidence (1 - lfsr), q-values."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from feedback_pipeline.learning.panel import Floats, Ints

_MIN_POOLED = 8  # agents: below, the spread between agents cannot be estimated per pair
_MIN_SPREAD = 0.005
_SPIKE_PENALTY = 10.0
_EM_STEPS = 200
_MOST_FITTED = 100_000
_COMPONENT_SD = 0.02 * 2.0 ** np.arange(6)


@dataclass(frozen=True)
class Pooled:
    """Random-effects summary of each column over its rows (DerSimonian & Laird 1986).

    Attributes:
        mean: Pooled mean (C,), NaN without a value.
        spread: Variance between rows, tau2 (C,), NaN with fewer than two values.
        n: Values pooled (C,).
    """

    mean: Floats
    spread: Floats
    n: Ints


def pool(effect: Floats, variance: Floats) -> Pooled:
    """DerSimonian-Laird over axis 0 of effects (G, C) with sampling variances (G, C); NaN entries are left out."""
    known = np.isfinite(effect) & np.isfinite(variance)
    value = np.where(known, effect, 0.0)
    weight = np.divide(1.0, variance, out=np.zeros_like(value), where=known)
    n = known.sum(axis=0)
    total = weight.sum(axis=0)
    fixed = _ratio((weight * value).sum(axis=0), total)
    q = (weight * (value - np.where(n > 0, fixed, 0.0)) ** 2).sum(axis=0)
    scale = total - _ratio((weight**2).sum(axis=0), total)
    spread = np.where(n > 1, np.maximum(_ratio(q - (n - 1), scale), 0.0), np.nan)
    inverse = np.divide(1.0, variance + np.nan_to_num(spread), out=np.zeros_like(value), where=known)
    return Pooled(_ratio((inverse * value).sum(axis=0), inverse.sum(axis=0)), spread, n)


def shrink(z: Floats, variance: Floats) -> Floats:
    """Shrunken effects of each agent: (z tau2 + mu v) / (tau2 + v), (G, C).

    With 8 agents or more, mu and tau2 of a column come from all agents; otherwise mu = 0 and tau2 = max(mean(z^2 - v), .005) over
    the columns of the agent itself.
    """
    pooled = pool(z, variance)
    shared = pooled.n >= _MIN_POOLED
    known = np.isfinite(z) & np.isfinite(variance)
    excess = np.where(known, z * z - variance, 0.0).sum(axis=1)
    own = np.maximum(_ratio(excess, known.sum(axis=1)), _MIN_SPREAD)
    mean = np.where(shared, pooled.mean, 0.0)
    spread = np.where(shared, pooled.spread, own[:, None])
    return np.where(known, _ratio(z * spread + mean * variance, spread + variance), np.nan)


def confidence(z: Floats, variance: Floats) -> Floats:
    """One minus the local false sign rate of each effect, under an adaptive-shrinkage prior over all of them (Stephens 2017).

    The prior is a spike at 0 and normals with sd .02 * 2^k, k = 0..5; its weights maximise the likelihood by EM with a Dirichlet
    penalty of 10 on the spike. lfsr = min(P(effect <= 0), P(effect >= 0)), the spike counting against both signs.

    Args:
        z: Effects on the atanh scale, any shape, NaN = undefined.
        variance: Their sampling variances.
    """
    known = np.isfinite(z) & np.isfinite(variance)
    result = np.full(z.shape, np.nan)
    if not known.any():
        return result
    value, v = z[known], variance[known]
    component = np.concatenate([[0.0], _COMPONENT_SD**2])
    total = v[:, None] + component
    log_likelihood = -0.5 * (np.log(total) + value[:, None] ** 2 / total)
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    weight = np.full(len(component), 1.0 / len(component))
    # Every k-th effect fixes the prior as well as all of them do.
    sample = likelihood[:: -(-len(value) // _MOST_FITTED)]
    for _ in range(_EM_STEPS):
        joint = sample * weight
        weight = (joint / joint.sum(axis=1, keepdims=True)).sum(axis=0)
        weight[0] += _SPIKE_PENALTY - 1.0
        weight /= weight.sum()
    joint = likelihood * weight
    posterior = joint / joint.sum(axis=1, keepdims=True)
    shrinkage = component[1:] / total[:, 1:]
    sd = np.sqrt(shrinkage * v[:, None])
    negative = (posterior[:, 1:] * special.ndtr(-shrinkage * value[:, None] / sd)).sum(axis=1)
    positive = posterior[:, 1:].sum(axis=1) - negative
    result[known] = np.clip(1.0 - posterior[:, 0] - np.minimum(negative, positive), 0.0, 1.0)
    return result


def q_values(p: Floats) -> Floats:
    """Benjamini-Hochberg adjusted p of each row's family (G, C); NaN entries belong to no family."""
    result = np.full(p.shape, np.nan)
    n = np.isfinite(p).sum(axis=1)
    order = np.argsort(p, axis=1)  # NaN last
    ranked = np.take_along_axis(p, order, axis=1)
    scaled = ranked * n[:, None] / np.arange(1, p.shape[1] + 1)
    adjusted = np.fmin.accumulate(scaled[:, ::-1], axis=1)[:, ::-1]
    np.put_along_axis(result, order, np.where(np.isfinite(ranked), np.minimum(adjusted, 1.0), np.nan), axis=1)
    return result


def _ratio(numerator: npt.ArrayLike, denominator: Floats) -> Floats:
    denominator = np.asarray(denominator, dtype=np.float64)
    shape = np.broadcast_shapes(np.shape(numerator), denominator.shape)
    ratio: Floats = np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator > 0)
    return ratio
