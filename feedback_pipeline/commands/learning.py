"""The command that learns."""

import re
from datetime import date

import click

_RANGE = re.compile(r"(\d{4}-\d{2}-\d{2})\.\.(\d{4}-\d{2}-\d{2})")


def parsed_range(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[date, date] | None:
    """A range of days of the command line, as A..B."""
    if value is None:
        return None
    match = _RANGE.fullmatch(value)
    try:
        first, last = (date.fromisoformat(day) for day in match.groups()) if match else (date.max, date.min)
    except ValueError:
        first, last = date.max, date.min
    if first > last:
        raise click.BadParameter(f"{value!r} is not a range of days; write it as 2026-01-01..2026-01-31")
    return first, last


@click.command(short_help="Learn from what changed, and publish it.")
@click.option(
    "--days", callback=parsed_range, metavar="A..B", help="Read only these days where they changed, as 2026-01-01..2026-01-31."
)
@click.option("--all", "everything", is_flag=True, help="From now on learn from all reviews, however old.")
@click.option("--lookback", type=click.IntRange(min=1), metavar="N", help="From now on learn from the last N days (at first 30).")
def learn(days: tuple[date, date] | None, everything: bool, lookback: int | None) -> None:
    """Read the days that changed, learn from the window, publish what was learned.

    --all and --lookback set the window for every later pass too.
    """
    if everything and (days or lookback):
        raise click.UsageError("--all goes with neither --days nor --lookback")
    from feedback_pipeline.commands.passes import learn_and_report, set_window
    from feedback_pipeline.environment import prepared, settings_from_environment

    with prepared(settings_from_environment()) as environment:
        if everything or lookback:
            set_window(environment, None if everything else lookback)
        learn_and_report(environment, days)
