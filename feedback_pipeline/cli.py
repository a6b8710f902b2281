"""The command line: `feedback-pipeline`. Exit status 0, 1 for a failure, 2 for a wrong call."""

from typing import Any

import click

from feedback_pipeline.commands import data, effects, forecasts, forget, learning, patterns, results, reviewers, services
from feedback_pipeline.commands.failures import one_line


class _Commands(click.Group):
    """Says the package's own errors, and those of Postgres, in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            line = one_line(error)
            if line is None:
                raise
            click.echo(f"Error: {line}", err=True)
            ctx.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are used, not by name."""
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="feedback-pipeline")
def main() -> None:
    """Learn from human reviews of what AI agents write.

    Configuration comes from FEEDBACK_* variables. Without FEEDBACK_DATABASE_URL the commands start a PostgreSQL server of
    their own, with its data in FEEDBACK_HOME (default: .feedback).
    """


for command in (
    services.demo,
    data.migrate,
    data.load,
    data.simulate,
    learning.learn,
    results.findings,
    patterns.patterns,
    patterns.improvements,
    patterns.strategy,
    effects.effectiveness,
    reviewers.reviewers,
    reviewers.agreement,
    forecasts.forecast,
    forecasts.queue,
    forecasts.autoapproval,
    results.status,
    forget.forget,
    services.up,
    services.run,
):
    main.add_command(command)

if __name__ == "__main__":
    main()
