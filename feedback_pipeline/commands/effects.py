"""The command that shows whether applying what was learned helps: effectiveness."""

import click

from feedback_pipeline.commands.results import print_result


@click.command(short_help="Show whether applying recommendations helps.")
@click.argument("agent", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def effectiveness(agent: str | None, as_json: bool) -> None:
    """Show the trials of all recommendations, or those of AGENT: approval with them and without, and what was decided."""
    from feedback_pipeline.commands.effects_rendering import print_effects
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.storage.reading_effects import read_effects

    with readable_database(settings_from_environment()) as database:
        document = read_effects(database, agent)
    print_result(document, as_json, print_effects)
