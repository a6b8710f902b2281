from datetime import UTC, datetime, timedelta

import dagster as dg

from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.jobs import forecast, learn
from feedback_pipeline.orchestration.resources import DatabaseResource
from feedback_pipeline.orchestration.retention import KEPT, remove_old_runs


def test_old_forecasts_and_failures_go_and_what_learned_stays() -> None:
    defs = build_defs(resource_overrides={"database": DatabaseResource(url="postgresql://nobody@127.0.0.1/none")})
    with dg.DagsterInstance.ephemeral() as instance:

        def run(job: str, status: dg.DagsterRunStatus) -> str:
            return instance.create_run_for_job(defs.resolve_job_def(job), status=status).run_id

        for status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
            run(forecast.name, status)
        run(learn.name, dg.DagsterRunStatus.FAILURE)
        kept = {
            run(learn.name, dg.DagsterRunStatus.SUCCESS),
            run(learn.name, dg.DagsterRunStatus.STARTED),
            run(forecast.name, dg.DagsterRunStatus.SUCCESS),
        }
        assert remove_old_runs(instance, datetime.now(UTC) + KEPT - timedelta(minutes=1)) == 0
        assert remove_old_runs(instance, datetime.now(UTC) + KEPT + timedelta(minutes=1)) == 4
        assert {found.run_id for found in instance.get_runs()} == kept
