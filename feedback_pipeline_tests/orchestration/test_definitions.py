import dagster as dg
import pytest

from feedback_pipeline.orchestration.assets import GROUPS
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.columns import SOURCE_COLUMNS, feature_table_lineage, human_feedback_lineage
from feedback_pipeline.orchestration.resources import DatabaseResource

ASSETS = {
    "agent_performance": "source",
    "agent_decisions": "source",
    "content_review_workflows": "source",
    "review_feedback": "source",
    "human_feedback": "reviewed_days",
    "feature_table": "reviewed_days",
    "preference_models": "insights",
    "quality_correlations": "insights",
    "decision_patterns": "insights",
    "content_strategy": "insights",
    "learned_improvements": "published",
    "learning_effectiveness": "published",
    "quality_predictor": "forecasts",
    "quality_forecasts": "forecasts",
    "agent_report": "reports",
}
CHECKS = {
    ("human_feedback", "review_keys_unique", True),
    ("human_feedback", "review_values_valid", True),
    ("human_feedback", "few_reviews_refused", False),
    ("feature_table", "output_keys_unique", True),
    ("feature_table", "no_reviewed_output_lost", True),
    ("feature_table", "feature_values_valid", True),
    ("feature_table", "few_values_missing", False),
    ("preference_models", "reviewers_agree", False),
    ("preference_models", "reviewers_connected", False),
    ("preference_models", "severity_steady", False),
    ("preference_models", "severity_estimated", False),
    ("quality_correlations", "findings_valid", True),
    ("decision_patterns", "patterns_valid", True),
    ("content_strategy", "strategy_valid", True),
    ("learned_improvements", "recommendations_valid", False),
    ("learning_effectiveness", "holdout_respected", False),
    ("quality_predictor", "champion_beats_baselines", False),
    ("quality_predictor", "no_drift", False),
    ("quality_predictor", "agents_have_reviews", False),
    ("quality_forecasts", "forecasts_cover_reviews", False),
}
REDUCE = (
    *("preference_models", "quality_correlations", "decision_patterns", "content_strategy", "learned_improvements"),
    "learning_effectiveness",
)
FORECASTS = ("quality_predictor", "quality_forecasts")
EDGES = {
    "human_feedback": {"agent_performance", "agent_decisions", "content_review_workflows", "review_feedback"},
    "feature_table": {"human_feedback", "agent_performance", "agent_decisions", "content_review_workflows"},
    "preference_models": {"human_feedback", "feature_table"},
    "quality_correlations": {"preference_models", "feature_table"},
    "decision_patterns": {"preference_models", "quality_correlations", "feature_table"},
    "content_strategy": {"preference_models", "feature_table"},
    "learned_improvements": {"preference_models", "quality_correlations", "decision_patterns", "content_strategy"},
    "learning_effectiveness": {"learned_improvements", "review_feedback", "content_review_workflows"},
    "quality_predictor": {"preference_models", "feature_table"},
    "quality_forecasts": {"quality_predictor", "agent_performance", "agent_decisions", "content_review_workflows"},
    "agent_report": {"learned_improvements"},
}


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs()


@pytest.fixture(scope="module")
def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.path[-1]: spec for spec in defs.resolve_all_asset_specs()}


def test_definitions_are_loadable(defs: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(defs)


def test_assets_stand_in_their_groups(specs: dict[str, dg.AssetSpec]) -> None:
    assert {name: spec.group_name for name, spec in specs.items()} == ASSETS


def test_the_registry_of_groups_says_what_the_assets_say() -> None:
    for group, modules in GROUPS.items():
        for asset in (asset for module in modules for asset in module.assets):
            listed = asset.specs if isinstance(asset, dg.AssetsDefinition) else [asset]
            assert {spec.group_name for spec in listed} == {group}


def test_every_asset_says_who_answers_for_it_and_what_it_is(specs: dict[str, dg.AssetSpec]) -> None:
    for name, spec in specs.items():
        assert spec.owners, name
        assert spec.kinds, name
        assert spec.description, name
        assert spec.code_version, name
        schema = spec.metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema), name
        assert all(column.description for column in schema.columns), name


def test_edges_of_the_lineage(specs: dict[str, dg.AssetSpec]) -> None:
    found = {name: {dep.asset_key.path[-1] for dep in spec.deps} for name, spec in specs.items()}
    assert {name: deps for name, deps in found.items() if deps} == EDGES


def test_checks_and_which_of_them_block(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    found = {(key.asset_key.path[-1], key.name, graph.get_check_spec(key).blocking) for key in graph.asset_check_keys}
    assert found == CHECKS


def test_days_are_partitioned_and_run_together(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    for name in ("human_feedback", "feature_table"):
        node = graph.get(dg.AssetKey(name))
        assert isinstance(node.partitions_def, dg.DailyPartitionsDefinition)
        assert node.partitions_def.timezone == "UTC"
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
    for name in REDUCE:
        assert graph.get(dg.AssetKey(name)).partitions_def is None


def test_a_report_has_a_partition_for_each_agent(defs: dg.Definitions) -> None:
    node = defs.resolve_asset_graph().get(dg.AssetKey("agent_report"))
    assert isinstance(node.partitions_def, dg.DynamicPartitionsDefinition)
    assert node.partitions_def.name == "agents"
    assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_a_report_needs_no_lock(defs: dg.Definitions) -> None:
    node = defs.resolve_asset_graph().get(dg.AssetKey("agent_report"))
    assert "learning_lock" not in node.assets_def.required_resource_keys


def test_what_is_published_waits_for_no_forecast(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    assert not graph.get(dg.AssetKey("learned_improvements")).parent_keys & {dg.AssetKey(name) for name in FORECASTS}
    for name in FORECASTS:
        definition = graph.get(dg.AssetKey(name)).assets_def
        assert definition.op.tags["dagster/priority"] == "-1"
        assert "tracking" in definition.required_resource_keys
    # New outputs are forecast while a pass learns.
    assert "learning_lock" not in graph.get(dg.AssetKey("quality_forecasts")).assets_def.required_resource_keys


def test_the_job_forecast_is_light(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("forecast")
    assert {key.path[-1] for key in job.asset_layer.selected_asset_keys} == {"quality_forecasts"}
    assert job.executor_def is dg.in_process_executor


def test_the_job_learn_holds_days_and_reduce(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("learn")
    selected = {key.path[-1] for key in job.asset_layer.selected_asset_keys}
    assert selected == {"human_feedback", "feature_table", *REDUCE, *FORECASTS}
    assert {key.name for key in job.asset_layer.asset_graph.asset_check_keys} == {name for _, name, _ in CHECKS}
    assert job.executor_def is dg.in_process_executor
    assert [job.name for job in defs.jobs or []] == ["learn", "forecast", "daily_check"]


def test_what_starts_runs_is_on_by_default(defs: dg.Definitions) -> None:
    sensors = {sensor.name: sensor.default_status for sensor in defs.sensors or []}
    running = dg.DefaultSensorStatus.RUNNING
    assert (
        sensors.items()
        >= dict.fromkeys(
            ["new_feedback_sensor", "outputs_without_forecast", "drift_sensor", "failed_run_sensor", "orphaned_runs"], running
        ).items()
    )
    (schedule, tidying) = defs.schedules or []
    assert isinstance(tidying, dg.ScheduleDefinition)
    assert (tidying.name, tidying.default_status) == ("old_runs", dg.DefaultScheduleStatus.RUNNING)
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.job_name, schedule.cron_schedule, schedule.execution_timezone) == ("daily_check", "0 3 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_columns_come_from_columns_that_exist(specs: dict[str, dg.AssetSpec]) -> None:
    known = {table: {name for name, _, _ in columns} for table, columns in SOURCE_COLUMNS.items()}
    for asset, lineage in (("human_feedback", human_feedback_lineage()), ("feature_table", feature_table_lineage())):
        columns = {column.name for column in specs[asset].metadata["dagster/column_schema"].columns}
        assert set(lineage.deps_by_column) == columns
        for deps in lineage.deps_by_column.values():
            assert deps
            assert all(dep.column_name in known[dep.asset_key.path[-1]] for dep in deps)
    features = feature_table_lineage().deps_by_column
    assert [(dep.asset_key.path[-1], dep.column_name) for dep in features["cost"]] == [("agent_performance", "cost")]
    assert {dep.column_name for dep in features["keyword_density"]} == {"input_data", "output_data"}


def test_the_schemas_shown_are_the_tables_written(specs: dict[str, dg.AssetSpec]) -> None:
    from feedback_pipeline.storage.day_tables import FEATURE_TABLE, HUMAN_FEEDBACK

    for name, table in (("human_feedback", HUMAN_FEEDBACK), ("feature_table", FEATURE_TABLE)):
        shown = [column.name for column in specs[name].metadata["dagster/column_schema"].columns]
        assert shown == table.names


def test_a_resource_can_be_replaced() -> None:
    other = DatabaseResource(url="postgresql://nobody@127.0.0.1:1/none")
    defs = build_defs(resource_overrides={"database": other})
    assert defs.resources is not None
    assert defs.resources["database"] is other
    assert defs.resources["learning_lock"].database is other
