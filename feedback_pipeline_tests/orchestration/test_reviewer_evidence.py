import json
from typing import Any

import pandas as pd
import pytest

from feedback_pipeline.orchestration.reviewer_evidence import NAMED, disagreement, failed_models, separation, unsteadiness
from feedback_pipeline.orchestration.reviewer_frames import drifters, numbered, standards

NAN = float("nan")
ALPHA: dict[str, Any] = {
    "agent_name": "*",
    "aspect": "overall",
    "alpha": 0.4,
    "ci_low": 0.3,
    "ci_high": 0.5,
    "alpha_adjusted": 0.5,
    "reason": None,
}


def _agreement(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([ALPHA | change for change in changes], columns=list(ALPHA))


def test_reviewers_who_agree_pass() -> None:
    found = disagreement(_agreement({}, {"aspect": "tone", "alpha": -1, "ci_low": -1, "agent_name": "drafter"}))
    assert found.passed
    assert found.details == {"aspects measured": 1}


@pytest.mark.parametrize("low", [0.0, -0.2])
def test_an_interval_not_above_chance_is_named_with_what_is_left_after_severity(low: float) -> None:
    found = disagreement(
        _agreement(
            {},
            {"aspect": "decision", "alpha": 0.05, "ci_low": low, "ci_high": 0.1, "alpha_adjusted": NAN},
            {"aspect": "tone", "alpha": -0.3, "ci_low": -0.4, "ci_high": -0.2, "alpha_adjusted": 0.25},
        )
    )
    assert (found.observed, found.threshold, found.passed) == (2, 0, False)
    assert found.details == {
        "aspects measured": 3,
        "alpha: tone": "-0.30 (-0.40 to -0.20), 0.25 after severity is removed",
        "alpha: decision": f"0.05 ({low:.2f} to 0.10)",
    }


def test_what_is_not_measured_is_named_with_its_reason_and_does_not_fail() -> None:
    nothing = {"alpha": NAN, "ci_low": NAN, "ci_high": NAN, "reason": "undefined: no output has two reviewers"}
    few = {"ci_low": NAN, "ci_high": NAN, "aspect": "clarity", "reason": "interval undefined: too few"}
    found = disagreement(_agreement(nothing | {"aspect": "tone"}, nothing, few))
    assert found.passed
    assert found.details == {
        "aspects measured": 0,
        "not measured (undefined: no output has two reviewers)": "tone, overall",
        "not measured (interval undefined: too few)": "clarity",
    }
    assert disagreement(_agreement()).passed


def test_of_very_many_aspects_some_are_named_and_all_are_counted() -> None:
    found = disagreement(_agreement(*({"aspect": f"a{n:03d}", "ci_low": -1} for n in range(300))))
    assert found.observed == 300
    assert len(found.details) == NAMED + 1


def _components(*sizes: int) -> pd.DataFrame:
    members = [place for place, size in enumerate(sizes) for _ in range(size)]
    return pd.DataFrame({"reviewer": range(1, len(members) + 1), "component": members})


def _bridges(count: int) -> pd.DataFrame:
    return pd.DataFrame({"component": range(1, count + 1)})


@pytest.mark.parametrize("sizes", [(), (1,), (40,)])
def test_one_component_or_nobody_is_connected(sizes: tuple[int, ...]) -> None:
    found = separation(_components(*sizes), _bridges(0))
    assert found.passed
    assert found.details == {"reviewers": sum(sizes)}


def test_components_are_told_by_size_and_by_what_would_connect_them() -> None:
    found = separation(_components(9, 4, 1, 1, 1), _bridges(4))
    assert (found.observed, found.threshold, found.passed) == (5, 1, False)
    assert found.details == {
        "reviewers": 16,
        "reviewers by component": "9, 4, 3 x 1",
        "second reviews that would connect them": 4,
    }


def test_components_of_very_many_sizes_stay_short() -> None:
    found = separation(_components(*range(100, 0, -1)), _bridges(99))
    assert str(found.details["reviewers by component"]).endswith("82, 81, and 80 more")


def _models(*drifts: dict[str, Any]) -> pd.DataFrame:
    plain = {"drifted": False, "q_value": 0.5, "spread": 0.0, "n_months": 3, "reason": None}
    return pd.DataFrame(
        {
            "reviewer": range(1, len(drifts) + 1),
            "severity": [json.dumps({"overall": 0.1, "drift": plain | drift}) for drift in drifts],
        }
    )


def test_a_reviewer_whose_severity_changes_is_named_by_number_clearest_first() -> None:
    untested = {"drifted": None, "q_value": None, "spread": None, "reason": "no score"}
    models = _models(
        {},
        {"drifted": True, "q_value": 0.04, "spread": 0.31},
        untested,
        {"drifted": True, "q_value": 0.001, "spread": 1.234},
    )
    found = unsteadiness(models)
    assert (found.observed, found.threshold, found.passed) == (2, 0, False)
    assert found.details == {
        "reviewers tested": 3,
        "severity changes": "R4 (spread 1.2), R2 (spread 0.31)",
        "not tested: no score": 1,
    }
    assert drifters(models) == [4, 2]


def test_steady_reviewers_and_nobody_pass() -> None:
    assert unsteadiness(_models({}, {})).details == {"reviewers tested": 2}
    nobody = unsteadiness(_models())
    assert nobody.passed
    assert nobody.details == {"reviewers tested": 0}
    assert drifters(_models()) == []


def test_models_that_failed_are_named_with_their_reasons() -> None:
    found = failed_models(
        {"severity_failures": {"observed": "did not converge"}, "preference_failures": {"preferences": "not finite"}}
    )
    assert (found.observed, found.passed) == (2, False)
    assert found.details == {"severity: observed": "did not converge", "preferences: preferences": "not finite"}
    assert failed_models({"severity_failures": {}, "preference_failures": {}}).passed


def test_numbers_follow_the_order_of_the_ids_and_no_id_is_left() -> None:
    people = ["zoe", "adam", "Zed"]
    frames = {
        "models": pd.DataFrame({"reviewer_id": people, "n_test": [1, 2, 3]}),
        "severities": pd.DataFrame({"reviewer_id": ["adam", "zoe"], "severity": [0.1, 0.2]}),
        "components": pd.DataFrame({"reviewer_id": ["zoe"], "component": [0]}),
        "months": pd.DataFrame({"reviewer_id": ["Zed"], "month": ["2026-01"]}),
        "bridges": pd.DataFrame({"component": [1], "agent_name": ["a"], "execution_id": ["secret"], "reviewer_id": ["zoe"]}),
        "agreement": _agreement({}),
        "reviews": pd.DataFrame({"reviewer_id": people, "feedback_id": people}),
    }
    shown = numbered(frames)
    assert shown["models"]["reviewer"].tolist() == [3, 2, 1]
    assert shown["severities"]["reviewer"].tolist() == [2, 3]
    assert shown["components"]["reviewer"].tolist() == [3]
    assert shown["months"]["reviewer"].tolist() == [1]
    everything = "".join(frame.to_csv() for frame in shown.values())
    assert not any(word in everything for word in [*people, "secret", "reviewer_id"])


def test_standards_come_out_of_their_documents() -> None:
    known = {"s50": 5.0, "s80": 6.5, "se": 0.2, "n": 9, "censored": "all approved", "reason": None}
    unknown = {"s50": None, "s80": None, "se": None, "n": 0, "censored": None, "reason": "no decision"}
    models = pd.DataFrame({"reviewer": [1, 2], "quality_standards": [json.dumps({"tone": known, "overall": unknown}), "{}"]})
    frame = standards(models)
    assert frame[["reviewer", "aspect", "s50", "s80", "se", "censored"]].iloc[0].tolist() == [
        1,
        "tone",
        5.0,
        6.5,
        0.2,
        "all approved",
    ]
    assert frame["reason"].dropna().tolist() == ["no decision"]
    assert frame["s50"].isna().tolist() == [False, True]
    assert frame["s50"].dtype == float
    assert standards(models.head(0)).empty
