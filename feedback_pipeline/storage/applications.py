"""The log of applications: which executions applied a pattern and which were held out, written before the outcome is known."""

import uuid
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import Final

from feedback_pipeline.errors import UserError
from feedback_pipeline.storage.database import Connection, Database

MAX_AGENT_NAME: Final = 100
MAX_ID: Final = 255


@dataclass(frozen=True)
class Application:
    """One decision to apply a pattern, or not to.

    Attributes:
        application_id: A UUID made by the client, so that sending it again changes nothing.
        pattern_id: Id of the recommendation.
        trial: Number of its trial, from 1.
        agent_name: Who applies it.
        execution_id: In which execution.
        applied: Whether it was applied; the others are the holdout.
        propensity: Probability with which it was applied, between 0 and 1, neither of them.
        predicted_quality: Expected probability of approval as it was known then, None = there was no forecast.
        assigned_at: When it was decided, with a time zone. Decisions of reviewers count that are later.
    """

    application_id: str
    pattern_id: str
    trial: int
    agent_name: str
    execution_id: str
    applied: bool
    propensity: float
    predicted_quality: float | None
    assigned_at: datetime


COLUMNS: Final = tuple(field.name for field in fields(Application))
_INSERT: Final = (
    f"INSERT INTO learning_applications ({', '.join(COLUMNS)}) SELECT * FROM unnest("  # noqa: S608 - names of the class
    "%s::uuid[], %s::text[], %s::integer[], %s::text[], %s::text[], %s::boolean[], %s::float8[], %s::float8[], %s::timestamptz[])"
    # By application, and by pattern, trial and execution: the first word counts.
    " ON CONFLICT DO NOTHING"
).encode()


def insert_applications(where: Database | Connection, rows: Sequence[Application]) -> int:
    """Write a batch of applications; what is known already stays as it was.

    Args:
        where: A database, or a connection whose transaction this joins.
        rows: Any number.

    Returns:
        Applications that are new.

    Raises:
        UserError: a field of a row cannot be; nothing was written.
        StoreUnavailable: the database cannot be reached.
    """
    for place, row in enumerate(rows):
        _check(place, row)
    if not rows:
        return 0
    # In one order: two batches with the same applications never wait for each other.
    ordered = sorted(rows, key=lambda row: row.application_id)
    columns = [list(column) for column in zip(*map(astuple, ordered), strict=True)]
    if isinstance(where, Database):
        with where.connect() as connection:
            return connection.execute(_INSERT, columns).rowcount
    return where.execute(_INSERT, columns).rowcount


def _check(place: int, row: Application) -> None:
    """Say which field of which row is wrong; its value stays out of the message."""
    limits = {"pattern_id": MAX_ID, "agent_name": MAX_AGENT_NAME, "execution_id": MAX_ID}
    texts = {name: getattr(row, name) for name in limits}
    wrong = [f"{name} needs 1 to {limits[name]} characters" for name, text in texts.items() if not 0 < len(text) <= limits[name]]
    wrong += [f"{name} holds a NUL character" for name, text in texts.items() if "\0" in text]
    if not _is_uuid(row.application_id):
        wrong.append("application_id is no UUID")
    if not 1 <= row.trial < 2**31:
        wrong.append("trial is not a number from 1")
    if not 0 < row.propensity < 1:
        wrong.append("propensity does not lie between 0 and 1: what is applied always, or never, cannot be measured")
    if row.predicted_quality is not None and not 0 <= row.predicted_quality <= 1:
        wrong.append("predicted_quality is no probability; send null where there is no forecast")
    if row.assigned_at.tzinfo is None:
        wrong.append("assigned_at has no time zone")
    if wrong:
        raise UserError(f"application {place + 1} of the batch: {'; '.join(wrong)}; correct it and send the batch again")


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
