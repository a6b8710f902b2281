"""Segments and allocation against planted truth: closeness, optimism of the best, coverage, regret, degenerate input."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from feedback_pipeline.learning.allocation import allocate
from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.shrinkage import additive_fit, shrunken_means, shrunken_rates
from feedback_pipeline.learning.strategy import FAMILIES, content_strategy

DIMS = (5, 4, 3)
ONE = np.zeros(60, dtype=np.intp)
BOUNDS = {"*": (0.0, 10.0)}
START = pd.Timestamp("2026-01-01", tz="UTC")


def planted(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels of n outputs, the segment of each, and the effect of each of 60 segments: main effects and interactions."""
    levels = np.column_stack([rng.integers(0, width, n) for width in DIMS])
    of = np.stack(np.unravel_index(np.arange(60), DIMS), axis=1)
    effect = sum(rng.normal(0, 0.5, width)[of[:, i]] for i, width in enumerate(DIMS)) + rng.normal(0, 0.25, 60)
    return levels, np.ravel_multi_index(tuple(levels.T), DIMS), effect


def of_rates(seed: int, n: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    levels, cell, effect = planted(rng, n)
    p = special.expit(effect + 0.2)
    outcome = (rng.random(n) < p[cell]).astype(float)
    group = np.zeros(n, dtype=np.intp)
    found = shrunken_rates(cell, ONE, outcome, additive_fit(levels, group, 1, outcome, logistic=True))
    known = found.n > 0
    best, luckiest = np.argmax(np.where(known, found.mean, -1)), np.argmax(np.where(known, found.raw, -1))
    return {
        "raw": np.abs(found.raw - p)[known].mean(),
        "shrunken": np.abs(found.mean - p)[known].mean(),
        "optimism": found.mean[best] - p[best],
        "raw_optimism": found.raw[luckiest] - p[luckiest],
        "covered": ((found.low <= p) & (p <= found.high))[known].mean(),
    }


@pytest.mark.slow
def test_segments_are_closer_to_the_truth_than_raw_rates_and_the_best_one_is_not_a_lucky_one() -> None:
    runs = pd.DataFrame([of_rates(seed, 1000) for seed in range(60)])
    mean, error = runs.mean(), runs.std() / np.sqrt(len(runs))
    assert mean["shrunken"] <= 0.6 * mean["raw"]
    assert abs(mean["optimism"]) <= 0.02 + 3 * error["optimism"]
    assert mean["raw_optimism"] > 0.1
    assert mean["covered"] == pytest.approx(0.9, abs=0.06)


def test_shrunken_means_of_scores_beat_raw_means() -> None:
    errors = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        levels, cell, effect = planted(rng, 600)
        value = effect[cell] + rng.normal(0, 1.5, 600)
        found = shrunken_means(cell, ONE, value, additive_fit(levels, np.zeros(600, dtype=np.intp), 1, value, logistic=False))
        known = found.n > 0
        errors.append([np.abs(found.raw - effect)[known].mean(), np.abs(found.mean - effect)[known].mean()])
    raw, shrunken = np.mean(errors, axis=0)
    assert shrunken < 0.7 * raw


def test_main_effects_are_those_of_a_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    levels, cell, effect = planted(rng, 5000)
    outcome = (rng.random(5000) < special.expit(effect[cell])).astype(float)
    fit = additive_fit(levels, np.zeros(5000, dtype=np.intp), 1, outcome, logistic=True)
    columns = np.column_stack([levels[:, d] == level for d, width in enumerate(DIMS) for level in range(width)]).astype(float)
    oracle = LogisticRegression(C=0.25, max_iter=1000).fit(columns, outcome).predict_proba(columns)[:, 1]
    # With 5000 outputs the strength of the ridge hardly matters.
    assert np.abs(fit.value - oracle).max() < 0.02
    assert fit.rows == 5000
    assert 5 < fit.parameters[0] < sum(DIMS)


def test_groups_are_fitted_as_if_alone() -> None:
    rng = np.random.default_rng(1)
    levels, cell, effect = planted(rng, 400)
    outcome = (rng.random(400) < special.expit(effect[cell])).astype(float)
    group = rng.integers(0, 3, 400)
    together = additive_fit(levels, group, 3, outcome, logistic=True)
    for g in range(3):
        own = group == g
        alone = additive_fit(levels[own], np.zeros(own.sum(), dtype=np.intp), 1, outcome[own], logistic=True)
        np.testing.assert_allclose(together.value[own], alone.value, atol=1e-9)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_one_outcome_only_keeps_rates_inside_and_intervals_open(outcome: float) -> None:
    rng = np.random.default_rng(2)
    levels, cell, _ = planted(rng, 100)
    value = np.full(100, outcome)
    found = shrunken_rates(cell, ONE, value, additive_fit(levels, np.zeros(100, dtype=np.intp), 1, value, logistic=True))
    known = found.n > 0
    assert np.isfinite(found.mean[known]).all()
    assert (np.abs(found.mean - outcome)[known] < 0.1).all()
    assert ((found.high - found.low)[known] > 0).all()


def test_constant_scores_have_their_mean() -> None:
    levels, cell, _ = planted(np.random.default_rng(3), 100)
    value = np.full(100, 7.0)
    found = shrunken_means(cell, ONE, value, additive_fit(levels, np.zeros(100, dtype=np.intp), 1, value, logistic=False))
    np.testing.assert_allclose(found.mean[found.n > 0], 7.0)


def regret(seed: int, *, thompson: bool) -> float:
    rng = np.random.default_rng(seed)
    p, approved, n, lost = rng.beta(6, 4, 12), np.zeros(12), np.zeros(12), 0.0
    for _ in range(150):
        chosen = allocate(approved, n, rng).outputs if thompson else rng.multinomial(20, np.full(12, 1 / 12))
        lost += float((chosen * (p.max() - p)).sum())
        approved += rng.binomial(chosen, p)
        n += chosen
    return lost


@pytest.mark.slow
def test_thompson_loses_little_of_what_uniform_allocation_loses() -> None:
    ours, uniform = (np.mean([regret(seed, thompson=choice) for seed in range(6)]) for choice in (True, False))
    assert ours <= 0.3 * uniform


def test_propensities_are_the_chances_and_never_nothing() -> None:
    found = allocate(np.array([90.0, 10.0, 0.0]), np.array([100.0, 100.0, 0.0]), np.random.default_rng(0), batch=1000)
    assert found.propensity.sum() == pytest.approx(1.0)
    assert (found.propensity > 0).all()
    # The third arm is uniform: it wins where it draws more than about .9.
    assert found.propensity[2] == pytest.approx(0.1, abs=0.03)
    assert found.propensity[1] < 0.002
    assert found.outputs.sum() == 1000


def panel_of(n: int = 240, agents: int = 2, **columns: Any) -> Panel:
    rng = np.random.default_rng(4)
    agent = np.array([f"a{code}" for code in np.arange(n) % agents])
    outputs = pd.DataFrame({"agent_name": agent, "execution_id": [f"x{i:04d}" for i in range(n)]})
    tone = rng.choice(["dry", "warm"], n)
    features = outputs.assign(
        content_id=outputs["execution_id"],
        agent_type="writer",
        word_count=rng.lognormal(6, 0.5, n),
        content_type=None,
        tone=tone,
        channel=pd.Series(rng.choice(["mail", "blog"], n)).where(np.arange(n) % 7 != 0),
        structure=None,
    ).assign(**columns)
    decision = np.where(rng.random(n) < np.where(tone == "warm", 0.8, 0.3), "approve", "reject")
    reviews = outputs.assign(
        reviewer_id=rng.choice(["r1", "r2"], n),
        stage="edit",
        decision=decision,
        feedback_id=[f"f{i:04d}" for i in range(n)],
        reviewed_at=START,
        is_training_data=True,
    )
    return build_panel(reviews, rng.normal(6, 1, (n, 1)), ("clarity",), features)


def test_segments_count_the_outputs_of_each_agent() -> None:
    panel = panel_of()
    segments, allocation, states = content_strategy(panel, BOUNDS, seed=0)
    for (agent, tone), rows in panel.outputs.groupby(["agent_name", "tone"]):
        found = segments[(segments["agent_name"] == agent) & (segments["family"] == "tone") & (segments["segment"] == tone)]
        assert found["n"].tolist() == [len(rows)]
        assert found["n_scored"].tolist() == [len(rows)]
    assert set(segments["family"]) == {
        *("tone", "channel", "length_band", "tone x channel", "tone x length_band", "channel x length_band")
    }
    warm = segments[(segments["family"] == "tone") & (segments["segment"] == "warm")]
    dry = segments[(segments["family"] == "tone") & (segments["segment"] == "dry")]
    assert (warm["approval_low"].to_numpy() > dry["approval_high"].to_numpy()).all()
    assert (segments["approval_low"] <= segments["approval"]).all()
    assert (segments["approval"] <= segments["approval_high"]).all()
    assert states["status"].tolist() == ["success", "success"]
    tones = allocation[allocation["family"] == "tone"]
    assert tones.groupby("agent_name")["propensity"].sum().tolist() == pytest.approx([1.0, 1.0])
    assert allocation.groupby(["agent_name", "family"])["outputs"].sum().eq(20).all()
    assert (tones[tones["segment"] == "warm"]["propensity"] > 0.95).all()


def test_an_agent_whose_reviewers_are_its_own_does_not_depend_on_who_else_there_is() -> None:
    shared = panel_of()
    own_reviewers = shared.reviews.assign(reviewer_id=shared.reviews["agent_name"] + shared.reviews["reviewer_id"])
    whole = build_panel(own_reviewers, shared.scores, ("clarity",), shared.outputs)
    both = content_strategy(whole, BOUNDS, seed=0)
    kept = whole.reviews["agent_name"] == "a1"
    alone = build_panel(whole.reviews[kept].reset_index(drop=True), whole.scores[kept.to_numpy()], ("clarity",), whole.outputs)
    own = content_strategy(alone, BOUNDS, seed=0)
    for frame, single in zip(both, own, strict=True):
        of_one = frame[frame["agent_name"] == "a1"].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_one, single, check_dtype=False, atol=1e-9)


def test_too_few_outputs_and_nothing_to_compare_say_so() -> None:
    assert (
        content_strategy(panel_of(20), BOUNDS, seed=0)[2]["reason"].tolist()
        == ["fewer than 20 outputs with a decision or a score"] * 2
    )
    flat = panel_of(60, tone="warm", channel=None, word_count=np.nan)
    segments, allocation, states = content_strategy(flat, BOUNDS, seed=0)
    assert (len(segments), len(allocation)) == (0, 0)
    assert states["status"].tolist() == ["undefined"] * 2


def strict_get_dry(seed: int, n: int = 1200) -> Panel:
    """A tone that does not matter, handed to strict reviewers more often than not; forty of them, nobody scores."""
    rng = np.random.default_rng(seed)
    reviewer = rng.integers(0, 40, n)
    dry = rng.random(n) < np.where(reviewer < 20, 0.8, 0.2)
    base = panel_of(n, 1, tone=np.where(dry, "dry", "warm").astype(object))
    decision = np.where(rng.random(n) < np.where(reviewer < 20, 0.3, 0.7), "approve", "reject")
    reviews = base.reviews.assign(decision=decision, reviewer_id=np.char.add("r", reviewer.astype(str)))
    return build_panel(reviews, np.full((n, 1), np.nan), ("clarity",), base.outputs)


def test_a_tone_that_strict_reviewers_get_is_not_called_bad() -> None:
    raw, fair, propensity = [], [], []
    for seed in range(12):
        segments, allocation, _ = content_strategy(strict_get_dry(seed), BOUNDS, seed=0)
        tone = segments[segments["family"] == "tone"].set_index("segment")
        raw.append(tone["approval_raw"].diff().iloc[-1])
        fair.append(tone["approval"].diff().iloc[-1])
        propensity.append(allocation[allocation["family"] == "tone"].set_index("segment")["propensity"]["dry"])
    assert np.mean(raw) > 0.2
    assert abs(np.mean(fair)) < 0.02 + 3 * np.std(fair) / np.sqrt(len(fair))
    assert np.mean(propensity) > 0.15


def test_levels_that_hold_the_sign_between_levels_are_told_apart() -> None:
    labels = np.array(["warm", "warm x blog"] * 120, dtype=object)
    channels = np.array(["blog x mail", "mail"] * 120, dtype=object)[np.random.default_rng(0).permutation(240)]
    segments = content_strategy(panel_of(240, 1, tone=labels, channel=channels), BOUNDS, seed=0)[0]
    assert not segments.duplicated(["agent_name", "family", "segment"]).any()
    assert {"warm x blog × mail", "warm × blog x mail"} <= set(segments["segment"])


def test_no_panel_at_all() -> None:
    whole = panel_of(20)
    empty = build_panel(whole.reviews.iloc[:0], np.empty((0, 1)), ("clarity",), whole.outputs.iloc[:0])
    segments, allocation, states = content_strategy(empty, BOUNDS, seed=0)
    assert (len(segments), len(allocation), len(states)) == (0, 0, 0)


def test_many_levels_keep_the_most_frequent_ones() -> None:
    labels = np.array([f"t{min(i % 40, 30):02d}" for i in range(400)], dtype=object)
    segments = content_strategy(panel_of(400, 1, tone=labels), BOUNDS, seed=0)[0]
    assert len(segments[segments["family"] == "tone"]) == 12
    assert "t30" in set(segments[segments["family"] == "tone"]["segment"])
    assert set(FAMILIES) == {"content_type", "tone", "channel", "structure", "length_band"}
