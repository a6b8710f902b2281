"""Forgetting a reviewer, a review or a content: from the rows to everything that was learned from them.

    deleted     the rows are gone, in one transaction; the champion of the quality predictor is none any more
    withdrawn   days that name them, and all results of learning passes, are out of the feature store
    relearned   a learning pass has published everything again without them, and trained a model
    retrained   the files of the models before are gone from MLflow
    done        what was written of them meanwhile is gone; the receipt holds only the hash of the id

Each step can be repeated, and begins where the receipt says that the one before is complete: whoever calls `finish_forgetting`
goes on where a process died. What `storage.forgotten_keys` says belongs to a reviewer, a review or a content is what goes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from feedback_pipeline.errors import FeedbackError, NotFound, UserError
from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.extraction import pending_days
from feedback_pipeline.storage.forget_receipts import (
    DELETED,
    DONE,
    RELEARNED,
    RETRAINED,
    WITHDRAWN,
    Document,
    Receipt,
    advance,
    one_forgetting,
    read_receipt,
    read_unfinished,
    receipts_of,
    write_receipt,
)
from feedback_pipeline.storage.forgotten_keys import KINDS, find_target
from feedback_pipeline.storage.forgotten_rows import clean_pages, delete_rows, sweep_rows
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.pass_lock import learning_pass_lock
from feedback_pipeline.storage.published_forecasts import retire_models
from feedback_pipeline.storage.reading_models import read_champion
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
    """

    database: Database
    settings: Settings
    tracking: Tracking
    relearn: Relearn
    on_wait: Callable[[], None] = lambda: None


def forget(installation: Installation, kind: str, identifier: str) -> Document:
    """Forget a reviewer, a review or a content, and what is unfinished of earlier times with it.

    Returns:
        The receipt: the columns of table forget_receipts without the target.

    Raises:
        NotFound: nothing of that id is here, and nothing was changed.
        FeedbackError: a step failed after the rows were deleted; `finish_forgetting` goes on there.
    """
    receipt_id = begin_forgetting(installation, kind, identifier)
    finish_forgetting(installation)
    return read_receipt(installation.database, receipt_id).document


def begin_forgetting(installation: Installation, kind: str, identifier: str) -> str:
    """Delete the rows and take what holds them out of the feature store; return the id of the receipt.

    A learning pass that is running is waited for: it would publish what it has read already. One that comes later reads nothing
    of them any more.

    Raises:
        NotFound: nothing of that id is here, and nothing was changed.
    """
    if kind not in KINDS or not identifier:
        raise UserError(f"name a {', '.join(KINDS)} to forget, got {kind!r} {identifier!r}")
    database = installation.database
    with learning_pass_lock(database, installation.on_wait):
        with database.connect() as connection:
            target = find_target(connection, kind, identifier)
            counts = delete_rows(connection, target)
            if counts:
                receipt_id = write_receipt(connection, target, counts, retire_models(connection, _now()), _now())
        if not counts:
            return _known_or_refused(database, kind, target.id)
        _withdraw(installation, [read_receipt(database, receipt_id)])
    return receipt_id


def finish_forgetting(installation: Installation) -> list[Document]:
    """Take the steps that are missing, of every forgetting that is under way; one learning pass serves all of them.

    Returns:
        Their receipts.

    Raises:
        FeedbackError: a step failed; what is done stays done.
    """
    database = installation.database
    with one_forgetting(database):
        begun = read_unfinished(database)
        try:
            for state, step in _STEPS.items():
                receipts = [receipt for receipt in read_unfinished(database) if receipt.state == state]
                if receipts:
                    step(installation, receipts)
        except FeedbackError as error:
            left = "the rows are deleted, traces of them are left; run `feedback-pipeline forget` without an id to go on"
            raise type(error)(f"{error}; {left}") from error
    if begun:
        clean_pages(database)
    return [read_receipt(database, receipt.id).document for receipt in begun]


def _known_or_refused(database: Database, kind: str, identifier: str) -> str:
    """The receipt of a forgetting of that id which is under way, since it explains that nothing is found."""
    known = receipts_of(database, kind, identifier)
    if not known:
        raise NotFound(f"there is no {kind} {identifier!r} in {database.description}; nothing was changed")
    if known[-1].state == DONE:
        day = known[-1].document["times"][DONE][:10]
        raise NotFound(f"{kind} {identifier!r} was forgotten on {day}, and nothing of it has come since; nothing was changed")
    return known[-1].id


def _withdrawn(installation: Installation, receipts: Sequence[Receipt]) -> None:
    with learning_pass_lock(installation.database, installation.on_wait):
        _withdraw(installation, receipts)


def _withdraw(installation: Installation, receipts: Sequence[Receipt]) -> None:
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
    """Nobody trains meanwhile: a training that is under way would be taken for one that ended early."""
    database = installation.database
    versions = {version for receipt in receipts for version in receipt.model_versions}
    with learning_pass_lock(database, installation.on_wait):
        if versions or _has_learned(database):
            with database.connect() as connection:
                own = read_installation(connection).id
            installation.tracking.remove_trainings(versions, own, _now().date().isoformat())
        _advance(database, receipts, RETRAINED)


def _done(installation: Installation, receipts: Sequence[Receipt]) -> None:
    with learning_pass_lock(installation.database, installation.on_wait):
        for receipt in receipts:
            with installation.database.connect() as connection:
                if receipt.target is not None:
                    sweep_rows(connection, receipt.target)
                advance(connection, receipt, DONE, _now())


_STEPS: Final = {DELETED: _withdrawn, WITHDRAWN: _relearned, RELEARNED: _retrained, RETRAINED: _done}
"""What to do next, by the state that has been reached."""


def _advance(database: Database, receipts: Sequence[Receipt], state: str, **found: object) -> None:
    with database.connect() as connection:
        for receipt in receipts:
            advance(connection, receipt, state, _now(), **found)


def _has_learned(database: Database) -> bool:
    with database.connect() as connection:
        return connection.execute("SELECT EXISTS (SELECT FROM learning_runs)").fetchone() == (True,)


def _now() -> datetime:
    return datetime.now(UTC)
