"""Who may ask what: every route with every scope, and what another site's page or another machine can do without tokens."""

import hashlib
import re
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from feedback_pipeline.serving.access import METRICS, PREFIX, SCOPES, Needs
from feedback_pipeline.serving.application import ROUTERS
from feedback_pipeline.settings import ApiToken
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld

pytestmark = WHOLE_ROOM

OPEN = {"/health", "/ready"}


def _token(scope: str) -> str:
    return f"secret of {scope}"


def bearer(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {_token(scope)}"}


def tokens() -> dict[str, ApiToken]:
    return {scope: ApiToken(scope=scope, sha256=hashlib.sha256(_token(scope).encode()).hexdigest()) for scope in SCOPES}


@pytest.fixture(scope="module")
def guarded(learned_world: LearnedWorld) -> Iterator[TestClient]:
    """With tokens, from another machine, by a name that is no loopback."""
    with learned_world.client(tokens(), base_url="http://api.example.org", client=("192.0.2.7", 5)) as client:
        yield client


def routes_with_scopes() -> list[tuple[str, str, str]]:
    """Method, an address and the scope of every route."""
    found = []
    for route in (route for router in ROUTERS for route in router.routes):
        assert isinstance(route, APIRoute)
        needs = [one.call.scope for one in route.dependant.dependencies if isinstance(one.call, Needs)]
        path = re.sub(r"{[^}]*}", "x", route.path)
        found += [(method, path, needs[0] if needs else "") for method in route.methods or ()]
    return found


def test_every_route_answers_those_alone_who_have_its_scope(guarded: TestClient) -> None:
    routes = routes_with_scopes()
    described = guarded.get("/openapi.json").json()["paths"]
    assert len(routes) == sum(map(len, described.values())) >= 24
    for method, path, scope in routes:
        if path in OPEN:
            assert guarded.request(method, path).status_code == 200
            continue
        assert scope in SCOPES, path
        assert path.startswith(PREFIX) or path == METRICS
        refused = guarded.request(method, path)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), path
        assert refused.json()["type"] == "urn:feedback-pipeline:unauthenticated"
        assert guarded.request(method, path, headers={"Authorization": "Bearer no such token"}).status_code == 401
        assert guarded.request(method, path, headers={"Authorization": f"Basic {_token('admin')}"}).status_code == 401
        for granted in SCOPES:
            status = guarded.request(method, path, headers=bearer(granted)).status_code
            assert (status == 403) == (SCOPES.index(granted) < SCOPES.index(scope)), (path, granted)
            assert status != 401


def test_what_changes_something_needs_more_than_reading() -> None:
    scopes = {(method, path.removeprefix(PREFIX)): scope for method, path, scope in routes_with_scopes()}
    assert {scope for (method, path), scope in scopes.items() if method == "POST" and path != "/forecasts"} == {"write", "admin"}
    assert scopes["POST", "/forget"] == scopes["GET", "/forget/x"] == "admin"


def test_the_window_is_set_by_an_administrator(guarded: TestClient) -> None:
    path = f"{PREFIX}/agents/x/learn?lookback_days=7"
    assert guarded.post(path, headers=bearer("write")).status_code == 403
    assert guarded.post(path, headers=bearer("admin")).status_code == 404


def test_nothing_of_a_token_is_shown(guarded: TestClient) -> None:
    refused = guarded.get(f"{PREFIX}/agents", headers={"Authorization": "Bearer hunter2"})
    assert "hunter2" not in refused.text
    assert tokens()["read"].sha256 not in refused.text


@pytest.mark.parametrize(
    ("headers", "method", "status"),
    [
        ({}, "GET", 200),
        ({"Host": "localhost:8000"}, "GET", 200),
        ({"Host": "[::1]:8000"}, "GET", 200),
        ({"Host": "evil.example.org"}, "GET", 403),
        ({"Host": "127.0.0.1.evil.example.org:8000"}, "GET", 403),
        ({"Host": "[::1"}, "GET", 403),
        ({"Origin": "http://evil.example.org"}, "GET", 200),
        ({"Origin": "http://evil.example.org"}, "POST", 403),
        ({"Origin": "null"}, "POST", 403),
        ({"Origin": "http://127.0.0.1:9000"}, "POST", 403),
        ({"Sec-Fetch-Site": "cross-site"}, "POST", 403),
        ({"Sec-Fetch-Site": "same-site"}, "POST", 403),
        ({"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, "POST", 404),
        ({}, "POST", 404),
    ],
)
def test_without_tokens_no_other_site_reaches_in(api: TestClient, headers: dict[str, str], method: str, status: int) -> None:
    """A page of another site may lead a browser here by any name, and may send what a form can send."""
    path = f"{PREFIX}/agents" + ("/nobody/learn" if method == "POST" else "")
    assert api.request(method, path, headers=headers).status_code == status


def test_without_tokens_no_other_machine_reaches_in(learned_world: LearnedWorld) -> None:
    with learned_world.client(client=("192.0.2.7", 5)) as client:
        assert client.get(f"{PREFIX}/agents").status_code == client.get("/health").status_code == 403
