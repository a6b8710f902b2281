"""The command that forgets: forget."""

import click

from feedback_pipeline.commands.results import print_json


@click.command(short_help="Forget a reviewer, a review or a content.")
@click.option("--reviewer", metavar="ID", help="All reviews of this reviewer, and what is known of them.")
@click.option("--feedback", metavar="ID", help="One review.")
@click.option("--content", metavar="ID", help="The reviews and workflows of this content, and the executions that made it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def forget(reviewer: str | None, feedback: str | None, content: str | None, as_json: bool) -> None:
    """Delete rows for good, learn everything again without them, and print the receipt.

    Without an id it goes on where an earlier call was interrupted.
    """
    named = {kind: value for kind, value in (("reviewer", reviewer), ("feedback", feedback), ("content", content)) if value}
    if len(named) > 1 or "" in (reviewer, feedback, content):
        raise click.UsageError("name one of --reviewer, --feedback and --content, or none of them to go on")
    from feedback_pipeline.commands.forgetting import forget_and_report
    from feedback_pipeline.commands.forgetting_rendering import print_receipts
    from feedback_pipeline.environment import prepared, settings_from_environment

    with prepared(settings_from_environment()) as environment:
        receipts = forget_and_report(environment, next(iter(named.items()), None))
    if as_json:
        print_json({"receipts": receipts})
    else:
        print_receipts(receipts)
