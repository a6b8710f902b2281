"""Old runs go with all they left behind, but no asset and no day ever looks as if it had not been materialized."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from feedback_pipeline.environment import Environment
from feedback_pipeline.orchestration.assets.days import FEATURE_TABLE
from feedback_pipeline.orchestration.assets.publication import LEARNED_IMPROVEMENTS
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.daily_check import daily_check
from feedback_pipeline.orchestration.jobs import forecast, learn
from feedback_pipeline.orchestration.partitions import daily_partitions, range_tags
from feedback_pipeline.orchestration.resources import INSTALLATION_TAG, DatabaseResource, installation_tag
from feedback_pipeline.orchestration.retention import KEPT, old_runs, remove_old_runs

pytestmark = pytest.mark.slow

DAYS = [date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)]
LATER = datetime.now(UTC) + KEPT + timedelta(hours=1)


def _learn(instance: dg.DagsterInstance, tags: dict[str, str], first: int, last: int, *, fails: bool = False) -> str:
    """A run of the shape of `learn`: some days, and the publication after them; its id."""

    @dg.multi_asset(
        specs=[dg.AssetSpec(FEATURE_TABLE)],
        partitions_def=daily_partitions(DAYS[0]),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def days() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(asset_key=FEATURE_TABLE)

    @dg.asset(key=LEARNED_IMPROVEMENTS, deps=[FEATURE_TABLE])
    def publication(context: dg.AssetExecutionContext) -> None:
        os.write(1, b"what a library prints")
        if fails:
            raise dg.Failure("not today")

    job = dg.define_asset_job(learn.name, selection=dg.AssetSelection.all(), executor_def=dg.in_process_executor)
    definition = dg.Definitions(assets=[days, publication], jobs=[job]).resolve_job_def(learn.name)
    wanted = tags | range_tags(DAYS[first : last + 1])
    return definition.execute_in_process(instance=instance, tags=wanted, raise_on_error=False).run_id


def test_a_run_goes_when_all_that_it_materialized_was_materialized_again(
    environment: Environment, instance: dg.DagsterInstance
) -> None:
    tags = installation_tag(environment.database)
    logs = Path(os.environ["DAGSTER_HOME"]) / "storage"
    all_days = {day.isoformat() for day in DAYS}

    def is_whole() -> bool:
        published = instance.get_latest_materialization_event(LEARNED_IMPROVEMENTS)
        return published is not None and instance.get_materialized_partitions(FEATURE_TABLE) == all_days

    def left() -> list[str]:
        return list(reversed(instance.get_run_ids()))

    whole, superseded, last_day = _learn(instance, tags, 0, 2), _learn(instance, tags, 2, 2), _learn(instance, tags, 2, 2)
    failed = _learn(instance, tags, 1, 1, fails=True)
    assert left() == [whole, superseded, last_day, failed]
    assert remove_old_runs(instance, tags, LATER - timedelta(hours=2)) == 0
    assert remove_old_runs(instance, tags, LATER) == 1
    # The first holds the first day, the failed one the second, the other the third and the publication.
    assert left() == [whole, last_day, failed]
    assert is_whole()
    assert [(logs / run_id).exists() for run_id in (whole, superseded)] == [True, False]
    assert instance.all_logs(superseded) == []

    newest = _learn(instance, tags, 0, 2)
    assert remove_old_runs(instance, tags, LATER) == 3
    assert left() == [newest]
    assert is_whole()
    assert [path.name for path in logs.iterdir() if path.name in {whole, last_day, failed, newest}] == [newest]
    assert remove_old_runs(instance, tags, LATER) == 0


def test_runs_of_others_and_runs_that_have_not_ended_stay(environment: Environment, instance: dg.DagsterInstance) -> None:
    defs, own = build_defs(), installation_tag(environment.database)
    statuses = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

    def run(job: dg.JobDefinition, status: dg.DagsterRunStatus, tags: dict[str, str]) -> str:
        return instance.create_run_for_job(job, status=status, tags=tags).run_id

    @dg.job
    def nightly() -> None:
        """Of another team, which gives its runs our tag for a reason of its own."""

    jobs = [defs.resolve_job_def(name) for name in (learn.name, forecast.name, daily_check.name)]
    foreign = [{}, {INSTALLATION_TAG: "00000000-0000-4000-8000-000000000000"}, {"team": "other"}]
    kept = {run(job, dg.DagsterRunStatus.FAILURE, tags) for job in [*jobs, nightly] for tags in foreign}
    kept |= {run(jobs[0], dg.DagsterRunStatus.SUCCESS, foreign[0]), run(nightly, dg.DagsterRunStatus.FAILURE, own)}
    kept |= {run(job, dg.DagsterRunStatus.STARTED, own) for job in jobs}
    for job in jobs:
        for status in statuses:
            run(job, status, own)
    assert remove_old_runs(instance, own, LATER) == 9
    assert set(instance.get_run_ids()) == kept


def test_the_schedule_deletes_what_is_old_and_starts_nothing(environment: Environment, instance: dg.DagsterInstance) -> None:
    tags = installation_tag(environment.database)
    resources = {"database": DatabaseResource(url=environment.database.url)}
    run = instance.create_run_for_job(build_defs().resolve_job_def(forecast.name), status=dg.DagsterRunStatus.SUCCESS, tags=tags)
    with dg.build_schedule_context(instance=instance, resources=resources) as context:
        assert old_runs.evaluate_tick(context).skip_message == "0 old runs deleted"
    assert instance.has_run(run.run_id)
