"""Outputs of the agents: their measured features and how good they are before a reviewer sees them."""

from dataclasses import dataclass

import numpy as np

from feedback_pipeline.simulation import spec as model
from feedback_pipeline.simulation.population import Agents, Floats, Ints
from feedback_pipeline.simulation.spec import WorldSpec

# Log mean, log sd and loading on the common size factor of the collinear block.
_BLOCK = {
    "duration_ms": (np.log(9000), 0.5, 0.7),
    "input_tokens": (np.log(1800), 0.45, 0.75),
    "output_tokens": (np.log(1100), 0.4, 0.85),
    "cost": (np.log(0.03), 0.45, 0.95),
}
_SIZE_BY_LENGTH = 0.4
_CONFIDENCE = (5.0, 2.0)
_ALTERNATIVES = (2.0, 1.25)
_REASONING = (np.log(600), 0.6)
_READABILITY = (10.0, 2.5)
_DENSITY_LOG_SD = 0.5


@dataclass(frozen=True)
class Decisions:
    """Decisions of N outputs, those of one output side by side.

    Attributes:
        start: (N + 1,) first decision of each output, and the end.
        confidence: one number in (0, 1) a decision.
        alternatives: how many alternatives each decision considered.
        reasoning_length: characters of each decision's reasoning.
    """

    start: Ints
    confidence: Floats
    alternatives: Ints
    reasoning_length: Ints

    def mean(self, values: Floats | Ints) -> Floats:
        """(N,) mean of ``values`` over the decisions of each output."""
        return np.add.reduceat(values.astype(float), self.start[:-1]) / np.diff(self.start)


@dataclass(frozen=True)
class Outputs:
    """N outputs, the same number for each agent, agent by agent.

    Attributes:
        agent: (N,) row of the agent.
        features: measured numeric features by name, each (N,), nothing missing.
        keyword_hits: (N,) words of the text that are keywords.
        z: (N, F) sloped features in standard deviations from their agent's typical value; tastes work on these.
        tone, content_type, channel: (N,) codes.
        level: (N, aspects) points before the reviewer: agent, effects, hidden quality.
        decisions: the decisions behind the outputs.
    """

    agent: Ints
    features: dict[str, Floats]
    keyword_hits: Ints
    z: Floats
    tone: Ints
    content_type: Ints
    channel: Ints
    level: Floats
    decisions: Decisions


def draw_outputs(spec: WorldSpec, agents: Agents, stream: np.random.Generator, *, each: int) -> Outputs:
    """Draw ``each`` outputs of every agent in ``agents``."""
    agent = np.repeat(np.arange(agents.level.size), each)
    n = agent.size
    decisions = _draw_decisions(spec, agents, agent, stream)
    features, hits, z = _draw_features(agents, agent, decisions, stream)
    usual = stream.random(n) < 0.8
    return Outputs(
        agent=agent,
        features=features,
        keyword_hits=hits,
        z=z,
        tone=stream.integers(0, len(model.TONES), n),
        content_type=np.where(usual, agents.content_type[agent], stream.integers(0, len(model.CONTENT_TYPES), n)),
        channel=stream.integers(0, len(model.CHANNELS), n),
        level=_level(spec, agents, z, features["confidence_score"]) + stream.normal(0, model.QUALITY_SD, n)[:, None],
        decisions=decisions,
    )


def _draw_features(
    agents: Agents, agent: Ints, decisions: Decisions, stream: np.random.Generator
) -> tuple[dict[str, Floats], Ints, Floats]:
    """Measured features, keyword words of the text, and the sloped features in standard deviations."""
    n = agent.size
    words = np.exp(np.log(model.TYPICAL_WORDS) + model.WORDS_LOG_SD * stream.standard_normal(n))
    words = np.clip(np.rint(words), model.FEWEST_WORDS, model.MOST_WORDS)
    hits, density_z = _draw_keywords(words, stream)
    length_z = np.log(words / model.TYPICAL_WORDS) / model.WORDS_LOG_SD
    confidence = decisions.mean(decisions.confidence)
    alternatives = decisions.mean(decisions.alternatives)
    reasoning = decisions.mean(decisions.reasoning_length)
    readability_z = stream.standard_normal(n)
    block, block_z = _draw_block(agents.size_shift[agent], length_z, stream)
    measured = {
        **block,
        "confidence_score": confidence,
        "alternatives_count": alternatives,
        "reasoning_length": reasoning,
        "word_count": words,
        "readability": _READABILITY[0] + _READABILITY[1] * readability_z,
        "keyword_density": hits / words,
        "min_confidence": np.minimum.reduceat(decisions.confidence, decisions.start[:-1]),
        "decision_count": np.diff(decisions.start).astype(float),
        "queue_wait_ms": np.exp(stream.normal(np.log(400), 0.7, n)),
        "cache_hit_share": stream.beta(2, 3, n),
    }
    standard = {
        **block_z,
        "confidence_score": (confidence - 5 / 7) / 0.16,
        "alternatives_count": (alternatives - _ALTERNATIVES[0] * _ALTERNATIVES[1]) / 2.17,
        "reasoning_length": (np.log(reasoning) - _REASONING[0] - agents.reasoning_shift[agent]) / _REASONING[1],
        "word_count": length_z,
        "readability": readability_z,
        "keyword_density": density_z,
    }
    features = {name: measured[name] for name in model.FEATURES}
    return features, hits, np.column_stack([standard[name] for name in model.SLOPED])


def _draw_decisions(spec: WorldSpec, agents: Agents, agent: Ints, stream: np.random.Generator) -> Decisions:
    n = agent.size
    count = 1 + stream.poisson(spec.decisions_per_execution, n)
    start = np.concatenate([[0], np.cumsum(count)])
    total = int(start[-1])
    confidence = np.clip(stream.beta(*_CONFIDENCE, n), 0.01, 0.99)
    deviation = stream.normal(0, 0.08, total)
    deviation -= np.repeat(np.add.reduceat(deviation, start[:-1]) / count, count)
    widest = np.maximum.reduceat(np.abs(deviation), start[:-1])
    room = np.minimum(confidence, 1 - confidence) * 0.98
    # Shrinking all deviations of an output alike keeps their mean at the output's confidence.
    deviation *= np.repeat(np.minimum(1, room / np.maximum(widest, 1e-12)), count)
    taste = stream.gamma(*_ALTERNATIVES, n)
    length = np.exp(_REASONING[0] + agents.reasoning_shift[agent] + _REASONING[1] * stream.standard_normal(n))
    lengths = np.repeat(length, count) * np.exp(0.2 * stream.standard_normal(total))
    return Decisions(
        start=start,
        confidence=np.repeat(confidence, count) + deviation,
        alternatives=np.minimum(stream.poisson(np.repeat(taste, count)), model.MOST_ALTERNATIVES),
        reasoning_length=np.clip(np.rint(lengths), 40, 20_000).astype(np.int64),
    )


def _draw_keywords(words: Floats, stream: np.random.Generator) -> tuple[Ints, Floats]:
    wanted = model.TYPICAL_DENSITY * np.exp(_DENSITY_LOG_SD * stream.standard_normal(words.size))
    hits = np.minimum(np.rint(words * wanted), np.floor(words * model.HIGHEST_DENSITY)).astype(np.int64)
    # The effect is that of the density a reader can count, a text without any keyword as if it had half a one.
    return hits, np.log(np.maximum(hits, 0.5) / words / model.TYPICAL_DENSITY) / _DENSITY_LOG_SD


def _draw_block(shift: Floats, length_z: Floats, stream: np.random.Generator) -> tuple[dict[str, Floats], dict[str, Floats]]:
    size = _SIZE_BY_LENGTH * length_z + np.sqrt(1 - _SIZE_BY_LENGTH**2) * stream.standard_normal(shift.size)
    measured, standard = {}, {}
    for name, (centre, spread, loading) in _BLOCK.items():
        standard[name] = loading * size + np.sqrt(1 - loading**2) * stream.standard_normal(shift.size)
        value = np.exp(centre + shift + spread * standard[name])
        measured[name] = value if name == "cost" else np.maximum(np.rint(value), 1)
    return measured, standard


def _level(spec: WorldSpec, agents: Agents, z: Floats, confidence: Floats) -> Floats:
    count, aspects = agents.level.size, len(model.ASPECTS)
    each = z.shape[0] // count
    level = (z.reshape(count, each, -1) @ agents.slopes).reshape(-1, aspects) + np.repeat(agents.level, each)[:, None]
    common = np.zeros(z.shape[0])
    if spec.effects or spec.best_length:
        length = z[:, model.SLOPED.index("word_count")] * model.WORDS_LOG_SD
        # Centred, so that switching the curve on does not lower the mean.
        common -= model.LENGTH_CURVATURE * (length**2 - model.WORDS_LOG_SD**2)
    if spec.effects:
        alternatives = z[:, model.SLOPED.index("alternatives_count")]
        common += spec.step * ((confidence > model.STEP_AT) - 0.5)
        common += model.INTERACTION_POINTS * z[:, model.SLOPED.index("confidence_score")] * alternatives
    return level + common[:, None]
