"""The table queue_draws: what was put first for review, and how probable that was."""

from datetime import date

from feedback_pipeline.learning.review_queue import daily_seed
from feedback_pipeline.storage.bulk import copy_rows, stable_id
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.reading import Document
from feedback_pipeline.storage.reading_forecasts import read_queue

_SHOWN = ("place", "agent_name", "execution_id", "why", "propensity", "p_approve")
_COLUMNS = ("draw_id", *_SHOWN, "model_version", "n_outputs", "seed")


def draw_queue(database: Database, seed: int, limit: int, day: date) -> Document:
    """Which outputs to read first today; what is shown is kept, with the propensities.

    Args:
        database: A migrated database.
        seed: Of the installation; with the day it gives the random places.
        limit: How many outputs will be read.
        day: Today. As long as the same outputs wait, asking again gives the same queue and the same draw.

    Returns:
        draw_id, then what `reading_forecasts.read_queue` returns. draw_id is None where nothing was kept: the queue is empty,
        or the user of the database may only read.

    Raises:
        NothingLearned: there is no champion.
    """
    own = daily_seed(seed, day)
    document = read_queue(database, own, limit)
    return {"draw_id": _keep(database, document, own)} | document


def _keep(database: Database, document: Document, seed: int) -> str | None:
    """Write a queue unless it is there already; returns its draw_id."""
    queue = document["queue"]
    if not queue:
        return None
    version = document["champion"]["model_version"]
    outputs = [f"{row['agent_name']}\x1f{row['execution_id']}" for row in queue]
    draw = stable_id("queue", str(version), str(seed), str(document["n_outputs"]), *outputs)
    with database.connect() as connection:
        may = "SELECT has_table_privilege('queue_draws', 'INSERT') AND NOT current_setting('transaction_read_only')::boolean"
        if connection.execute(may).fetchone() != (True,):
            return None
        # Two who ask at once: the second waits here, and finds what the first has written.
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (str(draw),))
        if connection.execute("SELECT FROM queue_draws WHERE draw_id = %s LIMIT 1", (draw,)).fetchone() is None:
            rows = ((draw, *(row[name] for name in _SHOWN), version, document["n_outputs"], seed) for row in queue)
            copy_rows(connection, "queue_draws", rows, _COLUMNS)
    return str(draw)
