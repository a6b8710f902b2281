"""Failures in one line for the terminal."""

import sys

from feedback_pipeline.errors import FeedbackError


def one_line(error: Exception) -> str | None:
    """What to say of an error of this package or of Postgres; None for any other, which is a bug and keeps its traceback."""
    if isinstance(error, FeedbackError):
        return str(error)
    if "psycopg" not in sys.modules:  # then it is none of Postgres, and importing that takes a moment
        return None
    import psycopg

    from feedback_pipeline.storage.database_errors import public_message

    return public_message(error) if isinstance(error, psycopg.Error) else None
