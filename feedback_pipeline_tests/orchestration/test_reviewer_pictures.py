import io
import json
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning_pass.reviewers import PreferenceOutcome
from feedback_pipeline.orchestration.agreement_picture import MAX_ASPECTS, agreement_before_and_after
from feedback_pipeline.orchestration.insight_report import describe_preferences, picture_preferences
from feedback_pipeline.orchestration.metadata import MAX_ROWS
from feedback_pipeline.orchestration.reviewer_pictures import (
    MAX_DRIFTED,
    MAX_REVIEWERS,
    quality_standards,
    severity_by_month,
    severity_caterpillar,
)

LIMIT = 200_000
NAN, INF, HUGE = float("nan"), float("inf"), 1.7e308
NAMES = [r"a$\frac{b$ costs $5", "one\ntwo\t\x00", "n" * 5000, "評審" * 30, ""]


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(matplotlib.image.imread(io.BytesIO(png), format="png"))


def _severities(n: int, **changes: Any) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    frame = pd.DataFrame(
        {
            "reviewer": np.arange(1, n + 1),
            "aspect": "overall",
            "severity": rng.normal(size=n),
            "se": rng.uniform(0.05, 0.4, n),
            "n_reviews": rng.integers(1, 4000, n),
            "comparable": True,
            "method": "random outputs",
            "reason": None,
        }
    )
    return frame.assign(**changes)


def _standards(n: int, aspects: tuple[str, ...] = ("tone", "overall"), **changes: Any) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    frame = pd.DataFrame(
        {
            "reviewer": np.repeat(np.arange(1, n + 1), len(aspects)),
            "aspect": list(aspects) * n,
            "s50": rng.normal(6, 1, n * len(aspects)),
        }
    )
    return frame.assign(s80=frame["s50"] + 1, se=0.3, censored=None, reason=None).assign(**changes)


def _agreement(aspects: tuple[str, ...] = ("tone", "overall", "decision"), **changes: Any) -> pd.DataFrame:
    alpha = np.linspace(-0.2, 0.7, len(aspects))
    values = {"alpha": alpha, "ci_low": alpha - 0.1, "ci_high": alpha + 0.1}
    after = {"alpha_adjusted": alpha + 0.1, "adjusted_ci_low": alpha, "adjusted_ci_high": alpha + 0.2}
    counts = {"n_outputs": 1200, "n_reviewers": 4, "reason": None, "adjusted_reason": None}
    return pd.DataFrame({"agent_name": "*", "aspect": list(aspects), **values, **after, **counts}).assign(**changes)


def _months(n: int) -> pd.DataFrame:
    rows = [(reviewer, month) for reviewer in range(1, n + 1) for month in ("2025-11", "2026-01", "2026-02")]
    frame = pd.DataFrame(rows, columns=["reviewer", "month"])
    frame["severity"] = np.sin(np.arange(len(frame)))
    return frame.assign(ci_low=frame["severity"] - 0.2, ci_high=frame["severity"] + 0.2)


@pytest.mark.slow
def test_severities_grow_with_the_reviewers_up_to_a_limit() -> None:
    pictures = [severity_caterpillar(_severities(n)) for n in (1, MAX_REVIEWERS, 10_000)]
    heights = [_pixels(picture).shape[0] for picture in pictures]
    assert heights[0] < heights[1] < heights[2] < heights[1] + 50
    assert max(map(len, pictures)) < LIMIT


@pytest.mark.slow
def test_of_many_reviewers_the_two_ends_are_drawn() -> None:
    many = _severities(3 * MAX_REVIEWERS)
    picture = severity_caterpillar(many)
    order = many["severity"].rank()
    middle, end = order.sub(order.mean()).abs().idxmin(), order.idxmax()
    assert severity_caterpillar(many.assign(se=many["se"].mask(many.index == middle, 0.01))) == picture
    assert severity_caterpillar(many.assign(se=many["se"].mask(many.index == end, 0.01))) != picture


def test_severities_depend_on_the_overall_numbers_and_not_on_the_order_of_rows() -> None:
    few = _severities(5)
    picture = severity_caterpillar(few)
    assert severity_caterpillar(few.sample(frac=1, random_state=1)) == picture
    assert severity_caterpillar(pd.concat([few, few.assign(aspect="tone", severity=9.0)])) == picture
    assert severity_caterpillar(few.assign(severity=-few["severity"])) != picture
    assert severity_caterpillar(few.assign(comparable=[True, True, False, True, True])) != picture
    assert severity_caterpillar(few.assign(method="agent means", reason="no output has two reviewers")) != picture


def test_a_reviewer_without_a_number_is_left_out() -> None:
    broken = _severities(3).assign(reviewer=[101, 102, 103], severity=[NAN, INF, HUGE])
    assert severity_caterpillar(pd.concat([_severities(4), broken])) == severity_caterpillar(_severities(4))
    unknown = _severities(4, se=[NAN, INF, HUGE, 0.1])
    assert severity_caterpillar(unknown) == severity_caterpillar(unknown.assign(se=[NAN, NAN, NAN, 0.1]))


@pytest.mark.parametrize(
    "severities",
    [
        _severities(0),
        _severities(3, severity=NAN, se=NAN),
        _severities(2, method="none", reason="one $ reviewer"),
        _severities(2, aspect="tone"),
    ],
)
def test_severities_of_nothing(severities: pd.DataFrame) -> None:
    assert _pixels(severity_caterpillar(severities)).shape[0] == 100


def test_reviewers_who_do_not_differ_are_drawn() -> None:
    assert _pixels(severity_caterpillar(_severities(5, severity=0.0, se=0.0))).shape[0] > 100


def test_standards_depend_on_their_numbers_and_not_on_the_order_of_rows() -> None:
    few = _standards(6)
    picture = quality_standards(few)
    assert quality_standards(few.sample(frac=1, random_state=1)) == picture
    assert len({picture, *(quality_standards(few.assign(censored=state)) for state in ("all approved", "none approved"))}) == 3
    others = few["aspect"] == "tone"
    assert quality_standards(few.assign(s50=few["s50"].mask(others, few["s50"] - 1))) != picture
    assert quality_standards(few.assign(se=few["se"].mask(others, 9.0))) == picture


@pytest.mark.slow
def test_standards_of_very_many_reviewers_and_aspects_are_a_modest_picture() -> None:
    aspects = (*(f"aspect {n:03d}" for n in range(40)), "overall")
    pixels = _pixels(picture := quality_standards(_standards(500, aspects)))
    assert pixels.shape[0] < 2200
    assert len(picture) < LIMIT


def test_a_standard_without_a_number_is_left_out() -> None:
    broken = _standards(3, ("overall",)).assign(reviewer=[101, 102, 103], s50=[NAN, HUGE, 1.0], s80=[1.0, 1.0, INF])
    assert quality_standards(pd.concat([_standards(4), broken])) == quality_standards(_standards(4))


@pytest.mark.parametrize(
    "standards", [_standards(0), _standards(2, s50=NAN, s80=NAN, se=NAN, reason="no $"), _standards(2, ("tone",))]
)
def test_standards_of_nothing(standards: pd.DataFrame) -> None:
    assert _pixels(quality_standards(standards)).shape[0] == 100


def test_agreement_depends_on_the_fleet_and_not_on_the_order_of_rows() -> None:
    fleet = _agreement()
    picture = agreement_before_and_after(fleet)
    assert agreement_before_and_after(fleet.sample(frac=1, random_state=2)) == picture
    assert agreement_before_and_after(pd.concat([fleet, fleet.assign(agent_name="drafter", alpha=0.9)])) == picture
    for column in ("alpha", "ci_low", "adjusted_ci_high"):
        assert agreement_before_and_after(fleet.assign(**{column: 0.25})) != picture


def test_an_undefined_alpha_shows_its_reason() -> None:
    undefined = _agreement()
    undefined[["alpha", "ci_low", "ci_high", "alpha_adjusted", "adjusted_ci_low", "adjusted_ci_high"]] = NAN
    empty = agreement_before_and_after(undefined)
    assert agreement_before_and_after(undefined.assign(reason="undefined: no output has two reviewers")) != empty
    assert _pixels(agreement_before_and_after(_agreement().head(0))).shape[0] == 100


def test_of_too_many_aspects_those_with_the_lowest_alpha_are_drawn() -> None:
    many = _agreement(tuple(f"aspect {n:03d}" for n in range(3 * MAX_ASPECTS)))
    picture = agreement_before_and_after(many)
    highest = many["alpha"] == many["alpha"].max()
    assert agreement_before_and_after(many.assign(alpha=many["alpha"].mask(highest, 0.99))) == picture
    assert _pixels(picture).shape[0] == _pixels(agreement_before_and_after(many.head(MAX_ASPECTS))).shape[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_any_name_and_reason_leave_the_pictures_their_size(name: str) -> None:
    def shapes(aspect: str, reason: str) -> list[tuple[int, ...]]:
        pictures = [
            agreement_before_and_after(_agreement((aspect, "overall"), reason=reason)),
            quality_standards(_standards(2, (aspect, "overall"))),
            severity_caterpillar(_severities(2, reason=reason)),
        ]
        return [_pixels(picture).shape for picture in pictures]

    assert shapes(name, name) == shapes("plain", "plain")


@pytest.mark.slow
def test_months_are_drawn_for_the_clearest_changes_up_to_a_limit() -> None:
    months = _months(2 * MAX_DRIFTED)
    few, most, more = (_pixels(severity_by_month(months, list(range(1, n + 1)))) for n in (1, MAX_DRIFTED, 2 * MAX_DRIFTED))
    assert few.shape[0] < most.shape[0] == more.shape[0]
    assert severity_by_month(months, [1, 2]) != severity_by_month(months, [2, 1])
    assert severity_by_month(months[months["reviewer"] <= 2], [1, 2]) == severity_by_month(months, [1, 2])


def test_months_without_a_number() -> None:
    months = _months(2)
    for column in ("ci_low", "ci_high"):
        assert _pixels(severity_by_month(months.assign(**{column: NAN}), [1])).shape[0] > 100
    assert _pixels(severity_by_month(months.assign(severity=NAN), [1])).shape[0] == 100
    assert _pixels(severity_by_month(months, [])).shape[0] == 100


def _outcome(n: int, *, drifted: bool) -> PreferenceOutcome:
    people = [f"person-{reviewer:05d}@example.org" for reviewer in range(1, n + 1)]
    drift = {"drifted": drifted, "q_value": 0.01, "spread": 0.5, "n_months": 3, "reason": None}
    standard = {"s50": 5.0, "s80": 6.0, "se": 0.1, "n": 9, "censored": None, "reason": None}
    with_ids = {"reviewer_id": people}
    severities = _severities(n).drop(columns="reviewer").assign(**with_ids, component=0)
    frames = {
        "models": pd.DataFrame(with_ids).assign(
            severity=json.dumps({"drift": drift}), quality_standards=json.dumps({"tone": standard, "overall": standard})
        ),
        "severities": pd.concat([severities.assign(aspect="a tone"), severities]),
        "components": pd.DataFrame(with_ids).assign(component=np.arange(n) // 3),
        "bridges": pd.DataFrame(
            {"component": 1, "agent_name": "a", "execution_id": "secret", "reviewer_id": "person-1"}, index=range(min(n, 1))
        ),
        "months": _months(n).assign(reviewer_id=np.repeat(people, 3) if n else []).drop(columns="reviewer"),
        "agreement": _agreement() if n else _agreement().head(0),
    }
    facts = {
        "n_reviewers": n,
        "accuracy": 0.71239,
        "baseline": 0.6,
        "n_test": 30,
        "methods": {"overall": {}},
        "window_first": None,
    }
    return PreferenceOutcome("run", facts, frames)


def test_what_preference_models_show() -> None:
    outcome = _outcome(7, drifted=True)
    shown = describe_preferences(outcome) | picture_preferences(outcome.frames)
    assert shown["reviewers"] == 7
    assert shown["decisions foreseen by the preference models"] == 0.712
    assert shown["decisions foreseen by the reviewers' own majorities"] == 0.6
    assert shown["decisions held out"] == 30
    assert (shown["components"], shown["second reviews that would connect them"]) == (3, 1)
    assert [record.data for record in shown["reviewers by component"].records] == [
        {"component": 0, "reviewers": 3},
        {"component": 1, "reviewers": 3},
        {"component": 2, "reviewers": 1},
    ]
    severities = [record.data for record in shown["severities"].records]
    assert [row["aspect"] for row in severities] == ["overall"] * 7 + ["a tone"] * 7
    assert sorted(str(row["reviewer"]) for row in severities[:7]) == [f"R{number}" for number in range(1, 8)]
    assert [record.data["aspect"] for record in shown["agreement"].records] == ["tone", "overall", "decision"]
    for name in ("severity by reviewer", "quality standards", "agreement before and after", "severity by month"):
        assert shown[name].value.startswith(f"![{name}](data:image/png;base64,")
    assert "person-" not in str(shown)
    assert "secret" not in str(shown)


@pytest.mark.parametrize("n", [0, 1, pytest.param(2000, marks=pytest.mark.slow)])
def test_nobody_one_reviewer_and_very_many_can_be_shown(n: int) -> None:
    outcome = _outcome(n, drifted=False)
    shown = describe_preferences(outcome) | picture_preferences(outcome.frames)
    assert "severity by month" not in shown
    assert len(shown["severities"].records) == min(2 * n, MAX_ROWS)
    assert len(shown["reviewers by component"].records) <= MAX_ROWS
    assert "person-" not in str(shown)
