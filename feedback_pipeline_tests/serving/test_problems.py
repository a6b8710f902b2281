"""One table says what every error is over HTTP; what nobody foresaw says nothing of itself."""

import inspect
import logging

import pytest
from fastapi.testclient import TestClient

from feedback_pipeline import errors
from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.serving import problems
from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.serving.contract import ERRORS
from feedback_pipeline.serving.improvements import ImprovementsCache
from feedback_pipeline.serving.problems import PROBLEMS, STATUSES, kind_of
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld

pytestmark = WHOLE_ROOM

OWN = [
    member
    for module in (errors, problems)
    for _, member in inspect.getmembers(module, inspect.isclass)
    if issubclass(member, errors.FeedbackError)
]


@pytest.mark.parametrize("error", OWN)
def test_every_error_of_this_package_stands_in_the_table(error: type[errors.FeedbackError]) -> None:
    assert error in PROBLEMS


def test_the_nearest_class_counts_and_retrying_is_said_where_it_helps() -> None:
    assert kind_of(StoreUnavailable("x")).status == 503
    assert kind_of(errors.NotFound("x")).status == 404
    assert kind_of(ValueError("x")) is problems.UNEXPECTED
    for kind in PROBLEMS.values():
        assert (kind.retry_after is not None) == (kind.status == 503)
    names = {kind.name: kind.status for kind in [*PROBLEMS.values(), *STATUSES.values()]}
    assert all(names[kind.name] == kind.status for kind in PROBLEMS.values())
    assert {kind.status for kind in [*PROBLEMS.values(), *STATUSES.values()]} == set(ERRORS)


def test_an_error_nobody_foresaw_is_answered_and_neither_shown_nor_logged_in_words(
    api: TestClient, agent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret of reviewer 7")

    monkeypatch.setattr(ImprovementsCache, "read", fail)
    answer = api.get(f"{PREFIX}/agents/{agent}/improvements")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["type"] == "urn:feedback-pipeline:unexpected"
    logged = [record.about for record in caplog.records if record.levelno == logging.ERROR]  # type: ignore[attr-defined]
    assert logged[0]["error"] == "ZeroDivisionError"
    assert "secret" not in answer.text + str(logged) + caplog.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "name"),
    [
        ("GET", "/agents/nobody/improvements", None, 404, "not-found"),
        ("GET", "/agents/*/improvements", None, 400, "bad-request"),
        ("GET", "/nothing", None, 404, "not-found"),
        ("DELETE", "/agents", None, 405, "method-not-allowed"),
        ("GET", "/agents?limit=0", None, 422, "invalid"),
        ("GET", "/agents?cursor=rubbish", None, 400, "bad-request"),
        ("GET", "/agents/%00/improvements", None, 422, "invalid"),
        ("POST", "/executions", b"{", 422, "invalid"),
        ("POST", "/executions", b"[" * 100_000, 400, "bad-request"),
        ("POST", "/executions", b'{"executions": []}', 422, "invalid"),
        ("POST", "/executions", b"\xff\xfe", 422, "invalid"),
        ("GET", "/runs/x", None, 503, "unavailable"),
        ("POST", "/agents/nobody/learn", None, 404, "not-found"),
        ("POST", "/forget", b'{"kind": "reviewer", "id": "nobody"}', 404, "not-found"),
        ("GET", "/forget/00000000-0000-0000-0000-000000000000", None, 404, "not-found"),
    ],
)
def test_what_goes_wrong_is_a_problem_with_its_kind(
    api: TestClient, method: str, path: str, body: bytes | None, status: int, name: str
) -> None:
    answer = api.request(method, PREFIX + path, content=body, headers={"Content-Type": "application/json"})
    said = answer.json()
    assert (answer.status_code, said["type"], said["status"]) == (status, f"urn:feedback-pipeline:{name}", status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert said["detail"]
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "allow" in answer.headers or status != 405


def test_before_anything_is_learned_every_reader_says_so(learned_world: LearnedWorld, request: pytest.FixtureRequest) -> None:
    empty = LearnedWorld(request.getfixturevalue("database"), learned_world.settings, learned_world.tracking)
    nothing = {"learning_run_id": None, "window": None, "n_reviews": None, "n_contents": None, "computed_at": None}
    with empty.client() as client:
        for path in ("agents/a/improvements", "agents/a/patterns", "correlations/*", "strategy/a", "reviewers", "reviewers/r"):
            assert (client.get(f"{PREFIX}/{path}").status_code, path) == (409, path)
        for path in ("agreement", "forecasts", "queue", "autoapproval"):
            assert client.get(f"{PREFIX}/{path}").json()["type"] == "urn:feedback-pipeline:nothing-learned"
        for path in ("agents", "effectiveness", "runs"):
            answer = client.get(f"{PREFIX}/{path}").json()
            assert (answer[path if path != "effectiveness" else "trials"], answer["provenance"]) == ([], nothing)
        assert client.post(f"{PREFIX}/forecasts", json={"agent_name": "a", "features": {}}).status_code == 409
        assert client.get(f"{PREFIX}/effectiveness?agent=a").status_code == 404
