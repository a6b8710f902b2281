"""Every error as an HTTP answer, from one table: problem details as RFC 9457 describes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from feedback_pipeline.errors import (
    FeedbackError,
    LearningError,
    NotFound,
    NothingLearned,
    StoreError,
    StoreUnavailable,
    UserError,
)
from feedback_pipeline.storage.database_errors import public_message

CONTENT_TYPE: Final = "application/problem+json"
_URN: Final = "urn:feedback-pipeline:"


class Unauthenticated(UserError):
    """There is no token, or none that is known."""


class Forbidden(UserError):
    """The token does not allow it, or a page of another site asks."""


class TooLarge(UserError):
    """The request is larger than the service reads."""


class TooSlow(UserError):
    """The request took too long to arrive."""


class NoneStored(UserError):
    """Nothing of a batch can be stored; `refused` says why."""

    def __init__(self, message: str, refused: Sequence[dict[str, Any]]) -> None:
        super().__init__(message)
        self.refused = list(refused)


class Overloaded(StoreUnavailable):
    """Nothing is broken; too much is asked at once."""


@dataclass(frozen=True)
class Kind:
    """What an error is over HTTP.

    Attributes:
        status: Of the answer.
        name: For machines.
        title: The same in words.
        retry_after: Seconds after which asking again can help; None = it cannot.
    """

    status: int
    name: str
    title: str
    retry_after: int | None = None


UNEXPECTED: Final = Kind(500, "unexpected", "An error that nobody foresaw")
# The nearest class that an error is of counts.
PROBLEMS: Final[dict[type[Exception], Kind]] = {
    UserError: Kind(400, "bad-request", "The request cannot be answered as it is"),
    Unauthenticated: Kind(401, "unauthenticated", "A token is needed"),
    Forbidden: Kind(403, "forbidden", "It is not allowed"),
    NotFound: Kind(404, "not-found", "Nothing goes by that name"),
    TooSlow: Kind(408, "timeout", "The request did not arrive in time"),
    NothingLearned: Kind(409, "nothing-learned", "Nothing has been learned yet"),
    TooLarge: Kind(413, "too-large", "The request is too large"),
    RequestValidationError: Kind(422, "invalid", "Some fields cannot be used"),
    NoneStored: Kind(422, "none-stored", "Nothing could be stored"),
    LearningError: Kind(500, "learning-error", "An estimate could not be computed"),
    StoreError: Kind(500, "store-error", "A store failed"),
    FeedbackError: UNEXPECTED,
    StoreUnavailable: Kind(503, "unavailable", "A store cannot be reached", retry_after=5),
    Overloaded: Kind(503, "overloaded", "Too much is asked at once", retry_after=1),
    psycopg.OperationalError: Kind(503, "unavailable", "The database cannot be reached", retry_after=5),
    psycopg.DataError: Kind(400, "bad-request", "The database does not take a value"),
    psycopg.Error: Kind(500, "store-error", "The database failed"),
    Exception: UNEXPECTED,
}
# What the framework itself raises.
STATUSES: Final[dict[int, Kind]] = {
    400: Kind(400, "bad-request", "The request is not JSON"),
    404: Kind(404, "not-found", "There is no such address"),
    405: Kind(405, "method-not-allowed", "The address does not take this method"),
}


def kind_of(error: Exception) -> Kind:
    """What an error is over HTTP."""
    if isinstance(error, HTTPException):
        return STATUSES.get(error.status_code, Kind(error.status_code, "bad-request", "The request cannot be answered as it is"))
    return next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)


def problem(error: Exception) -> JSONResponse:
    """The answer to an error; what nobody foresaw is not shown."""
    kind = kind_of(error)
    body: dict[str, Any] = {"type": _URN + kind.name, "title": kind.title, "status": kind.status, "detail": _detail(error, kind)}
    if isinstance(error, RequestValidationError):
        body["errors"] = [{"where": list(one["loc"]), "message": _plain(str(one["msg"]))} for one in error.errors()]
    if isinstance(error, NoneStored):
        body["refused"] = error.refused
    headers = dict(getattr(error, "headers", None) or {})
    if kind.retry_after is not None:
        headers["Retry-After"] = str(kind.retry_after)
    if kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, kind.status, headers, media_type=CONTENT_TYPE)


def answer(_request: Request, error: Exception) -> JSONResponse:
    """`problem`, as the framework calls it."""
    return problem(error)


def _detail(error: Exception, kind: Kind) -> str:
    if isinstance(error, HTTPException):
        return f"{kind.title}; GET /openapi.json lists what there is"
    if isinstance(error, RequestValidationError):
        return "see `errors` for the fields; correct them and send the request again"
    if isinstance(error, FeedbackError):
        return _plain(str(error))
    if isinstance(error, psycopg.Error):
        return public_message(error)
    return "the log of the service says where it happened; asking again as it is will most likely not help"


def _plain(text: str) -> str:
    """The text as UTF-8 can carry it."""
    return text.encode(errors="replace").decode()
