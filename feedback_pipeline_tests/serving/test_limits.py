"""What one client can cost the others: bytes, seconds, connections, each of them bounded."""

import asyncio
import json
import logging

from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.serving.connections import READERS, Connections
from feedback_pipeline.serving.limits import MAX_BODY, Limits
from feedback_pipeline.serving.observation import JsonLines
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld

pytestmark = WHOLE_ROOM


async def _app(_scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def _ask(limits: Limits, parts: list[Message | None]) -> tuple[int, bytes]:
    """Status and body of the answer to a request that arrives in parts; None = nothing arrives any more."""
    sent: list[Message] = []
    waiting = iter(parts)

    async def receive() -> Message:
        part = next(waiting)
        if part is None:
            await asyncio.Event().wait()
            raise AssertionError
        return {"type": "http.request", "body": b"", "more_body": False, **part}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(limits({"type": "http", "headers": []}, receive, send))
    return (sent[0]["status"], sent[1]["body"]) if sent else (0, b"")


def test_a_body_arrives_whole_or_not_at_all() -> None:
    parts: list[Message | None] = [{"body": b"a" * 60, "more_body": True}, {"body": b"b" * 40}]
    assert _ask(Limits(_app, max_body=100), parts) == (200, b"a" * 60 + b"b" * 40)
    assert _ask(Limits(_app, max_body=99), parts)[0] == 413
    assert _ask(Limits(_app, max_body=100, max_held=99), parts)[0] == 503
    assert _ask(Limits(_app, arrival_s=0.01), [{"body": b"a", "more_body": True}, None])[0] == 408
    gone: list[Message | None] = [{"body": b"a", "more_body": True}, {"type": "http.disconnect"}]
    limits = Limits(_app)
    assert _ask(limits, gone) == (0, b"")
    assert limits._held == 0


def test_what_says_it_is_too_large_is_not_read(api: TestClient) -> None:
    answer = api.post(f"{PREFIX}/executions", content=b"x", headers={"Content-Length": str(MAX_BODY + 1)})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:feedback-pipeline:too-large")
    huge = api.post(f"{PREFIX}/executions", content=b" " * (MAX_BODY + 1), headers={"Content-Type": "application/json"})
    assert (huge.status_code, huge.headers["connection"]) == (413, "close")


def test_who_finds_no_connection_is_told_to_come_back(learned_world: LearnedWorld, agent: str) -> None:
    with learned_world.client() as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        service.connections._readers.timeout = 0.05
        held = [service.connections._readers.getconn() for _ in range(READERS)]
        answer = client.get(f"{PREFIX}/agents/{agent}/improvements")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:feedback-pipeline:overloaded")
        assert answer.headers["retry-after"] == "1"
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 503
        # Writers have connections of their own.
        assert client.post(f"{PREFIX}/agents/nobody/learn").status_code == 404
        for connection in held:
            service.connections._readers.putconn(connection)
        assert client.get("/ready").status_code == 200


def test_a_connection_the_server_ended_is_replaced(api: TestClient, learned_world: LearnedWorld, agent: str) -> None:
    api.get(f"{PREFIX}/agents/{agent}/improvements")
    with learned_world.database.connect(autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchone()
    assert ended != (0,)
    assert api.get(f"{PREFIX}/agents/{agent}/improvements").status_code == 200


def test_a_statement_that_takes_too_long_is_ended(learned_world: LearnedWorld) -> None:
    connections = Connections(learned_world.database)
    connections.open()
    try:
        with connections.snapshot() as snapshot:
            assert snapshot.connection.execute("SHOW statement_timeout").fetchone() == ("10s",)
        with connections.writing() as connection:
            assert connection.execute("SHOW lock_timeout").fetchone() == ("5s",)
    finally:
        connections.close()


def test_requests_are_counted_by_route_and_logged_without_what_was_sent(api: TestClient) -> None:
    for name in ("ada@example.org", "bob@example.org"):
        assert api.get(f"{PREFIX}/reviewers/{name}").status_code == 404
    said = api.get("/metrics").text
    counted = next(line for line in said.splitlines() if "reviewers/{reviewer" in line and 'status="404"' in line)
    assert float(counted.rpartition(" ")[2]) >= 2
    assert 'feedback_api_pool{pool="readers",state="size"}' in said
    assert "example.org" not in said
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "request", None, None)
    record.about = {"route": "/x", "status": 404}
    line = json.loads(JsonLines().format(record))
    assert (line["event"], line["level"], line["route"], line["status"]) == ("request", "warning", "/x", 404)


def test_the_page_may_load_nothing_from_elsewhere(api: TestClient) -> None:
    headers = api.get("/health").headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
