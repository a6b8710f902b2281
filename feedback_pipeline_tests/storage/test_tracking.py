"""Runs in a real MLflow store."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from feedback_pipeline.errors import StoreError, StoreUnavailable
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_models import Candidate, Record
from feedback_pipeline.storage.tracking_registry import MODE
from feedback_pipeline_tests.storage.tracking_stores import DATA, MakeTracking, candidate, pixel, trained

pytestmark = pytest.mark.slow

Look = Callable[[Tracking], MlflowClient]


@pytest.fixture
def tracking(make_tracking: MakeTracking) -> Tracking:
    return make_tracking("runs")


def client_of(tracking: Tracking) -> MlflowClient:
    uri = tracking._store.uri
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def run_of(tracking: Tracking, run_id: str) -> Run:
    return client_of(tracking).get_run(run_id)


def files_of(tracking: Tracking, run_id: str) -> dict[str, bytes]:
    root = Path(run_of(tracking, run_id).info.artifact_uri.removeprefix("file://"))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_candidates_are_nested_in_their_training(tracking: Tracking) -> None:
    parent = tracking.start_training("training of January", Record(params={"seed": 1}, tags={"learning_run_id": "run-1"}), "here")
    nested = tracking.log_candidate(parent, candidate("ridge", {"r2": 0.5, "agent/drafter é/r2": 0.25, "rmse": float("nan")}))
    tracking.finish(parent)

    above, run = run_of(tracking, parent), run_of(tracking, nested)
    assert (above.info.run_name, above.info.status, above.data.params) == ("training of January", "FINISHED", {"seed": "1"})
    assert (above.data.tags["learning_run_id"], above.data.tags["installation"]) == ("run-1", "here")
    assert (run.info.run_name, run.info.status) == ("ridge", "FINISHED")
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert {name: run.data.tags[name] for name in ("candidate", "window", "installation", "undefined")} == {
        "candidate": "ridge",
        "window": "30 days",
        "installation": "here",
        "undefined": "rmse",
    }
    assert run.data.params == {"candidate": "ridge", "features": '["word_count", "tone"]'}
    assert sorted(run.data.metrics.values()) == [0.25, 0.5, 1.5]
    assert (run.data.metrics["r2"], run.data.metrics["fit_seconds"]) == (0.5, 1.5)
    assert run.inputs is not None
    (data,) = [each.dataset for each in run.inputs.dataset_inputs]
    assert (data.name, data.digest, json.loads(data.source)) == ("reviews", DATA.digest, DATA.source)
    assert json.loads(data.profile or "") == DATA.profile
    files = files_of(tracking, nested)
    assert files["figures/forward.png"] == pixel()
    assert files["tables/agents.csv"].decode().splitlines() == ["agent_name,word_count", "writer,100.0", "someone new,"]


def test_hundreds_of_metrics_and_a_long_parameter_arrive(tracking: Tracking) -> None:
    metrics, features = {f"agent/{number}/r2": number / 1000 for number in range(450)}, [f"feature {n}" for n in range(300)]
    parent = tracking.start_training("wide", Record(params={"features": features}, metrics=metrics, tags={"a": "b"}))
    run = run_of(tracking, parent)
    assert run.data.metrics == metrics
    assert run.data.tags["a"] == "b"
    assert json.loads(files_of(tracking, parent)["parameters.json"]) == {"features": features}


def test_nothing_of_the_process_is_touched(tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/at/all.db")
    environment = dict(os.environ)
    number = trained(tracking)
    tracking.models.set_alias("champion", number)
    assert tracking.models.load("champion").version.number == number
    assert mlflow.active_run() is None
    assert mlflow.get_tracking_uri() == "sqlite:////nowhere/at/all.db"
    assert dict(os.environ) == environment
    assert list(tmp_path.iterdir()) == []


def test_runs_of_processes_that_died_are_closed_by_the_next_training(tracking: Tracking) -> None:
    mine, other = (tracking.start_training("left open", Record(), installation) for installation in ("here", "there"))
    done = tracking.start_training("done", Record(), "here")
    tracking.finish(done)
    tracking.start_training("next", Record(), "here")
    assert [run_of(tracking, run_id).info.status for run_id in (mine, other, done)] == ["KILLED", "RUNNING", "FINISHED"]


def test_a_training_that_failed_says_so(tracking: Tracking) -> None:
    run_id = tracking.start_training("training", Record())
    tracking.finish(run_id, failed=True)
    assert run_of(tracking, run_id).info.status == "FAILED"


def test_a_candidate_that_could_not_be_written_is_marked(mlflow_database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    tracking = Tracking(mlflow_database.url, str(tmp_path / "file" / "below"), name="unwritable")
    parent = tracking.start_training("training", Record())
    with pytest.raises(StoreUnavailable, match="files can be written"):
        tracking.log_candidate(parent, candidate("ridge", {"r2": 0.5}))
    experiment = run_of(tracking, parent).info.experiment_id
    statuses = {run.info.run_name: run.info.status for run in client_of(tracking).search_runs([experiment])}
    assert statuses == {"training": "RUNNING", "ridge": "FAILED"}


def test_an_experiment_that_was_deleted_comes_back(
    mlflow_database: Database, make_tracking: MakeTracking, tmp_path: Path
) -> None:
    tracking = make_tracking("deleted")
    run_id = tracking.start_training("before", Record())
    client = client_of(tracking)
    client.delete_experiment(run_of(tracking, run_id).info.experiment_id)
    again = Tracking(mlflow_database.url, str(tmp_path), name=tracking._store.name)
    assert run_of(again, again.start_training("after", Record())).info.experiment_id == run_of(again, run_id).info.experiment_id


def test_a_link_leads_to_the_page_of_a_run(tracking: Tracking) -> None:
    run_id = tracking.start_training("training", Record())
    experiment = run_of(tracking, run_id).info.experiment_id
    assert (
        tracking.link(run_id, "http://127.0.0.1:5000/")
        == f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run_id}?{MODE}"
    )
    comparison = tracking.comparison_link(["a", "b"], "http://127.0.0.1:5000")
    assert comparison.startswith("http://127.0.0.1:5000/#/compare-runs?runs=%5B%22a%22%2C%20%22b%22%5D&experiments=")
    assert comparison.endswith(f"%22{experiment}%22%5D&{MODE}")
    version = tracking.models.version_link(3, "http://127.0.0.1:5000/")
    assert version == f"http://127.0.0.1:5000/#/models/{tracking.models.name}/versions/3?{MODE}"


def test_two_processes_may_fill_an_empty_database_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that the database refuses asks again."""
    from mlflow.exceptions import MlflowException

    refusals = [MlflowException('relation "experiments" already exists')]
    ask = MlflowClient.get_experiment_by_name

    def refuse_once(client: MlflowClient, name: str) -> object:
        if refusals:
            raise refusals.pop()
        return ask(client, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", refuse_once)
    monkeypatch.setattr("feedback_pipeline.storage.tracking_store._PAUSE_S", 0.0)
    tracking = Tracking(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "artifacts"))
    assert run_of(tracking, tracking.start_training("training", Record())).info.status == "RUNNING"
    assert refusals == []


def test_a_sqlite_file_serves_as_well_and_tables_of_another_mlflow_are_named(sqlite_file: Path, tmp_path: Path) -> None:
    tracking = Tracking(f"sqlite:///{sqlite_file}", str(tmp_path / "artifacts"))
    number = trained(tracking, base=7.0)
    tracking.models.set_alias("champion", number)
    champion = tracking.models.get_alias("champion")
    assert champion is not None
    assert champion.number == number
    assert (tmp_path / "artifacts" / "quality-predictor").is_dir()

    old = tmp_path / "old.db"
    shutil.copyfile(sqlite_file, old)
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    connection.close()
    with pytest.raises(StoreError, match="mlflow db upgrade"):
        Tracking(f"sqlite:///{old}", str(tmp_path)).start_training("training", Record())


def test_a_store_that_goes_away_is_named_and_comes_back(
    make_database: Callable[[str], Database], postgres_server: Database, tmp_path: Path
) -> None:
    database = make_database("template0")
    tracking = Tracking(database.url, str(tmp_path))
    run_id = tracking.start_training("training", Record())
    with postgres_server.connect(autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name])
    with pytest.raises(StoreUnavailable, match=f"{database.name}.*try again"):
        tracking.log_candidate(run_id, Candidate("ridge", Record(), 1.0))
    with postgres_server.connect(autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")
    tracking.finish(run_id)
    assert run_of(tracking, run_id).info.status == "FINISHED"
    with postgres_server.connect(autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {database.name} WITH (FORCE)")


def test_what_the_store_refuses_is_one_line(tracking: Tracking) -> None:
    with pytest.raises(StoreError, match="could not close a run") as refusal:
        tracking.finish("0" * 32)
    assert not isinstance(refusal.value, StoreUnavailable)
    assert "\n" not in str(refusal.value)
    assert refusal.value.__cause__ is None
