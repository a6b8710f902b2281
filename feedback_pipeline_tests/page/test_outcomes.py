"""Forecasts beside outcomes, as the API gives them: counted by hand, walked through, of one agent and of all."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline_tests.page.conftest import WHOLE_ROOM
from feedback_pipeline_tests.serving.conftest import LearnedWorld

pytestmark = WHOLE_ROOM

AGENT = "drafter"
# What people said of each output that was forecast.
_BY_HAND = """
    SELECT f.execution_id, f.p_approve, f.low, f.high, f.abstain, r.decision = 'approve',
        (r.quality_scores ->> 'content_quality')::float8
    FROM quality_forecasts f JOIN content_review_workflows w ON w.workflow_execution_id = f.execution_id
    JOIN review_feedback r ON r.workflow_id = w.id
    WHERE f.reviewer_id = '' AND f.agent_name = %s AND r.reviewed_at > f.made_at
"""


@pytest.fixture(scope="module")
def api(rich_world: LearnedWorld) -> Iterator[TestClient]:
    with rich_world.client() as client:
        yield client


def test_outcomes_are_those_that_are_counted_by_hand(api: TestClient, rich_world: LearnedWorld) -> None:
    rows = rich_world.rows(_BY_HAND, AGENT)
    assert len(rows) > 20
    document = api.get(f"{PREFIX}/forecasts/outcomes?agent={AGENT}&limit=1000").json()
    said = {one["execution_id"]: one for one in document["outcomes"]}
    assert set(said) == {row[0] for row in rows}
    for execution, p, low, high, abstain, approved, score in rows:
        one = said[execution]
        assert (one["p_approve"], one["low"], one["high"], one["abstain"]) == (p, low, high, abstain)
        assert (one["approved"], one["review_score"]) == (approved, pytest.approx(score))
    judged = [(row[1], row[5]) for row in rows if not row[4]]
    inside = [row[2] <= row[6] <= row[3] for row in rows if not row[4]]
    assert (document["n_outputs"], document["n_decided"]) == (len(rows), len(judged))
    assert (document["n_inside"], document["n_intervals"]) == (sum(inside), len(inside))
    error = 0.0
    for place, tenth in enumerate(document["calibration"]):
        own = [(p, approved) for p, approved in judged if min(int(10 * p), 9) == place]
        assert (tenth["low"], tenth["high"], tenth["n"]) == (place / 10, (place + 1) / 10, len(own))
        if own:
            forecast, observed = (sum(pair[side] for pair in own) / len(own) for side in (0, 1))
            assert (tenth["forecast"], tenth["approved"]) == (pytest.approx(forecast), pytest.approx(observed))
            error += len(own) / len(judged) * abs(forecast - observed)
        else:
            assert (tenth["forecast"], tenth["approved"]) == (None, None)
    assert document["ece"] == pytest.approx(error)


def test_a_walk_through_all_meets_every_outcome_once(api: TestClient) -> None:
    whole = api.get(f"{PREFIX}/forecasts/outcomes?limit=1000").json()
    assert whole["n_outputs"] == len(whole["outcomes"]) > len({one["agent_name"] for one in whole["outcomes"]}) == 2
    met, cursor = [], ""
    while True:
        part = api.get(f"{PREFIX}/forecasts/outcomes?limit=7{cursor}").json()
        met += part["outcomes"]
        if part["next"] is None:
            break
        cursor = f"&cursor={part['next']}"
    assert met == whole["outcomes"]


def test_an_agent_without_outcomes_has_none(api: TestClient) -> None:
    document = api.get(f"{PREFIX}/forecasts/outcomes?agent=nobody").json()
    assert (document["n_outputs"], document["n_decided"], document["ece"], document["outcomes"]) == (0, 0, None, [])


def test_drift_is_watched_by_week(api: TestClient) -> None:
    document = api.get(f"{PREFIX}/drift").json()
    assert (document["champion"]["model_version"], document["reason"]) == (1, None)
    (week,) = document["weeks"]
    assert week["week"] == "2026-11-02", "all later reviews are of one Monday"
    assert week["n"] == api.get(f"{PREFIX}/forecasts/outcomes").json()["n_outputs"]
    assert (document["alarm"] is None) == (
        abs(week["ewma"]) <= week["ewma_limit"] and max(week["cusum_higher"], week["cusum_lower"]) <= 5
    )


def test_links_are_those_of_the_settings(rich_world: LearnedWorld) -> None:
    assert _links(rich_world) == {"dagster": "http://127.0.0.1:1", "mlflow": None}
    told = {"dagster_url": "https://dagster.example.org/", "mlflow_url": "https://mlflow.example.org"}
    elsewhere = LearnedWorld(rich_world.database, rich_world.settings.model_copy(update=told), rich_world.tracking)
    assert _links(elsewhere) == {"dagster": "https://dagster.example.org", "mlflow": "https://mlflow.example.org"}


def _links(world: LearnedWorld) -> dict[str, str | None]:
    with world.client() as client:
        document = client.get(f"{PREFIX}/links").json()
    assert document.pop("provenance")["learning_run_id"]
    return dict(document)
