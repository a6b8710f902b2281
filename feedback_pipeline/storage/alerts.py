"""Tells a webhook that a run failed: a small JSON document, no free text of reviews."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final

from feedback_pipeline.errors import StoreUnavailable

ATTEMPTS: Final = 3
TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 1.0


def send_alert(
    address: str,
    document: Mapping[str, object],
    *,
    pause: Callable[[float], None] = time.sleep,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """POST the document; any answer of the 2xx family counts as received, a redirection does not.

    Args:
        address: http:// or https://; never part of a message, for it may hold a secret.
        document: What to say.
        pause: Waits so many seconds between two attempts.
        timeout_s: An attempt takes no longer, whatever the receiver does.

    Raises:
        StoreUnavailable: three attempts failed; the message names the kind of the last failure.
    """
    content = json.dumps(document, ensure_ascii=False).encode()
    failure = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            pause(PAUSE_S * attempt)
        failure = _attempt(address, content, timeout_s)
        if not failure:
            return
    raise StoreUnavailable(
        f"the webhook of FEEDBACK_ALERT_WEBHOOK did not take the message in {ATTEMPTS} attempts ({failure}); check its address"
    )


def _attempt(address: str, content: bytes, timeout_s: float) -> str:
    """Why one attempt failed, empty where it did not.

    The time-out of a socket is that of one operation: a receiver that sends a byte now and then would never run into it. So the
    attempt is made beside, and when its time is over, its connection is cut.
    """
    sender, beside = _Sender(), ThreadPoolExecutor(max_workers=1)
    try:
        return beside.submit(_refusal, sender, address, content, timeout_s).result(timeout_s)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    finally:
        sender.cut()
        beside.shutdown(wait=False)


def _refusal(sender: "_Sender", address: str, content: bytes, timeout_s: float) -> str:
    headers = {"Content-Type": "application/json", "User-Agent": "feedback-pipeline"}
    request = urllib.request.Request(address, data=content, headers=headers, method="POST")  # noqa: S310 - settings allow http(s)
    try:
        urllib.request.build_opener(sender, _NoRedirection()).open(request, timeout=timeout_s).close()
    except urllib.error.HTTPError as error:
        error.close()
        return f"status {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        return type(error).__name__
    return ""


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """A redirected POST becomes a GET without the document: whatever answers that has not taken the message."""

    def redirect_request(self, *_: object) -> None:
        """Follows nowhere; the answer is an HTTPError then."""


class _Sender(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Sends over a connection that can be cut from outside, at any moment but that of the TLS handshake, which ends by itself."""

    _connected: socket.socket | None = None
    _over = False

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        """Opens http://."""
        return self.do_open(partial(_Plain, self), req)

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        """Opens https://."""
        return self.do_open(partial(_Secure, self), req)

    def connected(self, connection: socket.socket) -> None:
        """From now on `cut` cuts this connection.

        Raises:
            TimeoutError: it comes too late.
        """
        self._connected = connection
        if self._over:
            raise TimeoutError

    def cut(self) -> None:
        """Whoever waits for the connection waits no longer."""
        self._over = True
        if self._connected is not None:
            with suppress(OSError):  # closed already
                self._connected.shutdown(socket.SHUT_RDWR)


class _Plain(HTTPConnection):
    def __init__(self, sender: _Sender, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self._sender = sender

    def connect(self) -> None:
        """Tells the sender."""
        super().connect()
        self._sender.connected(self.sock)


class _Secure(HTTPSConnection):
    def __init__(self, sender: _Sender, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self._sender = sender

    def connect(self) -> None:
        """Tells the sender."""
        super().connect()
        self._sender.connected(self.sock)
