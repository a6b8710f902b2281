"""The address of an MLflow tracking store: read, described without its secrets, and asked whether anybody is there."""

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from feedback_pipeline.errors import StoreUnavailable, UserError
from feedback_pipeline.storage.database import Database

TRACKING_VARIABLE: Final = "MLFLOW_TRACKING_URI"
_SHAPES: Final = "http(s)://host:port, postgresql://user:password@host/name or sqlite:////folder/file.db"
_POSTGRES: Final = re.compile(r"postgres(ql)?(\+\w+)?")
_OTHER_DATABASES: Final = re.compile(r"(mysql|mssql|sqlite)(\+\w+)?")
_WEB: Final = ("http", "https")
_HOSTED: Final = ("databricks", "databricks-uc", "uc")
_ANSWER_PATIENCE_S: Final = 10.0


def tracking_uri(text: str) -> str:
    """The URI as MLflow takes it: PostgreSQL with the driver that MLflow and this package share.

    Raises:
        UserError: it is none that MLflow can use; the message shows no part of a password.
    """
    uri = text.strip()
    scheme = _scheme(uri)
    if uri in _HOSTED or scheme in _HOSTED or _OTHER_DATABASES.fullmatch(scheme):
        return uri
    if scheme in _WEB:
        _checked_web(uri)
        return uri.rstrip("/")
    if _POSTGRES.fullmatch(scheme):
        try:
            return Database(uri).sqlalchemy_url()
        except UserError as error:
            raise UserError(f"{TRACKING_VARIABLE}: {error}") from None
    if scheme in {"", "file"}:
        raise UserError(f"{TRACKING_VARIABLE} names a folder, which MLflow no longer keeps runs in; write {_SHAPES}")
    raise UserError(f"{TRACKING_VARIABLE} cannot be read; write {_SHAPES}")


def described(uri: str) -> str:
    """What messages may show of a URI that `tracking_uri` returned."""
    scheme = _scheme(uri)
    if scheme in _WEB:
        return web_address(uri) or ""
    if _POSTGRES.fullmatch(scheme):
        return Database(uri).description
    if scheme.startswith("sqlite"):
        return uri.split("?")[0]
    return scheme or uri


def web_address(uri: str) -> str | None:
    """Where the web UI of a tracking server answers, without credentials; None for a database and for hosted services."""
    if _scheme(uri) not in _WEB:
        return None
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def serves_itself(uri: str) -> bool:
    """Whether somebody already serves a web UI for this store: a tracking server or a hosted service, not a database."""
    return _scheme(uri) in (*_WEB, *_HOSTED) or uri in _HOSTED


def require_reachable(uri: str) -> None:
    """Asks once, for MLflow itself would keep trying for minutes.

    Raises:
        StoreUnavailable: nobody answers; the message says where and what to do.
    """
    scheme = _scheme(uri)
    if _POSTGRES.fullmatch(scheme):
        try:
            Database(uri).connect().close()
        except StoreUnavailable as error:
            reason = str(error).rpartition("; ")[0]
        else:
            return
    elif scheme in _WEB:
        reason = _web_silence(uri)
    else:
        reason = _no_folder(uri) if scheme.startswith("sqlite") else ""
    if reason:
        raise StoreUnavailable(
            f"MLflow: {reason}; check that its store runs and that {TRACKING_VARIABLE} is right, then try again"
        )


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].lower() if ":" in uri else ""


def _checked_web(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number may be the rest of a password
        host, port = None, None
    if not host or port == 0:
        raise UserError(f"{TRACKING_VARIABLE} names no host; write http(s)://host:port, with @ : / ? # % of a password encoded")


def _web_silence(uri: str) -> str:
    address = web_address(uri) or ""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=_ANSWER_PATIENCE_S):  # noqa: S310 - http or https
            return ""
    except urllib.error.HTTPError:
        return ""  # somebody answers: a login may be needed that MLflow has and this question has not
    except urllib.error.URLError as error:
        return f"cannot reach {address}: {error.reason}"
    except OSError as error:
        return f"cannot reach {address}: {error}"


def _no_folder(uri: str) -> str:
    """MLflow makes the folder of a SQLite file; what it cannot make, it tries ten times."""
    file = uri.split("?")[0].partition(":///")[2]
    if not file or file == ":memory:":
        return ""
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot make the folder of {file}: {error.strerror}"
    return ""
