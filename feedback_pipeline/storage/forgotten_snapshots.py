"""Who may still see deleted rows: as long as somebody may, VACUUM leaves them in their pages and says nothing."""

import time
from typing import Final

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.storage.database import Connection, Database

_POLL_S: Final = 0.25
# Whatever is deleted by now has a lower number.
_HORIZON: Final = "SELECT pg_snapshot_xmax(pg_current_snapshot())::xid::text"
# Sessions of this database and of none (of replicas) hold by what they see, a transaction of any database by its number: new
# snapshots everywhere begin there. VACUUM does not wait for another VACUUM; of slots, only what holds tables counts.
_HOLDING: Final = """
    SELECT concat('process ', pid, ' (', coalesce(nullif(application_name, ''), backend_type, 'unnamed'), ')'), xact_start
    FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
    AND (age(backend_xid) > age(%(horizon)s::xid)
         OR age(backend_xmin) > age(%(horizon)s::xid) AND coalesce(datname, current_database()) = current_database())
    UNION ALL SELECT concat('prepared transaction ', transaction), prepared FROM pg_prepared_xacts
    WHERE age(transaction) > age(%(horizon)s::xid)
    UNION ALL SELECT concat('replication slot ', slot_name), NULL FROM pg_replication_slots
    WHERE age(xmin) > age(%(horizon)s::xid)
    ORDER BY 2, 1
"""


def wait_for_snapshots(database: Database, patience_s: float) -> None:
    """Wait until nobody sees any more what has been deleted by now; snapshots that are taken later are not waited for.

    Raises:
        StoreUnavailable: somebody still does after `patience_s` seconds.
    """
    with database.connect(autocommit=True) as connection:
        ((horizon,),) = connection.execute(_HORIZON).fetchall()
        deadline = time.monotonic() + patience_s
        while holding := _holding(connection, horizon):
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"deleted rows stay in their pages as long as an older snapshot may see them; end {', '.join(holding)}"
                )
            time.sleep(_POLL_S)


def _holding(connection: Connection, horizon: str) -> list[str]:
    found = connection.execute(_HOLDING, {"horizon": horizon}).fetchall()
    return [name if since is None else f"{name}, open since {since:%Y-%m-%d %H:%M:%S} UTC" for name, since in found]
