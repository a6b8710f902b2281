"""What every candidate must do, whatever it is made of."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_models import CANDIDATES, COMPARISON, eligible
from feedback_pipeline.learning.quality_models_base import Names, QualityModel, content_folds, out_of_fold_columns
from feedback_pipeline.learning.quality_models_threads import fastest_threads
from feedback_pipeline.simulation.names import reviewer_names
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.quality_worlds import RANGE, QualityWorld, quality_world

NAMES = list(CANDIDATES)
KNOWS_FEATURES = [name for name in NAMES if name != "mean"]


@pytest.fixture(scope="module")
def world() -> QualityWorld:
    return quality_world(WorldSpec(agents=6, executions=100, reviewers=8, seed=3))


@pytest.fixture(scope="module")
def fitted(world: QualityWorld) -> dict[str, QualityModel]:
    rows = world.rows
    return {name: world.model(name).fit(rows.X, rows.y, content=rows.content) for name in NAMES}


def test_candidates_come_in_order_of_simplicity_and_compete_when_they_can() -> None:
    assert NAMES == ["mean", "ridge", "eb_mixed", "hist_gradient_boosting", "stack", "random_forest_50"]
    assert eligible(49) == ("mean",)
    assert eligible(50) == eligible(299) == ("mean", "ridge", "eb_mixed", COMPARISON)
    assert eligible(300) == eligible(999) == ("mean", "ridge", "eb_mixed", "hist_gradient_boosting", COMPARISON)
    assert eligible(1000) == tuple(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_same_data_and_seed_give_the_same_bits_also_as_a_clone(
    name: str, world: QualityWorld, fitted: dict[str, QualityModel]
) -> None:
    rows = world.rows
    again = clone(fitted[name]).fit(rows.X.copy(), rows.y.copy(), content=rows.content.copy())
    np.testing.assert_array_equal(again.predict(rows.X), fitted[name].predict(rows.X))
    assert set(again.get_params()) == {"features", "bounds", "seed", "threads"}


@pytest.mark.parametrize("name", NAMES)
def test_threads_change_no_bit(name: str, world: QualityWorld, fitted: dict[str, QualityModel]) -> None:
    rows = world.rows.take(np.arange(300))
    one, two = (clone(fitted[name]).set_params(threads=n).fit(rows.X, rows.y, content=rows.content) for n in (1, 2))
    np.testing.assert_array_equal(two.predict(world.rows.X), one.predict(world.rows.X))


@pytest.mark.parametrize("name", NAMES)
def test_a_pickled_model_says_the_same_and_holds_no_rows(name: str, world: QualityWorld, fitted: dict[str, QualityModel]) -> None:
    packed = pickle.dumps(fitted[name])
    np.testing.assert_array_equal(pickle.loads(packed).predict(world.rows.X), fitted[name].predict(world.rows.X))  # noqa: S301
    if name not in (COMPARISON, "hist_gradient_boosting", "stack"):
        assert len(packed) < 60_000


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_columns_and_rows_and_columns_too_many_do_not_matter(
    name: str, world: QualityWorld, fitted: dict[str, QualityModel]
) -> None:
    X = world.rows.X
    expected = fitted[name].predict(X)
    turned = X[X.columns[::-1]].assign(something="else")
    before = turned.copy()
    np.testing.assert_array_equal(fitted[name].predict(turned), expected)
    pd.testing.assert_frame_equal(turned, before)
    np.testing.assert_allclose(fitted[name].predict(X[::-1]), expected[::-1], rtol=1e-6)
    fit_turned = clone(fitted[name]).fit(turned, world.rows.y, content=world.rows.content)
    np.testing.assert_array_equal(fit_turned.predict(X), expected)


def test_the_forest_does_not_depend_on_the_order_of_the_rows(world: QualityWorld, fitted: dict[str, QualityModel]) -> None:
    order = np.random.default_rng(0).permutation(len(world.rows.y))
    turned = world.rows.take(order)
    again = clone(fitted[COMPARISON]).fit(turned.X, turned.y, content=turned.content)
    np.testing.assert_array_equal(again.predict(world.rows.X), fitted[COMPARISON].predict(world.rows.X))


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_column_is_named(name: str, world: QualityWorld, fitted: dict[str, QualityModel]) -> None:
    for column in ("readability", "tone", "agent_name", "reviewer_id"):
        lacking = world.rows.X.drop(columns=column)
        with pytest.raises(LearningError, match=f"needs the column.s. {column};"):
            fitted[name].predict(lacking)
        with pytest.raises(LearningError, match=column):
            clone(fitted[name]).fit(lacking, world.rows.y)


@pytest.mark.parametrize("name", NAMES)
def test_bad_scores_are_refused(name: str, world: QualityWorld) -> None:
    X, y = world.rows.X[:60], world.rows.y[:60].copy()
    with pytest.raises(LearningError, match="not fitted"):
        world.model(name).predict(X)
    with pytest.raises(LearningError, match="no score"):
        world.model(name).fit(X[:0], y[:0])
    with pytest.raises(LearningError, match="one finite score"):
        world.model(name).fit(X, y[:-1])
    y[3] = np.nan
    with pytest.raises(LearningError, match="one finite score"):
        world.model(name).fit(X, y)
    y[3] = 5.0
    with pytest.raises(LearningError, match="needs an agent_name"):
        world.model(name).fit(X.assign(agent_name=None), y)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_agents_reviewers_and_levels_are_the_population(
    name: str, world: QualityWorld, fitted: dict[str, QualityModel]
) -> None:
    model, X = fitted[name], world.rows.X[:200]
    consensus = model.predict(X.assign(reviewer_id=None))
    np.testing.assert_array_equal(model.predict(X.assign(reviewer_id="somebody new")), consensus)
    np.testing.assert_array_equal(model.predict(X.assign(reviewer_id=np.nan)), consensus)
    stranger = model.predict(X.assign(agent_name="a new agent", reviewer_id=None, tone="unheard of"))
    np.testing.assert_array_equal(stranger, model.predict(X.assign(agent_name="another", reviewer_id=None, tone=None)))
    assert np.isfinite(stranger).all()
    # A stranger is as good as agents are on average.
    agents = [model.predict(X.assign(agent_name=each, reviewer_id=None)) for each in world.rows.X["agent_name"].unique()]
    assert stranger.mean() == pytest.approx(np.mean(agents), abs=0.25)


@pytest.mark.parametrize("name", [name for name in NAMES if name != COMPARISON])
def test_consensus_is_free_of_severity(name: str, world: QualityWorld, fitted: dict[str, QualityModel]) -> None:
    X = world.rows.X[:300]
    severity = pd.Series(world.world.reviewers.severity, index=reviewer_names(8))
    consensus = fitted[name].predict(X.assign(reviewer_id=None))
    by_each = {who: fitted[name].predict(X.assign(reviewer_id=who)) for who in severity.index}
    shift = pd.Series({who: float((points - consensus).mean()) for who, points in by_each.items()})
    assert shift.corr(severity) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_wild_missing_and_constant_values_survive(name: str, world: QualityWorld) -> None:
    rows = world.rows.take(np.arange(400))
    X = rows.X.assign(
        cost=np.nan, tone=None, readability=3.0, duration_ms=np.where(np.arange(400) % 7, rows.X["duration_ms"], 1e90)
    )
    X.loc[X.index[:5], "word_count"] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = world.model(name).fit(X, rows.y, content=rows.content)
        found = model.predict(world.rows.X)
        empty = model.predict(world.rows.X[:0])
    assert np.isfinite(found).all()
    assert RANGE[0] <= found.min() <= found.max() <= RANGE[1]
    assert empty.shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_constant_scores_are_forecast_as_they_are(name: str, world: QualityWorld) -> None:
    rows = world.rows.take(np.arange(120))
    model = world.model(name).fit(rows.X, np.full(120, 7.25), content=rows.content)
    np.testing.assert_allclose(model.predict(world.rows.X[:50]), 7.25, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 12])
def test_few_rows_one_agent_and_unknown_reviewers_survive(name: str, n: int, world: QualityWorld) -> None:
    rows = world.rows.take(np.arange(n))
    for reviewer in (None, "only"):
        X = rows.X.assign(agent_name="one", reviewer_id=reviewer)
        found = world.model(name).fit(X, rows.y, content=rows.content).predict(world.rows.X[:30])
        assert np.isfinite(found).all()
    nothing = FeatureList((), ())
    bare = CANDIDATES[name](nothing, RANGE, 0).fit(rows.X, rows.y)
    assert np.isfinite(bare.predict(rows.X)).all()


@pytest.mark.parametrize("name", NAMES)
def test_forecasts_stay_within_the_bounds(name: str, world: QualityWorld) -> None:
    rows = world.rows
    narrow = CANDIDATES[name](rows.features, (5.5, 6.0), 0).fit(rows.X, rows.y, content=rows.content).predict(rows.X)
    assert narrow.min() >= 5.5
    assert narrow.max() <= 6.0


def test_the_mean_is_the_mean_and_what_the_reviewer_usually_gives() -> None:
    stream = np.random.default_rng(0)
    reviewer = np.repeat(["kind", "strict", "plain"], [300, 300, 300])
    y = 5 + np.repeat([1.0, -1.0, 0.0], 300) + stream.normal(0, 1, 900)
    X = pd.DataFrame({"agent_name": "a", "reviewer_id": reviewer})
    model = CANDIDATES["mean"](FeatureList((), ()), RANGE, 0).fit(X, y)
    found = model.predict(pd.DataFrame({"agent_name": "a", "reviewer_id": ["kind", "strict", "plain", None]}))
    np.testing.assert_allclose(found, [6.0, 4.0, 5.0, 5.0], atol=0.2)
    assert found[3] == pytest.approx(y.mean())
    # Reviewers who differ by chance alone are one.
    same = CANDIDATES["mean"](FeatureList((), ()), RANGE, 0).fit(X, stream.permutation(y))
    assert np.ptp(same.predict(X)) == 0.0


def test_rare_reviewers_share_what_is_known_of_all() -> None:
    stream = np.random.default_rng(1)
    severity = stream.normal(0, 1.0, 40)
    code = np.concatenate([np.repeat(np.arange(39), 30), [39, 39]])
    y = 5 + severity[code] + stream.normal(0, 1, len(code))
    y[-2:] = 9.5
    X = pd.DataFrame({"agent_name": "a", "reviewer_id": [f"r{i:02}" for i in code]})
    for name in ("mean", "eb_mixed"):
        model = CANDIDATES[name](FeatureList((), ()), RANGE, 0).fit(X, y)
        rare = model.predict(X[-1:])[0]
        assert y[:-2].mean() + 1.5 < rare < 9.2


@pytest.mark.parametrize("name", ["ridge", "eb_mixed", "hist_gradient_boosting", "stack"])
def test_features_help_and_nobody_is_needed_to_review(name: str, world: QualityWorld, fitted: dict[str, QualityModel]) -> None:
    rows = world.rows
    consensus = fitted[name].predict(rows.X.assign(reviewer_id=None))
    plain = fitted["mean"].predict(rows.X.assign(reviewer_id=None))
    assert np.ptp(plain) == 0.0
    assert np.corrcoef(consensus, rows.y)[0, 1] > 0.3


def test_more_levels_than_trees_can_take_are_no_level() -> None:
    stream = np.random.default_rng(0)
    n = 3000
    agents = [f"agent {i:03}" for i in stream.integers(0, 300, n)]
    tones = [f"tone {i:03}" for i in stream.integers(0, 280, n)]
    X = pd.DataFrame({"word_count": stream.uniform(50, 500, n), "tone": tones, "agent_name": agents, "reviewer_id": None})
    y = 5 + X["word_count"].to_numpy() / 250 + stream.normal(0, 0.5, n)
    features = FeatureList(("word_count",), ("tone",))
    for name in ("hist_gradient_boosting", "stack"):
        found = CANDIDATES[name](features, RANGE, 0).fit(X, y).predict(X)
        assert np.corrcoef(found, X["word_count"])[0, 1] > 0.9


def test_folds_hold_whole_contents_of_even_number() -> None:
    content = np.random.default_rng(0).integers(0, 40, 500)
    fold = content_folds(content, 3, seed=1)
    assert {len(np.unique(fold[content == c])) for c in range(40)} == {1}
    assert sorted(np.bincount(fold[np.unique(content, return_index=True)[1]])) == [13, 13, 14]
    assert (content_folds(content, 3, seed=2) != fold).any()


def test_no_score_explains_itself_or_its_content_through_severity(world: QualityWorld) -> None:
    rows, model = world.rows, world.model("ridge")
    fold = content_folds(rows.content, 5, seed=0)
    plain = out_of_fold_columns(model._training_rows(rows.X, rows.y, rows.content), fold)
    assert plain.std(axis=0).min() > 0.1
    one = rows.content == np.bincount(rows.content).argmax()
    assert one.sum() > 1
    moved = out_of_fold_columns(model._training_rows(rows.X, np.where(one, 10.0 - rows.y, rows.y), rows.content), fold)
    own = fold == fold[one][0]
    np.testing.assert_array_equal(moved[own], plain[own])
    assert (moved[~own] != plain[~own]).any()


def test_names_are_sorted_and_the_unknown_are_minus_one() -> None:
    names = Names.of(pd.Series(["b", None, "a", "b"], dtype=object))
    assert names.values.tolist() == ["a", "b"]
    assert names.codes(pd.Series(["a", "c", None, np.nan, "b"], dtype=object)).tolist() == [0, -1, -1, -1, 1]
    assert names.codes(pd.Series(["b", "c"], dtype="str")).tolist() == [1, -1]
    nobody = Names.of(pd.Series([None], dtype=object))
    assert nobody.codes(pd.Series(["a", None], dtype=object)).tolist() == [-1, -1]


def test_the_fastest_number_of_threads_is_the_fewest_that_none_beats_clearly() -> None:
    class Clock:
        def __init__(self, seconds: dict[int, float]) -> None:
            self.seconds = [each for count in sorted(seconds) for each in (seconds[count],) * 2]
            self.now, self.calls = 0.0, 0

        def __call__(self) -> float:
            if self.calls % 2:
                self.now += self.seconds[self.calls // 2]
            self.calls += 1
            return self.now

    assert fastest_threads(Clock({1: 1.0, 2: 0.95}), [2, 1]) == 1
    assert fastest_threads(Clock({1: 1.0, 2: 0.6}), [1, 2]) == 2
    assert fastest_threads(Clock({1: 1.0, 2: 3.0, 4: 0.5}), [1, 2, 4]) == 4
    assert fastest_threads(Clock({}), []) == 1
