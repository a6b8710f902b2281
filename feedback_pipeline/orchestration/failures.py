"""Says which failures a retry can help, and in which words a failure is told.

What a run raises is kept in Dagster's event log with its causes. Errors of Postgres and Arrow quote values of rows, so they
are told in their class and the place in the code alone.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dagster as dg

from feedback_pipeline.errors import FeedbackError, StoreUnavailable

MAX_RETRIES: Final = 2
RETRY_AFTER_S: Final = 5.0
_PACKAGE: Final = Path(__file__).parent.parent


@contextmanager
def only_stores_are_retried() -> Iterator[None]:
    """Asks for a retry where a store could not be reached, and for none where data or the package itself are wrong.

    A retry policy on the asset would repeat every failure; a bug passes through and fails the step at once.

    Raises:
        RetryRequested: a store was away.
        Failure: see `in_own_words`.
    """
    from psycopg import OperationalError

    from feedback_pipeline.storage.database_errors import public_message

    with in_own_words():
        try:
            yield
        except (StoreUnavailable, OperationalError) as error:
            # What is told when the last attempt failed: without its own causes, see `in_own_words`.
            cause = StoreUnavailable(str(error) if isinstance(error, StoreUnavailable) else public_message(error))
            raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=RETRY_AFTER_S) from cause


@contextmanager
def in_own_words() -> Iterator[None]:
    """Tells a failure without its causes, which may quote values of rows.

    Raises:
        Failure: an error of this package, of Postgres or of Arrow; the message says what to do next, nothing is retried.
    """
    import pyarrow as pa
    from psycopg import Error

    from feedback_pipeline.storage.database_errors import public_message

    try:
        yield
    except FeedbackError as error:
        raise _failure(str(error), error) from None
    except Error as error:
        raise _failure(public_message(error), error) from None
    except pa.ArrowException as error:
        what = f"a table could not be built or read ({type(error).__name__}); report this with the place in the code"
        raise _failure(what, error) from None


def _failure(what: str, error: Exception) -> dg.Failure:
    facts = {"error": type(error).__name__, "raised in": _place(error)}
    return dg.Failure(description=what, metadata=facts, allow_retries=False)


def _place(error: Exception) -> str:
    """The frames of this package that the error came through, outermost first: code only, no values."""
    frames = [(Path(frame.filename), frame) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(file, frame) for file, frame in frames if file.is_relative_to(_PACKAGE)]
    return " > ".join(f"{file.relative_to(_PACKAGE)}:{frame.lineno} {frame.name}" for file, frame in own)
