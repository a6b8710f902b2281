"""Commands that run other programs in the prepared environment: up, demo, run."""

import shutil

import click


@click.command(short_help="Serve the API and the UIs until Ctrl-C.")
def up() -> None:
    """Serve the HTTP API and the UIs of Dagster and MLflow, and run schedules and queued runs, until Ctrl-C.

    Starts the embedded PostgreSQL where no database is configured, and applies migrations.
    """
    from feedback_pipeline.commands.serving import serve, single_server
    from feedback_pipeline.environment import prepared, settings_from_environment

    settings = settings_from_environment()
    with single_server(settings), prepared(settings) as environment:
        serve(environment)


@click.command(short_help="A simulated agency, learned from, on the screen.")
@click.option("--once", is_flag=True, help="Learn and print; do not serve the UI afterwards.")
def demo(once: bool) -> None:
    """Simulate a content agency, learn from its reviews, print what was learned, serve the UI.

    Everything lies in FEEDBACK_HOME/demo and is made anew each time; your own database is not used.
    """
    from feedback_pipeline.commands.demonstration import demonstrate

    demonstrate(serving=not once)


@click.command(
    short_help="Run a command in the prepared environment.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(context: click.Context, command: tuple[str, ...]) -> None:
    """Run a command in the prepared environment, as in: run -- dagster dev, or: run -- psql."""
    from feedback_pipeline.environment import prepared, settings_from_environment
    from feedback_pipeline.errors import UserError
    from feedback_pipeline.processes import run_in_foreground

    with prepared(settings_from_environment()) as environment:
        variables = environment.of_tools()
        program = shutil.which(command[0], path=variables["PATH"])
        if program is None:
            raise UserError(f"command {command[0]!r} is not installed; check its name or install it")
        status = run_in_foreground([program, *command[1:]], variables)
    context.exit(status)
