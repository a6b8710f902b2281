import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import binomtest

from feedback_pipeline.learning.calibration import Reliability, ece
from feedback_pipeline.learning.noise_ceiling import Ceiling
from feedback_pipeline.learning.quality import Candidate, Training, train
from feedback_pipeline.learning.quality_metrics import Estimate
from feedback_pipeline.orchestration import candidate_picture, drawing, quality_pictures, residuals_picture
from feedback_pipeline.orchestration.quality_pictures import MAX_COLUMNS, training_figures
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.quality_worlds import RANGE, quality_world

LIMIT = 150_000
NAN, INF, HUGE = float("nan"), float("inf"), 1.7e308
ALWAYS = {
    "candidates.png",
    "coverage_by_quartile.png",
    "permutation_importance.png",
    "predicted_v_actual.png",
    "residuals_over_time.png",
}
HOSTILE = [r"a$\frac{b$ costs $5", "one\ntwo\t\x00", "n" * 5000, "評審" * 30, ""]


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(matplotlib.image.imread(io.BytesIO(png), format="png"))


def _importance(n: int = 20, **changes: Any) -> pd.DataFrame:
    increase = np.linspace(1.0, -0.1, n)
    frame = pd.DataFrame({"feature": [f"feature_{place:02d}" for place in range(n)], "increase": increase})
    return frame.assign(low=increase - 0.3, high=increase + 0.3).assign(**changes)


def _importance_picture(importance: pd.DataFrame) -> bytes:
    return quality_pictures._importance(importance, "eb_mixed")


@pytest.fixture(scope="module")
def pictures_of(trained: Training) -> dict[str, bytes]:
    return training_figures(trained, _importance())


@pytest.fixture(scope="module")
def trained() -> Training:
    return train(quality_world(WorldSpec(agents=3, executions=50, reviewers=4, seed=3)).rows, RANGE, 1, lambda: 0.0)


def _chosen(training: Training, **changes: Any) -> Training:
    """The training with another outcome of the choice."""
    return replace(training, candidates=dict(training.candidates) | {training.choice.name: replace(training.chosen, **changes)})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn, those of axes included."""
    texts: list[str] = []
    plain = drawing.as_png

    def as_png(figure: Figure) -> bytes:
        png = plain(figure)
        texts.extend(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))
        return png

    for module in (drawing, quality_pictures, candidate_picture, residuals_picture):
        monkeypatch.setattr(module, "as_png", as_png)
    return texts


def test_a_training_has_its_pictures(trained: Training, pictures_of: dict[str, bytes]) -> None:
    assert set(pictures_of) == ALWAYS | {"calibration.png"}
    for png in pictures_of.values():
        assert _pixels(png).shape[0] > 200
        assert len(png) < LIMIT
    assert training_figures(trained, _importance()) == pictures_of


def test_nobody_is_named(trained: Training, drawn: list[str]) -> None:
    training_figures(trained, _importance())
    said = "\n".join(drawn).casefold()
    assert "eb mixed" in said
    assert "feature 00" in said
    people = [*trained.rows.X["reviewer_id"].dropna().unique(), *trained.rows.X["agent_name"].unique()]
    assert len(people) == 7
    for name in people:
        assert name.casefold() not in said
        assert drawing.label(name).casefold() not in said


def test_titles_say_the_numbers(trained: Training, drawn: list[str]) -> None:
    training_figures(trained, _importance())
    said = "\n".join(drawn)
    r2 = trained.chosen.metrics.r2
    assert f"R² {r2.value:.2f} [{r2.low:.2f}, {r2.high:.2f}]" in said
    assert f"calibration error {ece(trained.p_approve, trained.rows.approved):.3f}" in said
    assert f"{100 * trained.coverage.overall:.1f} % of {trained.coverage.n} later reviews" in said
    assert f"highest\n{trained.coverage.n_quartiles[3]} reviews" in said
    assert f"first {MAX_COLUMNS} of 20" in said


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("predicted_v_actual.png", lambda t: _chosen(t, prediction=t.chosen.prediction + np.arange(len(t.rows.y)) % 2)),
        ("residuals_over_time.png", lambda t: _chosen(t, prediction=t.chosen.prediction + np.arange(len(t.rows.y)) % 2)),
        (
            "coverage_by_quartile.png",
            lambda t: replace(t, coverage=replace(t.coverage, quartiles=np.array([0.7, 0.8, 0.8, 0.9]))),
        ),
        ("calibration.png", lambda t: replace(t, p_approve=np.sqrt(t.p_approve))),
        ("candidates.png", lambda t: replace(t, choice=replace(t.choice, name="ridge"))),
        ("candidates.png", lambda t: replace(t, residual_ceiling=Ceiling(0.91, 40, None))),
        ("candidates.png", lambda t: replace(t, ceiling=Ceiling(0.91, 40, None))),
    ],
)
def test_a_picture_shows_what_it_is_about(
    trained: Training, pictures_of: dict[str, bytes], name: str, change: Callable[[Training], Training]
) -> None:
    assert training_figures(change(trained), _importance())[name] != pictures_of[name]


def test_many_reviews_are_a_honeycomb(trained: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    def picture(training: Training) -> bytes:
        return quality_pictures._predicted_and_actual(training, training.chosen.prediction, training.rows.y)

    dots = picture(trained)
    monkeypatch.setattr(quality_pictures, "MANY", 10)
    cells = picture(trained)
    assert cells != dots
    assert len(cells) < LIMIT
    flat = replace(trained, rows=replace(trained.rows, y=np.full(len(trained.rows.y), 5.0)))
    same = _chosen(flat, prediction=np.where(np.isnan(trained.chosen.prediction), NAN, 5.0))
    assert _pixels(picture(same)).shape[0] > 200


def test_without_a_route_to_approval_there_is_no_calibration(trained: Training) -> None:
    without = replace(trained, predictor=replace(trained.predictor, approval=None))
    assert set(training_figures(without, _importance())) == ALWAYS


@pytest.mark.parametrize("change", [{"p_approve": NAN}, {"approved": NAN}])
def test_decisions_that_no_forecast_has_met(trained: Training, change: dict[str, float], drawn: list[str]) -> None:
    nothing = np.full(len(trained.rows.y), NAN)
    blank = replace(trained, p_approve=nothing) if "p_approve" in change else trained
    blank = blank if "p_approve" in change else replace(trained, rows=replace(trained.rows, approved=nothing))
    assert _pixels(training_figures(blank, _importance())["calibration.png"]).shape[0] == 100
    assert any("no decision" in text for text in drawn)


def test_nothing_forecast_says_why(drawn: list[str]) -> None:
    rows = quality_world(WorldSpec(agents=1, executions=60, reviewers=2, seed=3)).rows
    at_once = train(replace(rows, moment=np.zeros_like(rows.moment)), RANGE, 1, lambda: 0.0)
    pictures = training_figures(at_once, _importance(increase=NAN, low=NAN, high=NAN))
    assert set(pictures) == ALWAYS
    for png in pictures.values():
        assert _pixels(png).shape[0] == 100
    assert sum("no forecast has met its review yet" in text for text in drawn) == 3
    assert sum("too few earlier forecasts" in text for text in drawn) == 1
    assert sum("no column could be shuffled" in text for text in drawn) == 1


def test_ten_outputs_are_drawn_with_what_is_missing(drawn: list[str]) -> None:
    rows = quality_world(WorldSpec(agents=1, executions=20, reviewers=3, seed=4)).rows
    ten = rows.take(np.isin(rows.output, np.unique(rows.output)[:10]))
    training = train(ten, RANGE, 1, lambda: 0.0)
    pictures = training_figures(training, _importance(1))
    assert set(pictures) == ALWAYS
    assert all(_pixels(png).std() > 0 for png in pictures.values())
    assert any("too few contents to tell" in text and "10 outputs" in text for text in drawn)


def test_one_constant_score_is_drawn_or_said(trained: Training, drawn: list[str]) -> None:
    rows = trained.rows
    constant = train(replace(rows, y=np.full(len(rows.y), 5.0)), RANGE, 1, lambda: 0.0)
    pictures = training_figures(constant, _importance(3, increase=0.0, low=0.0, high=0.0))
    assert set(pictures) >= ALWAYS
    assert all(_pixels(png).std() > 0 for png in pictures.values())
    assert any("no candidate has an R²" in text for text in drawn)
    assert any("R² is undefined" in text for text in drawn)


@pytest.mark.parametrize("value", [NAN, INF, -INF, HUGE])
def test_numbers_that_no_axis_holds(trained: Training, value: float) -> None:
    everywhere = np.full(len(trained.rows.y), value)
    bad = Estimate(value, value, value)
    broken = _chosen(trained, prediction=everywhere, metrics=replace(trained.chosen.metrics, r2=bad))
    pictures = training_figures(broken, _importance(increase=value, low=value, high=value))
    assert all(_pixels(png).std() > 0 for png in pictures.values())
    assert _pixels(_importance_picture(_importance(low=value, high=value))).shape[0] > 200


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_features_break_nothing(name: str) -> None:
    png = _importance_picture(_importance(2, feature=[name, "cost"]))
    assert _pixels(png).shape[1] == 740


def test_of_many_columns_the_first_are_drawn_in_any_order() -> None:
    many = _importance(40)
    assert _importance_picture(many.sample(frac=1, random_state=1)) == _importance_picture(many)
    assert _importance_picture(many.assign(low=many["low"].mask(many.index > MAX_COLUMNS, -9.0))) == _importance_picture(many)
    assert _importance_picture(many.assign(low=many["low"].mask(many.index == 2, -9.0))) != _importance_picture(many)
    assert _pixels(_importance_picture(_importance(0))).shape[0] == 100


def test_a_hopeless_candidate_does_not_squeeze_the_others(trained: Training, drawn: list[str]) -> None:
    def with_ridge(value: float) -> Training:
        ridge: Candidate = trained.candidates["ridge"]
        r2 = Estimate(value, value - 1.0, value + 0.2)
        return replace(
            trained, candidates=dict(trained.candidates) | {"ridge": replace(ridge, metrics=replace(ridge.metrics, r2=r2))}
        )

    figures = [candidate_picture.candidates(with_ridge(value)) for value in (-40.0, -41.0)]
    assert figures[0] != figures[1]  # the number beside it
    assert "-40.00 [-41.00, -39.80]" in drawn
    ticks = [float(text.replace("−", "-")) for text in drawn if text.replace("−", "").replace(".", "").isdigit()]
    assert -2.0 < min(ticks) < 0.0


def test_intervals_of_shares_are_wilsons() -> None:
    axes = Figure().add_subplot()
    found = Reliability(np.array([40, 0, 7]), np.array([0.1, NAN, 0.9]), np.array([0.25, NAN, 1.0]))
    quality_pictures._reliability_dots(axes, found)
    segments = np.array([np.asarray(line.vertices)[:, 1] for line in axes.collections[0].get_paths()])
    expected = [binomtest(k, n).proportion_ci(method="wilson") for k, n in ((10, 40), (7, 7))]
    np.testing.assert_allclose(segments, [[ci.low, ci.high] for ci in expected], atol=1e-4)


def test_weeks_are_means_of_their_reviews_with_errors_by_content(trained: Training) -> None:
    residual = trained.residual
    weeks = residuals_picture._weekly(residual, trained)
    assert weeks["n"].sum() == np.isfinite(residual).sum()
    moments = pd.to_datetime(trained.rows.moment, utc=True)
    for start, row in zip(pd.to_datetime(weeks["monday"], utc=True), weeks.itertuples(), strict=True):
        assert start.day_name() == "Monday"
        inside = np.isfinite(residual) & (moments >= start) & (moments < start + pd.Timedelta(days=7))
        own, content = residual[inside], trained.rows.content[inside]
        assert row.n == len(own)
        assert row.mean == pytest.approx(own.mean())
        off = [(own[content == code] - own.mean()).sum() for code in np.unique(content)]
        expected = np.sqrt(len(off) / (len(off) - 1) * np.square(off).sum()) / len(own) if len(off) > 1 else NAN
        assert row.se == pytest.approx(expected, nan_ok=True)
