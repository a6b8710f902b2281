"""A Dagster project with one empty asset and a sensor that starts it: the least that the platform can take."""

import os

import dagster as dg

from feedback_pipeline.orchestration.looks import looks_every

INTERVAL_S = looks_every(int(os.environ["FEEDBACK_SENSOR_SECONDS"]))


@dg.asset
def nothing() -> None:
    """Does nothing."""


start = dg.define_asset_job("start", selection=[nothing], executor_def=dg.in_process_executor)


@dg.sensor(job=start, minimum_interval_seconds=INTERVAL_S, default_status=dg.DefaultSensorStatus.RUNNING)
def rows_wait() -> dg.RunRequest | dg.SkipReason:
    """Starts a run for each row of the table `asked`."""
    import psycopg

    with psycopg.connect(os.environ["ASKED_URL"]) as connection:
        row = connection.execute("SELECT count(*) FROM asked").fetchone()
    count = row[0] if row else 0
    return dg.RunRequest(run_key=str(count)) if count else dg.SkipReason("nothing was asked for")


defs = dg.Definitions(assets=[nothing], jobs=[start], sensors=[rows_wait])
