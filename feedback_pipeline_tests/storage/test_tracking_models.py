import importlib.metadata
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_pipeline.errors import UserError
from feedback_pipeline.storage.tracking_models import TrainingData, defined, key, shortened
from feedback_pipeline_tests.storage.scoring_model import predictor


@pytest.mark.parametrize("name", ["r2", "agent/drafter/r2", "share of the ceiling", "a.b-c:d_e"])
def test_names_that_mlflow_accepts_stay(name: str) -> None:
    assert key(name) == name


@settings(deadline=None)
@given(st.text(min_size=1, max_size=400))
def test_every_name_becomes_one_that_mlflow_accepts(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(key(name))  # type: ignore[no-untyped-call]
    assert len(key(name)) <= 250
    assert key(key(name)) == key(name)


def test_names_that_differ_in_what_is_not_allowed_stay_different() -> None:
    assert len({key(name) for name in ("agent/é", "agent/è", "agent/_", "agent/..", "agent/.")}) == 5
    assert len({key(first + "x" * 300) for first in "ab"} | {key("x" * 300 + last) for last in "ab"}) == 4


def test_metrics_that_are_undefined_are_named_and_not_written() -> None:
    numbers, undefined = defined({"r2": 0.5, "rmse": math.nan, "mae": math.inf})
    assert numbers == {"r2": 0.5}
    assert undefined == ["rmse", "mae"]


def test_long_parameters_are_shortened_and_kept_whole_elsewhere() -> None:
    features = [f"feature_{number}" for number in range(200)]
    shown, long = shortened({"seed": 1, "features": features, "name": "ridge", "alpha": None})
    assert {name: shown[name] for name in ("seed", "name", "alpha")} == {"seed": "1", "name": "ridge", "alpha": "null"}
    assert len(shown["features"]) < 600
    assert "parameters.json" in shown["features"]
    assert long == {"features": features}


def test_requirements_are_those_that_are_installed() -> None:
    pinned = dict(requirement.split("==") for requirement in predictor().requirements())
    assert {"mlflow", "numpy", "pandas", "scikit-learn"} <= set(pinned)
    assert all(importlib.metadata.version(name) == version for name, version in pinned.items())


def test_a_digest_that_mlflow_would_refuse_is_refused_before() -> None:
    with pytest.raises(UserError, match="36"):
        TrainingData("reviews", "x" * 37, {}, {}, {})
