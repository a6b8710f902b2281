"""The table queue_draws: what was put first for review, and how probable that was."""

from feedback_pipeline.storage.bulk import copy_rows, stable_id
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.reading import Document

_SHOWN = ("place", "agent_name", "execution_id", "why", "propensity", "p_approve")
_COLUMNS = ("draw_id", *_SHOWN, "model_version", "n_outputs", "seed")


def record_draw(database: Database, document: Document, seed: int) -> bool:
    """Keep a queue as it was shown.

    Args:
        database: A migrated database.
        document: Of `reading_forecasts.read_queue`.
        seed: What it was drawn with.

    Returns:
        Whether it is a new one: the same queue of the same model is kept once.
    """
    queue = document["queue"]
    if not queue:
        return False
    version = document["champion"]["model_version"]
    outputs = [f"{row['agent_name']}\x1f{row['execution_id']}" for row in queue]
    draw = stable_id("queue", str(version), str(seed), str(document["n_outputs"]), *outputs)
    with database.connect() as connection:
        # Two who ask at once: the second waits here, and finds what the first has written.
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (str(draw),))
        if connection.execute("SELECT FROM queue_draws WHERE draw_id = %s LIMIT 1", (draw,)).fetchone() is not None:
            return False
        rows = ((draw, *(row[name] for name in _SHOWN), version, document["n_outputs"], seed) for row in queue)
        copy_rows(connection, "queue_draws", rows, _COLUMNS)
    return True
