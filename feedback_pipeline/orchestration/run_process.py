"""What makes the process of a run fit for a pass: Dagster opens a connection for each of some three hundred queries otherwise.

Belongs here: what Dagster and Python do around the steps. Does not belong here: what a step does.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import dagster as dg

_NO_LIMIT_MS: Final = 0
# What lies between may drop a silent connection without a word: an older one is not asked, but opened anew.
_RECYCLED_AFTER_S: Final = 60
_MORE_CONNECTIONS: Final = 20
_COLLECTED_AFTER: Final = (50_000, 20, 100)
"""Objects until the collector looks: a pass makes many that live to its end, and it would look at all of them each time."""


@contextmanager
def fit_for_a_pass(instance: "dg.DagsterInstance | None") -> Iterator[None]:
    """From here on the storages of the instance hold a connection each; for the block, garbage is collected rarely.

    A held connection that the server has closed meanwhile is replaced, as if it had not been held. Storages that are not in
    Postgres stay as they are. Whatever limit the server sets to a statement does not hold for them.
    """
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    if instance is not None:
        instance.optimize_for_webserver(_NO_LIMIT_MS, _RECYCLED_AFTER_S, _MORE_CONNECTIONS)
        if not event.contains(Pool, "checkout", _replace_dead):
            event.listen(Pool, "checkout", _replace_dead)
    before = gc.get_threshold()
    gc.set_threshold(*_COLLECTED_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _replace_dead(dbapi_connection: Any, _record: object, _proxy: object) -> None:
    """Ask a connection that was held for a sign of life; the pool opens another one where there is none.

    Dagster builds its engines itself and does not let `pool_pre_ping` be set.
    """
    import psycopg2
    from sqlalchemy.exc import DisconnectionError

    if not isinstance(dbapi_connection, psycopg2.extensions.connection) or not dbapi_connection.autocommit:
        return  # of others, who look after theirs
    try:
        with dbapi_connection.cursor() as cursor:
            cursor.execute("SELECT")
    except psycopg2.Error as error:
        raise DisconnectionError from error
