from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.quality_models import CANDIDATES
from feedback_pipeline.learning.quality_validation import (
    forward_baseline,
    forward_chain,
    forward_predictions,
    grouped_folds,
    least_loss,
)
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.quality_worlds import RANGE, quality_world, r2


def times(seed: int = 0, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(seed)
    return stream.integers(0, 300, n), stream.integers(0, 150, n)


def test_windows_follow_each_other_and_know_nothing_of_what_comes() -> None:
    moment, content = times()
    folds = forward_chain(moment, content)
    assert len(folds) == 4
    tested = np.concatenate([test for _, test in folds])
    assert len(np.unique(tested)) == len(tested) == pytest.approx(250, abs=5)
    np.testing.assert_array_equal(np.sort(tested), np.flatnonzero(moment >= moment[folds[0][1]].min()))
    for train, test in folds:
        start = moment[test].min()
        assert len(test) == pytest.approx(62, abs=5)
        assert moment[train].max() < start
        later = content[moment >= start]
        assert not set(content[train]) & set(later)
        # and nothing that could be learned from is left out
        expected = [i for i in range(len(moment)) if moment[i] < start and content[i] not in set(later)]
        np.testing.assert_array_equal(train, expected)
    ends = [(moment[test].min(), moment[test].max()) for _, test in folds]
    assert all(a[1] < b[0] for a, b in pairwise(ends))


def test_the_order_of_rows_does_not_decide_who_is_in_which_window() -> None:
    moment, content = times(1)
    order = np.random.default_rng(9).permutation(len(moment))
    for (train, test), (train2, test2) in zip(
        forward_chain(moment, content), forward_chain(moment[order], content[order]), strict=True
    ):
        assert set(order[train2]) == set(train)
        assert set(order[test2]) == set(test)


def test_degenerate_times() -> None:
    assert forward_chain(np.empty(0, dtype=np.int64), np.empty(0, dtype=int)) == []
    assert forward_chain(np.full(10, 7), np.arange(10)) == []  # nothing is before anything
    assert forward_chain(np.array([1, 2]), np.array([0, 0])) == []  # the only earlier content comes again
    (train, test), *more = forward_chain(np.array([1, 2, 3]), np.arange(3))
    assert train.tolist() == [0, 1]
    assert test.tolist() == [2]
    assert not more


def test_grouped_folds_keep_contents_whole_and_are_even() -> None:
    content = np.repeat(np.arange(50), np.arange(50) % 4 + 1)
    folds = grouped_folds(content, 5, seed=3)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(len(content)))
    for train, test in folds:
        assert not set(content[train]) & set(content[test])
        assert len(np.unique(content[test])) == 10
    assert all((a[1] == b[1]).all() for a, b in zip(folds, grouped_folds(content, 5, seed=3), strict=True))


def test_predictions_are_those_of_a_model_that_saw_the_training_rows_alone() -> None:
    world = quality_world(WorldSpec(agents=4, executions=60, reviewers=5, seed=2))
    rows = world.rows
    folds = forward_chain(rows.moment, rows.content)
    found = forward_predictions(partial(world.model, "ridge"), rows.X, rows.y, rows.content, folds)
    baseline = forward_baseline(rows.y, folds)
    train, test = folds[2]
    alone = world.model("ridge").fit(rows.X.iloc[train], rows.y[train], content=rows.content[train])
    np.testing.assert_array_equal(found[test], alone.predict(rows.X.iloc[test]))
    assert (baseline[test] == rows.y[train].mean()).all()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(baseline))
    # Scores of the last window change no forecast.
    changed = rows.y.copy()
    changed[folds[-1][1]] += 3.0
    np.testing.assert_array_equal(forward_predictions(partial(world.model, "ridge"), rows.X, changed, rows.content, folds), found)


def test_the_least_loss_is_found_and_ties_go_to_the_first() -> None:
    world = quality_world(WorldSpec(agents=4, executions=100, reviewers=5, seed=2))
    rows = world.rows
    builds = {name: partial(world.model, name) for name in ("mean", "ridge", "eb_mixed")}
    folds = grouped_folds(rows.content, 3, seed=0)
    loss: dict[str, float] = {}
    for name, build in builds.items():
        prediction: Floats = forward_predictions(build, rows.X, rows.y, rows.content, folds)
        loss[name] = float(((prediction - rows.y) ** 2).mean())
    assert least_loss(builds, rows.X, rows.y, rows.content, folds) == min(loss, key=lambda name: loss[name])
    twins = {"first": builds["mean"], "second": builds["mean"]}
    assert least_loss(twins, rows.X, rows.y, rows.content, folds) == "first"


def shuffled_r2(name: str, seed: int) -> float:
    """Forward R2 where the scores of the training rows are shuffled."""
    world = quality_world(WorldSpec(agents=20, executions=75, reviewers=40, seed=seed))
    rows = world.rows
    folds = forward_chain(rows.moment, rows.content)
    stream = np.random.default_rng(seed)
    prediction = np.full(len(rows.y), np.nan)
    for train, test in folds:
        y = stream.permutation(rows.y[train])
        model = CANDIDATES[name](rows.features, RANGE, seed).fit(rows.X.iloc[train], y, content=rows.content[train])
        prediction[test] = model.predict(rows.X.iloc[test])
    return r2(rows.y, prediction, forward_baseline(rows.y, folds))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean", "ridge", "eb_mixed", "hist_gradient_boosting", "stack"])
def test_scores_shuffled_inside_the_training_window_forecast_nothing(name: str) -> None:
    # Over worlds, not contents: one shuffle can rank forty reviewers rightly by chance, and all later contents then agree.
    found = np.array([shuffled_r2(name, seed) for seed in range(101, 105 if name == "stack" else 109)])
    assert abs(found.mean()) <= 3 * found.std(ddof=1) / np.sqrt(len(found)) + 1e-9
    assert np.abs(found).max() < 0.03
