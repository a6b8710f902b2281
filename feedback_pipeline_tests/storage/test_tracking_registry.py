"""Models in a real MLflow store: registered, found by their aliases, loaded here and in a process that knows none of this."""

import dataclasses
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import StoreError, UserError
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_models import Record
from feedback_pipeline_tests.storage import scoring_model
from feedback_pipeline_tests.storage.scoring_model import predictor, rows
from feedback_pipeline_tests.storage.tracking_stores import MakeTracking, trained

pytestmark = pytest.mark.slow


@pytest.fixture
def tracking(make_tracking: MakeTracking) -> Tracking:
    return make_tracking("models")


def test_before_the_first_training_there_is_nothing(tracking: Tracking) -> None:
    assert tracking.models.versions() == []
    assert tracking.models.get_alias("champion") is None
    tracking.models.set_alias("challenger", None)
    assert tracking.models.remove_old_files() == []
    with pytest.raises(UserError, match="learn first"):
        tracking.models.load("champion")


def test_versions_count_up_and_aliases_move(tracking: Tracking) -> None:
    first, second = trained(tracking, 5.0), trained(tracking, 6.0)
    assert (first, second) == (1, 2)
    models = tracking.models
    models.set_alias("champion", first)
    models.set_alias("challenger", second)
    newest, oldest = models.versions()
    assert (newest.number, newest.aliases, newest.tags) == (2, ("challenger",), {"gain": "0.07"})
    assert (oldest.number, oldest.aliases, oldest.has_files) == (1, ("champion",), True)
    models.set_alias("champion", second)
    models.set_alias("challenger", None)
    assert [version.aliases for version in models.versions()] == [("champion",), ()]


def test_a_model_scores_rows_as_they_come(tracking: Tracking) -> None:
    tracking.models.set_alias("champion", trained(tracking))
    champion = tracking.models.load("champion")
    expected = predictor().model.predict(rows())
    pd.testing.assert_frame_equal(champion.predict(rows()), expected)
    shuffled = rows()[["tone", "reviewer_id", "cost", "agent_name", "word_count"]]
    pd.testing.assert_frame_equal(champion.predict(shuffled), expected)
    pd.testing.assert_frame_equal(champion.predict(shuffled.drop(columns="reviewer_id").assign(more=1)), expected)
    whole = rows().assign(word_count=pd.Series([100, 7000], dtype="int64"), cost=None, tone=None)
    assert list(champion.predict(whole)["score"]) == [6.0, 75.0]
    strict = rows().assign(reviewer_id=["strict", "somebody new"])
    assert list(champion.predict(strict)["score"]) == [5.0, 5.0]
    assert list(champion.predict(rows().iloc[:0]).columns) == ["score", "low", "high", "p_approve"]
    with pytest.raises(UserError, match="needs cost, tone;"):
        champion.predict(rows().drop(columns=["tone", "cost"]))


def test_a_version_is_read_once(tracking: Tracking) -> None:
    path = list(sys.path)
    first = trained(tracking, 5.0)
    tracking.models.set_alias("champion", first)
    loaded = tracking.models.load("champion")
    assert tracking.models.load(first).model is loaded.model
    tracking.models.set_alias("challenger", first)
    assert set(tracking.models.load(first).version.aliases) == {"champion", "challenger"}
    tracking.models.set_alias("champion", trained(tracking, 6.0))
    assert list(tracking.models.load("champion").predict(rows())["score"]) == [7.0, 6.0]
    assert sys.path == path


def test_files_of_old_versions_go_unless_an_alias_names_them(tracking: Tracking) -> None:
    numbers = [trained(tracking, float(base)) for base in range(4)]
    models = tracking.models
    models.set_alias("champion", 1)
    assert models.remove_old_files(keep=2) == [2]
    assert models.remove_old_files(keep=2) == []
    assert [(version.number, version.has_files) for version in models.versions()] == [(4, True), (3, True), (2, False), (1, True)]
    assert models.versions()[2].tags["gain"] == "0.07"
    assert list(models.load("champion").predict(rows())["score"]) == [1.0, 0.0]
    with pytest.raises(UserError, match=r"files of version 2 .* removed"):
        models.load(2)
    assert trained(tracking) == len(numbers) + 1


def test_files_that_somebody_removed_are_missed_by_name(tracking: Tracking) -> None:
    number = trained(tracking)
    uri = tracking._store._opened.get_model_version_download_uri(tracking.models.name, str(number))  # type: ignore[union-attr]
    (Path(uri.removeprefix("file://")) / "MLmodel").unlink()
    with pytest.raises(StoreError, match="MLmodel"):
        tracking.models.load(number)


def test_a_model_of_other_code_asks_for_a_training(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    number = trained(tracking)
    monkeypatch.delattr(scoring_model, "ScoringModel")
    with pytest.raises(StoreError, match="train again"):
        tracking.models.load(number)


def test_a_model_that_answers_something_else_is_not_logged(tracking: Tracking) -> None:
    run_id = tracking.start_training("training", Record())
    with pytest.raises(StoreError, match="instead of"):
        tracking.log_model(run_id, dataclasses.replace(predictor(), outputs=("score",)))
    assert tracking.models.versions() == []


def test_what_is_logged_says_what_it_needs(tracking: Tracking) -> None:
    import mlflow.models

    run_id = tracking.start_training("training", Record())
    folder = Path(tracking.log_model(run_id, predictor()).uri.removeprefix("file://"))
    model: Any = mlflow.models.Model.load(str(folder))
    inputs = {column.name: (column.type.name, column.required) for column in model.get_input_schema().inputs}
    assert inputs["word_count"] == inputs["cost"] == ("double", True)
    assert (inputs["tone"], inputs["agent_name"], inputs["reviewer_id"]) == (
        ("string", True),
        ("string", True),
        ("string", False),
    )
    assert [column.name for column in model.get_output_schema().inputs] == ["score", "low", "high", "p_approve"]
    assert set(predictor().requirements()) <= set((folder / "requirements.txt").read_text().split())
    example = model.load_input_example(str(folder))
    assert list(example.columns) == list(rows().columns)
    code = {str(path.relative_to(folder / "code")) for path in (folder / "code").rglob("*.py")}
    assert {"feedback_pipeline/__init__.py", "feedback_pipeline/learning/features.py"} <= code
    assert not any("orchestration" in name or "commands" in name for name in code)
    assert not (folder / "pyproject.toml").exists()


ELSEWHERE = """
import importlib.abc, importlib.util, json, sys

class NoDagster(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dagster", "psycopg"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, NoDagster())
sys.path.append(sys.argv[1])
assert importlib.util.find_spec("feedback_pipeline") is None
import mlflow.pyfunc
import pandas as pd

model = mlflow.pyfunc.load_model(sys.argv[2])
frame = pd.DataFrame({"reviewer_id": ["strict"], "agent_name": ["nobody"], "tone": [None], "cost": [0.5], "word_count": [100.0]})
answer = model.predict(frame).iloc[0].to_dict()
try:
    model.predict(frame.drop(columns="cost"))
except Exception as error:
    refusal = str(error)
import feedback_pipeline
print(json.dumps({"answer": answer, "refusal": refusal, "code": feedback_pipeline.__file__}))
"""


@pytest.fixture
def other_packages(tmp_path: Path) -> Path:
    """Everything that is installed here but this package."""
    folder = tmp_path / "site"
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "feedback_pipeline" not in entry.name and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


def test_a_model_loads_where_this_package_is_not_installed(
    tracking: Tracking, mlflow_database: Database, other_packages: Path, tmp_path: Path
) -> None:
    tracking.models.set_alias("champion", trained(tracking))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ELSEWHERE, str(other_packages), f"models:/{tracking.models.name}@champion"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=elsewhere,
        env={"PATH": "", "MLFLOW_TRACKING_URI": mlflow_database.sqlalchemy_url(), "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["answer"]["score"] == 5.0
    assert np.isclose(said["answer"]["p_approve"], 1 / (1 + np.exp(-5.0)))
    assert "cost" in said["refusal"]
    assert "/code/feedback_pipeline/" in said["code"]
