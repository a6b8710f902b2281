"""Writes a simulated world, with a progress bar."""

from feedback_pipeline.commands.progress import table_progress
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database


def write_simulated_world(database: Database, spec: WorldSpec) -> str:
    """Draws the world, writes it, and returns a line that says what was written.

    Raises:
        UserError: a world of this seed is in the database already.
    """
    world = simulate(spec)
    with table_progress() as bar:
        written = write_world(database, world, progress=(lambda done, total: bar("rows", done, total)) if bar else None)
    return (
        f"Simulated {spec.agents:,} agents and {spec.reviewers:,} reviewers: {written['agent_performance']:,} runs, "
        f"{written['review_feedback']:,} reviews, until {spec.until}."
    )
