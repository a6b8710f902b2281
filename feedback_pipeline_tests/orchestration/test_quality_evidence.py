from datetime import UTC, datetime
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning_pass.predictor import PredictorOutcome
from feedback_pipeline.orchestration.quality_evidence import beaten_by_baseline, coverage_off, drifted, thin_agents
from feedback_pipeline.orchestration.quality_report import describe_predictor, shifted_features
from feedback_pipeline.storage.reading_models import HISTORY_COLUMNS, KnownModel
from feedback_pipeline.storage.tracking import Tracking


def champion(candidate: str, **r2: float | None) -> KnownModel:
    metrics: dict[str, Any] = {"candidates": {name: {"r2": value} for name, value in r2.items()}}
    return KnownModel(3, candidate, "run", datetime(2026, 1, 1, tzinfo=UTC), None, metrics)


def test_a_champion_has_to_beat_ridge_and_the_mean() -> None:
    assert beaten_by_baseline(champion("eb_mixed", mean=0.1, ridge=0.3, eb_mixed=0.5)).passed
    behind = beaten_by_baseline(champion("eb_mixed", mean=0.1, ridge=0.3, eb_mixed=0.25))
    assert not behind.passed
    assert behind.observed == pytest.approx(0.05)
    for simple in ("mean", "ridge"):
        found = beaten_by_baseline(champion(simple, mean=0.1, ridge=0.3))
        assert not found.passed
        assert f"better than {simple}" in str(found.details["reason"])


def test_where_nothing_was_measured_the_check_says_so() -> None:
    for model in (None, champion("eb_mixed", mean=None, ridge=None, eb_mixed=None)):
        found = beaten_by_baseline(model)
        assert found.passed
        assert found.details["reason"]
    assert drifted("reviews come out lower", None, {"tone": 0.3}).passed
    assert coverage_off(None, 0).passed
    assert "too few" in str(coverage_off(0.2, 49).details["reason"])


@pytest.mark.parametrize(("share", "passes"), [(0.84, False), (0.85, True), (0.9, True), (0.95, True), (0.96, False)])
def test_coverage_lies_between_its_limits(share: float, passes: bool) -> None:
    assert coverage_off(share, 50).passed is passes


def test_an_alarm_fails_and_is_told() -> None:
    model = champion("eb_mixed")
    assert drifted(None, model, {}).passed
    found = drifted("since the week of 2026-01-05 reviews come out lower than forecast (ewma)", model, {})
    assert not found.passed
    assert "2026-01-05" in str(found.details["alarm"])


def test_features_that_shifted_are_named_and_no_alarm() -> None:
    rows = {"feature": ["cost", "tone", "words", "links"], "psi": [0.21, np.nan, 0.1, 1.5], "warning": [True, False, False, True]}
    history = pd.DataFrame(columns=list(HISTORY_COLUMNS))
    outcome = PredictorOutcome("run", {"champion": 3}, pd.DataFrame(), history, (), pd.DataFrame(rows))
    told = describe_predictor(outcome, Tracking("http://127.0.0.1:9"), "")
    with dg.DagsterInstance.ephemeral() as instance:
        assert shifted_features(instance.get_latest_materialization_event(dg.AssetKey("quality_predictor"))) == {}
        instance.report_runless_asset_event(dg.AssetMaterialization("quality_predictor", metadata=told))
        shifted = shifted_features(instance.get_latest_materialization_event(dg.AssetKey("quality_predictor")))
    found = drifted(None, champion("eb_mixed"), shifted)
    assert found.passed
    assert found.details == {"features that shifted": 2, "most of all": "links (1.50), cost (0.21)"}


def test_agents_with_too_few_reviews_are_named() -> None:
    assert thin_agents({"a": 10, "b": 500}).passed
    found = thin_agents({"zeta": 9, "alpha": 0, "b": 500})
    assert (found.passed, found.observed, found.details["agents with too few"]) == (False, 2, "alpha, zeta")
    assert thin_agents({}).passed
