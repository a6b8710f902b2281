"""The planted parameters: what each agent's features do to its scores, and what each reviewer is like."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedback_pipeline.simulation import spec as model
from feedback_pipeline.simulation.spec import WorldSpec

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Agents:
    """Planted parameters of A agents.

    Attributes:
        level: (A,) mean score in points.
        slopes: (A, F, aspects) points per standard deviation of each of the F sloped features.
        size_shift: (A,) log shift of the duration, token and cost block.
        reasoning_shift: (A,) log shift of the reasoning length.
        content_type: (A,) code of the content type the agent mostly writes.
    """

    level: Floats
    slopes: Floats
    size_shift: Floats
    reasoning_shift: Floats
    content_type: Ints


@dataclass(frozen=True)
class Reviewers:
    """Planted parameters of R reviewers.

    Attributes:
        severity: (R,) points this reviewer gives more (positive) or less than the average one.
        slopes: (R, F) personal points per standard deviation of each sloped feature, on all aspects alike.
        tones: (R, tones) personal points for each tone.
        best_length: (R,) log of the best length over the typical one.
        bar: (R,) mean score at which this reviewer approves half of the outputs.
        activity: (R,) share of the reviews; sums to 1.
        stage: (R,) code of the stage this reviewer works at.
    """

    severity: Floats
    slopes: Floats
    tones: Floats
    best_length: Floats
    bar: Floats
    activity: Floats
    stage: Ints


def draw_agents(spec: WorldSpec) -> Agents:
    """Draw the agents: slopes are active x (shared sqrt(.5) + own sqrt(.5)) x .35, all 0 in a null world."""
    stream = spec.generator("agents")
    count, features, aspects = spec.agents, len(model.SLOPED), len(model.ASPECTS)
    shared = spec.generator("shared slopes").standard_normal((features, aspects))
    own = stream.standard_normal((count, features, aspects))
    active = stream.random((count, features, 1)) < model.ACTIVE_SHARE
    slopes = active * (shared + own) * np.sqrt(0.5) * model.SLOPE_SD
    return Agents(
        level=model.BASE_SCORE + stream.normal(0, model.AGENT_SD, count),
        slopes=slopes if spec.effects else np.zeros_like(slopes),
        size_shift=stream.normal(0, 0.3, count),
        reasoning_shift=stream.normal(0, 0.25, count),
        content_type=stream.integers(0, len(model.CONTENT_TYPES), count),
    )


def draw_reviewers(spec: WorldSpec, purpose: str = "reviewers", *, count: int | None = None, block: int = 0) -> Reviewers:
    """Draw reviewers of the world's population.

    Args:
        spec: the world; its switches decide which tastes are 0.
        purpose: name of the random stream; ``reviewers`` is the panel of the world itself.
        count: how many; the size of the panel when left out.
        block: number of a repeated draw of the same purpose.
    """
    stream = spec.generator(purpose, block)
    count = spec.reviewers if count is None else count
    slopes = stream.normal(0, model.PERSONAL_SLOPE_SD, (count, len(model.SLOPED)))
    tones = stream.normal(0, model.TONE_TASTE_SD, (count, len(model.TONES)))
    best = stream.normal(0, model.BEST_LENGTH_SD, count)
    activity = np.exp(stream.normal(0, model.ACTIVITY_SD, count))
    return Reviewers(
        severity=stream.normal(0, model.SEVERITY_SD, count),
        slopes=slopes if spec.tastes else np.zeros_like(slopes),
        tones=tones if spec.tastes else np.zeros_like(tones),
        best_length=best if spec.best_length else np.zeros_like(best),
        bar=model.BASE_SCORE + stream.normal(0, model.APPROVAL_BAR_SD, count),
        activity=activity / activity.sum(),
        stage=np.arange(count) % len(model.STAGES),
    )
