"""Who may ask: bearer tokens with scopes; without tokens this machine alone, and no page of another site."""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from feedback_pipeline.serving.problems import Forbidden, Unauthenticated, problem
from feedback_pipeline.settings import ApiToken

READ: Final = "read"
WRITE: Final = "write"
ADMIN: Final = "admin"
SCOPES: Final = (READ, WRITE, ADMIN)
"""Each includes those before it."""

PREFIX: Final = "/api/v2/learning"
METRICS: Final = "/metrics"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SCHEME: Final = "bearer "


class Access:
    """Middleware: finds out what a request may do before anything of it is read.

    Args:
        app: What comes next.
        tokens: By name; none: whoever is on this machine may do everything.
    """

    def __init__(self, app: ASGIApp, tokens: Mapping[str, ApiToken]) -> None:
        self._app = app
        self._tokens = [(bytes.fromhex(token.sha256), token.scope) for token in tokens.values()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers itself where the request may not be made."""
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["granted"] = self._granted(scope)
            except (Unauthenticated, Forbidden) as error:
                await problem(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _granted(self, scope: Scope) -> str:
        headers = Headers(scope=scope)
        if not self._tokens:
            _require_this_machine(scope, headers)
            return ADMIN
        if not (scope["path"].startswith(PREFIX) or scope["path"] == METRICS):
            return ""
        return self._scope_of(headers.get("authorization", ""))

    def _scope_of(self, authorization: str) -> str:
        """The scope of a token; every known token is compared, in constant time."""
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("send a token: Authorization: Bearer <token>")
        digest = hashlib.sha256(authorization[len(_SCHEME) :].strip().encode(errors="replace")).digest()
        found = ""
        for known, scope in self._tokens:
            if hmac.compare_digest(known, digest):
                found = scope
        if not found:
            raise Unauthenticated("the token is not known; FEEDBACK_API_TOKENS lists the hashes of those that are")
        return found


class Needs:
    """Dependency of a route: the scope it takes.

    Args:
        scope: One of SCOPES.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> None:
        """As `check`, for the framework."""
        self.check(request)

    def check(self, request: Request) -> None:
        """Raises Forbidden where the token allows less."""
        granted = getattr(request.state, "granted", "")
        if granted not in SCOPES[SCOPES.index(self.scope) :]:
            raise Forbidden(f"this takes a token with the scope {self.scope}, this one has {granted or 'none'}")


def is_loopback(host: str) -> bool:
    """Whether a name or address is that of this machine to itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _require_this_machine(scope: Scope, headers: Headers) -> None:
    """No other machine; no name that leads here by a trick of DNS; no page of another site."""
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        raise Forbidden("without tokens only this machine is answered; set FEEDBACK_API_TOKENS")
    host = headers.get("host", "")
    if not is_loopback(_name(host)):
        raise Forbidden("without tokens only the names of this machine are answered, such as 127.0.0.1; set FEEDBACK_API_TOKENS")
    if scope["method"] in _SAFE:
        return
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none") or (origin is not None and _place(origin) != host.lower()):
        raise Forbidden("a page of another site may change nothing here")


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
