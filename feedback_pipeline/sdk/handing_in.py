"""How a review is handed in: at once where that is possible, by way of the disk where it is not."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from feedback_pipeline.errors import StoreError, UserError
from feedback_pipeline.sdk.encoding import REVIEWS, exact
from feedback_pipeline.sdk.outbox import Outbox
from feedback_pipeline.sdk.results import ReviewReceipt
from feedback_pipeline.sdk.transport import Transport, Unacceptable


def hand_in(transport: Transport, outbox: Outbox, fields: Mapping[str, Any], seconds: float) -> ReviewReceipt:
    """Send a review, or keep it.

    Args:
        transport: Where to.
        outbox: Keeps it; what was recorded before goes first.
        fields: Of `schemas.reviews.Review`; None where they are not known.
        seconds: So long it waits for what was recorded before.

    Raises:
        UserError: the review is not valid, or the service refuses it.
        StoreUnavailable: it cannot be handed in now, and the disk does not take it.
    """
    # Without the moment a review that waits would be dated when it arrives.
    given = {name: value for name, value in fields.items() if value is not None}
    review = {"reviewed_at": datetime.now(UTC)} | given
    raw = exact(REVIEWS, review)
    left = outbox.look()
    if left.ahead:
        # The execution it is about may be among them. What is early does not count: it is about other executions.
        left = outbox.flush(seconds, with_early=False)
    waits = (left.trouble or "what was recorded before it is still on its way") if left.ahead else _sent(transport, raw)
    if waits is not None:
        outbox.keep(REVIEWS, review)
    return ReviewReceipt(client_id=review["client_id"], delivered=waits is None, reason=waits)


def _sent(transport: Transport, raw: bytes) -> str | None:
    """Send a review; None, or why the service does not take it now.

    Raises:
        UserError: it never will, or does not accept the token.
    """
    try:
        answer = transport.send(REVIEWS, [raw])
    except Unacceptable as error:
        raise UserError(f"the review was refused: {error}") from None
    except StoreError as error:
        return str(error)
    for place, reason in answer.refused:
        if place not in answer.later:
            raise UserError(f"the review was refused: {reason}")
        return reason
    return None
