"""What the SDK makes of a service with a champion: forecasts, and the predicted quality of what it applies."""

import hashlib
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from feedback_pipeline.errors import NotFound, UserError
from feedback_pipeline.sdk import LearningClient
from feedback_pipeline.serving.application import create_app, make_service
from feedback_pipeline.settings import ApiToken
from feedback_pipeline_tests.sdk.service import PROMPT, free_port
from feedback_pipeline_tests.serving.conftest import NOBODY, WHOLE_ROOM, LearnedWorld

pytestmark = WHOLE_ROOM
# The first forecast of a process loads the model.
PATIENT = replace(PROMPT, timeout_seconds=60.0)


@contextmanager
def listening(world: LearnedWorld, **settings: Any) -> Iterator[str]:
    """Yields the address of the API, which serves from a thread."""
    changed = world.settings.model_copy(update=settings)
    app = create_app(make_service(changed, world.database, world.tracking, NOBODY))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def address(learned_world: LearnedWorld) -> Iterator[str]:
    with listening(learned_world) as url:
        yield url


@pytest.fixture
def client(address: str, tmp_path: Path) -> Iterator[LearningClient]:
    with LearningClient(address, spool=tmp_path, options=PATIENT) as made:
        yield made


def test_what_is_forecast_of_an_execution_is_the_same_on_both_ways(
    client: LearningClient, learned_world: LearnedWorld, tmp_path: Path
) -> None:
    ((agent, execution),) = learned_world.rows("SELECT agent_name, execution_id FROM quality_forecasts ORDER BY 1, 2 LIMIT 1")
    found = client.forecast(execution, agent_name=agent)
    assert (found.agent_name, found.execution_id, found.stale) == (agent, execution, False)
    assert found.p_approve == found.forecasts[0].p_approve
    with LearningClient(learned_world.database.url, spool=tmp_path / "direct", options=PATIENT) as direct:
        assert direct.forecast(execution, agent_name=agent).forecasts == found.forecasts
        with pytest.raises(NotFound):
            direct.forecast("no such execution")
    with pytest.raises(NotFound):
        client.forecast("no such execution")


def test_features_are_forecast_for_named_reviewers_too(client: LearningClient, agent: str, learned_world: LearnedWorld) -> None:
    ((reviewer,),) = learned_world.rows("SELECT min(reviewer_id) FROM review_feedback")
    found = client.forecast(agent_name=agent, features={"word_count": 400, "tone": "warm", "shoe_size": 44}, reviewers=[reviewer])
    assert [each.reviewer_id for each in found.forecasts] == [None, reviewer]
    assert found.ignored == ["shoe_size"]
    assert found.champion.model_version == found.forecasts[0].model_version


@pytest.fixture
def advised(agent: str, learned_world: LearnedWorld) -> Iterator[str]:
    """The agent with a recommendation on trial, which is gone afterwards."""
    with learned_world.database.connect() as connection:
        connection.execute(_RECOMMEND, {"agent": agent})
        connection.execute(_ON_TRIAL)
    yield agent
    with learned_world.database.connect() as connection:
        connection.execute(
            "DELETE FROM learning_applications WHERE pattern_id IN (SELECT pattern_id FROM pattern_effects"
            " WHERE reason = 'of the SDK')"
        )
        connection.execute("DELETE FROM pattern_effects WHERE reason = 'of the SDK'")
        connection.execute("DELETE FROM agent_recommendations WHERE text = 'of the SDK'")


_RECOMMEND = """
    INSERT INTO agent_recommendations (recommendation_id, agent_name, rank, kind, direction, target, expected_effect, evidence,
        text, action, learning_run_id, confidence_score)
    SELECT gen_random_uuid(), agent_name, 10, 'avoid_term', 'avoid', '{}', '{}', '{}', 'of the SDK',
        '{"kind": "avoid_term", "term": "synergy", "in": "issues"}', learning_run_id, 0.9
    FROM agent_learning_state WHERE agent_name = %(agent)s
"""
_ON_TRIAL = """
    INSERT INTO pattern_effects (pattern_id, trial, agent_name, state, p_on, target, reason, since, started_at)
    SELECT recommendation_id::text, 1, agent_name, 'probation', 0.5, target, text, now(), now()
    FROM agent_recommendations WHERE text = 'of the SDK'
"""


def test_what_is_applied_is_recorded_with_the_quality_that_was_predicted(
    client: LearningClient, advised: str, learned_world: LearnedWorld
) -> None:
    expected = client.forecast(agent_name=advised, features={"tone": "warm"}).p_approve
    assert expected is not None
    name = uuid.uuid4().hex
    account = client.apply(advised, {"tone": "warm", "topic": "tea"}, execution_id=name).learning_applied
    assert account.predicted_quality == expected
    client.flush()
    stored = learned_world.rows("SELECT DISTINCT predicted_quality FROM learning_applications WHERE execution_id = %s", name)
    assert stored == [(expected,)]


def test_a_token_is_sent_and_one_that_is_not_enough_loses_nothing(
    agent: str, learned_world: LearnedWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = {scope: ApiToken(scope=scope, sha256=hashlib.sha256(scope.encode()).hexdigest()) for scope in ("read", "write")}
    with listening(learned_world, api_tokens=tokens) as url:
        wrong = LearningClient(url, spool=tmp_path, options=PATIENT, token="none such")  # noqa: S106 - of this test
        with wrong, pytest.raises(UserError, match="token"):
            wrong.improvements(agent)
        name = uuid.uuid4().hex
        with LearningClient(url, spool=tmp_path, options=PATIENT, token="read") as client:  # noqa: S106
            assert client.improvements(agent).agent_name == agent
            with pytest.raises(UserError, match="FEEDBACK_API_TOKEN"):
                client.submit_review("1", decision="approve")
            with client.record_execution("with a token", execution_id=name):
                pass
            left = client.flush(1)
            assert left.pending == 1
            assert "token" in str(left.trouble)
        with LearningClient(url, spool=tmp_path, options=PATIENT, token="write") as client:  # noqa: S106
            assert client.flush(30).stored == 1
    assert learned_world.rows("SELECT count(*) FROM agent_performance WHERE execution_id = %s", name) == [(1,)]
    assert not any(word in caplog.text for word in ("none such", "Bearer"))
