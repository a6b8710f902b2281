import io
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.orchestration.effect_pictures import (
    MAX_CORRELATIONS,
    MAX_EFFECTS,
    correlation_intervals,
    effect_sizes,
)
from feedback_pipeline.orchestration.segment_pictures import MAX_PAIRS, segment_intervals
from feedback_pipeline.orchestration.term_pictures import MAX_TERMS, SOURCES, term_effects
from feedback_pipeline.orchestration.threshold_pictures import MAX_CURVES, threshold_curves

LIMIT = 300_000
NOTHING = "there is nothing"
NAN, INF, HUGE = float("nan"), float("inf"), 1.7e308
HOSTILE = [
    r"$x_1^{",
    r"a\frac{b$5",
    "<script>alert(1)</script>",
    "\u202eabc\u200f",
    "one\ntwo\t\x00",
    "n" * 100,
    "評審",
    "",
    "100% ^ {x}",
]


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(matplotlib.image.imread(io.BytesIO(png), format="png"))


def _is_sentence(png: bytes) -> bool:
    return _pixels(png).shape[:2] == (100, 600)


def _curve(**changes: Any) -> dict[str, Any]:
    x = np.linspace(0.1, 1.0, 16)
    row = {"agent_name": "drafter", "feature": "confidence_score", "decision_point": None, "direction": 1.0}
    row |= {"cut": 0.7, "cut_low": 0.65, "cut_high": 0.75, "effect": 0.2, "ci_low": 0.1, "ci_high": 0.3}
    row |= {"n_good": 212.0, "n_bad": 640.0}
    return row | {"x": list(x), "observed": list(0.6 + 0.2 * (x > 0.7)), "n": [20.0] * 16} | changes


def _curves(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(_curve()))


def _contrasts(n: int, **changes: Any) -> pd.DataFrame:
    g = np.linspace(-0.8, 0.8, n) if n > 1 else np.full(n, 0.5)
    columns: dict[str, Any] = {"agent_name": "drafter"}
    columns |= {"feature": [f"feature_{k}" for k in range(n)], "decision_point": None, "effect": g}
    columns |= {"ci_low": g - 0.1, "ci_high": g + 0.1, "n_contents": 300, "published": True, "confounded": False}
    return pd.DataFrame(columns, index=range(n)).assign(**changes)


def _findings(n: int, **changes: Any) -> pd.DataFrame:
    frame = _contrasts(n).rename(columns={"effect": "r"}).drop(columns="confounded")
    return frame.assign(aspect="overall", **changes)


def _terms(n: int, source: str = "comment_terms", **changes: Any) -> pd.DataFrame:
    points = np.linspace(-0.9, 0.91, n)
    columns: dict[str, Any] = {"agent_name": "drafter", "source": source}
    columns |= {"term": [f"w{k}" for k in range(n)], "aspect": "tone", "stage": None}
    columns |= {"decision_point": None, "outcome": "score", "points": points, "low": points - 0.1, "high": points + 0.1}
    return pd.DataFrame(columns | {"share": 0.2}, index=range(n)).assign(**changes)


def _segments(levels: int, pairs: int = 0, **changes: Any) -> pd.DataFrame:
    names = [("tone", f"t{k}") for k in range(levels)] + [("tone x channel", f"t{k} x c") for k in range(pairs)]
    frame = pd.DataFrame(names, columns=["family", "segment"]).assign(n=np.arange(len(names)) + 20)
    approval = np.linspace(0.4, 0.8, len(names))
    ends = {"_raw": approval - 0.02, "": approval, "_low": approval - 0.05, "_high": approval + 0.05}
    frame = frame.assign(**{f"approval{end}": value for end, value in ends.items()}, n_scored=30)
    return frame.assign(**{f"score{end}": 10 * value for end, value in ends.items()}).assign(**changes)


@pytest.mark.slow
def test_curves_are_modest_pictures_up_to_a_limit() -> None:
    heights = []
    for n in (1, MAX_CURVES, 3 * MAX_CURVES):
        picture = threshold_curves(_curves(*(_curve(feature=f"f{k}", effect=0.5 - k / 100) for k in range(n))), NOTHING)
        heights.append(_pixels(picture).shape[0])
        assert len(picture) < LIMIT
    assert heights[0] < heights[1] <= heights[2]


@pytest.mark.slow
def test_of_many_curves_those_with_a_cut_and_the_larger_lift_are_drawn() -> None:
    many = [_curve(feature=f"f{k:02d}", effect=(-1) ** k * (0.5 - k / 100)) for k in range(MAX_CURVES + 3)]
    picture = threshold_curves(_curves(*many), NOTHING)
    weakest, strongest = [dict(row) for row in many], [dict(row) for row in many]
    weakest[-1]["cut"], strongest[0]["cut"] = 0.3, 0.3
    assert threshold_curves(_curves(*weakest), NOTHING) == picture
    assert threshold_curves(_curves(*strongest), NOTHING) != picture
    without = _curve(feature="curve", cut=NAN, cut_low=NAN, cut_high=NAN, effect=9.0)
    assert threshold_curves(_curves(*many, without).iloc[::-1], NOTHING) != picture  # the count in the title
    assert threshold_curves(_curves(*many[:1], without), NOTHING) == threshold_curves(_curves(without, *many[:1]), NOTHING)


@pytest.mark.slow
def test_a_curve_depends_on_its_cut_interval_and_bins() -> None:
    pictures = {
        threshold_curves(_curves(_curve(**change)), NOTHING)
        for change in (
            {},
            {"cut": 0.5},
            {"cut_low": 0.5},
            {"cut": NAN, "cut_low": NAN, "cut_high": NAN},
            {"n": [5.0] * 8 + [20.0] * 8},
            {"direction": -1.0},
            {"decision_point": "draft"},
            {"n_good": 1.0},
        )
    }
    assert len(pictures) == 8
    shuffled = _curve()
    order = np.random.default_rng(1).permutation(16)
    shuffled |= {name: [shuffled[name][k] for k in order] for name in ("x", "observed", "n")}
    assert threshold_curves(_curves(shuffled), NOTHING) == threshold_curves(_curves(_curve()), NOTHING)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_curves_with_any_name(name: str) -> None:
    rows = [_curve(agent_name=name, feature=name or "f", decision_point=name), _curve(agent_name="other")]
    plain = [_curve(agent_name="plain", feature="plain", decision_point=name and "plain"), _curve(agent_name="other")]
    assert _pixels(threshold_curves(_curves(*rows), NOTHING)).shape == _pixels(threshold_curves(_curves(*plain), NOTHING)).shape


@pytest.mark.parametrize(
    "x",
    [
        [1.0],
        [2.0, 2.0],
        [0.0, 0.0],
        [1e17, 1e17 + 16],
        [-1e90, 1e90],
        [1e90],
        [HUGE, 1.0],
        [-5.0, 1.0, INF],
        [1e-300, 1.0, 1e60],
        [5e-324, 1.0],
        [0.001, 0.002, 500.0],
    ],
)
def test_curves_over_extreme_values(x: list[float]) -> None:
    one = _curve(x=x, observed=[0.5] * len(x), n=[3.0] * len(x), cut=x[0], cut_low=x[0], cut_high=x[-1])
    for direction in (-1.0, 1.0):
        assert not _is_sentence(threshold_curves(_curves(one | {"direction": direction}), NOTHING))


def test_bins_without_a_number_are_left_out() -> None:
    broken = _curve(x=[0.1, NAN, 0.9, 0.5], observed=[0.5, 0.6, 0.8, NAN], n=[9.0, 9.0, 9.0, 9.0])
    whole = _curve(x=[0.1, 0.9], observed=[0.5, 0.8], n=[9.0, 9.0])
    assert threshold_curves(_curves(broken), NOTHING) == threshold_curves(_curves(whole), NOTHING)


@pytest.mark.parametrize("rows", [[], [_curve(x=[], observed=[], n=[])], [_curve(x=[NAN], observed=[0.5], n=[1.0])]])
def test_curves_of_nothing_say_why(rows: list[dict[str, Any]]) -> None:
    assert _is_sentence(threshold_curves(_curves(*rows), NOTHING))
    assert threshold_curves(_curves(*rows), "one reason") != threshold_curves(_curves(*rows), "another")


@pytest.mark.slow
def test_effects_grow_up_to_a_limit_and_the_largest_are_drawn() -> None:
    few, limit, many = (_contrasts(n) for n in (2, MAX_EFFECTS, 3 * MAX_EFFECTS))
    heights = [_pixels(effect_sizes(frame, NOTHING)).shape[0] for frame in (few, limit, many)]
    assert heights[0] < heights[1] == heights[2]
    smallest = many["effect"].abs().idxmin()
    weaker = many.assign(n_contents=many["n_contents"].mask(many.index == smallest, 1))
    assert effect_sizes(weaker, NOTHING) == effect_sizes(many, NOTHING)


def test_effects_of_several_agents_are_the_published_ones() -> None:
    others = _contrasts(2, agent_name="editor")
    withheld = _contrasts(3, agent_name="third", published=False)
    several = effect_sizes(pd.concat([_contrasts(3), others]), NOTHING)
    assert effect_sizes(pd.concat([withheld, others, _contrasts(3)]), NOTHING) == several
    assert effect_sizes(_contrasts(3, published=[True, False, True]), NOTHING) != effect_sizes(_contrasts(3), NOTHING)
    fleet = _contrasts(3, agent_name="*")
    assert effect_sizes(fleet.assign(confounded=True), NOTHING) != effect_sizes(fleet, NOTHING)


@pytest.mark.parametrize("value", [NAN, INF, -INF, HUGE])
def test_an_effect_without_a_number_is_left_out(value: float) -> None:
    broken = _contrasts(1, feature="broken", effect=value)
    assert effect_sizes(pd.concat([_contrasts(4), broken]), NOTHING) == effect_sizes(_contrasts(4), NOTHING)
    assert _is_sentence(effect_sizes(broken, NOTHING))


@pytest.mark.parametrize("width", [NAN, INF, 1e12, 0.0])
def test_intervals_of_any_width(width: float) -> None:
    effects = _contrasts(3)
    ends = effects.assign(ci_low=effects["effect"] - width, ci_high=effects["effect"] + width)
    assert not _is_sentence(effect_sizes(ends, NOTHING))
    assert not _is_sentence(effect_sizes(ends.assign(effect=0.0), NOTHING))


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_effects_with_any_name(name: str) -> None:
    frame = pd.concat([_contrasts(1, agent_name=name, feature=name, decision_point=name), _contrasts(1)])
    assert _pixels(effect_sizes(frame, NOTHING)).shape == _pixels(effect_sizes(_contrasts(2), NOTHING)).shape


@pytest.mark.slow
def test_correlations_are_the_strongest() -> None:
    many = _findings(3 * MAX_CORRELATIONS)
    assert _pixels(correlation_intervals(many, NOTHING)).shape == _pixels(correlation_intervals(_findings(24), NOTHING)).shape
    assert correlation_intervals(many.sample(frac=1, random_state=1), NOTHING) == correlation_intervals(many, NOTHING)
    assert _is_sentence(correlation_intervals(many.head(0), NOTHING))


def test_terms_have_a_panel_for_each_source() -> None:
    heights = [
        _pixels(term_effects(pd.concat([_terms(4, source) for source in list(SOURCES)[:n]]), "drafter", NOTHING)).shape[0]
        for n in (1, 2, 3)
    ]
    assert heights[0] < heights[1] < heights[2]


def test_terms_are_the_strongest_of_either_side() -> None:
    limit, many = _terms(2 * MAX_TERMS), _terms(20 * MAX_TERMS)
    picture = term_effects(many, "drafter", NOTHING)
    assert _pixels(picture).shape == _pixels(term_effects(limit, "drafter", NOTHING)).shape
    assert len(picture) < LIMIT
    weakest = many["points"].abs().idxmin()
    assert term_effects(many.assign(share=many["share"].mask(many.index == weakest, 0.9)), "drafter", NOTHING) == picture
    assert term_effects(many.sample(frac=1, random_state=1), "drafter", NOTHING) == picture


def test_a_term_stands_once_on_a_side() -> None:
    terms = _terms(4)
    weaker = terms.assign(aspect="other", **{name: terms[name] / 2 for name in ("points", "low", "high")})
    assert term_effects(pd.concat([terms, weaker]), "drafter", NOTHING) == term_effects(terms, "drafter", NOTHING)


def test_points_of_scores_and_of_approval_share_no_axis() -> None:
    by_score, by_approval = _terms(5), _terms(3, outcome="approval", term=["x", "y", "z"])
    both = pd.concat([by_score, by_approval])
    assert term_effects(both, "drafter", NOTHING) == term_effects(by_score, "drafter", NOTHING)
    assert term_effects(by_approval, "drafter", NOTHING) != term_effects(by_approval.assign(outcome="score"), "drafter", NOTHING)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_terms_with_any_name(name: str) -> None:
    terms = _terms(3)
    frame = terms.assign(agent_name=[name, "a", "b"], term=[name, "x", "y"], aspect=name, stage=name)
    assert _pixels(term_effects(frame, name, NOTHING)).shape == _pixels(term_effects(terms, "drafter", NOTHING)).shape


@pytest.mark.parametrize("terms", [_terms(0), _terms(3, points=NAN), _terms(3, points=INF), _terms(3, points=0.0)])
def test_terms_of_nothing_say_why(terms: pd.DataFrame) -> None:
    assert _is_sentence(term_effects(terms, "drafter", NOTHING))


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_term_without_an_interval_or_share_is_drawn(value: float) -> None:
    assert not _is_sentence(term_effects(_terms(3, low=value, high=value, share=NAN), "drafter", NOTHING))


def test_of_pairs_of_categories_the_two_ends_are_drawn() -> None:
    few, many = _segments(3, 2 * MAX_PAIRS), _segments(3, 30 * MAX_PAIRS)
    # One heading for all pairs, or one for either end.
    assert _pixels(segment_intervals(many, "d", NOTHING)).shape[0] - _pixels(segment_intervals(few, "d", NOTHING)).shape[0] == 20
    middle = many.index[len(many) // 2]
    assert segment_intervals(many.assign(n=many["n"].mask(many.index == middle, 999)), "d", NOTHING) == segment_intervals(
        many, "d", NOTHING
    )


def test_segments_depend_on_their_numbers_and_not_on_the_order_of_rows() -> None:
    segments = _segments(4, 3)
    picture = segment_intervals(segments, "d", NOTHING)
    assert segment_intervals(segments.sample(frac=1, random_state=1), "d", NOTHING) == picture
    for column in ("approval", "approval_raw", "approval_low", "n"):
        assert segment_intervals(segments.assign(**{column: segments[column] / 2}), "d", NOTHING) != picture
    assert segment_intervals(segments.assign(score=1.0), "d", NOTHING) == picture


def test_without_decisions_scores_are_drawn() -> None:
    gone: dict[str, Any] = dict.fromkeys(("approval", "approval_raw", "approval_low", "approval_high"), NAN)
    segments = _segments(4, n=0, **gone)
    picture = segment_intervals(segments, "d", NOTHING)
    assert not _is_sentence(picture)
    assert segment_intervals(segments.assign(score=segments["score"] / 2), "d", NOTHING) != picture


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_segments_with_any_name(name: str) -> None:
    segments = _segments(2, 2)
    hostile = segments.assign(segment=[name, "b", f"{name} x {name}", "b x c"])
    assert _pixels(segment_intervals(hostile, name, NOTHING)).shape == _pixels(segment_intervals(segments, "d", NOTHING)).shape


@pytest.mark.parametrize("segments", [_segments(0), _segments(2, approval=NAN), _segments(2, n=0, n_scored=0)])
def test_segments_of_nothing_say_why(segments: pd.DataFrame) -> None:
    assert _is_sentence(segment_intervals(segments, "d", NOTHING))


@pytest.mark.slow
def test_segments_of_very_many_levels_are_a_modest_picture() -> None:
    families = ("tone", "channel", "structure", "content_type", "length_band")
    many = pd.concat([_segments(12).assign(family=family) for family in families])
    picture = segment_intervals(pd.concat([many, _segments(0, 5000)]), "d", NOTHING)
    assert _pixels(picture).shape[0] < 1700
    assert len(picture) < LIMIT
