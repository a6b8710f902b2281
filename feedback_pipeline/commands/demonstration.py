"""The demo: a fresh simulated agency in a home of its own, learned from, explained, served."""

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
from psycopg import sql

from feedback_pipeline.commands.forecasts_rendering import print_queue
from feedback_pipeline.commands.passes import learn_and_report, set_window
from feedback_pipeline.commands.patterns_rendering import print_advice
from feedback_pipeline.commands.ports import free_ports
from feedback_pipeline.commands.rendering import print_highlights
from feedback_pipeline.commands.reviewers_rendering import print_reviewer_highlights
from feedback_pipeline.commands.serving import serve, single_server
from feedback_pipeline.commands.worlds import write_simulated_world
from feedback_pipeline.environment import prepared, settings_from_environment
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.settings import Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.queue_draws import draw_queue
from feedback_pipeline.storage.reading import read_findings, read_status
from feedback_pipeline.storage.reading_patterns import read_improvements
from feedback_pipeline.storage.reading_reviewers import read_agreement, read_reviewers

AGENTS: Final = 12
EXECUTIONS: Final = 150
REVIEWERS: Final = 25
DAYS: Final = 90
SEED: Final = 7
WAITING: Final = 3
_TOLD_AGENTS: Final = 3
_TOLD_FINDINGS: Final = 4
_TOLD_ADVICE: Final = 3
_TOLD_OUTPUTS: Final = 3


def demonstrate(*, serving: bool) -> None:
    """Runs the demo; with `serving` the web UI stays up until Ctrl-C.

    Raises:
        UserError: another demo is running here.
    """
    settings = free_ports(_settings(settings_from_environment()))
    with single_server(settings):
        click.echo("Starting a PostgreSQL server for the demo ...")
        with EmbeddedPostgres(settings.home).hold() as server:
            _clear(server, settings.home)
            with prepared(settings, overridable=False) as environment:
                today = datetime.now(UTC).date()
                until = today - timedelta(days=1)
                spec = WorldSpec(
                    agents=AGENTS,
                    executions=EXECUTIONS,
                    reviewers=REVIEWERS,
                    seed=SEED,
                    days=DAYS,
                    until=until,
                    waiting=WAITING,
                )
                click.echo(write_simulated_world(environment.database, spec))
                set_window(environment, None)
                # Every day there is, with or without reviews: in the web UI nothing is left to be done.
                learn_and_report(environment, (settings.first_day, today))
                _tell(environment.database)
                click.echo(f"\nLook further:  FEEDBACK_HOME={_shown(settings.home)} {_program()} findings AGENT --all")
                if serving:
                    serve(environment)


def _settings(user: Settings) -> Settings:
    """Settings of the demo: its own home and server, whatever the environment says of the user's."""
    return Settings(
        first_day=datetime.now(UTC).date() - timedelta(days=DAYS),
        home=user.home / "demo",
        database_url=None,
        store_url=None,
        score_bounds={"*": (0.0, 10.0)},
        dagster_port=user.dagster_port,
        dagster_url=None,
        api_port=user.api_port,
        api_tokens=user.api_tokens,
        mlflow_port=user.mlflow_port,
        mlflow_url=None,
        mlflow_artifacts=None,
    )


def _clear(server: Database, home: Path) -> None:
    """Removes what an earlier demo left, so that each starts from nothing."""
    with server.sibling("postgres").connect(autocommit=True) as connection:
        for name in (server.name, "dagster", "mlflow"):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    for folder in ("store", "dagster", "mlflow"):
        shutil.rmtree(home / folder, ignore_errors=True)


def _tell(database: Database) -> None:
    """The strongest findings and recommendations of the agents with the most, then the fleet, the reviewers, what waits."""
    agents: list[dict[str, Any]] = read_status(database)["agents"]
    agents.sort(key=lambda agent: (-agent["parts"].get("correlations", {}).get("published", 0), agent["agent_name"]))
    for name in [agent["agent_name"] for agent in agents[:_TOLD_AGENTS]]:
        print_highlights(read_findings(database, name), _TOLD_FINDINGS)
        print_advice(read_improvements(database, name), _TOLD_ADVICE)
    print_highlights(read_findings(database, FLEET), _TOLD_FINDINGS)
    print_reviewer_highlights(read_reviewers(database), read_agreement(database))
    print_queue(draw_queue(database, SEED, _TOLD_OUTPUTS, datetime.now(UTC).date()))


def _program() -> str:
    """How this program can be called from here."""
    return "feedback-pipeline" if shutil.which("feedback-pipeline") else _shown(Path(sys.argv[0]).absolute())


def _shown(home: Path) -> str:
    return str(home.relative_to(Path.cwd())) if home.is_relative_to(Path.cwd()) else str(home)
