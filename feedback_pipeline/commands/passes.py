"""A learning pass as the terminal shows it: what it reads, whether it waits, what came out."""

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import click

from feedback_pipeline.commands.rendering import print_status, working
from feedback_pipeline.environment import Environment
from feedback_pipeline.learning_pass.forecasts import forecast_for_reviewers
from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.storage.extraction import pending_days
from feedback_pipeline.storage.installation import set_lookback
from feedback_pipeline.storage.pass_lock import pass_is_running
from feedback_pipeline.storage.reading import read_status
from feedback_pipeline.storage.reading_forecasts import read_forecasts
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_uris import TRACKING_VARIABLE


def set_window(environment: Environment, days: int | None) -> None:
    """Stores the window that every pass from now on learns from, and says so."""
    with environment.database.connect() as connection:
        set_lookback(connection, days)
    click.echo(f"Learning from {'all reviews' if days is None else f'the last {days} days'}, now and in later passes.")


def learn_and_report(environment: Environment, days: tuple[date, date] | None) -> None:
    """Runs a pass over a range of days, or over the range of all that changed, and prints the status of the agents.

    Raises:
        LearningError: the pass failed; the message says at which step. What stands beside the publication may fail alone.
    """
    environment.adopt()
    stale = _stale_days(environment, days)
    if pass_is_running(environment.database):
        click.echo("Another learning pass is running on this database; this one starts when it is done.")
    click.echo(_announcement(stale))
    with working("Learning"):
        from feedback_pipeline.orchestration.learning_run import run_learning

        run_learning(days or stale)
    print_status(read_status(environment.database))


def forecast_unsaid(
    environment: Environment, agent_name: str | None, execution_id: str | None, reviewers: Sequence[str]
) -> dict[str, Any]:
    """What the champion expects, also of reviewers it was never asked about; that is computed now, and kept.

    Raises:
        UserError: there is no champion, or no such agent or execution.
        StoreUnavailable: MLflow is away.
    """
    document = read_forecasts(environment.database, agent_name, execution_id, reviewers)
    said = {(row["agent_name"], row["execution_id"], row["reviewer_id"]) for row in document["forecasts"]}
    outputs = list(dict.fromkeys((agent, execution) for agent, execution, _ in said))
    missing = {output: [name for name in dict.fromkeys(reviewers) if (*output, name) not in said] for output in outputs}
    if any(missing.values()):
        environment.adopt()
        tracking = Tracking(os.environ[TRACKING_VARIABLE], os.environ["FEEDBACK_MLFLOW_ARTIFACTS"])
        with working("Asking the champion"):
            forecast_for_reviewers(environment.database, tracking, missing, now=datetime.now(UTC))
        document = read_forecasts(environment.database, agent_name, execution_id, reviewers)
    return document


def _stale_days(environment: Environment, days: tuple[date, date] | None) -> list[date]:
    store = open_store(environment.database, environment.settings)
    with environment.database.snapshot() as connection:
        pending = pending_days(connection, store, environment.settings)
    return [day for day in pending if days is None or days[0] <= day <= days[1]]


def _announcement(stale: Sequence[date]) -> str:
    if not stale:
        return "No day has changed since the last pass; learning again from what is there."
    return f"Reading {stale[0]}." if len(stale) == 1 else f"Reading {len(stale)} days between {stale[0]} and {stale[-1]}."
