"""Commands that show what is expected before anyone reads: forecast, queue, autoapproval."""

from datetime import UTC, datetime

import click

from feedback_pipeline.commands.results import print_result


@click.command(short_help="Show how outputs without a review will be judged.")
@click.argument("agent", required=False)
@click.option("--execution", metavar="ID", help="Only of this execution.")
@click.option("--reviewer", "reviewers", metavar="ID", multiple=True, help="Also what this reviewer will say; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def forecast(agent: str | None, execution: str | None, reviewers: tuple[str, ...], as_json: bool) -> None:
    """Show the expected score, its interval and P(approve) of every output, or those of AGENT, that nobody has reviewed yet.

    What a reviewer will say is forecast when it is first asked for, and kept.
    """
    from feedback_pipeline.commands.forecasts_rendering import print_forecasts
    from feedback_pipeline.environment import prepared, readable_database, settings_from_environment
    from feedback_pipeline.storage.reading_forecasts import read_forecasts

    settings = settings_from_environment()
    if reviewers:
        from feedback_pipeline.commands.passes import forecast_unsaid

        with prepared(settings) as environment:
            document = forecast_unsaid(environment, agent, execution, reviewers)
    else:
        with readable_database(settings) as database:
            document = read_forecasts(database, agent, execution)
    print_result(document, as_json, print_forecasts)


@click.command(short_help="Show which outputs to review first.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many outputs will be read.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def queue(limit: int, as_json: bool) -> None:
    """Show which outputs to review first: the least likely approvals, and some drawn at random.

    The same outputs give the same queue all day. What is shown is kept in the table queue_draws, with the propensities, unless
    the user of the database may only read.
    """
    from feedback_pipeline.commands.forecasts_rendering import print_queue
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.storage.queue_draws import draw_queue

    settings = settings_from_environment()
    with readable_database(settings) as database:
        document = draw_queue(database, settings.seed, limit, datetime.now(UTC).date())
    print_result(document, as_json, print_queue)


@click.command(short_help="Show how many reviews could be spared, at what risk.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def autoapproval(as_json: bool) -> None:
    """Show how many reviews could be spared at a stated risk, from past forecasts. It approves nothing."""
    from feedback_pipeline.commands.forecasts_rendering import print_auto_approval
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.storage.past_forecasts import read_auto_approval

    settings = settings_from_environment()
    with readable_database(settings) as database:
        document = read_auto_approval(database, settings)
    print_result(document, as_json, print_auto_approval)
