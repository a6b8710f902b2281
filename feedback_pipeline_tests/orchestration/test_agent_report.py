"""The page of one agent, in a real instance, from what a real learning run published."""

import json
from typing import Any

import dagster as dg
import pytest

from feedback_pipeline.environment import Environment
from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.learning_run import run_learning
from feedback_pipeline.orchestration.partitions import AGENTS, RANGE_END_TAG, RANGE_START_TAG, key_of_agent
from feedback_pipeline.simulation.world import World
from feedback_pipeline.storage.extraction import pending_days
from feedback_pipeline.storage.reading import read_status

pytestmark = [
    pytest.mark.slow,
    # Dagster reads its own deprecated attribute whenever it sets up a resource.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning"),
]

REPORT = dg.AssetKey("agent_report")
HOSTILE = "<img src=x onerror=alert(1)> | $x_1^{ [a](https://evil.example) ...\u202e"
PICTURES = ("threshold curves", "effect sizes", "terms", "correlations", "segments")


def _learn(environment: Environment) -> str:
    store = open_store(environment.database, environment.settings)
    with environment.database.snapshot() as connection:
        days = pending_days(connection, store, environment.settings)
    return run_learning(days)


def _reviews_of(name: str) -> str:
    return (
        "SELECT f.id FROM review_feedback f JOIN content_review_workflows w ON w.id = f.workflow_id"
        f" JOIN agent_performance p ON p.execution_id = w.workflow_execution_id WHERE p.agent_name = '{name}'"
    )


@pytest.fixture
def agents(simulated: Environment, world: World) -> dict[str, str]:
    """The agents of the world by what will become of them; one has a name that means harm."""
    usual, approved, silent, renamed = sorted(world.executions["agent_name"].unique())
    with simulated.database.connect() as connection:
        connection.execute(f"UPDATE review_feedback SET decision = 'approve' WHERE id IN ({_reviews_of(approved)})".encode())
        kept = f"{_reviews_of(silent)} ORDER BY f.id LIMIT 5"
        connection.execute(f"DELETE FROM review_feedback WHERE id IN ({_reviews_of(silent)}) AND id NOT IN ({kept})".encode())
        connection.execute("UPDATE agent_performance SET agent_name = %s WHERE agent_name = %s", (HOSTILE, renamed))
    return {"success": usual, "one_class": approved, "insufficient_data": silent, "hostile": HOSTILE}


def _materialize(instance: dg.DagsterInstance, *, raise_on_error: bool = True, **how: Any) -> dg.ExecuteInProcessResult:
    job = build_defs().resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, asset_selection=[REPORT], raise_on_error=raise_on_error, **how)


def _shown(instance: dg.DagsterInstance, agent_name: str) -> dict[str, Any]:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=REPORT, asset_partitions=[key_of_agent(agent_name)]), limit=1
    ).records
    assert records[0].asset_materialization is not None
    return {name: value.value for name, value in records[0].asset_materialization.metadata.items() if hasattr(value, "value")} | {
        name: [dict(record.data) for record in value.records]
        for name, value in records[0].asset_materialization.metadata.items()
        if isinstance(value, dg.TableMetadataValue)
    }


def test_every_agent_has_a_page(
    simulated: Environment, instance: dg.DagsterInstance, agents: dict[str, str], world: World
) -> None:
    _learn(simulated)
    keys = {key_of_agent(name) for name in agents.values()}
    assert set(instance.get_dynamic_partitions(str(AGENTS.name))) == keys
    results = [_materialize(instance, partition_key=key) for key in sorted(keys)]
    assert all(result.success for result in results)
    assert instance.get_materialized_partitions(REPORT) == keys

    shown = {kind: _shown(instance, name) for kind, name in agents.items()}
    for kind, page in shown.items():
        assert [page["report"].count(f"![{name}](data:image/png;base64,") for name in PICTURES] == [1] * len(PICTURES), kind
        assert page["learning run"] == read_status(simulated.database)["last_run"]["learning_run_id"]
    assert [shown[kind]["status"] for kind in agents] == ["success", "success", "insufficient_data", "success"]
    assert shown["insufficient_data"]["reason"]
    assert "one\\_class" in shown["one_class"]["report"]
    for name in ("recommendations", "correlations", "patterns", "segments"):
        assert shown["insufficient_data"][name] == []
    assert len(shown["success"]["correlations"]) > 0
    assert len(shown["success"]["segments"]) > 0

    hostile = shown["hostile"]["report"]
    assert "<img" not in hostile.replace("\\<", "")
    assert "](https:" not in hostile
    assert "\u202e" not in hostile

    everything = "".join(
        dg.serialize_value(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id)
    ) + json.dumps([dict(run.tags) for run in instance.get_runs()])
    ids = {*world.reviews["reviewer_id"], *world.reviews["feedback_id"], *world.reviews["content_id"]}
    assert len(ids) > 300
    assert not [word for word in ids if word in everything]


def test_agents_get_their_partition_when_they_first_appear(
    simulated: Environment, instance: dg.DagsterInstance, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *rest = sorted(world.executions["agent_name"].unique())
    added: list[list[str]] = []
    add = dg.DagsterInstance.add_dynamic_partitions

    def counted(own: dg.DagsterInstance, name: str, keys: list[str]) -> None:
        added.append(list(keys))
        add(own, name, keys)

    monkeypatch.setattr(dg.DagsterInstance, "add_dynamic_partitions", counted)
    with simulated.database.connect() as connection:
        connection.execute("UPDATE agent_performance SET status = 'failed' WHERE agent_name = %s", (first,))
    _learn(simulated)
    assert added == [rest]
    with simulated.database.connect() as connection:
        connection.execute("UPDATE agent_performance SET status = 'success' WHERE agent_name = %s", (first,))
    _learn(simulated)
    assert added == [rest, [first]]


def test_a_range_of_agents_is_one_run_and_an_unknown_agent_is_named(simulated: Environment, instance: dg.DagsterInstance) -> None:
    _learn(simulated)
    keys = instance.get_dynamic_partitions(str(AGENTS.name))
    before = len(instance.get_runs())
    _materialize(instance, tags={RANGE_START_TAG: keys[0], RANGE_END_TAG: keys[-1]})
    assert len(instance.get_runs()) == before + 1
    assert instance.get_materialized_partitions(REPORT) == set(keys)
    for key in keys:
        assert _shown(instance, key)["agent"] == key

    instance.add_dynamic_partitions(str(AGENTS.name), ["nobody"])
    result = _materialize(instance, raise_on_error=False, partition_key="nobody")
    failure = result.failure_data_for_node("agent_report")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert "no agent 'nobody' has been learned from" in str(failure.user_failure_data.description)
    assert not [event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY]
