"""The installation of this database: its id, under which the feature store lies, and its learning window."""

from dataclasses import dataclass

from feedback_pipeline.errors import StoreError, UserError
from feedback_pipeline.storage.database import Connection


@dataclass(frozen=True)
class Installation:
    """One row of table `installation`.

    Attributes:
        id: UUID of the database; feature stores of different databases never mix.
        lookback_days: Length of the learning window in days, None = everything.
    """

    id: str
    lookback_days: int | None


def read_installation(connection: Connection) -> Installation:
    """The installation of a migrated database.

    Raises:
        StoreError: the database has not been migrated.
    """
    if connection.execute("SELECT to_regclass('installation')").fetchone() == (None,):
        raise StoreError("the database has no feedback_pipeline tables; run `feedback-pipeline migrate`")
    row = connection.execute("SELECT id::text, lookback_days FROM installation").fetchone()
    if row is None:
        raise StoreError("table installation is empty; run INSERT INTO installation DEFAULT VALUES")
    return Installation(row[0], row[1])


def set_lookback(connection: Connection, days: int | None) -> None:
    """Store the policy every later pass follows: the window in days, None = everything.

    Raises:
        UserError: days is not positive.
    """
    if days is not None and days < 1:
        raise UserError(f"the learning window must be at least one day, got {days}")
    connection.execute("UPDATE installation SET lookback_days = %s", (days,))
