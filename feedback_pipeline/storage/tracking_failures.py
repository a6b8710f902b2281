"""What MLflow and what lies under it raise, as this package's errors: one line, without secrets, with the next step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote, urlsplit

from feedback_pipeline.errors import FeedbackError, StoreError, StoreUnavailable
from feedback_pipeline.storage.tracking_uris import described, require_reachable

_LONGEST: Final = 300
OLD_SCHEMA: Final = "out-of-date database schema"


@contextmanager
def speaking_plainly(uri: str, doing: str) -> Iterator[None]:
    """Turns the errors of a block into this package's.

    Args:
        uri: of the store, as `tracking_uri` returned it.
        doing: what was tried, to stand after "could not".

    Raises:
        StoreUnavailable: nobody answers there, or the files cannot be written.
        StoreError: the store refuses.
    """
    try:
        yield
    except FeedbackError:
        raise
    except Exception as error:
        if not _is_of_the_store(error):
            raise
        translated = _translated(error, uri, doing)
    else:
        return
    # Outside of the block: a chain of errors would show what the message leaves out.
    raise translated


def _is_of_the_store(error: Exception) -> bool:
    """Errors of MLflow, of its database, of the network and of the files; anything else is a bug here."""
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(roots & {"mlflow", "sqlalchemy", "psycopg2", "requests", "urllib3", "botocore"}) or isinstance(error, OSError)


def _translated(error: Exception, uri: str, doing: str) -> StoreError:
    where, said = described(uri), _first_line(error, uri)
    if OLD_SCHEMA in str(error):
        return StoreError(
            f"the tables of MLflow in {where} are of another version of MLflow; "
            "run feedback-pipeline run -- sh -c 'mlflow db upgrade \"$MLFLOW_TRACKING_URI\"'"
        )
    try:
        require_reachable(uri)
    except StoreUnavailable as away:
        return away
    if isinstance(error, OSError) and not type(error).__module__.startswith("requests"):
        return StoreUnavailable(
            f"could not {doing} in MLflow: {said}; check that its files can be written and the disk has space"
        )
    return StoreError(f"could not {doing}: MLflow in {where} refused ({said}); correct that and try again")


def _first_line(error: Exception, uri: str) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    for secret in _secrets(uri):
        line = line.replace(secret, "***")
    return line[:_LONGEST]


def _secrets(uri: str) -> list[str]:
    """The URI and its password, as they may stand in a message of a library."""
    password = urlsplit(uri).password
    return [uri, *([password, unquote(password)] if password else [])]
