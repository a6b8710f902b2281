"""Forgetting a reviewer, a review or a content: from the rows to everything that was learned from them.

The rows go at once; what follows is in `forgetting_steps`, and begins where the receipt says that the step before is complete:
whoever calls `finish_forgetting` goes on where a process died. What `storage.forgotten_keys` says belongs to a reviewer, a review
or a content is what goes.
"""

from collections.abc import Collection
from contextlib import suppress
from typing import Final

import psycopg

from feedback_pipeline.errors import FeedbackError, NotFound, StoreError, StoreUnavailable, UserError
from feedback_pipeline.learning_pass.forgetting_steps import STEPS, Installation, utc_now, withdraw
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.database_errors import public_message
from feedback_pipeline.storage.forget_receipts import (
    DONE,
    Document,
    note_failure,
    one_forgetting,
    read_receipt,
    read_unfinished,
    receipts_of,
    write_receipt,
)
from feedback_pipeline.storage.forgotten_keys import KINDS, find_target
from feedback_pipeline.storage.forgotten_rows import delete_rows
from feedback_pipeline.storage.pass_lock import learning_pass_lock
from feedback_pipeline.storage.published_forecasts import retire_models

_ROUNDS: Final = 3
"""So often rows may come meanwhile before somebody has to see who writes them."""


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
                receipt_id = write_receipt(connection, target, counts, retire_models(connection, utc_now()), utc_now())
        if not counts:
            return _known_or_refused(database, kind, target.id)
        withdraw(installation, [read_receipt(database, receipt_id)])
    return receipt_id


def finish_forgetting(installation: Installation) -> list[Document]:
    """Take the steps that are missing, of every forgetting that is under way; one learning pass serves all of them.

    Returns:
        Their receipts.

    Raises:
        FeedbackError: a step failed; what is done stays done, and the receipts say why it does not go on.
    """
    database = installation.database
    with one_forgetting(database):
        begun = [receipt.id for receipt in read_unfinished(database)]
        try:
            _take_steps(installation, begun)
        except FeedbackError as error:
            left = "the rows are deleted, traces of them are left; run `feedback-pipeline forget` without an id to go on"
            note_reason(database, f"{error}; {left}")
            raise type(error)(f"{error}; {left}") from error
        except psycopg.Error as error:
            note_reason(database, public_message(error))
            raise
    return [read_receipt(database, receipt_id).document for receipt_id in begun]


def note_reason(database: Database, reason: str) -> None:
    """Let the receipts say why nothing that is under way goes on; `reason` names nobody."""
    # Where the database is away, that is the reason itself.
    with suppress(StoreUnavailable, psycopg.OperationalError), database.connect() as connection:
        note_failure(connection, reason, utc_now())


def _take_steps(installation: Installation, begun: Collection[str]) -> None:
    for _ in range(_ROUNDS):
        for state, step in STEPS.items():
            receipts = [receipt for receipt in read_unfinished(installation.database) if receipt.state == state]
            if receipts:
                step(installation, receipts)
        if not {receipt.id for receipt in read_unfinished(installation.database)} & set(begun):
            return
    raise StoreError(f"rows of it have come again {_ROUNDS} times while it was forgotten; stop whoever writes them")


def _known_or_refused(database: Database, kind: str, identifier: str) -> str:
    """The receipt of a forgetting of that id which is under way, since it explains that nothing is found."""
    known = receipts_of(database, kind, identifier)
    if not known:
        raise NotFound(f"there is no {kind} {identifier!r} in {database.description}; nothing was changed")
    if known[-1].state == DONE:
        day = known[-1].document["times"][DONE][:10]
        raise NotFound(f"{kind} {identifier!r} was forgotten on {day}, and nothing of it has come since; nothing was changed")
    return known[-1].id
