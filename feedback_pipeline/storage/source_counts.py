"""How many rows the four source tables hold."""

from psycopg import sql

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.source_columns import SOURCE_TABLES

# Beyond this many rows counting costs more than the figure is worth.
COUNTED_UP_TO = 500_000


def source_row_counts(database: Database) -> dict[str, tuple[int, bool]]:
    """Rows of each source table, and whether they were counted: a large table's figure is the server's estimate.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    counts: dict[str, tuple[int, bool]] = {}
    with database.connect() as connection:
        for table in SOURCE_TABLES:
            row = connection.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", [table]).fetchone()
            estimate = int(row[0]) if row else 0
            if estimate > COUNTED_UP_TO:
                counts[table] = (estimate, False)
                continue
            counted = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
            counts[table] = (int(counted[0]) if counted else 0, True)
    return counts


def refused_reviews(database: Database) -> int:
    """Reviews of which a row or a score stands in the ledger of refused input.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    with database.connect() as connection:
        row = connection.execute(
            "SELECT count(DISTINCT row_id) FROM rejected_feedback WHERE source = 'review_feedback'"
        ).fetchone()
    return int(row[0]) if row else 0
