"""The client against the real service, over HTTP and straight to the database: one behaviour."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from feedback_pipeline.errors import NotFound, UserError
from feedback_pipeline.learning.holdout import assign
from feedback_pipeline.sdk import AsyncLearningClient, LearningClient
from feedback_pipeline.sdk.score_bounds import score_bounds
from feedback_pipeline.sdk.transport import ServiceAway, Unacceptable, open_transport
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline_tests.sdk.service import PROMPT, WITH_THE_API, Api
from feedback_pipeline_tests.storage.publications import agent_names

pytestmark = WITH_THE_API
AGENT, OTHER = agent_names(2)


def rows(database: Database, query: str, *values: object) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode(), values).fetchall()


def test_improvements_are_typed_and_the_same_on_both_ways(client: LearningClient, published: Database) -> None:
    found = client.improvements(AGENT)
    assert not found.stale
    assert found.age_seconds == 0
    assert found.recommendations[0].trial.state in ("candidate", "probation")
    assert found.provenance.learning_run_id == found.learning_run_id
    direct = open_transport(published.url, None, 5.0).improvements(AGENT, None).document
    assert direct is not None
    assert found.model_dump(mode="json", exclude={"stale", "stale_reason", "age_seconds"}) == direct


def test_what_has_not_changed_is_not_sent_again(url: str) -> None:
    transport = open_transport(url, None, 5.0)
    first = transport.improvements(AGENT, None)
    assert first.document is not None
    again = transport.improvements(AGENT, first.etag)
    assert (again.document, again.etag) == (None, first.etag)
    assert transport.improvements(OTHER, first.etag).document is not None


def test_an_unknown_agent_is_not_found(client: LearningClient) -> None:
    with pytest.raises(NotFound, match="nobody"):
        client.improvements("nobody")


def test_an_execution_is_stored_with_all_that_was_noted(client: LearningClient, published: Database) -> None:
    content = uuid.uuid4()
    with client.record_execution(
        "recorder", agent_type="writer", content_id=content, input_data={"keywords": ["tea"]}, metadata={"tone": "warm"}
    ) as execution:
        execution.decision("outline", confidence=0.5, reasoning="short", alternatives=["a", {"b": 1}])
        execution.decision("draft", confidence=1.0, kind="style", output_data={"title": "Tea"})
        execution.tokens(input=3)
        execution.tokens(input=4, output=5)
        execution.cost(0.25)
        execution.cost(0.5)
        execution.features(jokes=2)
        execution.note(channel="blog")
    assert client.flush().pending == 0
    stored = rows(
        published,
        "SELECT id, agent_type, status, input_tokens, output_tokens, cost, duration > 0, metadata, start_time <= now()"
        " FROM agent_performance WHERE execution_id = %s",
        execution.execution_id,
    )
    ((performance, *found),) = stored
    metadata = {"tone": "warm", "channel": "blog", "features": {"jokes": 2}}
    assert found == ["writer", "success", 7, 5, 0.75, True, metadata, True]
    decisions = rows(
        published,
        "SELECT decision_point, confidence_score, reasoning, alternatives_considered, input_data, output_data"
        " FROM agent_decisions WHERE performance_id = %s ORDER BY created_at, decision_point DESC",
        performance,
    )
    assert decisions == [
        ("outline", 0.5, "short", ["a", {"b": 1}], None, None),
        ("draft", 1.0, None, None, {"keywords": ["tea"]}, {"title": "Tea"}),
    ]
    assert rows(
        published, "SELECT content_id FROM content_review_workflows WHERE workflow_execution_id = %s", execution.execution_id
    ) == [(content,)]


def test_an_execution_that_fails_is_recorded_and_its_error_goes_on(client: LearningClient, published: Database) -> None:
    name = f"failed {uuid.uuid4()}"
    with pytest.raises(ZeroDivisionError), client.record_execution("recorder", execution_id=name):
        _ = 1 / 0
    client.flush()
    query = "SELECT status, metadata FROM agent_performance WHERE execution_id = %s"
    assert rows(published, query, name) == [("failed", {"error": "ZeroDivisionError"})]


def test_a_review_is_stored_once_and_sent_after_what_it_is_about(client: LearningClient, published: Database) -> None:
    with client.record_execution("reviewed") as execution:
        execution.output("Tea is warm.")
    identity = uuid.uuid4()
    said: dict[str, Any] = {"reviewer_id": "ana", "stage": "quality_check", "decision": "approve", "comments": "fine"}
    scores = {"clarity": 8, "seo": {"score": 7.5, "issues": ["keywords"]}}
    receipts = [client.submit_review(execution.execution_id, client_id=identity, quality_scores=scores, **said) for _ in range(2)]
    assert [(each.client_id, each.delivered, each.reason) for each in receipts] == [(str(identity), True, None)] * 2
    stored = rows(
        published,
        "SELECT r.reviewer_id, r.stage, r.decision::text, r.comments, r.quality_scores, r.reviewed_at <= now()"
        " FROM review_feedback r JOIN content_review_workflows w ON w.id = r.workflow_id WHERE w.workflow_execution_id = %s",
        execution.execution_id,
    )
    assert len(stored) == 1
    assert stored[0][:4] == ("ana", "quality_check", "approve", "fine")
    assert stored[0][4] == {"clarity": 8, "seo": 7.5}
    assert stored[0][5]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decision": "maybe"}, "decision"),
        ({"quality_scores": {"clarity": "good"}}, "quality_scores"),
        ({"quality_scores": {"clarity": float("nan")}}, "not finite"),
        ({"workflow_id": "1"}, "either execution_id or workflow_id"),
        ({"comment": "a misspelt field"}, "comment"),
        ({"reviewed_at": datetime(2026, 1, 1)}, "reviewed_at"),  # noqa: DTZ001 - that is what is wrong with it
        ({"client_id": "7"}, "client_id"),
        ({"comments": "\0"}, "NUL"),
    ],
)
def test_a_review_that_cannot_be_is_refused_at_once(client: LearningClient, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        client.submit_review("unknown", **fields)
    assert client.outstanding.pending == 0


def test_a_score_that_cannot_be_is_refused_at_once_on_both_ways(client: LearningClient) -> None:
    with client.record_execution("scored") as execution:
        pass
    for score, message in ((11, r"outside \[0, 10\]"), (-0.5, "outside")):
        with pytest.raises(UserError, match=message):
            client.submit_review(execution.execution_id, quality_scores={"clarity": score})
    with pytest.raises(UserError, match="refused: no workflow"):
        client.submit_review(workflow_id=str(uuid.uuid4()))
    assert client.outstanding.pending == 0


def test_the_database_alone_has_the_bounds_that_are_said(
    published: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dict(score_bounds()) == Settings().score_bounds
    with pytest.raises(UserError, match="low < high"):
        LearningClient(published.url, spool=tmp_path, options=replace(PROMPT, score_bounds={"*": (5.0, 1.0)}))
    monkeypatch.setenv("FEEDBACK_SCORE_BOUNDS", '{"clarity": [0, 100]}')
    assert dict(score_bounds()) == Settings().score_bounds
    given = replace(PROMPT, score_bounds={"*": (0.0, 1.0)})
    with (
        LearningClient(published.url, spool=tmp_path / "given", options=given) as own,
        own.record_execution("scored") as execution,
    ):
        pass
    with LearningClient(published.url, spool=tmp_path / "given", options=given) as own:
        own.flush()
        with pytest.raises(UserError, match=r"outside \[0, 1\]"):
            own.submit_review(execution.execution_id, quality_scores={"clarity": 2})
    with LearningClient(published.url, spool=tmp_path, options=PROMPT) as own:
        assert own.submit_review(execution.execution_id, quality_scores={"clarity": 99}).delivered
    monkeypatch.setenv("FEEDBACK_SCORE_BOUNDS", "{")
    with pytest.raises(UserError, match="FEEDBACK_SCORE_BOUNDS"):
        LearningClient(published.url, spool=tmp_path, options=PROMPT)


def test_what_the_schema_does_not_take_is_refused_by_its_place(url: str) -> None:
    """What other versions have left in a spool."""
    transport = open_transport(url, None, 5.0)
    fine = b'{"client_id":"%s","execution_id":"fine","agent_name":"a","start_time":"2026-01-01T00:00:00Z"}'
    own = str(uuid.uuid4()).encode()
    if url.startswith("http"):
        with pytest.raises(Unacceptable):
            transport.send("executions", [fine % own, b'{"shape": "of another version"}'])
        with pytest.raises(Unacceptable):
            transport.send("executions", [b'{"\x80": broken}'])
    else:
        answer = transport.send("executions", [b'{"\x80": broken}', fine % own, b'{"shape": "of another version"}'])
        assert (answer.stored, [place for place, _ in answer.refused], answer.later) == (1, [0, 2], frozenset())


def test_a_review_that_precedes_its_execution_waits_for_it_and_holds_up_no_other(
    url: str, tmp_path: Path, published: Database
) -> None:
    """The page where people review is no part of the agent, whose spool may lag behind."""
    late, known = uuid.uuid4().hex, uuid.uuid4().hex
    patient = replace(PROMPT, review_seconds=120.0)
    with (
        LearningClient(url, spool=tmp_path / "page", options=patient) as page,
        LearningClient(url, spool=tmp_path / "agent", options=PROMPT) as agent,
        ThreadPoolExecutor(1) as pool,
    ):
        with agent.record_execution("lagging", execution_id=known):
            pass
        agent.flush()
        receipt = page.submit_review(late, reviewer_id="ana", decision="approve")
        assert (receipt.delivered, str(receipt.reason)[:12]) == (False, "no execution")
        while not page.outstanding.early:
            page.flush(0.05)
        assert "wait for the executions" in str(page.outstanding.trouble)
        # The other does not wait for it.
        assert pool.submit(page.submit_review, known, reviewer_id="ana", decision="reject").result(30).delivered
        assert page.outstanding.refused == 0
        with agent.record_execution("lagging", execution_id=late):
            pass
        agent.flush()
        left = page.flush(60)
        assert (left.pending, left.stored, left.refused, left.trouble) == (0, 1, 0, None)
    query = (
        "SELECT r.decision::text FROM review_feedback r JOIN content_review_workflows w ON w.id = r.workflow_id"
        " WHERE w.workflow_execution_id = %s"
    )
    assert [rows(published, query, name) for name in (late, known)] == [[("approve",)], [("reject",)]]


def test_the_service_says_which_refusal_may_pass(url: str) -> None:
    transport = open_transport(url, None, 5.0)
    review = b'{"client_id":"%s","execution_id":"%s"}'
    unknown, nowhere = (str(uuid.uuid4()).encode() for _ in range(2))
    items = [review % (unknown, b"never ran"), b'{"client_id":"%s","workflow_id":"none"}' % nowhere]
    answer = transport.send("reviews", items)
    assert ([place for place, _ in answer.refused], answer.later) == ([0, 1], frozenset({0}))


def test_what_is_applied_is_drawn_recorded_and_told(client: LearningClient, published: Database) -> None:
    prefix = uuid.uuid4().hex
    known = {one.id: one for one in client.improvements(AGENT).recommendations}
    on_trial = {name: one for name, one in known.items() if one.trial.p_on}
    assert on_trial
    chosen = [client.apply(AGENT, {"topic": "tea"}, execution_id=f"{prefix} {i}") for i in range(20)]
    assert client.flush().pending == 0
    for i, each in enumerate(chosen):
        account = each.learning_applied
        applied = {one.pattern_id for one in account.improvements_applied}
        held_out = {one.pattern_id for one in account.held_out}
        skipped = {one.pattern_id for one in account.skipped}
        assert applied | held_out | skipped == set(known)
        expected = {
            name
            for name, one in on_trial.items()
            if name not in skipped and assign(one.trial.salt, name, f"{prefix} {i}", one.trial.p_on)
        }
        assert applied == expected
        assert bool(applied) == (each.input_data != {"topic": "tea"})
    stored = rows(
        published,
        "SELECT execution_id, pattern_id, trial, applied, propensity, agent_name FROM learning_applications"
        " WHERE starts_with(execution_id, %s)",
        prefix,
    )
    told = [
        (each.learning_applied.execution_id, one.pattern_id, one.trial, was, one.propensity, AGENT)
        for each in chosen
        for was, ones in ((True, each.learning_applied.improvements_applied), (False, each.learning_applied.held_out))
        for one in ones
    ]
    assert sorted(stored) == sorted(told)
    assert {was for _, _, _, was, _, _ in told} == {True, False}
    # Deciding again decides the same, and is known.
    again = client.apply(AGENT, {"topic": "tea"}, execution_id=f"{prefix} 0")
    assert again.learning_applied.improvements_applied == chosen[0].learning_applied.improvements_applied
    client.flush()
    assert len(rows(published, "SELECT FROM learning_applications WHERE starts_with(execution_id, %s)", prefix)) == len(stored)


def test_an_agent_without_anything_learned_works_as_it_is(client: LearningClient) -> None:
    account = client.apply("newcomer", {"topic": "tea"}, execution_id="1").learning_applied
    assert (account.improvements_applied, account.held_out, account.stale) == ([], [], True)
    assert account.stale_reason is not None
    assert "newcomer" in account.stale_reason


def test_the_same_calls_can_be_awaited(url: str, tmp_path: Path, published: Database) -> None:
    async def work() -> str:
        async with AsyncLearningClient(url, spool=tmp_path, options=PROMPT) as client:
            assert (await client.improvements(AGENT)).agent_name == AGENT
            async with client.record_execution("awaited") as execution:
                execution.output({"content": "Tea."})
                applied = await client.apply(AGENT, "Write about tea.", execution_id=execution.execution_id)
            assert applied.input_data.startswith("Write about tea.")
            receipt = await client.submit_review(execution.execution_id, decision="reject")
            assert receipt.delivered
            assert (await client.flush()).pending == client.outstanding.pending == 0
            return execution.execution_id

    name = asyncio.run(work())
    assert len(rows(published, "SELECT FROM agent_performance WHERE execution_id = %s", name)) == 1


def test_learning_without_dagster_says_that_it_is_away(api: Api, tmp_path: Path) -> None:
    with LearningClient(api.url, spool=tmp_path, options=PROMPT) as client, pytest.raises(ServiceAway):
        client.learn(AGENT)


def test_the_database_alone_does_not_start_runs(published: Database, tmp_path: Path) -> None:
    with LearningClient(published.url, spool=tmp_path, options=PROMPT) as client:
        for call in (
            lambda: client.learn(AGENT),
            lambda: client.run("1"),
            lambda: client.forecast(agent_name=AGENT, features={}),
        ):
            with pytest.raises(UserError, match="http://"):
                call()


def test_addresses_and_tokens_that_cannot_be() -> None:
    for url in ("", "ftp://host", "host:8000", "http://", "http://user:secret@host", "postgresql://host"):
        with pytest.raises(UserError) as caught:
            open_transport(url, None, 1.0)
        assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match="token"):
        open_transport("http://host", "with\nline", 1.0)


def test_a_port_where_nothing_or_something_else_listens(published: Database) -> None:
    with pytest.raises(ServiceAway, match="does not answer"):
        open_transport("http://127.0.0.1:1", None, 1.0).improvements(AGENT, None)
    gone = published.sibling("no_such_database")
    with pytest.raises(ServiceAway, match="no_such_database"):
        open_transport(gone.url, None, 1.0).improvements(AGENT, None)
