from pathlib import Path

import pytest

from feedback_pipeline.environment import settings_from_environment
from feedback_pipeline.errors import UserError
from feedback_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FEEDBACK_SEED", "-1", "greater than or equal to 0"),
        ("FEEDBACK_SEED", "1.5", "integer"),
        ("FEEDBACK_DAGSTER_PORT", "0", "greater than or equal to 1"),
        ("FEEDBACK_DAGSTER_PORT", "65536", "less than or equal to 65535"),
        ("FEEDBACK_MLFLOW_PORT", "0", "greater than or equal to 1"),
        ("FEEDBACK_SCORE_BOUNDS", '{"*": [0, Infinity]}', "finite"),
        ("FEEDBACK_SCORE_BOUNDS", '{"tone": [-1e400, 5]}', "'tone' must be finite"),
        ("FEEDBACK_SCORE_BOUNDS", '{"tone": [NaN, 5]}', "finite"),
        ("FEEDBACK_SCORE_BOUNDS", '{"tone": [-1.7e308, 1.7e308]}', "finite"),
        ("FEEDBACK_SCORE_BOUNDS", '{"tone": [5, 5]}', "low < high"),
        ("FEEDBACK_FIRST_DAY", "soon", "date"),
        ("FEEDBACK_LEARN_THRESHOLD", "0", "greater than or equal to 1"),
        ("FEEDBACK_LEARN_THRESHOLDS", '{"drafter": 0}', "greater than or equal to 1"),
        ("FEEDBACK_LEARN_AGE_DAYS", "0", "greater than 0"),
        ("FEEDBACK_DAILY_HOUR", "24", "less than or equal to 23"),
        ("FEEDBACK_ALERT_WEBHOOK", "ftp://alerts.example", "must start with http:// or https://"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{variable}: ") as refusal:
        settings_from_environment()
    assert words in str(refusal.value)


@pytest.mark.parametrize(("seed", "port"), [(0, 1), (2**40, 65535)])
def test_the_ends_of_the_ranges_can_be_used(monkeypatch: pytest.MonkeyPatch, seed: int, port: int) -> None:
    monkeypatch.setenv("FEEDBACK_SEED", str(seed))
    monkeypatch.setenv("FEEDBACK_DAGSTER_PORT", str(port))
    settings = settings_from_environment()
    assert (settings.seed, settings.dagster_port) == (seed, port)


@pytest.mark.parametrize("variable", ["FEEDBACK_SCORE_BOUNDS", "FEEDBACK_LEARN_THRESHOLDS"])
def test_what_is_not_json_is_refused_by_its_name_without_its_value(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "{oops")
    with pytest.raises(UserError, match=f"^{variable} is not JSON; write it as '{{") as refusal:
        settings_from_environment()
    assert "oops" not in str(refusal.value)


def test_an_empty_webhook_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEEDBACK_ALERT_WEBHOOK", "")
    assert settings_from_environment().alert_webhook is None


def test_bounds_of_an_aspect_leave_the_others_as_they_are() -> None:
    assert Settings(score_bounds={"tone": (1, 5)}).score_bounds == {"*": (0.0, 10.0), "tone": (1.0, 5.0)}


@pytest.mark.parametrize(("value", "read"), [("s3://bucket/ml", "s3://bucket/ml"), ("here/ml", "{cwd}/here/ml"), ("", "")])
def test_the_files_of_mlflow_lie_under_a_url_or_an_absolute_folder(value: str, read: str) -> None:
    assert Settings(mlflow_artifacts=value).mlflow_artifacts == read.format(cwd=Path.cwd())
