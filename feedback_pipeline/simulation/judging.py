"""Who reviews which output, and what they say: scores and decision of one review."""

import numpy as np
import numpy.typing as npt

from feedback_pipeline.simulation import spec as model
from feedback_pipeline.simulation.outputs import Outputs
from feedback_pipeline.simulation.population import Floats, Ints, Reviewers
from feedback_pipeline.simulation.spec import WorldSpec

DECISIONS = ("approve", "request_changes", "reject")
_REJECT_BELOW = -1.5


def assign_reviewers(spec: WorldSpec, outputs: Outputs, reviewers: Reviewers, stream: np.random.Generator) -> tuple[Ints, Ints]:
    """Hand every output to 1 + Poisson different reviewers, the active ones more often.

    Returns:
        Output row and reviewer row of each review, sorted by output.
    """
    panel = reviewers.severity.size
    count = np.minimum(1 + stream.poisson(spec.reviews_per_content, outputs.agent.size), panel)
    output = np.repeat(np.arange(outputs.agent.size), count)
    reviewer = np.full(output.size, -1)
    length = outputs.z[output, model.SLOPED.index("word_count")]
    strictness = -reviewers.severity / model.SEVERITY_SD
    upto = np.cumsum(reviewers.activity)
    pending = np.arange(output.size)
    while pending.size:
        drawn = np.minimum(np.searchsorted(upto, stream.random(pending.size), side="right"), panel - 1)
        if spec.confounded_assignment:
            odds = np.exp(np.clip(model.CONFOUNDING * strictness[drawn] * length[pending], -4, 4))
            drawn = np.where(stream.random(pending.size) < odds / (1 + odds), drawn, -1)
        reviewer[pending] = drawn
        pending = _to_redraw(output, reviewer, panel)
    return output, reviewer


def _to_redraw(output: Ints, reviewer: Ints, panel: int) -> Ints:
    """Reviews without a reviewer, or whose reviewer already has the same output."""
    key = output * (panel + 1) + reviewer
    order = np.argsort(key, kind="stable")
    repeated = np.zeros(key.size, bool)
    repeated[order[1:]] = key[order[1:]] == key[order[:-1]]
    return np.flatnonzero(repeated | (reviewer < 0))


def personal_points(outputs: Outputs, reviewers: Reviewers, output: Ints, reviewer: Ints) -> Floats:
    """(reviews,) points that come from this reviewer meeting this output, severity apart.

    Equal to the reviewer's slopes, tone taste and best length; over the population of reviewers their mean is 0.
    """
    points: Floats = reviewers.tones[reviewer, outputs.tone[output]]
    length = outputs.z[:, model.SLOPED.index("word_count")] * model.WORDS_LOG_SD
    # -(l - b)^2 = -l^2 + 2 l b - b^2: the first stands in the output's level, the last is left out, or it would be severity.
    points += 2 * model.LENGTH_CURVATURE * length[output] * reviewers.best_length[reviewer]
    if reviewers.slopes.any():
        points += np.einsum("nf,nf->n", outputs.z[output], reviewers.slopes[reviewer])
    return points


def judge(points: Floats, stream: np.random.Generator) -> Floats:
    """Whole scores 1..10, (reviews, aspects), from the points before halo and aspect noise.

    Args:
        points: (reviews, aspects) level of the output + severity + personal points.
        stream: source of the noise of this judgement.
    """
    halo = stream.normal(0, model.HALO_SD, len(points))
    noisy = points + halo[:, None] + stream.normal(0, model.ASPECT_NOISE_SD, points.shape)
    scores: Floats = np.clip(np.rint(noisy), model.SCORE_LOW, model.SCORE_HIGH)
    return scores


def decide(scores: Floats, bar: Floats, stream: np.random.Generator) -> npt.NDArray[np.int64]:
    """(reviews,) codes of DECISIONS: approve when mean score - bar + logistic noise > 0, reject far below."""
    margin = scores.mean(axis=1) - bar + stream.logistic(size=bar.size)
    return np.where(margin > 0, 0, np.where(margin > _REJECT_BELOW, 1, 2))
