"""What one request may cost: how much is read of it, how long it may take to arrive, and its answer to be taken."""

import asyncio
from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback_pipeline.serving.problems import Overloaded, TooLarge, TooSlow, problem

MAX_BODY: Final = 8 << 20
MAX_HELD: Final = 256 << 20
ARRIVAL_S: Final = 30.0
TAKING_S: Final = 60.0


class Limits:
    """Middleware: reads the body whole, before anything else waits for it, and within bounds.

    A client that is slow costs a socket and the bytes it has sent, never a thread or a connection to the database.

    Args:
        app: What comes next.
        max_body: Bytes of one body.
        max_held: Bytes of all bodies that are arriving or being worked on.
        arrival_s: In which a body has to arrive.
    """

    def __init__(self, app: ASGIApp, max_body: int = MAX_BODY, max_held: int = MAX_HELD, arrival_s: float = ARRIVAL_S) -> None:
        self._app, self._max_body, self._max_held, self._arrival_s = app, max_body, max_held, arrival_s
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers itself where a request is too large or too slow."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body()
        try:
            try:
                await self._read(scope, receive, body)
            except (TooLarge, TooSlow, Overloaded) as error:
                await problem(error)(scope, receive, _closing(send))
                return
            if not body.whole:
                return  # the client has gone
            await self._app(scope, body.again(receive), _patient(send))
        finally:
            self._held -= body.size

    async def _read(self, scope: Scope, receive: Receive, body: "_Body") -> None:
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        announced = next((value for name, value in headers if name == b"content-length"), b"0")
        if announced.isdigit() and int(announced) > self._max_body:
            raise TooLarge(self._too_large())
        try:
            async with asyncio.timeout(self._arrival_s):
                while not body.whole:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    added = body.add(message)
                    self._held += added
                    if body.size > self._max_body:
                        raise TooLarge(self._too_large())
                    if self._held > self._max_held:
                        raise Overloaded("too many large requests arrive at once; send it again in a moment")
        except TimeoutError:
            raise TooSlow(f"the request did not arrive within {self._arrival_s:g} s; send it again") from None

    def _too_large(self) -> str:
        return f"a request has at most {self._max_body:,} bytes; send fewer items at once"


class _Body:
    """What has arrived of a body."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0
        self.whole = False

    def add(self, message: Message) -> int:
        part: bytes = message.get("body", b"")
        self._parts.append(part)
        self.size += len(part)
        self.whole = not message.get("more_body", False)
        return len(part)

    def again(self, receive: Receive) -> Receive:
        """Gives the body once, then whatever follows."""
        given = False

        async def once() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": b"".join(self._parts), "more_body": False}

        return once


def _patient(send: Send) -> Send:
    async def within(message: Message) -> None:
        async with asyncio.timeout(TAKING_S):
            await send(message)

    return within


def _closing(send: Send) -> Send:
    """The rest of what the client sends is not waited for."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return closing
