import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.storage.alerts import ATTEMPTS, PAUSE_S, send_alert

KEY = "a-key-of-the-receiver"


class Receiver(HTTPServer):
    """A real server that answers with the given states in turn, then with the last one; what it got."""

    def __init__(self, *states: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states = list(states)
        self.received: list[tuple[str, dict[str, Any]]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/{KEY}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.headers["Content-Type"], json.loads(content)))
        states = self.server.states
        self.send_response(states.pop(0) if len(states) > 1 else states[0])
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Fails twice, then takes the message."""
    with Receiver(503, 500, 204) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_receiver_that_fails_twice_gets_the_message(receiver: Receiver) -> None:
    document = {"job": "learn", "run_id": "r", "step": None, "error": "StoreError", "message": "größer"}
    pauses: list[float] = []
    send_alert(receiver.address, document, pause=pauses.append)
    assert receiver.received == [("application/json", document)] * 3
    assert pauses == [PAUSE_S, 2 * PAUSE_S]


def test_after_three_attempts_it_gives_up_and_keeps_the_address_to_itself(receiver: Receiver) -> None:
    receiver.states = [404]
    with pytest.raises(StoreUnavailable, match=r"3 attempts \(status 404\)") as refusal:
        send_alert(receiver.address, {}, pause=lambda _: None)
    assert len(receiver.received) == ATTEMPTS
    assert KEY not in str(refusal.value)


def test_nobody_there_is_said_without_the_address() -> None:
    with pytest.raises(StoreUnavailable, match="URLError") as refusal:
        send_alert(f"http://127.0.0.1:1/{KEY}", {}, pause=lambda _: None)
    assert KEY not in str(refusal.value)
