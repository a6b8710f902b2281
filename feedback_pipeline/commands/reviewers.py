"""Commands that show the reviewers: what each one wants, how far they agree."""

import click

from feedback_pipeline.commands.results import print_json, print_result


@click.command(short_help="Show who is strict and what each one wants.")
@click.argument("reviewer", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reviewers(reviewer: str | None, as_json: bool) -> None:
    """Show every reviewer's severity, standards and preferences, or all that is known of REVIEWER."""
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.storage.reading_reviewers import read_reviewers

    with readable_database(settings_from_environment()) as database:
        found = read_reviewers(database, reviewer)
    if as_json:
        print_json(found)
    elif reviewer is None:
        from feedback_pipeline.commands.reviewers_rendering import print_reviewers

        print_reviewers(found)
    else:
        from feedback_pipeline.commands.reviewer_page import print_reviewer

        print_reviewer(found[0])


@click.command(short_help="Show how far the reviewers agree.")
@click.argument("agent", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def agreement(agent: str | None, as_json: bool) -> None:
    """Show how far the reviewers of all outputs, or of those of AGENT, agree, and who can be compared with whom."""
    from feedback_pipeline.commands.agreement_rendering import print_agreement
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.learning.features import FLEET
    from feedback_pipeline.storage.reading_reviewers import read_agreement

    with readable_database(settings_from_environment()) as database:
        document = read_agreement(database, FLEET if agent is None else agent)
    print_result(document, as_json, print_agreement)
