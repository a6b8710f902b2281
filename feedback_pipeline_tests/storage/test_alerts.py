import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
        state = states.pop(0) if len(states) > 1 else states[0]
        self.send_response(state)
        if state in range(300, 400):
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/login")
        self.end_headers()

    def do_GET(self) -> None:
        """A page that asks for a password, and answers 200."""
        self.send_response(200)
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


@pytest.mark.parametrize("state", [301, 302, 303, 307, 308])
def test_a_redirection_is_no_receipt(receiver: Receiver, state: int) -> None:
    receiver.states = [state]
    with pytest.raises(StoreUnavailable, match=rf"\(status {state}\)"):
        send_alert(receiver.address, {}, pause=lambda _: None)
    assert len(receiver.received) == ATTEMPTS


@contextmanager
def _dripping(bytes_of_an_answer: bytes) -> Iterator[tuple[str, list[str]]]:
    """A receiver that takes its time: a byte every 50 ms, again and again; its address, and how its conversations ended."""
    ends: list[str] = []

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                for byte in itertools.cycle(bytes_of_an_answer):
                    connection.sendall(bytes([byte]))
                    time.sleep(0.05)
            except OSError as error:
                ends.append(type(error).__name__)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            talkers.append(threading.Thread(target=talk, args=[connection]))
            talkers[-1].start()

    talkers: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/{KEY}", ends
        server.shutdown(socket.SHUT_RDWR)
        for each in [thread, *talkers]:
            each.join()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nX: ", b"a"])
def test_a_receiver_that_never_comes_to_an_end_is_cut_off_in_time(answer: bytes) -> None:
    before = threading.active_count()
    with _dripping(answer) as (address, ends):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.3 s"):
            send_alert(address, {}, pause=lambda _: None, timeout_s=0.3)
        assert time.monotonic() - began < 3
    assert len(ends) == ATTEMPTS  # every connection was cut
    while threading.active_count() > before and time.monotonic() - began < 30:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_nobody_there_is_said_without_the_address() -> None:
    with pytest.raises(StoreUnavailable, match="URLError") as refusal:
        send_alert(f"http://127.0.0.1:1/{KEY}", {}, pause=lambda _: None)
    assert KEY not in str(refusal.value)
