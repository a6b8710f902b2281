"""Commands that show what to do about it: patterns, improvements, strategy."""

import click

from feedback_pipeline.commands.results import print_result


@click.command(short_help="Show the tested patterns of an agent or the fleet.")
@click.argument("agent", required=False)
@click.option("--fleet", is_flag=True, help="Over all outputs of all agents.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def patterns(agent: str | None, fleet: bool, as_json: bool) -> None:
    """Show what approved outputs of AGENT, or of the --fleet, have in common: contrasts, thresholds, rules, words."""
    if (agent is None) == (not fleet):
        raise click.UsageError("name an agent, or give --fleet")
    from feedback_pipeline.commands.patterns_rendering import print_patterns
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.learning.features import FLEET
    from feedback_pipeline.storage.reading_patterns import read_patterns

    with readable_database(settings_from_environment()) as database:
        document = read_patterns(database, agent or FLEET)
    print_result(document, as_json, print_patterns)


@click.command(short_help="Show what an agent should do differently.")
@click.argument("agent")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def improvements(agent: str, as_json: bool) -> None:
    """Show the recommendations for AGENT with their evidence; with --json all that an agent reads at run time."""
    from feedback_pipeline.commands.patterns_rendering import print_improvements
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.storage.reading_patterns import read_improvements

    with readable_database(settings_from_environment()) as database:
        document = read_improvements(database, agent)
    print_result(document, as_json, print_improvements)


@click.command(short_help="Show where an agent does well, and what to try next.")
@click.argument("agent")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def strategy(agent: str, as_json: bool) -> None:
    """Show approval and score of AGENT by content type, tone, channel, structure and length, and the next allocation."""
    from feedback_pipeline.commands.strategy_rendering import print_strategy
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.storage.reading_strategy import read_strategy

    with readable_database(settings_from_environment()) as database:
        document = read_strategy(database, agent)
    print_result(document, as_json, print_strategy)
