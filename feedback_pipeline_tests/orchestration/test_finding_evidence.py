from typing import Any

import pandas as pd
import pytest

from feedback_pipeline.orchestration.finding_evidence import unusable_findings

GOOD: dict[str, Any] = {
    "agent_name": "drafter",
    "feature": "cost",
    "aspect": "overall",
    "r": 0.3,
    "r_shrunk": 0.25,
    "ci_low": 0.1,
    "ci_high": 0.4,
    "q_value": 0.01,
    "confidence": 0.99,
    "published": True,
    "reason": None,
}


def _findings(*changes: dict[str, Any]) -> pd.DataFrame:
    rows = [GOOD | {"feature": f"f{number}"} | change for number, change in enumerate(changes)]
    return pd.DataFrame(rows, columns=list(GOOD))


def test_findings_within_their_ranges_pass() -> None:
    undefined = {
        "r": None,
        "r_shrunk": None,
        "ci_low": None,
        "ci_high": None,
        "q_value": None,
        "published": False,
        "reason": "constant",
    }
    result = unusable_findings(_findings({}, undefined, {"r": -1.0, "ci_low": -1.0}))
    assert (result.observed, result.details) == (0, {"findings": 3})
    assert result.passed


def test_no_findings_pass() -> None:
    assert unusable_findings(_findings()).passed


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"feature": "f0"}, "repeated pairs"),
        ({"r": 1.01}, "r out of range"),
        ({"q_value": -0.1}, "q_value out of range"),
        ({"confidence": 1.5}, "confidence out of range"),
        ({"ci_low": 0.5}, "empty intervals"),
        ({"r": None}, "published without a value"),
        ({"published": False}, "withheld without a reason"),
    ],
)
def test_an_unusable_finding_is_counted(change: dict[str, Any], where: str) -> None:
    result = unusable_findings(_findings({}, change))
    assert result.details == {"findings": 2, where: 1}
    assert not result.passed
