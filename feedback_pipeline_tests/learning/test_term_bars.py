"""The measured bars of terms: 8 good and 8 bad words of .6 points each, fixed seeds, 3-sigma Monte-Carlo slack."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.term_frames import MOST_PUBLISHED
from feedback_pipeline.learning.term_patterns import find_terms
from feedback_pipeline.learning.terms import MAX_Q
from feedback_pipeline.simulation.term_texts import TermSpec, TermWorld, simulate_terms
from feedback_pipeline_tests.term_worlds import BOUNDS, documents_of, panel_of, reasoning_of, texts_of

pytestmark = pytest.mark.slow


def found_in(world: TermWorld, *, same_length: bool = False) -> pd.DataFrame:
    """Terms of the agents with q <= .10; `same_length` = as if all texts were of one length, so that there are no strata."""
    panel = panel_of(world)
    texts = reasoning_of(world, panel)
    if same_length:
        presence = replace(texts.reasoning.presence, length=np.full_like(texts.reasoning.presence.length, 60))
        texts = replace(texts, reasoning=replace(texts.reasoning, presence=presence))
    patterns = find_terms(panel, texts, BOUNDS)[0]
    return patterns[(patterns["q_value"] <= MAX_Q) & (patterns["agent_name"] != FLEET)]


def rates(world: TermWorld, found: pd.DataFrame) -> tuple[float, float]:
    """Share of false terms among them, share of planted ones found with the right sign."""
    better = found["direction"] > 0
    right = (found["term"].isin(world.good) & better) | (found["term"].isin(world.bad) & ~better)
    return 1.0 - float(right.mean()) if len(found) else 0.0, float(right.sum()) / len(world.good + world.bad)


@pytest.mark.parametrize(("documents", "seeds", "recall"), [(1_000, 12, 0.65), (3_000, 6, 1.0)])
def test_false_and_missed_words(documents: int, seeds: int, recall: float) -> None:
    worlds = [simulate_terms(TermSpec(documents=documents, seed=seed)) for seed in range(101, 101 + seeds)]
    found = np.array([rates(world, found_in(world)) for world in worlds])
    slack = 3 * found.std(axis=0, ddof=1) / np.sqrt(seeds)
    assert found[:, 0].mean() <= 0.15 + slack[0]
    assert found[:, 1].mean() >= recall - slack[1]


def test_without_strata_of_length_the_bar_is_far_off() -> None:
    worlds = [simulate_terms(TermSpec(documents=3_000, seed=seed)) for seed in range(101, 104)]
    assert np.mean([rates(world, found_in(world, same_length=True))[0] for world in worlds]) > 0.4


def test_nothing_below_300_documents() -> None:
    assert not len(found_in(simulate_terms(TermSpec(documents=299, seed=7))))


def test_a_null_world_has_next_to_nothing() -> None:
    counts = [len(found_in(simulate_terms(TermSpec(documents=1_000, effect=0.0, seed=seed)))) for seed in range(20)]
    # Benjamini-Hochberg at .10: one world in ten has any.
    assert np.mean([count > 0 for count in counts]) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / len(counts))


def test_many_agents_keep_the_bars_and_no_word_is_on_both_sides() -> None:
    world = simulate_terms(TermSpec(documents=12_000, agents=12, seed=9))
    found = found_in(world)
    by_agent = [rates(world, own) for _, own in found.groupby("agent_name")]
    assert len(by_agent) == 12
    slack = 3 * np.std(by_agent, axis=0, ddof=1) / np.sqrt(12)
    assert np.mean(by_agent, axis=0)[0] <= 0.15 + slack[0]
    assert np.mean(by_agent, axis=0)[1] >= 0.65 - slack[1]
    published = found[found["published"]]
    assert not published.duplicated(["agent_name", "term"]).any()
    assert published.groupby(["agent_name", "direction"]).size().max() <= MOST_PUBLISHED


def test_sure_words_have_the_right_sign() -> None:
    rows = []
    for seed in range(6):
        world = simulate_terms(TermSpec(documents=8_000, agents=8, seed=200 + seed))
        patterns = find_terms(panel := panel_of(world), reasoning_of(world, panel), BOUNDS)[0]
        own = patterns[(patterns["agent_name"] != FLEET) & (patterns["confidence"] >= 0.95)]
        rows.append(1.0 - rates(world, own)[0])
    assert np.mean(rows) >= 0.95


def test_words_of_strict_reviewers_are_not_bad_words() -> None:
    """Every reviewer has words that only they use much; what is left of their severity must not stick to them."""
    world = simulate_terms(TermSpec(documents=2_000, effect=0.0, reviewers=20, seed=11))
    rng = np.random.default_rng(0)
    words = np.array([f"own{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)])
    panel = panel_of(world)
    n = len(panel.reviews)
    uses = rng.random((n, 60)) < np.where(panel.review_reviewer[:, None] == np.arange(60) % 20, 0.3, 0.03)
    comments = documents_of(panel, range(n), [" ".join([*words[row], *["filler"] * 9]) for row in uses], reviews=True)
    raw = replace(panel, scores=world.score[:, None])
    found = []
    for scored in (raw, panel):
        patterns = find_terms(scored, texts_of(scored, comments=comments), BOUNDS)[0]
        found.append(
            ((patterns["q_value"] <= MAX_Q) & (patterns["aspect"] == "quality") & (patterns["agent_name"] == FLEET)).sum()
        )
    assert found[0] > 30
    assert found[1] <= 3
