"""A seeded world of texts in which some words go with good or bad judgements, and many others only seem to.

Every text has a topic whose words come in bursts, everyday words, and by chance some of the planted words, each of which moves
what the text is worth. Better texts are longer, so without care for length every word goes with good judgements.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

N_GOOD: Final = 8
N_BAD: Final = 8
_EVERYDAY, _TOPICS, _TOPIC_WORDS = 1_200, 30, 40
_PLANTED_SHARE = 0.042
_TOPIC_SHARE = 0.35
_BURST = 2.0
_QUALITY_SD, _REVIEW_SD, _SEVERITY_SD = 0.7, 0.86, 0.9
_LENGTH_SD = 0.25
_LENGTH_OF_QUALITY = 0.2
_SYLLABLES: Final = ("ba", "ce", "di", "fo", "gu", "ha", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu")


@dataclass(frozen=True)
class TermSpec:
    """What is drawn.

    Attributes:
        documents: Texts, spread evenly over the agents.
        agents: Agents; each has its own level.
        reviewers: Reviewers, each with a severity; every text is judged by one or more of them.
        words: Mean length of a text.
        effect: Points by which a planted word moves what its text is worth; 0 = a null world.
        seed: Of everything.
    """

    documents: int = 1_000
    agents: int = 1
    reviewers: int = 40
    words: int = 60
    effect: float = 0.6
    seed: int = 0


@dataclass(frozen=True)
class TermWorld:
    """Texts and their reviews.

    Attributes:
        spec: What was asked for.
        texts: One text of each output (N,).
        agent: Its agent (N,), ascending.
        review_output: Output of each review (M,), ascending; review_reviewer: its reviewer.
        score: What the review gives (M,), 0 to 10.
        good, bad: The planted words.
    """

    spec: TermSpec
    texts: list[str] = field(repr=False)
    agent: Ints
    review_output: Ints
    review_reviewer: Ints
    score: Floats
    good: tuple[str, ...]
    bad: tuple[str, ...]


def simulate_terms(spec: TermSpec) -> TermWorld:
    """Draw the world of a spec; the same spec gives the same world."""
    rng = np.random.default_rng(spec.seed)
    vocabulary = _vocabulary(N_GOOD + N_BAD + _EVERYDAY + _TOPICS * _TOPIC_WORDS)
    n, n_planted = spec.documents, N_GOOD + N_BAD
    agent = (np.arange(n) * spec.agents // max(n, 1)).astype(np.intp)
    planted = rng.random((n, n_planted)) < _PLANTED_SHARE
    points = spec.effect * np.repeat([1.0, -1.0], [N_GOOD, N_BAD])
    quality = rng.normal(0, _QUALITY_SD, n)
    worth = 6.0 + rng.normal(0, 0.5, spec.agents)[agent] + quality + planted @ points
    length = np.exp(np.log(spec.words) + _LENGTH_OF_QUALITY * quality + rng.normal(0, _LENGTH_SD, n))
    words, owner = _fill(rng, np.maximum(np.rint(length).astype(np.intp) - planted.sum(axis=1), 3))
    at, word = np.nonzero(planted)
    owner, words = np.concatenate([owner, at]), np.concatenate([words + n_planted, word])
    order = np.lexsort((rng.random(len(owner)), owner))
    ends = np.cumsum(np.bincount(owner, minlength=n))[:-1]
    texts = [" ".join(part) for part in np.split(vocabulary[words[order]], ends)] if n else []
    drawn = np.repeat(np.arange(n), 1 + rng.poisson(1.0, n))
    # Nobody reviews the same text twice.
    output, reviewer = np.divmod(
        np.unique(drawn * spec.reviewers + rng.integers(spec.reviewers, size=len(drawn))), spec.reviewers
    )
    severity = rng.normal(0, _SEVERITY_SD, spec.reviewers)
    score = worth[output] + severity[reviewer] + rng.normal(0, _REVIEW_SD, len(output))
    good, bad = vocabulary[:N_GOOD], vocabulary[N_GOOD:n_planted]
    return TermWorld(spec, texts, agent, output, reviewer, np.clip(score, 0.0, 10.0), tuple(good), tuple(bad))


def _fill(rng: np.random.Generator, length: Ints) -> tuple[Ints, Ints]:
    """Codes of the words that say nothing of quality, and the text of each: everyday words, and bursts of the text's topic."""
    owner = np.repeat(np.arange(len(length)), length)
    weight = 1.0 / (np.arange(_EVERYDAY) + 10.0)
    everyday = rng.choice(_EVERYDAY, size=len(owner), p=weight / weight.sum())
    topic = rng.integers(_TOPICS, size=len(length))
    # A text keeps to a few words of its topic and repeats them.
    favourite = rng.integers(_TOPIC_WORDS, size=(len(length), 6))
    which = np.minimum(rng.exponential(_BURST, len(owner)).astype(np.intp), 5)
    of_topic = _EVERYDAY + topic[owner] * _TOPIC_WORDS + favourite[owner, which]
    return np.where(rng.random(len(owner)) < _TOPIC_SHARE, of_topic, everyday).astype(np.intp), owner


def _vocabulary(size: int) -> npt.NDArray[np.object_]:
    """Pronounceable words of eight letters, all different."""
    base = len(_SYLLABLES)
    codes = np.arange(size)
    digits = [codes // base**k % base for k in range(4)]
    return np.array(["".join(_SYLLABLES[d[i]] for d in digits) for i in range(size)], dtype=object)
