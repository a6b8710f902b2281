"""What may be shown of an error of Postgres: never its detail, its context or its data, which quote values of rows."""

from typing import Final

import psycopg

# Classes of SQLSTATE whose primary message itself quotes a value: data exceptions, and what triggers raise.
_QUOTING: Final = ("22", "P0")
_OLD_TABLES: Final = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)


def public_message(error: psycopg.Error) -> str:
    """One line that names the error and what to do next, without any value of a row."""
    kind, state, primary = type(error).__name__, error.sqlstate or "", error.diag.message_primary
    if primary is None or state.startswith(_QUOTING):
        said = f"{kind}, SQLSTATE {state}" if state else kind
    else:
        said = " ".join(primary.split())
    step = "run `feedback-pipeline migrate`" if isinstance(error, _OLD_TABLES) else "correct that and run the command again"
    return f"the database refused a statement ({said}); {step}"
