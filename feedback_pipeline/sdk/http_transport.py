"""The service over HTTP: its API under /api/v2/learning."""

import json
import os
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from feedback_pipeline.errors import NotFound, NothingLearned, StoreError, UserError
from feedback_pipeline.sdk.transport import (
    Acknowledgement,
    BatchTooLarge,
    Document,
    Fetched,
    ForecastQuery,
    ServiceAway,
    Unacceptable,
)

PREFIX: Final = "/api/v2/learning"
CONNECT_SECONDS: Final = 2.0
_CONNECTIONS: Final = 8
_WAIT: Final = (408, 429, 502, 503, 504)
_CONTENT: Final = (400, 413, 422)
_URN: Final = "urn:feedback-pipeline:"
_LONGEST_DETAIL: Final = 500


class HttpTransport:
    """Speaks to one API; usable from any thread, and after a fork.

    Args:
        url: Address of the server, with or without the prefix of the API.
        token: Sent as a bearer token, None = none.
        timeout: Seconds that one answer may take.

    Raises:
        UserError: the URL has no host, or the token cannot be sent.
    """

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        parts = urlsplit(url.strip())
        if not parts.hostname:
            raise UserError("the address of the service names no host; write http://host:8000")
        if parts.username or parts.password:
            raise UserError("the address of the service holds a password; pass the token instead, or set FEEDBACK_API_TOKEN")
        if token and not (token.isascii() and token.isprintable()):
            raise UserError("the token holds characters that no HTTP header can; check FEEDBACK_API_TOKEN")
        self._base = f"{parts.scheme.lower()}://{parts.netloc}{parts.path.rstrip('/').removesuffix(PREFIX)}"
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, timeout), read=timeout)
        self._connect()

    def _connect(self) -> None:
        self._owner = os.getpid()
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, retries=False, timeout=self._timeout)

    @property
    def identity(self) -> str:
        """The address of the server."""
        return self._base

    def improvements(self, agent_name: str, etag: str | None) -> Fetched:
        """The improvements of an agent, unless they are those of the tag."""
        headers = {"If-None-Match": etag} if etag else {}
        answer = self._ask("GET", f"agents/{_path(agent_name)}/improvements", headers=headers)
        return Fetched(None if answer.status == 304 else _document(answer), answer.headers.get("ETag"))

    def forecast(self, query: ForecastQuery) -> Document:
        """What the champion expects of an execution, or of features."""
        if query.execution_id is None:
            asked = {"agent_name": query.agent_name, "features": dict(query.features), "reviewers": list(query.reviewers)}
            return _document(self._ask("POST", "forecasts", body=_body(asked)))
        wanted = {"execution": query.execution_id, "agent": query.agent_name, "reviewers": query.reviewers}
        known = {name: value for name, value in wanted.items() if value}
        return _document(self._ask("GET", f"forecasts?{urlencode(known, doseq=True)}"))

    def send(self, kind: str, items: Sequence[bytes]) -> Acknowledgement:
        """Store a batch of JSON records of one kind.

        Raises:
            Unacceptable: the batch will never be stored as a whole; nothing of it was.
            BatchTooLarge: something before the service does not let so much pass.
        """
        answer = self._ask("POST", kind, body=b'{"%s":[%s]}' % (kind.encode(), b",".join(items)), passed=(422,))
        if answer.status != 422:
            return _acknowledged(answer, _document(answer), len(items))
        # All of them refused is an error to HTTP, and an answer all the same.
        problem = _problem(answer)
        if problem is None or not problem.get("refused"):
            raise _error(answer)
        return _acknowledged(answer, {"stored": 0, "known": len(items) - len(problem["refused"])} | problem, len(items))

    def learn(self, agent_name: str) -> Document:
        """Start a learning pass, or say which one is under way."""
        return _document(self._ask("POST", f"agents/{_path(agent_name)}/learn"))

    def run(self, run_id: str) -> Document:
        """How far a learning pass has come."""
        return _document(self._ask("GET", f"runs/{_path(run_id)}"))

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        passed: Sequence[int] = (),
    ) -> urllib3.BaseHTTPResponse:
        answer = self._request(method, f"{self._base}{PREFIX}/{path}", body, self._headers | (headers or {}))
        if 200 <= answer.status < 300 or answer.status == 304 or answer.status in passed:
            return answer
        raise _error(answer)

    def _request(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        if self._owner != os.getpid():
            self._connect()  # a connection of the parent's would mix two conversations
        if body is not None:
            headers = headers | {"Content-Type": "application/json"}
        for attempt in (1, 2):
            try:
                return self._pool.request(method, url, body=body, headers=headers, redirect=False)
            except urllib3.exceptions.ProtocolError as error:
                # A connection that the server closed while it lay idle; all that is sent may be sent twice.
                if attempt == 2:
                    raise self._away(error) from None
            except urllib3.exceptions.HTTPError as error:
                raise self._away(error) from None
        raise AssertionError("unreachable")

    def _away(self, error: Exception) -> ServiceAway:
        return ServiceAway(
            f"the service at {self._base} does not answer ({type(error).__name__}); check that it runs and the address is right"
        )


def _error(answer: urllib3.BaseHTTPResponse) -> Exception:
    """The error of this package for an answer that is one.

    What is not the API, an error page of a proxy, say, or a redirect to a login, says nothing of what was asked or sent: once it
    is out of the way the same may succeed.
    """
    problem, wait = _problem(answer), _seconds(answer.headers.get("Retry-After"))
    detail = str((problem or {}).get("detail") or f"status {answer.status}")[:_LONGEST_DETAIL]
    if answer.status in _WAIT:
        return ServiceAway(f"the service cannot answer now: {detail}", wait)
    if problem is None:
        return _foreign(answer, wait)
    if answer.status in (401, 403):
        return UserError(f"the service does not accept the token: {detail}; set FEEDBACK_API_TOKEN or pass token")
    if answer.status in _CONTENT:
        return Unacceptable(_with_fields(detail, problem))
    kinds: dict[int, type[UserError]] = {404: NotFound, 409: NothingLearned}
    return kinds.get(answer.status, UserError if 400 <= answer.status < 500 else StoreError)(detail)


def _foreign(answer: urllib3.BaseHTTPResponse, wait: float | None = None) -> ServiceAway:
    if answer.status == 413:
        return BatchTooLarge("a proxy before the service takes no request of this size (status 413); let it take 8 MB", wait)
    said = f"what answers is not the API of feedback-pipeline (status {answer.status})"
    return ServiceAway(f"{said}; check the address, and what stands before the service", wait)


def _problem(answer: urllib3.BaseHTTPResponse) -> Document | None:
    """The problem that the API describes; None if it is not the API that answers."""
    if not answer.headers.get("Content-Type", "").startswith("application/problem+json"):
        return None
    document = _parsed(answer)
    return document if document is not None and str(document.get("type")).startswith(_URN) else None


def _with_fields(detail: str, problem: Document) -> str:
    fields = [f"{'.'.join(map(str, each['where']))}: {each['message']}" for each in (problem.get("errors") or ())[:5]]
    return f"{detail} ({'; '.join(fields)})" if fields else detail


def _document(answer: urllib3.BaseHTTPResponse) -> Document:
    document = _parsed(answer)
    if document is None:
        raise _foreign(answer)
    return document


def _parsed(answer: urllib3.BaseHTTPResponse) -> Document | None:
    try:
        document: Any = json.loads(answer.data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _acknowledged(answer: urllib3.BaseHTTPResponse, document: Document, sent: int) -> Acknowledgement:
    """What became of a batch; an answer that does not account for each of its records is none of the API."""
    try:
        refused = {int(each["place"]): str(each["reason"]) for each in document["refused"]}
        later = frozenset(int(each["place"]) for each in document["refused"] if each.get("later"))
        stored, known = int(document["stored"]), int(document["known"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _foreign(answer) from None
    if stored + known + len(refused) != sent:
        raise _foreign(answer)
    return Acknowledgement(stored, known, list(refused.items()), later)


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _body(document: Document) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, default=str).encode()
    except ValueError:
        raise UserError("a feature is not finite, or no text; leave it out where it is not known") from None


def _path(text: str) -> str:
    return quote(text, safe="")
