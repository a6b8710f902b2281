import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier

from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.patterns import find_patterns
from feedback_pipeline.learning.rules import MIN_RULED, Rule, _best_leaf, _holds, find_rule
from feedback_pipeline.learning.threshold_lift import folds, stratified_lift
from feedback_pipeline.learning.threshold_scan import quantile_bins
from feedback_pipeline_tests.learning.pattern_worlds import decided_panel, no_points, planted_and
from feedback_pipeline_tests.worlds import BOUNDS

NAMES = [f"x{j}" for j in range(7)]


def rule_of(x: Floats, y: Floats, stratum: np.ndarray | None = None) -> Rule | None:
    n = len(y)
    return find_rule(x, y, np.zeros(n, dtype=int) if stratum is None else stratum, folds(np.arange(n), 5, (1,)), NAMES)


def test_a_planted_combination_is_found_and_worth_what_it_is() -> None:
    x, y = planted_and(3000, 1, 0.3, 1)
    rule = rule_of(x[0], y[0])
    assert rule is not None
    assert rule.kept
    assert [(part["feature"], part["operator"]) for part in rule.conditions] == [("x0", ">="), ("x1", ">=")]
    assert all(part["value"] == pytest.approx(0.5, abs=0.04) for part in rule.conditions)
    assert rule.lift["lift"] == pytest.approx(0.3, abs=3 * rule.lift["lift_se"])
    assert rule.p_value < 1e-6


def test_the_leaf_is_that_of_scikit_learns_tree() -> None:
    rng = np.random.default_rng(2)
    compared = 0
    for _ in range(20):
        x = rng.normal(size=(3, 400))
        y = (rng.random(400) < 1 / (1 + np.exp(-x[0] - x[1]))).astype(float)
        bins = np.stack([quantile_bins(row) for row in x])
        tree = DecisionTreeClassifier(max_depth=2, min_samples_leaf=40, random_state=0).fit(bins.T, y)
        leaves = tree.apply(bins.T)
        rates = {leaf: y[leaves == leaf].mean() for leaf in np.unique(leaves)}
        expected = leaves == max(rates, key=lambda leaf: rates[leaf])
        found = _holds(_best_leaf(bins, y - y.mean()), bins)
        np.testing.assert_array_equal(found, expected)
        compared += 1
    assert compared == 20


def test_the_lift_comes_from_folds_the_tree_has_not_seen() -> None:
    x, y = planted_and(500, 1, 0.0, 3)
    fold = folds(np.arange(500), 5, (1,))
    rule = find_rule(x[0], y[0], np.zeros(500, dtype=int), fold, NAMES)
    assert rule is not None
    bins = np.stack([quantile_bins(row) for row in x[0]])
    good = np.zeros(500, dtype=bool)
    for k in range(5):
        rest = fold != k
        good[~rest] = _holds(_best_leaf(bins[:, rest], y[0][rest] - y[0].mean()), bins[:, ~rest])
    assert rule.lift["lift"] == pytest.approx(y[0][good].mean() - y[0][~good].mean())
    assert rule.lift["n_good"] == good.sum()
    in_sample = _holds(_best_leaf(bins, y[0] - y[0].mean()), bins)
    assert y[0][in_sample].mean() - y[0][~in_sample].mean() > rule.lift["lift"] + 0.05


def test_strata_remove_a_rule_that_is_only_who_judged() -> None:
    rng = np.random.default_rng(4)
    kept = []
    for _ in range(30):
        strict = rng.integers(0, 2, 400)
        x = rng.normal(size=(7, 400)) + 1.5 * strict
        y = (rng.random(400) < np.where(strict == 1, 0.25, 0.75)).astype(float)
        blind, fair = rule_of(x, y), rule_of(x, y, strict)
        assert blind is not None
        assert fair is not None
        kept.append((blind.kept, fair.kept))
    assert np.mean(kept, axis=0)[0] > 0.9
    assert np.mean(kept, axis=0)[1] <= 0.1


def test_conditions_on_one_feature_are_one_condition_or_a_range() -> None:
    rng = np.random.default_rng(5)
    x = rng.random((7, 3000))
    middle = (rng.random(3000) < np.where((x[2] > 0.3) & (x[2] < 0.7), 0.8, 0.3)).astype(float)
    rule = rule_of(x, middle)
    assert rule is not None
    assert [(part["feature"], part["operator"]) for part in rule.conditions] == [("x2", "<"), ("x2", ">=")]
    steep = (rng.random(3000) < x[2] ** 2).astype(float)
    rule = rule_of(x, steep)
    assert rule is not None
    assert [(part["feature"], part["operator"]) for part in rule.conditions] == [("x2", ">=")]


def test_nothing_to_split_is_no_rule() -> None:
    y = np.tile([0.0, 1.0], 200)
    flat = np.ones((7, 400))
    assert rule_of(flat, y) is None
    assert rule_of(np.random.default_rng(6).random((7, 400)), np.ones(400)) is None
    assert rule_of(np.random.default_rng(6).random((7, MIN_RULED - 1)), y[: MIN_RULED - 1]) is None
    late = flat.copy()
    late[0, :20] = 2.0  # splits nothing: fewer than 10 % on one side
    assert rule_of(late, y) is None


def patterns_of(n: int, published: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    x, y = planted_and(n, 1, 0.3, 7)
    panel = decided_panel({"writer": dict(zip(NAMES, x[0], strict=True))}, {"writer": y[0]})
    return find_patterns(panel, no_points(), BOUNDS, NAMES, published, seed=1)[0]


def test_rules_use_published_features_only_and_are_patterns_like_others() -> None:
    patterns = patterns_of(2000, {"writer": ("x1", "x5", "x0", "elsewhere"), "*": ("x0",)})
    (row,) = patterns[patterns["pattern_type"] == "decision_rule"].to_dict("records")
    assert (row["agent_name"], row["description"]) == ("writer", "x0 x x1 | rule")
    assert row["published"]
    made, signals = row["output_characteristics"], row["human_feedback_signals"]
    assert [part["feature"] for part in made["conditions"]] == ["x0", "x1"]
    assert set(made) >= {"good_rate", "bad_rate", "conditions", "ci", "effect", "unit"}
    assert signals["n_good"] + signals["n_bad"] == row["n_contents"] == 2000
    assert row["p_value"] == row["q_value"]
    assert row["gain"] > 0
    assert 0.5 < row["accuracy_rate"] < 1
    value = made["conditions"][0]["value"]
    assert row["sentence"].startswith(f"x0 at least {value:.2f} and x1 at least ")
    for none in (patterns_of(2000, {}), patterns_of(MIN_RULED - 1, {"writer": ("x0", "x1")})):
        assert "decision_rule" not in set(none["pattern_type"])
    weak = patterns_of(2000, {"writer": ("x5", "x6")})
    (row,) = weak[weak["pattern_type"] == "decision_rule"].to_dict("records")
    assert not row["published"]
    assert row["reason"] == "lift not clearly above 0 on outputs the rule was not chosen from"


def test_the_lift_is_standardised_for_strata() -> None:
    good, bad = np.array([[[10, 30], [30, 10]]]), np.array([[[8, 2], [10, 0]]])
    found = stratified_lift(good, bad)
    weight = np.array([40 * 10 / 50, 40 * 10 / 50])
    weight = weight / weight.sum()
    assert found["lift"][0] == pytest.approx((weight * (np.array([0.75, 0.25]) - np.array([0.2, 0.0]))).sum())
    assert found["accuracy"][0] == pytest.approx((40 + 18) / 100)
    nothing = stratified_lift(np.zeros((1, 2, 2), dtype=int), bad)
    assert np.isnan([nothing["lift"][0], nothing["lift_low"][0], nothing["accuracy"][0]]).all()
