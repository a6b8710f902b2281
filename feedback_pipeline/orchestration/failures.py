"""Says which failures a retry can help: a store that was away, never bad data and never a bug."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg

from feedback_pipeline.errors import FeedbackError, StoreUnavailable

MAX_RETRIES: Final = 2
RETRY_AFTER_S: Final = 5.0


@contextmanager
def only_stores_are_retried() -> Iterator[None]:
    """Asks for a retry where a store could not be reached, and for none where the package itself says what is wrong.

    A retry policy on the asset would repeat every failure; anything unexpected passes through and fails the step at once.

    Raises:
        RetryRequested: a store was away.
        Failure: another error of this package; the message says what to do next.
    """
    from psycopg import OperationalError

    try:
        yield
    except (StoreUnavailable, OperationalError) as error:
        raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=RETRY_AFTER_S) from error
    except FeedbackError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
