"""The steps by which a reviewer, a review or a content is forgotten once the rows are deleted.

    deleted     the rows are gone, in one transaction; the champion of the quality predictor is none any more
    withdrawn   days that name them, and all results of learning passes, are out of the feature store
    relearned   a learning pass has published everything again without them, and trained a model
    retrained   the files of the models before are gone from MLflow
    swept       nothing of them has come meanwhile; the receipt holds only the hash of the id
    done        Postgres has dropped the deleted rows from its pages, and their values from its statistics; nobody had a snapshot
                any more that is older than the deletion, for which it would have left them there

Each step can be repeated. Where rows have come meanwhile, such as those of a transaction that was open when it began, they are
deleted and all steps are taken anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.extraction import pending_days
from feedback_pipeline.storage.forget_receipts import (
    DELETED,
    DONE,
    RELEARNED,
    RETRAINED,
    SWEPT,
    WITHDRAWN,
    Receipt,
    advance,
    begin_again,
    read_receipt,
)
from feedback_pipeline.storage.forgotten_keys import find_target
from feedback_pipeline.storage.forgotten_rows import SOURCES, clean_pages, delete_rows, sweep_rows
from feedback_pipeline.storage.forgotten_snapshots import wait_for_snapshots
from feedback_pipeline.storage.forgotten_writers import wait_for_writers
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.pass_lock import learning_pass_lock
from feedback_pipeline.storage.published_forecasts import retire_models
from feedback_pipeline.storage.reading_models import read_champion, read_lasting
from feedback_pipeline.storage.tracking import Tracking

Relearn = Callable[[Sequence[date]], str]
"""Runs a learning pass that reads these days, and returns the id of its Dagster run."""


@dataclass(frozen=True)
class Installation:
    """What a forgetting works on.

    Attributes:
        database: Migrated.
        settings: Of the installation.
        tracking: Its MLflow store.
        relearn: Runs a learning pass; raises where it fails.
        on_wait: Called where another learning pass has to be waited for.
        writers_may_take_s: How long the end of a transaction that writes to the source tables is waited for.
        snapshots_may_take_s: How long the end of a snapshot that is older than the deletion is waited for.
    """

    database: Database
    settings: Settings
    tracking: Tracking
    relearn: Relearn
    on_wait: Callable[[], None] = lambda: None
    writers_may_take_s: float = 600.0
    snapshots_may_take_s: float = 600.0


def _withdrawn(installation: Installation, receipts: Sequence[Receipt]) -> None:
    with learning_pass_lock(installation.database, installation.on_wait):
        withdraw(installation, receipts)


def withdraw(installation: Installation, receipts: Sequence[Receipt]) -> None:
    """Take out days and results; the caller holds the lock. A day that is missing is read again by the next pass."""
    store = open_store(installation.database, installation.settings)
    for receipt in receipts:
        if receipt.target is not None:
            for day in store.days_naming(receipt.target.named_in_days()):
                store.remove_day(day)
    # Of each result it could be said only by reading it whether it names them; the next pass makes all of them anew.
    store.clear_results()
    _advance(installation.database, receipts, WITHDRAWN)


def _relearned(installation: Installation, receipts: Sequence[Receipt]) -> None:
    """Learn again, unless nothing was ever learned here."""
    database = installation.database
    dagster_run_id, learning_run_id, champion = None, None, None
    if _has_learned(database):
        store = open_store(database, installation.settings)
        with database.snapshot() as connection:
            days = pending_days(connection, store, installation.settings)
        dagster_run_id = installation.relearn(days)
        with database.snapshot() as connection:
            learning_run_id = connection.execute(
                "SELECT learning_run_id::text FROM learning_runs WHERE dagster_run_id = %s", (dagster_run_id,)
            ).fetchone()
            champion = read_champion(connection)
    _advance(
        database,
        receipts,
        RELEARNED,
        dagster_run_id=dagster_run_id,
        learning_run_id=learning_run_id and learning_run_id[0],
        champion=champion and champion.model_version,
    )


def _retrained(installation: Installation, receipts: Sequence[Receipt]) -> None:
    """Nobody trains meanwhile: a training that is under way would be taken for one that ended early.

    Also where nothing was learned: the first pass may have died once it had trained, and before it published anything.
    """
    database = installation.database
    with learning_pass_lock(database, installation.on_wait):
        with database.connect() as connection:
            own, kept = read_installation(connection).id, read_lasting(connection)
        gone = installation.tracking.remove_trainings(kept, own, utc_now().date().isoformat())
        with database.connect() as connection:
            for receipt in receipts:
                versions = sorted({*receipt.model_versions, *gone})
                advance(connection, receipt, RETRAINED, utc_now(), model_versions=versions)


def _swept(installation: Installation, receipts: Sequence[Receipt]) -> None:
    """Whatever has been learned since may come from rows that are found now: then it is learned again."""
    database = installation.database
    wait_for_writers(database, installation.writers_may_take_s)
    with learning_pass_lock(database, installation.on_wait):
        late = []
        for receipt in receipts:
            with database.connect() as connection:
                if not _sweep(connection, receipt):
                    late.append(receipt.id)
        if late:
            withdraw(installation, [read_receipt(database, receipt_id) for receipt_id in late])


def _sweep(connection: Connection, receipt: Receipt) -> bool:
    """Whether nothing of the platform was found."""
    if receipt.target is None:
        return True
    target = find_target(connection, receipt.target.kind, receipt.target.id, receipt.target.keys)
    counts = delete_rows(connection, target)
    if SOURCES.keys() & counts.keys():
        begin_again(connection, receipt, target, counts, retire_models(connection, utc_now()), utc_now())
        return False
    sweep_rows(connection, target)
    advance(connection, receipt, SWEPT, utc_now())
    return True


def _done(installation: Installation, receipts: Sequence[Receipt]) -> None:
    wait_for_snapshots(installation.database, installation.snapshots_may_take_s)
    clean_pages(installation.database)
    _advance(installation.database, receipts, DONE)


STEPS: Final = {DELETED: _withdrawn, WITHDRAWN: _relearned, RELEARNED: _retrained, RETRAINED: _swept, SWEPT: _done}
"""What to do next, by the state that has been reached."""


def _advance(database: Database, receipts: Sequence[Receipt], state: str, **found: object) -> None:
    with database.connect() as connection:
        for receipt in receipts:
            advance(connection, receipt, state, utc_now(), **found)


def _has_learned(database: Database) -> bool:
    with database.connect() as connection:
        return connection.execute("SELECT EXISTS (SELECT FROM learning_runs)").fetchone() == (True,)


def utc_now() -> datetime:
    """The moment."""
    return datetime.now(UTC)
