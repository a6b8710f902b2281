"""The API is killed and started again while an agent records: nothing is lost, nothing doubled, and the agent goes on working."""

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.sdk import LearningClient
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline_tests.sdk.service import PROMPT, Api, running_api
from feedback_pipeline_tests.sdk.test_client import AGENT, rows
from feedback_pipeline_tests.storage.publications import publication

EXECUTIONS, REVIEWED_EVERY = 10_000, 500
OPTIONS = replace(PROMPT, review_seconds=0.0)


def kill_in_the_middle(api: Api, client: LearningClient, before: int, moment: float) -> int:
    """Kill the API once it stores more than before, start it again without waiting; returns what it had stored."""
    api.wait()
    client.flush(0)  # which tries at once
    while client.outstanding.stored == before:
        time.sleep(0.001)
    time.sleep(moment)
    api.kill()
    stored = client.outstanding.stored
    api.start()
    return stored


def record(client: LearningClient, first: int, last: int) -> list[bool]:
    """Executions with two decisions each, and now and then a review; returns whether the reviews were delivered at once."""
    delivered = []
    for number in range(first, last):
        with client.record_execution(AGENT, execution_id=f"execution {number}") as execution:
            execution.decision("outline", confidence=0.5, reasoning="because " * 20)
            execution.decision("draft", confidence=0.75, output_data={"content": "some words " * 50})
        if number % REVIEWED_EVERY == 0:
            receipt = client.submit_review(f"execution {number}", reviewer_id="ana", decision="approve")
            delivered.append(receipt.delivered)
    return delivered


@pytest.mark.slow
def test_ten_thousand_executions_through_an_api_that_is_killed(database: Database, tmp_path: Path) -> None:
    publish_run(database, publication(1))
    spool = tmp_path / "spool"
    with running_api(database, tmp_path) as api, LearningClient(api.url, spool=spool, options=OPTIONS) as client:
        assert not client.improvements(AGENT).stale
        moments, delivered, chunk = random.Random(7), list[bool](), EXECUTIONS // 5  # noqa: S311 - no secrets
        stored = [0]
        for part in range(4):
            delivered += record(client, part * chunk, (part + 1) * chunk)
            stored.append(kill_in_the_middle(api, client, stored[-1], moments.uniform(0, 0.05)))
        assert any(number % chunk for number in stored)
        # Another client beside it, which ends while records wait; what it leaves is not lost either.
        with LearningClient(api.url, spool=spool, options=OPTIONS) as other:
            delivered += record(other, 4 * chunk, EXECUTIONS - 100)
        api.wait()

        # The service is away: the agent has what it had, and is told; what it records waits.
        api.kill()
        stale = client.improvements(AGENT)
        assert stale.stale
        assert "does not answer" in str(stale.stale_reason)
        delivered += record(client, EXECUTIONS - 100, EXECUTIONS)
        assert not client.submit_review("execution 1", reviewer_id="ben", decision="reject").delivered
        with LearningClient(api.url, spool=spool, options=OPTIONS) as restarted:
            again = restarted.improvements(AGENT)
            assert again.stale
            assert again.recommendations == stale.recommendations
            assert restarted.apply(AGENT, {}, execution_id="1").learning_applied.stale

        api.start()
        api.wait()
        assert not client.improvements(AGENT).stale
        # Whoever starts next sends what ended clients have left.
        with LearningClient(api.url, spool=spool, options=OPTIONS) as last:
            assert last.flush(60).pending == client.flush(60).pending == 0
        assert client.outstanding.refused == 0
        with pytest.raises(UserError, match="refused"):
            client.submit_review("execution 1", quality_scores={"clarity": 99})
    assert not list(spool.rglob("*.jsonl"))
    assert False in delivered  # some had to wait
    counts = rows(database, "SELECT count(*), count(DISTINCT execution_id) FROM agent_performance")
    assert counts == [(EXECUTIONS, EXECUTIONS)]
    decisions = "SELECT count(*), count(DISTINCT (performance_id, decision_point)) FROM agent_decisions"
    assert rows(database, decisions) == [(2 * EXECUTIONS, 2 * EXECUTIONS)]
    reviews = EXECUTIONS // REVIEWED_EVERY + 1
    assert rows(database, "SELECT count(*), count(DISTINCT workflow_id) FROM review_feedback") == [(reviews, reviews)]
