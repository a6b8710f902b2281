"""What stands before the service and answers in its place: nothing is put aside for it, and agents go on with what they had."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from feedback_pipeline.errors import NotFound, NothingLearned, StoreError, UserError
from feedback_pipeline.sdk import LearningClient
from feedback_pipeline.sdk.encoding import EXECUTIONS, REVIEWS
from feedback_pipeline.sdk.http_transport import HttpTransport
from feedback_pipeline.sdk.transport import BatchTooLarge, ServiceAway, Unacceptable
from feedback_pipeline_tests.sdk.service import PROMPT

HTML, JSON, PROBLEM = "text/html; charset=utf-8", "application/json", "application/problem+json"
PAGE = b"<html>400 Bad Request: no upstream</html>"
OPTIONS = replace(PROMPT, review_seconds=0.05)
PROVENANCE: dict[str, Any] = {"learning_run_id": None, "window": None, "n_reviews": None, "n_contents": None, "computed_at": None}

IMPROVEMENTS: dict[str, Any] = {
    **{"agent_name": "drafter", "status": "ok", "reason": None, "learning_run_id": "r", "computed_at": "2026-01-01T00:00:00Z"},
    **{"total_patterns": 0, "high_confidence_patterns": 0, "patterns": [], "recommendations": [], "provenance": PROVENANCE},
}


def problem(status: int, name: str, **more: Any) -> tuple[int, str, bytes]:
    said = {"type": f"urn:feedback-pipeline:{name}", "title": "", "status": status, "detail": "of ours"} | more
    return status, PROBLEM, json.dumps(said).encode()


FOREIGN = {
    "400": (400, HTML, PAGE),
    "413": (413, HTML, PAGE),
    "422": (422, JSON, b'{"detail": "not ours"}'),
    "422 with refused": (422, JSON, b'{"refused": [{"place": 0, "reason": "x"}]}'),
    "404": (404, HTML, PAGE),
    "401": (401, HTML, PAGE),
    "403": (403, HTML, PAGE),
    "302": (302, HTML, b""),
    "500": (500, "text/plain", b"Internal Server Error"),
    "200 page": (200, HTML, PAGE),
    "200 list": (200, JSON, b"[]"),
    "200 other document": (200, JSON, b'{"status": "maintenance"}'),
    "problem of another API": (400, PROBLEM, b'{"type": "about:blank", "status": 400, "detail": "no"}'),
    "problem that is none": (422, PROBLEM, PAGE),
}


@dataclass
class Proxy:
    """Answers everything with `answer`; where that is None, as the service does."""

    answer: tuple[int, str, bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    most_bytes: int | None = None
    sizes: list[int] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    url: str = ""

    def reply(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        self.sizes.append(len(body))
        if self.answer is not None:
            return self.answer
        if self.most_bytes is not None and len(body) > self.most_bytes:
            return FOREIGN["413"]
        kind = path.rpartition("/")[2]
        if kind == "improvements":
            return 200, JSON, json.dumps(IMPROVEMENTS).encode()
        items = [item["client_id"] for item in json.loads(body)[kind]]
        fresh = set(items) - self.stored
        self.stored |= fresh
        return 200, JSON, json.dumps({"stored": len(fresh), "known": len(items) - len(fresh), "refused": []}).encode()


@contextmanager
def listening(proxy: Proxy) -> Iterator[Proxy]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, kind, content = proxy.reply(self.path, body)
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **proxy.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815 - the name of http.server

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with listening(Proxy()) as made:
        yield made


@pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_answer_puts_no_record_aside(proxy: Proxy, tmp_path: Path, answer: tuple[int, str, bytes]) -> None:
    proxy.answer = answer
    with LearningClient(proxy.url, spool=tmp_path, options=OPTIONS) as client:
        for _ in range(20):
            with client.record_execution("drafter"):
                pass
        while client.outstanding.trouble is None and client.outstanding.pending:
            client.flush(0.05)
        left = client.outstanding
        assert (left.pending, left.stored, left.refused) == (20, 0, 0)
        assert not client.submit_review("1", decision="approve", reviewed_at="2026-01-01T00:00:00Z").delivered
        proxy.answer = None
        left = client.flush(30)
    assert (left.pending, left.stored, left.refused, left.trouble) == (0, 21, 0, None)
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_answer_leaves_agents_with_what_they_had(proxy: Proxy, tmp_path: Path, answer: tuple[int, str, bytes]) -> None:
    with LearningClient(proxy.url, spool=tmp_path, options=OPTIONS) as client:
        proxy.answer = answer
        with pytest.raises(StoreError):
            client.improvements("drafter")
        account = client.apply("drafter", {"topic": "tea"}, execution_id="1").learning_applied
        assert account.stale
        assert account.stale_reason
        proxy.answer = None
        assert not client.improvements("drafter").stale
        proxy.answer = answer
        found = client.improvements("drafter")
        assert (found.stale, found.learning_run_id) == (True, "r")
        assert client.apply("drafter", {"topic": "tea"}, execution_id="1").learning_applied.learning_run_id == "r"
    with LearningClient(proxy.url, spool=tmp_path, options=OPTIONS) as client:
        assert client.improvements("drafter").stale


def test_an_answer_of_a_newer_version_leaves_agents_with_what_they_had(proxy: Proxy, tmp_path: Path) -> None:
    with LearningClient(proxy.url, spool=tmp_path, options=OPTIONS) as client:
        client.improvements("drafter")
        newer = {name: value for name, value in IMPROVEMENTS.items() if name != "recommendations"} | {"advice": []}
        proxy.answer = 200, JSON, json.dumps(newer).encode()
        found = client.improvements("drafter")
        assert found.stale
        assert "recommendations" in str(found.stale_reason)
        with pytest.raises(StoreError, match="cannot be read"):
            client.improvements("another")
        for call in (lambda: client.learn("drafter"), lambda: client.run("1")):
            with pytest.raises(StoreError, match="cannot be read"):
                call()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(404, "not-found"), NotFound),
        (problem(409, "nothing-learned"), NothingLearned),
        (problem(401, "unauthenticated"), UserError),
        (problem(403, "forbidden"), UserError),
        (problem(400, "bad-request"), Unacceptable),
        (problem(413, "too-large"), Unacceptable),
        (problem(422, "invalid", errors=[{"where": ["body", 0], "message": "is wrong"}]), Unacceptable),
        (problem(405, "method-not-allowed"), UserError),
        (problem(500, "store-error"), StoreError),
        (problem(503, "unavailable"), ServiceAway),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_what_the_service_itself_says_is_believed(proxy: Proxy, answer: tuple[int, str, bytes], kind: type[Exception]) -> None:
    proxy.answer = answer
    transport = HttpTransport(proxy.url, None, 5.0)
    for call in (lambda: transport.improvements("drafter", None), lambda: transport.send(EXECUTIONS, [b"{}"])):
        with pytest.raises(kind, match="of ours") as caught:
            call()
        assert type(caught.value) is kind
    transport.close()


def test_a_proxy_that_says_when_is_asked_then(proxy: Proxy) -> None:
    proxy.answer, proxy.headers = FOREIGN["403"], {"Retry-After": "7"}
    transport = HttpTransport(proxy.url, None, 5.0)
    with pytest.raises(ServiceAway, match="not the API") as caught:
        transport.improvements("drafter", None)
    assert caught.value.retry_after == 7
    proxy.answer = FOREIGN["413"]
    with pytest.raises(BatchTooLarge, match="413"):
        transport.send(EXECUTIONS, [b"{}"])
    transport.close()


def test_an_answer_that_does_not_account_for_each_record_is_none(proxy: Proxy) -> None:
    """A proxy with a cache may answer a batch with what became of another."""
    transport = HttpTransport(proxy.url, None, 5.0)
    for refused in ([], [{"place": 0, "reason": "x"}], [{"place": "here"}], None, 7, [7]):
        proxy.answer = 200, JSON, json.dumps({"stored": 2, "known": 0, "refused": refused}).encode()
        with pytest.raises(ServiceAway, match="not the API"):
            transport.send(REVIEWS, [b"{}"])
    transport.close()


def test_a_proxy_with_a_lower_limit_gets_smaller_batches(proxy: Proxy, tmp_path: Path) -> None:
    proxy.most_bytes = 20_000
    with LearningClient(proxy.url, spool=tmp_path, options=OPTIONS) as client:
        for _ in range(40):
            with client.record_execution("drafter") as execution:
                execution.output("kettle " * 500)
        assert client.flush(30).stored == 40
        with client.record_execution("drafter") as execution:
            execution.output("kettle " * 5000)
        left = client.flush(0.3)
        assert (left.pending, left.refused) == (1, 0)
        assert "let it take 8 MB" in str(left.trouble)
        proxy.most_bytes = None
        assert client.flush(30).stored == 41
