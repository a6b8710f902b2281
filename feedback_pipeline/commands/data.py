"""Commands that fill the database: migrate, load, simulate."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click


def parsed_day(_context: click.Context, _parameter: click.Parameter, value: str | None) -> date | None:
    """A day of the command line, as YYYY-MM-DD."""
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a day; write it as 2026-01-31") from None


@click.command(short_help="Create or update the tables.")
def migrate() -> None:
    """Create or update the tables. Existing tables of the four sources keep their rows."""
    from feedback_pipeline.environment import open_database, settings_from_environment
    from feedback_pipeline.storage.migrations import migrate as apply

    with open_database(settings_from_environment(), migrated=False) as database:
        applied = apply(database)
        for name in applied:
            click.echo(f"applied {name}")
        click.echo(f"{database.description} is up to date" + ("" if applied else "; nothing to do"))


@click.command(short_help="Load a folder of files.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
def load(folder: Path) -> None:
    """Load a folder of Parquet, CSV or JSON Lines files, one for each source table.

    Loading again changes nothing; a changed row updates. Refused rows go to the table rejected_feedback with the reason.
    """
    from feedback_pipeline.commands.progress import table_progress
    from feedback_pipeline.environment import open_database, settings_from_environment
    from feedback_pipeline.storage.interchange import load_folder

    settings = settings_from_environment()
    with open_database(settings) as database, table_progress() as progress:
        report = load_folder(database, folder, settings, progress)
    for file, columns in report.ignored_columns.items():
        click.echo(f"{file}: the database has no place for {', '.join(columns)}")
    click.echo(report.line())


@click.command(short_help="Write a simulated world.")
@click.option("--agents", default=12, show_default=True, type=click.IntRange(min=1), help="Agents of the agency.")
@click.option("--executions", default=150, show_default=True, type=click.IntRange(min=1), help="Executions of each agent.")
@click.option("--reviewers", default=25, show_default=True, type=click.IntRange(min=1), help="People who review.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="The same seed makes the same world.")
@click.option(
    "--waiting", default=0, show_default=True, type=click.IntRange(min=0), help="Newest outputs of each without review."
)
@click.option("--until", callback=parsed_day, metavar="DAY", help="Last day of the reviews. Default: yesterday (UTC).")
def simulate(agents: int, executions: int, reviewers: int, seed: int, waiting: int, until: date | None) -> None:
    """Write a simulated content agency with known truth into the database."""
    from feedback_pipeline.commands.worlds import write_simulated_world
    from feedback_pipeline.environment import open_database, settings_from_environment
    from feedback_pipeline.simulation.spec import WorldSpec

    last = until or datetime.now(UTC).date() - timedelta(days=1)
    spec = WorldSpec(agents=agents, executions=executions, reviewers=reviewers, seed=seed, until=last, waiting=waiting)
    with open_database(settings_from_environment()) as database:
        click.echo(write_simulated_world(database, spec))
