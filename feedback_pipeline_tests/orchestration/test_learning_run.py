import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedback_pipeline.environment import Environment
from feedback_pipeline.errors import LearningError, StoreUnavailable
from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.orchestration.learning_run import run_learning
from feedback_pipeline.orchestration.resources import installation_tag
from feedback_pipeline.simulation.world import World
from feedback_pipeline.storage.extraction import extract
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.pass_lock import pass_is_running
from feedback_pipeline.storage.reading import read_status
from feedback_pipeline_tests.orchestration.conftest import Learned, days_of, pending

pytestmark = [
    pytest.mark.slow,
    # Dagster reads its own deprecated attribute whenever it sets up a resource.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning"),
]

DAY_ASSETS = ("human_feedback", "feature_table")
REDUCE = (
    *("preference_models", "quality_correlations", "decision_patterns", "content_strategy", "learned_improvements"),
    "learning_effectiveness",
)
# So few outputs can leave an aspect's agreement indistinguishable from chance, and no model better than the mean.
MAY_WARN = {"reviewers_agree", "champion_beats_baselines"}


def _materializations(instance: dg.DagsterInstance, run_id: str, asset: str) -> list[dg.AssetMaterialization]:
    found = []
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records:
        materialization = record.asset_materialization
        if materialization is not None and materialization.asset_key == dg.AssetKey(asset):
            found.append(materialization)
    return found


def _observations(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetObservation]:
    """In the order in which they came, all of them after the publication."""
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION}
    records = instance.get_records_for_run(run_id, of_type=kinds).records
    events = [record.event_log_entry.dagster_event for record in records]
    asset_keys = [event.asset_key for event in events if event is not None]
    found = [
        event.asset_observation_data.asset_observation for event in events if event is not None and event.is_asset_observation
    ]
    published = asset_keys.index(dg.AssetKey("learned_improvements"))
    assert all(not event.is_asset_observation for event in events[:published] if event is not None)
    return found


def _checks(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckEvaluation]:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    return [event.asset_check_evaluation_data for event in events if event is not None]


def _states(instance: dg.DagsterInstance, run_id: str) -> dict[str, str]:
    days = _materializations(instance, run_id, "human_feedback")
    return {str(day.partition): str(day.metadata["this day"].value) for day in days}


def _last_run_or_none(environment: Environment) -> dict[str, Any] | None:
    last: dict[str, Any] | None = read_status(environment.database)["last_run"]
    return last


def _last_run(environment: Environment) -> dict[str, Any]:
    last = _last_run_or_none(environment)
    assert last is not None
    return last


def test_one_run_over_the_range_then_only_what_changed(
    simulated: Environment, instance: dg.DagsterInstance, world: World
) -> None:
    reviewed = sorted({moment.date() for moment in world.reviews["reviewed_at"]})
    assert pending(simulated) == reviewed

    first = run_learning(pending(simulated))
    assert [run.run_id for run in instance.get_runs()] == [first]
    assert set(_states(instance, first).values()) == {"read"}
    for asset in DAY_ASSETS:
        assert instance.get_materialized_partitions(dg.AssetKey(asset)) == {day.isoformat() for day in reviewed}
    for asset in REDUCE:
        assert len(_materializations(instance, first, asset)) == 1
    assert _last_run(simulated)["dagster_run_id"] == first
    assert _last_run(simulated)["n_contents"] > 0
    assert pending(simulated) == []
    assert not pass_is_running(simulated.database)

    changed = reviewed[3]
    with simulated.database.connect() as connection:
        connection.execute(
            "UPDATE review_feedback SET decision = 'reject' WHERE id = (SELECT id FROM review_feedback"
            " WHERE (reviewed_at AT TIME ZONE 'UTC')::date = %s AND decision = 'approve' LIMIT 1)",
            [changed],
        )
    assert pending(simulated) == [changed]
    second = run_learning(reviewed)
    states = _states(instance, second)
    assert {day for day, state in states.items() if state == "read"} == {changed.isoformat()}
    assert set(states.values()) == {"read", "unchanged"}

    third = run_learning([])
    assert _materializations(instance, third, "human_feedback") == []
    assert len(_materializations(instance, third, "learned_improvements")) == 1


def test_days_without_reviews_say_so(learned: Learned, world: World) -> None:
    instance, run_id = learned.instance, learned.run_id
    first, last = days_of(world)
    states = _states(instance, run_id)
    assert len(states) == (last - first).days + 1
    assert states[first.isoformat()] == "no reviews"
    rows = {
        str(day.partition): day.metadata["dagster/partition_row_count"].value
        for day in _materializations(instance, run_id, "human_feedback")
    }
    assert rows[first.isoformat()] == 0
    assert sum(int(str(count)) for count in rows.values()) == len(world.reviews)


def test_what_the_assets_show(learned: Learned, world: World) -> None:
    instance, run_id = learned.instance, learned.run_id
    features = _materializations(instance, run_id, "feature_table")
    pictures = {seen.asset_key.path[-1]: seen for seen in _observations(instance, run_id)}
    assert set(pictures) == {"feature_table", *REDUCE} - {"learned_improvements", "learning_effectiveness"}
    assert pictures["feature_table"].partition == max(str(day.partition) for day in features)
    distribution = str(pictures["feature_table"].metadata["distribution"].value)
    assert distribution.startswith("![Distribution of the features](data:image/png;base64,")
    assert isinstance(features[0].metadata["dagster/column_lineage"], dg.TableColumnLineageMetadataValue)

    (correlations,) = _materializations(instance, run_id, "quality_correlations")
    assert str(pictures["quality_correlations"].metadata["heat map"].value).startswith("![Agents by features")
    assert isinstance(correlations.metadata["findings"], dg.TableMetadataValue)
    assert int(str(correlations.metadata["dagster/row_count"].value)) > 0
    (severities,) = _materializations(instance, run_id, "preference_models")
    people = {record.data["reviewer"] for record in severities.metadata["severities"].records}  # type: ignore[attr-defined]
    assert people <= {f"R{number}" for number in range(1, 9)}

    for picture in ("severity by reviewer", "quality standards", "agreement before and after"):
        drawn = str(pictures["preference_models"].metadata[picture].value)
        assert drawn.startswith(f"![{picture}](data:image/png;base64,")
    assert severities.metadata["reviewers"].value == 8

    shown = {asset: _materializations(instance, run_id, asset)[0].metadata for asset in REDUCE}
    for asset, picture in (
        ("decision_patterns", "threshold curves"),
        ("decision_patterns", "effect sizes"),
        ("decision_patterns", "terms"),
        ("content_strategy", "segments of the agents that differ most"),
    ):
        assert "](data:image/png;base64," in str(pictures[asset].metadata[picture].value), picture
    for asset, table in (
        ("decision_patterns", "patterns by type"),
        ("decision_patterns", "patterns"),
        ("content_strategy", "segments"),
        ("content_strategy", "next allocation"),
        ("learned_improvements", "recommendations"),
    ):
        assert isinstance(shown[asset][table], dg.TableMetadataValue), table
    assert shown["decision_patterns"]["patterns by type"].records  # type: ignore[attr-defined]
    assert shown["learned_improvements"]["agent learning state"].value == 4

    evaluations = {evaluation.check_name: evaluation for evaluation in _checks(instance, run_id)}
    assert len(evaluations) == 20
    for name, evaluation in evaluations.items():
        assert evaluation.passed or name in MAY_WARN, name
        assert {"observed", "threshold"} <= set(evaluation.metadata)
    assert evaluations["reviewers_connected"].metadata["reviewers"].value == 8
    (reviews,) = _materializations(instance, run_id, "review_feedback")
    assert reviews.metadata["dagster/row_count"].value == len(world.reviews)


def test_no_id_of_a_person_or_a_text_reaches_dagster(learned: Learned, world: World) -> None:
    instance, run_id = learned.instance, learned.run_id
    run = instance.get_run_by_id(run_id)
    assert run is not None
    everything = "".join(dg.serialize_value(entry) for entry in instance.all_logs(run_id)) + json.dumps(dict(run.tags))
    logs = learned.environment.dagster_home / "storage"
    everything += "".join(file.read_text(errors="replace") for file in logs.rglob("*") if file.suffix in {".out", ".err"})
    secret = {
        *world.reviews["reviewer_id"],
        *world.reviews["feedback_id"],
        *world.reviews["content_id"],
        *world.reviews["execution_id"],
    }
    assert len(secret) > 300
    assert not [word for word in secret if word in everything]


def _rewrite(environment: Environment, table: str, change: Any) -> date:
    """Changes the data file of a day behind the store's back, as a bug or a broken disk would."""
    day, manifest = sorted(open_store(environment.database, environment.settings).days().items())[0]
    (file,) = Path(environment.settings.store).rglob(Path(manifest[table]["file"]).name)
    pq.write_table(change(pq.read_table(file)), file)
    return day


def test_a_blocking_check_stops_the_pass(simulated: Environment, instance: dg.DagsterInstance) -> None:
    cases: list[tuple[str, Any, str]] = [
        ("human_feedback", lambda table: table.take([0, *range(table.num_rows)]), "review_keys_unique"),
        ("feature_table", lambda table: table.take([0, *range(table.num_rows)]), "output_keys_unique"),
        ("feature_table", lambda table: table.slice(1), "no_reviewed_output_lost"),
    ]
    run_learning(pending(simulated))
    published, taken_out = _last_run(simulated), []
    for table, rows, check in cases:
        day = _rewrite(simulated, table, rows)
        with pytest.raises(LearningError, match=rf"{table} failed: {check} \(observed 1\)"):
            run_learning([day])
        assert _last_run(simulated) == published
        failed = instance.get_runs()[0]
        assert failed.status == dg.DagsterRunStatus.FAILURE
        assert _materializations(instance, failed.run_id, "preference_models") == []
        (evaluation,) = [found for found in _checks(instance, failed.run_id) if found.check_name == check]
        assert evaluation.metadata["days taken out of the feature store"].value == day.isoformat()
        taken_out.append(day)
        assert pending(simulated) == taken_out
    run_learning(pending(simulated))
    assert pending(simulated) == []


def test_a_blocking_check_blocks_every_pass_until_the_cause_is_gone(
    simulated: Environment, instance: dg.DagsterInstance, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviewed = sorted({moment.date() for moment in world.reviews["reviewed_at"]})
    planted = {reviewed[2], reviewed[5]}
    write = FeatureStore.write_day

    def losing(store: FeatureStore, day: date, reviews: pa.Table, outputs: pa.Table, *rest: Any, **points: Any) -> None:
        write(store, day, reviews, outputs.slice(1) if day in planted else outputs, *rest, **points)

    with monkeypatch.context() as plant:
        plant.setattr(FeatureStore, "write_day", losing)
        for _ in range(3):
            with pytest.raises(LearningError, match=r"feature_table failed: no_reviewed_output_lost \(observed 2\)"):
                run_learning(pending(simulated))
            assert pending(simulated) == sorted(planted)
            assert _last_run_or_none(simulated) is None
    run_learning(pending(simulated))
    assert pending(simulated) == []
    assert _last_run(simulated)["n_contents"] == len(set(world.reviews["execution_id"]))


def test_a_text_among_the_terms_stops_the_pass(
    simulated: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = FeatureStore.write_result

    def leaking(store: FeatureStore, run: str, asset: str, frames: dict[str, Any], facts: dict[str, Any]) -> None:
        if asset == "decision_patterns":
            said = frames["patterns"]["term"].astype(object).where(frames["patterns"].index > 0, "what a person wrote")
            frames = frames | {"patterns": frames["patterns"].assign(term=said)}
        write(store, run, asset, frames, facts)

    monkeypatch.setattr(FeatureStore, "write_result", leaking)
    with pytest.raises(LearningError, match=r"decision_patterns failed: patterns_valid \(observed 1\)"):
        run_learning(pending(simulated))
    assert _last_run_or_none(simulated) is None


@pytest.mark.parametrize(
    "step", ["feedback_pipeline.orchestration.day_report.describe_days", "feedback_pipeline.orchestration.checks._refused"]
)
def test_days_that_no_check_has_looked_at_are_read_again(
    simulated: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def broken(*_arguments: Any) -> Any:
        raise ZeroDivisionError

    days = pending(simulated)
    with monkeypatch.context() as plant:
        plant.setattr(step, broken)
        with pytest.raises(LearningError):
            run_learning(days)
    assert pending(simulated) == days


def test_the_time_of_a_pass_covers_the_reading_of_the_days(learned: Learned) -> None:
    steps = {stats.step_key: stats for stats in learned.instance.get_run_step_stats(learned.run_id)}
    with learned.environment.database.connect() as connection:
        row = connection.execute("SELECT started_at, published_at FROM learning_runs").fetchone()
    assert row is not None
    begin, end = steps["reviewed_days"].start_time, steps["learned_improvements"].end_time
    assert begin is not None
    assert end is not None
    assert begin - 10 < row[0].timestamp() <= begin
    assert row[1].timestamp() <= end
    assert _last_run(learned.environment)["execution_time_seconds"] >= steps["preference_models"].start_time - begin  # type: ignore[operator]


def test_runs_carry_the_installation(learned: Learned) -> None:
    run = learned.instance.get_run_by_id(learned.run_id)
    assert run is not None
    assert installation_tag(learned.environment.database).items() <= run.tags.items()


def test_what_postgres_says_of_rows_does_not_reach_dagster(simulated: Environment, instance: dg.DagsterInstance) -> None:
    for table in ("agent_learning_patterns", "feedback_quality_correlations", "learning_runs"):
        with simulated.database.connect() as connection:
            connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT planted CHECK (false) NOT VALID".encode())
        with pytest.raises(LearningError, match=f'"{table}" violates check constraint "planted"'):
            run_learning(pending(simulated))
        everything = "".join(dg.serialize_value(entry) for entry in instance.all_logs(instance.get_runs()[0].run_id))
        assert "Failing row" not in everything
        assert "COPY " not in everything
        with simulated.database.connect() as connection:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT planted".encode())


def test_a_warning_does_not_stop_the_pass(simulated: Environment, instance: dg.DagsterInstance) -> None:
    with simulated.database.connect() as connection:
        connection.execute(
            "INSERT INTO rejected_feedback (source, row_id, reason)"
            " SELECT 'review_feedback', n::text, 'broken JSON' FROM generate_series(1, 100) n"
        )
    run_id = run_learning(pending(simulated))
    failed = {evaluation.check_name: evaluation for evaluation in _checks(instance, run_id) if not evaluation.passed}
    assert {check.severity for check in failed.values()} == {dg.AssetCheckSeverity.WARN}
    assert set(failed) - MAY_WARN == {"few_reviews_refused"}
    assert failed["few_reviews_refused"].metadata["refused"].value == 100


def test_bad_data_is_not_retried_and_says_what_to_do(simulated: Environment, instance: dg.DagsterInstance) -> None:
    days = pending(simulated)
    with simulated.database.connect() as connection:
        connection.execute("DELETE FROM installation")
    with pytest.raises(
        LearningError, match="the run failed before its first step: table installation is empty; run INSERT"
    ) as failure:
        run_learning(days)
    run_id = instance.get_runs()[0].run_id
    assert run_id in str(failure.value)
    assert not instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY).records
    assert not pass_is_running(simulated.database)


def test_a_store_that_is_away_is_asked_again(
    simulated: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedback_pipeline.orchestration.failures.RETRY_AFTER_S", 0.0)
    days, calls = pending(simulated), []

    def away_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise StoreUnavailable("the store is away; try again")
        return extract(*arguments)

    monkeypatch.setattr("feedback_pipeline.storage.extraction.extract", away_once)
    run_id = run_learning(days)
    assert len(calls) == 2
    assert len(instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY).records) == 1


def test_an_empty_database_learns_nothing_without_failing(environment: Environment) -> None:
    run_learning([datetime.now(UTC).date() - timedelta(days=1)])
    assert read_status(environment.database)["agents"] == []
    assert _last_run(environment)["n_contents"] == 0
