"""The table forget_receipts: what was forgotten, as a salted hash, and how far a forgetting that is under way has come.

While it is under way its row holds the id and the keys of its rows, because the remaining steps need them, also in another
process after a crash. The last step but one sets them to NULL; the last one has Postgres drop what is left of them.
"""

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from feedback_pipeline.errors import NotFound
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.forgotten_keys import Target

DELETED: Final = "deleted"
WITHDRAWN: Final = "withdrawn"
RELEARNED: Final = "relearned"
RETRAINED: Final = "retrained"
SWEPT: Final = "swept"
DONE: Final = "done"
STATES: Final = (DELETED, WITHDRAWN, RELEARNED, RETRAINED, SWEPT, DONE)
BEGUN_AGAIN: Final = "begun_again"
"""Beside the tables in the counts: how often rows were found that had come meanwhile, and all steps were taken anew."""

_ADVISORY_KEY: Final = 0x_FEED_F046
_POLL_S: Final = 0.25
_SALT_BYTES: Final = 16
_SHOWN: Final = (
    *("receipt_id", "kind", "salt", "id_sha256", "state", "counts", "model_versions", "champion"),
    *("learning_run_id", "dagster_run_id", "times", "failure"),
)
_SELECT: Final = (
    "SELECT receipt_id::text, kind, salt, id_sha256, state, counts, model_versions, champion, learning_run_id::text,"
    " dagster_run_id, times, failure, target FROM forget_receipts"
)
_ABANDONED: Final = (
    "SELECT count(*) FROM forget_receipts WHERE state <> 'done' AND NOT EXISTS ("
    "SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %s AND objsubid = 1"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)

Document = dict[str, Any]


@dataclass(frozen=True)
class Receipt:
    """One forgetting.

    Attributes:
        document: What may be shown: the columns of the table without the target.
        target: What is forgotten; None once that is not needed any more.
    """

    document: Document
    target: Target | None

    @property
    def id(self) -> str:
        """Id of the receipt."""
        return str(self.document["receipt_id"])

    @property
    def state(self) -> str:
        """The last step that is complete."""
        return str(self.document["state"])

    @property
    def model_versions(self) -> list[int]:
        """The versions of the quality predictor that may have been trained on it."""
        return list(self.document["model_versions"])


@contextmanager
def one_forgetting(database: Database) -> Iterator[None]:
    """Holds, for the block, the lock of those who finish what is under way: a second one waits, and finds nothing left."""
    with database.connect(autocommit=True) as connection:
        while connection.execute("SELECT pg_try_advisory_lock(%s)", [_ADVISORY_KEY]).fetchone() != (True,):
            time.sleep(_POLL_S)
        yield


def write_receipt(
    connection: Connection, target: Target, counts: Mapping[str, int], versions: Sequence[int], now: datetime
) -> str:
    """Begin a receipt in the transaction that deletes the rows, and return its id."""
    salt = secrets.token_hex(_SALT_BYTES)
    row = connection.execute(
        "INSERT INTO forget_receipts (kind, salt, id_sha256, state, target, counts, model_versions, times)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING receipt_id::text",
        (
            target.kind,
            salt,
            hashed(salt, target.id),
            DELETED,
            Jsonb(target.document()),
            Jsonb(dict(counts)),
            list(versions),
            Jsonb({DELETED: now.isoformat()}),
        ),
    ).fetchone()
    return str(row[0]) if row else ""


def advance(connection: Connection, receipt: Receipt, state: str, now: datetime, **found: object) -> None:
    """Write down that a step is complete; `found`: columns that are known now. The last but one takes the target away."""
    assignments = "".join(f", {name} = %s" for name in found)
    forgotten = ", target = NULL" if state == SWEPT else ""
    connection.execute(
        f"UPDATE forget_receipts SET state = %s, times = times || %s, failure = NULL{assignments}{forgotten}"  # noqa: S608
        " WHERE receipt_id = %s".encode(),
        (state, Jsonb({state: now.isoformat()}), *found.values(), receipt.id),
    )


def begin_again(
    connection: Connection, receipt: Receipt, target: Target, counts: Mapping[str, int], versions: Sequence[int], now: datetime
) -> None:
    """Set a receipt back in the transaction that deletes rows which have come meanwhile; they add to its counts."""
    total = Counter(receipt.document["counts"]) + Counter({**counts, BEGUN_AGAIN: 1})
    connection.execute(
        "UPDATE forget_receipts SET state = %s, times = %s, target = %s, counts = %s, model_versions = model_versions || %s,"
        " failure = NULL WHERE receipt_id = %s",
        (DELETED, Jsonb({DELETED: now.isoformat()}), Jsonb(target.document()), Jsonb(total), list(versions), receipt.id),
    )


def note_failure(connection: Connection, reason: str, now: datetime) -> None:
    """Write down why what is under way does not go on: one learning pass serves all of it. `reason` names nobody."""
    connection.execute(
        "UPDATE forget_receipts SET failure = %s WHERE state <> 'done'", (Jsonb({"at": now.isoformat(), "reason": reason}),)
    )


def unfinished_receipts(connection: Connection) -> int:
    """How many forgettings are under way or wait to be finished."""
    ((unfinished,),) = connection.execute("SELECT count(*) FROM forget_receipts WHERE state <> 'done'").fetchall()
    return int(unfinished)


def abandoned_receipts(connection: Connection) -> int:
    """How many forgettings are not finished while no process goes on with any."""
    ((abandoned,),) = connection.execute(_ABANDONED, [_ADVISORY_KEY]).fetchall()
    return int(abandoned)


def read_unfinished(database: Database) -> list[Receipt]:
    """Every forgetting that is under way, oldest first."""
    return _read(database, " WHERE state <> 'done' ORDER BY times ->> 'deleted', receipt_id")


def read_receipt(database: Database, receipt_id: str) -> Receipt:
    """One receipt.

    Raises:
        NotFound: there is none of that id.
    """
    found = _read(database, " WHERE receipt_id = %s", receipt_id)
    if not found:
        raise NotFound("no receipt has this id; nothing was forgotten under it")
    return found[0]


def receipts_of(database: Database, kind: str, identifier: str) -> list[Receipt]:
    """The receipts that are about an id, oldest first."""
    found = _read(database, " WHERE kind = %s ORDER BY times ->> 'deleted', receipt_id", kind)
    return [receipt for receipt in found if receipt.document["id_sha256"] == hashed(receipt.document["salt"], identifier)]


def hashed(salt: str, identifier: str) -> str:
    """What stands for an id in its receipt."""
    return hashlib.sha256(f"{salt}{identifier}".encode()).hexdigest()


def _read(database: Database, rest: str, *values: object) -> list[Receipt]:
    with database.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"{_SELECT}{rest}".encode(), values).fetchall()
    return [Receipt(_shown(row), None if row["target"] is None else Target.of(row["target"])) for row in rows]


def _shown(row: Document) -> Document:
    """What may be shown, the times in their order."""
    times = {state: row["times"][state] for state in STATES if state in row["times"]}
    return {name: row[name] for name in _SHOWN} | {"times": times}
