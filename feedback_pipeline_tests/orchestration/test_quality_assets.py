"""The quality predictor as a run of Dagster makes it: trained, compared in MLflow, crowned, asked."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pandas as pd
import pytest

from feedback_pipeline.environment import Environment
from feedback_pipeline.errors import LearningError, UserError
from feedback_pipeline.learning_pass.forecasts import forecast_for_reviewers, outputs_wait
from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.learning_run import run_learning
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, installation_tag
from feedback_pipeline.orchestration.sensors import outputs_without_forecast
from feedback_pipeline.simulation.spec import ASPECTS, WorldSpec
from feedback_pipeline.simulation.world import World, simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.extraction import pending_days
from feedback_pipeline.storage.installation import set_lookback
from feedback_pipeline.storage.reading import read_status
from feedback_pipeline.storage.reading_forecasts import read_forecasts
from feedback_pipeline.storage.reading_models import KnownModel, read_champion, read_history
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_registry import CHALLENGER, CHAMPION

pytestmark = [
    pytest.mark.slow,
    # Dagster reads its own deprecated attribute whenever it sets up a resource.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning"),
]
UNTIL = datetime.now(UTC).date() - timedelta(days=1)
WAITING = 3


@pytest.fixture(scope="module")
def agency() -> World:
    """Four agents over ten days; the newest outputs of each wait for a review."""
    return simulate(WorldSpec(agents=4, executions=100, reviewers=8, days=10, seed=5, until=UNTIL, waiting=WAITING))


@pytest.fixture
def ready(environment: Environment, agency: World) -> Environment:
    """The environment with that world in its database, learning from all of it."""
    write_world(environment.database, agency)
    with environment.database.connect() as connection:
        set_lookback(connection, None)
    return environment


@pytest.fixture
def tracking(ready: Environment) -> Tracking:
    return Tracking(os.environ["MLFLOW_TRACKING_URI"], os.environ["FEEDBACK_MLFLOW_ARTIFACTS"])


def _pending(environment: Environment) -> list[date]:
    store = open_store(environment.database, environment.settings)
    with environment.database.snapshot() as connection:
        return pending_days(connection, store, environment.settings)


def _champion(environment: Environment) -> KnownModel:
    with environment.database.snapshot() as connection:
        champion = read_champion(connection)
    assert champion is not None
    return champion


def _shown(instance: dg.DagsterInstance, run_id: str, asset: str) -> dict[str, Any]:
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records:
        found = record.asset_materialization
        if found is not None and found.asset_key == dg.AssetKey(asset):
            return {name: value.value for name, value in found.metadata.items()} | {"tables": found.metadata}
    raise AssertionError(f"{asset} was not materialized")


def _evaluations(instance: dg.DagsterInstance, run_id: str) -> dict[str, dg.AssetCheckEvaluation]:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    found = [event.asset_check_evaluation_data for event in events if event is not None]
    return {one.check_name: one for one in found}


def _tell_the_verdict(environment: Environment, agency: World) -> None:
    """A custom feature that somebody computes from the reviews."""
    given = agency.reviews.assign(score=agency.reviews[list(ASPECTS)].mean(axis=1)).groupby("execution_id")["score"].mean()
    with environment.database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE agent_performance SET metadata = coalesce(metadata, '{}') || jsonb_build_object('features',"
            " coalesce(metadata -> 'features', '{}') || jsonb_build_object('given_score', %s::float8)) WHERE execution_id = %s",
            list(zip(given.tolist(), given.index, strict=True)),
        )


def test_a_pass_trains_once_and_forecasts_what_waits(
    ready: Environment, instance: dg.DagsterInstance, tracking: Tracking, agency: World, tmp_path: Path
) -> None:
    _tell_the_verdict(ready, agency)
    first = run_learning(_pending(ready))
    champion = _champion(ready)
    assert (champion.model_version, champion.candidate) != (0, "random_forest_50")
    named = tracking.models.get_alias(CHAMPION)
    assert named is not None
    assert (named.number, named.run_id) == (champion.model_version, champion.mlflow_run_id)
    assert {"verdict", "why_trained", "learning_run_id", "window_first", "window_last"} <= set(named.tags)
    assert tracking.models.get_alias(CHALLENGER) is None

    shown = _shown(instance, first, "quality_predictor")
    assert shown["trained"] == "there is no champion"
    assert shown["refused features"] == "given_score: they repeat the score, so they are known only after the review"
    records = shown["tables"]["candidates"].records
    assert [row.data["candidate"] for row in records] == [
        "mean",
        "ridge",
        "eb_mixed",
        "hist_gradient_boosting",
        "random_forest_50",
    ]
    assert sum(bool(row.data["chosen"]) for row in records) == 1
    assert shown["champion in MLflow"].startswith(os.environ["FEEDBACK_MLFLOW_URL"])
    assert "compare-runs" in shown["candidates compared in MLflow"]

    document = read_forecasts(ready.database)
    reviewed = set(agency.reviews["execution_id"])
    waiting = set(agency.executions["execution_id"]) - reviewed
    assert len(waiting) == 4 * WAITING
    assert {row["execution_id"] for row in document["forecasts"]} == waiting
    assert all(row["low"] <= row["score"] <= row["high"] and 0 <= row["p_approve"] <= 1 for row in document["forecasts"])
    assert _shown(instance, first, "quality_forecasts")["forecasts"] == 4 * WAITING

    checks = _evaluations(instance, first)
    for name in ("champion_beats_baselines", "no_drift", "agents_have_reviews", "forecasts_cover_reviews"):
        assert checks[name].severity == dg.AssetCheckSeverity.WARN
        assert checks[name].passed, name

    stability = {row.data["feature"]: row.data for row in shown["tables"]["population stability"].records}
    assert {"word_count", "tone"} <= set(stability)
    assert stability["word_count"]["n_reference"] + stability["word_count"]["n_recent"] == len(reviewed)
    _scores_in_a_process_of_its_own(champion.model_version, tmp_path)

    again = run_learning([])
    assert _shown(instance, again, "quality_predictor")["trained"] == "no"
    assert _shown(instance, again, "quality_forecasts")["forecasts"] == 0
    assert [version.number for version in tracking.models.versions()] == [champion.model_version]
    assert read_status(ready.database)["champion"]["model_version"] == champion.model_version

    # An attempt that ended between Postgres and MLflow: the next pass moves the alias after the champion.
    tracking.models.set_alias(CHAMPION, None)
    run_learning([])
    moved = tracking.models.get_alias(CHAMPION)
    assert moved is not None
    assert moved.number == champion.model_version
    _nobody_is_named(ready, instance, agency, tracking)


_SCORE: Final = """
import sys
sys.modules["dagster"] = sys.modules["feedback_pipeline.orchestration"] = None
import json, mlflow, pandas as pd
model = mlflow.pyfunc.load_model(f"models:/quality-predictor/{sys.argv[1]}")
names = model.metadata.get_input_schema().input_names()
known = pd.DataFrame(model.input_example).reindex(columns=names)
strange = known.assign(agent_name="nobody knows it", reviewer_id="nor whom", tone="unheard of")
others = known.assign(agent_name="another one", reviewer_id=None, tone="unknown as well")
frames = {"known": known, "turned": known[names[::-1]], "strange": strange, "others": others}
said = {name: model.predict(frame) for name, frame in frames.items()}
try:
    model.predict(known.drop(columns=["word_count"]))
except Exception as error:
    missing = str(error)
print(json.dumps({name: frame.to_dict("list") for name, frame in said.items()} | {"missing": missing}))
"""


def _scores_in_a_process_of_its_own(version: int, folder: Path) -> None:
    """Where there is no Dagster; columns may come in another order, not be absent; strangers are the population."""
    script = folder / "score.py"
    script.write_text(_SCORE)
    done = subprocess.run([sys.executable, str(script), str(version)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said["known"]) == {"score", "low", "high", "p_approve"}
    assert said["turned"] == said["known"]
    assert "word_count" in said["missing"]
    assert said["strange"] == said["others"] != said["known"]
    ordered = zip(*(said["strange"][name] for name in ("low", "score", "high")), strict=True)
    assert all(low <= score <= high for low, score, high in ordered)


def _nobody_is_named(ready: Environment, instance: dg.DagsterInstance, agency: World, tracking: Tracking) -> None:
    secret = {name for key in ("reviewer_id", "feedback_id", "content_id") for name in agency.reviews[key]}
    secret |= set(agency.executions["execution_id"])
    said = "".join(dg.serialize_value(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id))
    with tracking._store.client("read the runs") as client:
        experiment = client.get_experiment_by_name(tracking.models.name)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    said += json.dumps([run.to_dictionary() for run in runs], default=str)
    # The pickle holds the reviewers it knows: nothing else does.
    files = [file for file in Path(ready.settings.home).rglob("*") if file.suffix in {".csv", ".json", ".yaml", ".txt"}]
    said += "".join(file.read_text() for file in files if "mlflow" in file.parts)
    assert "by_agent" in {file.stem for file in files}
    assert not [word for word in secret if word in said]


def test_a_better_model_replaces_the_champion(ready: Environment, instance: dg.DagsterInstance, tracking: Tracking) -> None:
    days = _pending(ready)
    run_learning(days[:1])
    assert (_champion(ready).model_version, _champion(ready).candidate) == (1, "mean")
    first = _champion(ready)
    second = run_learning(days)
    shown = _shown(instance, second, "quality_predictor")
    assert "outputs were reviewed since the last training" in shown["trained"]
    assert shown["promoted"] is True
    champion = _champion(ready)
    assert (champion.model_version, champion.candidate) == (2, "eb_mixed")
    version = tracking.models.get_alias(CHAMPION)
    assert version is not None
    assert version.number == 2
    assert float(version.tags["gain_lower_bound"]) > 0.005
    assert int(version.tags["contents_compared"]) >= 200
    with ready.database.snapshot() as connection:
        history = read_history(connection)
    assert history["model_version"].tolist() == [2, 1]
    assert history["champion_until"].notna().tolist() == [False, True]
    assert first.trained_at < champion.trained_at
    # The outputs that wait are forecast by the new champion too; what the old one said stays.
    assert {row["model_version"] for row in read_forecasts(ready.database)["forecasts"]} == {2}


def test_mlflow_is_away(ready: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, agency: World) -> None:
    monkeypatch.setattr("feedback_pipeline.orchestration.failures.RETRY_AFTER_S", 0.0)
    there = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(LearningError, match=r"quality_predictor failed.*MLflow.*MLFLOW_TRACKING_URI"):
        run_learning(_pending(ready))
    (run,) = instance.get_runs()
    retries = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_RESTARTED).records
    assert len(retries) == 2
    published = read_status(ready.database)["last_run"]
    assert published["n_contents"] == agency.reviews["execution_id"].nunique()
    assert _pending(ready) == []
    with ready.database.snapshot() as connection:
        assert read_champion(connection) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there)
    run_learning([])
    assert _champion(ready).model_version == 1


def _watch(instance: dg.DagsterInstance) -> object:
    resources = {"database": DatabaseResource(url=os.environ["FEEDBACK_DATABASE_URL"]), "feature_store": FeatureStoreResource()}
    return outputs_without_forecast(dg.build_sensor_context(instance=instance, resources=resources))


def _forecast_run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return build_defs().resolve_job_def("forecast").execute_in_process(instance=instance)


def _fail_to_forecast(environment: Environment, instance: dg.DagsterInstance) -> None:
    job = build_defs().resolve_job_def("forecast")
    instance.report_run_failed(instance.create_run_for_job(job, tags=installation_tag(environment.database)))


def _rerun(environment: Environment, executions: Sequence[str]) -> None:
    """The same agents run again, in executions of their own that nobody has reviewed."""
    with environment.database.connect() as connection:
        for execution in executions:
            connection.execute(
                "INSERT INTO agent_performance (agent_name, agent_type, execution_id, start_time, end_time, status, duration)"
                " SELECT agent_name, agent_type, %s, now(), now(), 'success', duration FROM agent_performance LIMIT 1",
                (execution,),
            )


def test_the_light_job_and_reviewers_by_name(
    ready: Environment, instance: dg.DagsterInstance, tracking: Tracking, agency: World
) -> None:
    store = open_store(ready.database, ready.settings)
    now = datetime.now(UTC)
    assert not outputs_wait(ready.database, store, ready.settings, now=now)
    assert _forecast_run(instance).success
    assert read_status(ready.database)["champion"] is None
    with pytest.raises(UserError, match="no champion yet"):
        forecast_for_reviewers(ready.database, tracking, {("a", "b"): ["c"]}, now=now)

    run_learning(_pending(ready))
    assert not outputs_wait(ready.database, store, ready.settings, now=now)
    assert isinstance(_watch(instance), dg.SkipReason)
    fresh = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"]
    _rerun(ready, fresh)
    assert outputs_wait(ready.database, store, ready.settings, now=datetime.now(UTC))
    assert isinstance(_watch(instance), dg.RunRequest)
    _fail_to_forecast(ready, instance)
    paused = _watch(instance)
    assert isinstance(paused, dg.SkipReason)
    assert str(paused.skip_message).startswith("outputs wait for a forecast; 1 run failed, the next starts in ")
    result = _forecast_run(instance)
    assert _shown(instance, result.run_id, "quality_forecasts")["forecasts"] == 2
    assert not outputs_wait(ready.database, store, ready.settings, now=datetime.now(UTC))

    row = next(row for row in read_forecasts(ready.database)["forecasts"] if row["execution_id"] == fresh[0])
    output = (row["agent_name"], row["execution_id"])
    people = sorted(set(agency.reviews["reviewer_id"]))
    wanted = {output: [*people, "somebody new"], ("nobody", "x"): ["a"], (row["agent_name"], fresh[1]): []}
    assert forecast_for_reviewers(ready.database, tracking, wanted, now=now) == len(people) + 1
    assert forecast_for_reviewers(ready.database, tracking, wanted, now=now) == 0
    said = read_forecasts(ready.database, *output, [*people, "somebody new"])
    assert said["reason"] is None
    by = {one["reviewer_id"]: one for one in said["forecasts"]}
    assert len(by) == len(people) + 2
    # Whom nobody knows judges as the average reviewer does; the strict and the mild do not.
    assert by["somebody new"]["score"] == pytest.approx(by[None]["score"])
    scores = pd.Series({name: by[name]["score"] for name in people})
    assert scores.max() - scores.min() > 0.5
    given = agency.reviews.groupby("reviewer_id")[list(ASPECTS)].mean().mean(axis=1)
    assert scores.corr(given[people], method="spearman") > 0.7
