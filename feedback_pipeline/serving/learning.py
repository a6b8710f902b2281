"""Starting a learning pass: one at a time, over the days that changed."""

from datetime import date, timedelta
from typing import Any, Final

from feedback_pipeline.errors import NotFound
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.serving.connections import Connections
from feedback_pipeline.serving.dagster_runs import DagsterRuns
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.extraction import pending_days
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import read_installation, set_lookback
from feedback_pipeline.storage.reading_provenance import known_agent

INSTALLATION_TAG: Final = "feedback_pipeline/installation"
_PASS_TAG: Final = ("feedback_pipeline/pass", "learn")
_RANGE: Final = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_ORIGIN: Final = {"started from": "the API"}
_ONE_STARTS: Final = 0x_FEED_A91


def start_learning(
    connections: Connections, runs: DagsterRuns, settings: Settings, agent_name: str, lookback_days: int | None
) -> dict[str, Any]:
    """Start a pass over all agents, unless one is under way.

    Args:
        connections: To the database.
        runs: Of Dagster.
        settings: First day and score bounds.
        agent_name: Whoever it is started for; `*` = everybody.
        lookback_days: Sets the window of this and every later pass; None = as it is.

    Returns:
        run_id, page, already_running.

    Raises:
        NotFound: no such agent has run.
        StoreUnavailable: Dagster does not answer.
    """
    with connections.writing() as connection:
        if agent_name != FLEET and not known_agent(connection, agent_name):
            raise NotFound(f"no agent {agent_name!r} has run; GET agents lists those that have")
        # Two who ask at once: the second finds the run of the first.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_STARTS])
        if lookback_days is not None:
            set_lookback(connection, lookback_days)
        installation = read_installation(connection).id
        found = runs.under_way((INSTALLATION_TAG, installation))
        run_id = found or runs.launch(_tags(connection, settings, installation))
    return {"run_id": run_id, "page": runs.page(run_id), "already_running": found is not None}


def launch(database: Database, runs: DagsterRuns, settings: Settings) -> str:
    """Start a pass over the days that changed, whatever else is under way; it waits for its turn."""
    with database.connect() as connection:
        return runs.launch(_tags(connection, settings, read_installation(connection).id))


def _tags(connection: Connection, settings: Settings, installation: str) -> dict[str, str]:
    """The range that covers what changed; the newest day where nothing did, so that there is something to run over."""
    ((today,),) = connection.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchall()
    stale = pending_days(connection, FeatureStore(settings.store, installation), settings)
    days: list[date] = [day for day in stale if settings.first_day <= day < today + timedelta(days=1)] or [today]
    first_and_last = (days[0].isoformat(), days[-1].isoformat())
    return dict(zip(_RANGE, first_and_last, strict=True)) | {INSTALLATION_TAG: installation} | dict([_PASS_TAG]) | _ORIGIN
