"""What agents and reviewers send arrives once, as it was sent, or is refused with a reason."""

import json
import threading
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from feedback_pipeline.schemas.executions import MAX_BATCH
from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld

pytestmark = WHOLE_ROOM

HOSTILE = {
    "injection": "'; DROP TABLE review_feedback; --",
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "format": "%s %(id)s {} \\ $1 :name",
    "unicode": "ﷺ\u202e\u0007 é\u0301 🧑‍🚀",
    "json": '"}, {"a": [',
}
UNSTORABLE = {"nul": "a\\u0000b", "surrogate": "a\\ud800b"}


def execution(agent: str = "intake", **more: Any) -> dict[str, Any]:
    own = {
        "client_id": str(uuid.uuid4()),
        "execution_id": str(uuid.uuid4()),
        "agent_name": agent,
        "start_time": "2026-01-01T00:00Z",
    }
    return own | more


def review(execution_id: str, **more: Any) -> dict[str, Any]:
    return {"client_id": str(uuid.uuid4()), "execution_id": execution_id} | more


def send(api: TestClient, kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    answer = api.post(f"{PREFIX}/{kind}", json={kind: items})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert document.pop("provenance")["learning_run_id"]
    return document


def test_an_execution_lands_in_the_tables_of_the_guide(api: TestClient, learned_world: LearnedWorld) -> None:
    content = str(uuid.uuid4())
    sent = execution(
        agent_type="writer",
        content_id=content,
        duration_ms=1500.5,
        input_tokens=7,
        output_tokens=9,
        cost=0.25,
        metadata={"features": {"warmth": 0.5}},
        error="late",
        input_data={"tone": "dry"},
        output_data={"content": "One. Two."},
        decisions=[
            {"decision_point": "plan", "confidence_score": 0.5, "alternatives": [{"a": 1}, "b"], "reasoning": "short"},
            {"decision_point": "draft", "output_data": {"content": "Its own."}},
        ],
    )
    assert send(api, "executions", [sent]) == {"stored": 1, "known": 0, "refused": []}
    ((own, *numbers, metadata),) = learned_world.rows(
        "SELECT id::text, agent_type, status, duration, input_tokens, output_tokens, cost,"
        " extract(epoch FROM end_time - start_time), metadata FROM agent_performance WHERE execution_id = %s",
        sent["execution_id"],
    )
    assert own == sent["client_id"]
    assert [numbers[0], *map(float, numbers[2:])] == ["writer", 1500.5, 7, 9, 0.25, 1.5005]
    assert metadata == {"features": {"warmth": 0.5}, "error": "late"}
    decisions = learned_world.rows(
        "SELECT decision_point, confidence_score, alternatives_considered, reasoning, input_data, output_data"
        " FROM agent_decisions WHERE performance_id = %s ORDER BY decision_point DESC",
        own,
    )
    assert decisions == [
        ("plan", 0.5, [{"a": 1}, "b"], "short", None, None),
        ("draft", None, None, None, {"tone": "dry"}, {"content": "Its own."}),
    ]
    assert learned_world.rows(
        "SELECT content_id::text FROM content_review_workflows WHERE workflow_execution_id = %s", sent["execution_id"]
    ) == [(content,)]


def test_a_review_lands_beside_its_execution_and_waits_to_be_learned_from(api: TestClient, learned_world: LearnedWorld) -> None:
    ran = execution()
    send(api, "executions", [ran])
    scores = {"seo": 6, "tone": {"score": 4.5, "issues": ["stiff"]}, "layout": None}
    sent = review(ran["execution_id"], reviewer_id="ada", stage="seo_review", decision="approve", quality_scores=scores)
    by_itself = review(ran["execution_id"], decision="reject", reviewed_at="2026-02-03T04:05:06+02:00", comments="no")
    before = learned_world.rows("SELECT count(*) FROM feedback_changes WHERE source = 'review_feedback'")
    assert send(api, "reviews", [sent]) == {"stored": 1, "known": 0, "refused": []}
    assert api.post(f"{PREFIX}/reviews", json=by_itself).json()["stored"] == 1
    rows = learned_world.rows(
        "SELECT r.reviewer_id, stage::text, decision::text, quality_scores, feedback_categories, comments, is_training_data,"
        " reviewed_at <= now() FROM review_feedback r JOIN content_review_workflows w ON w.id = r.workflow_id"
        " WHERE workflow_execution_id = %s ORDER BY decision",
        ran["execution_id"],
    )
    assert rows == [
        (
            "ada",
            "seo_review",
            "approve",
            {"seo": 6, "tone": 4.5},
            {"tone": {"score": 4.5, "issues": ["stiff"]}},
            None,
            True,
            True,
        ),
        (None, None, "reject", {}, {}, "no", True, True),
    ]
    ((workflows,),) = learned_world.rows(
        "SELECT count(*) FROM content_review_workflows WHERE workflow_execution_id = %s", ran["execution_id"]
    )
    assert workflows == 1
    ((after,),) = learned_world.rows("SELECT count(*) FROM feedback_changes WHERE source = 'review_feedback'")
    assert after == before[0][0] + 2


def test_what_is_sent_again_changes_nothing(api: TestClient, learned_world: LearnedWorld) -> None:
    ran = [execution(decisions=[{"reasoning": "x"}]) for _ in range(3)]
    send(api, "executions", ran[:2])
    assert send(api, "executions", [*ran, ran[2]]) == {"stored": 1, "known": 3, "refused": []}
    said = review(ran[0]["execution_id"], decision="approve")
    send(api, "reviews", [said])
    assert send(api, "reviews", [said | {"decision": "reject"}]) == {"stored": 0, "known": 1, "refused": []}
    ids = [one["client_id"] for one in ran]
    assert learned_world.rows("SELECT count(*) FROM agent_performance WHERE id = ANY(%s::uuid[])", ids) == [(3,)]
    assert learned_world.rows("SELECT count(*) FROM agent_decisions WHERE performance_id = ANY(%s::uuid[])", ids) == [(3,)]
    assert learned_world.rows("SELECT decision::text FROM review_feedback WHERE id = %s", said["client_id"]) == [("approve",)]
    # Forgotten is forgotten: a client that still has it cannot bring it back.
    with learned_world.database.connect() as connection:
        connection.execute("DELETE FROM review_feedback WHERE id = %s", (said["client_id"],))
    assert send(api, "reviews", [said])["known"] == 1
    assert learned_world.rows("SELECT FROM review_feedback WHERE id = %s", said["client_id"]) == []


def test_batches_that_overlap_and_arrive_at_once_are_stored_once(api: TestClient, learned_world: LearnedWorld) -> None:
    ran = [execution("crowd") for _ in range(20)]
    stored: list[int] = []

    def deliver(items: list[dict[str, Any]]) -> None:
        stored.append(send(api, "executions", items)["stored"])

    threads = [threading.Thread(target=deliver, args=(ran[:: (-1) ** k],)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(stored) == len(ran)
    assert learned_world.rows("SELECT count(*) FROM agent_performance WHERE agent_name = 'crowd'") == [(len(ran),)]


def test_what_cannot_be_stored_is_refused_by_its_place_and_the_rest_is_stored(api: TestClient) -> None:
    ran = execution()
    send(api, "executions", [ran])
    good = review(ran["execution_id"], decision="approve")
    unknown, outside = review("never ran"), review(ran["execution_id"], quality_scores={"seo": 5, "tone": 11})
    nowhere = {"client_id": str(uuid.uuid4()), "workflow_id": "no uuid"}
    answer = send(api, "reviews", [unknown, good, outside, nowhere])
    assert (answer["stored"], answer["known"]) == (1, 0)
    assert [(one["place"], one["client_id"]) for one in answer["refused"]] == [
        (place, one["client_id"]) for place, one in ((0, unknown), (2, outside), (3, nowhere))
    ]
    alone = api.post(f"{PREFIX}/reviews", json=unknown)
    assert (alone.status_code, alone.json()["type"]) == (422, "urn:feedback-pipeline:none-stored")
    assert alone.json()["refused"][0]["reason"] == "no execution has this execution_id; send the execution first"
    # Once the cause is gone it is taken.
    send(api, "executions", [execution(execution_id="never ran")])
    assert send(api, "reviews", [unknown])["stored"] == 1


def test_an_item_the_database_does_not_take_costs_itself_alone(api: TestClient, learned_world: LearnedWorld) -> None:
    with learned_world.database.connect() as connection:
        connection.execute("ALTER TABLE agent_performance ADD CONSTRAINT cheap CHECK (cost < 100) NOT VALID")
    ran = [execution(cost=cost) for cost in (1.0, 1000.0, 2.0)]
    answer = send(api, "executions", ran)
    assert (answer["stored"], [one["place"] for one in answer["refused"]]) == (2, [1])
    assert "cheap" in answer["refused"][0]["reason"]
    with learned_world.database.connect() as connection:
        connection.execute("ALTER TABLE agent_performance DROP CONSTRAINT cheap")
    assert send(api, "executions", ran) == {"stored": 1, "known": 2, "refused": []}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_is_text_in_every_field(api: TestClient, learned_world: LearnedWorld, text: str) -> None:
    ran = execution(
        text[:100],
        execution_id=f"{text} {uuid.uuid4()}",
        agent_type=text,
        error=text,
        metadata={text: text},
        input_data={"keywords": [text]},
        decisions=[{"decision_point": text, "reasoning": text, "alternatives": [text], "output_data": {"content": text}}],
    )
    said = review(ran["execution_id"], reviewer_id=text, comments=text, quality_scores={text: {"score": 1, "issues": [text]}})
    assert send(api, "executions", [ran])["stored"] == send(api, "reviews", [said])["stored"] == 1
    assert learned_world.rows(
        "SELECT agent_name, agent_type, metadata FROM agent_performance WHERE execution_id = %s", ran["execution_id"]
    ) == [(text, text, {text: text, "error": text})]
    assert learned_world.rows(
        "SELECT reviewer_id, comments, quality_scores FROM review_feedback WHERE id = %s", said["client_id"]
    ) == [(text, text, {text: 1})]
    name = quote(text)
    for path in (f"agents/{name}/improvements", f"reviewers/{name}", f"forecasts?execution={name}", f"correlations/{name}"):
        answer = api.get(f"{PREFIX}/{path}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("escape", UNSTORABLE.values(), ids=UNSTORABLE)
def test_text_that_no_database_stores_is_refused_in_every_field(api: TestClient, escape: str) -> None:
    def post(kind: str, item: dict[str, Any]) -> int:
        body = json.dumps({kind: [item]}).replace("@@", escape)
        return api.post(f"{PREFIX}/{kind}", content=body, headers={"Content-Type": "application/json"}).status_code

    for field in ("execution_id", "agent_name", "agent_type", "status", "error"):
        assert post("executions", execution(**{field: "@@"})) == 422
    for field in ("input_data", "output_data", "metadata"):
        assert post("executions", execution() | {field: {"deep": [{"er": "@@"}]}}) == 422
        assert post("executions", execution() | {field: {"@@": 1}}) == 422
    for field in ("decision_point", "decision_type", "reasoning"):
        assert post("executions", execution(decisions=[{field: "@@"}])) == 422
    for decision in ({"alternatives": ["@@"]}, {"alternatives": [{"@@": 1}]}):
        assert post("executions", execution(decisions=[decision])) == 422
    for field in ("execution_id", "reviewer_id", "comments", "stage", "decision"):
        assert post("reviews", review("x") | {field: "@@"}) == 422
    assert post("reviews", review("x", quality_scores={"@@": 1})) == 422
    assert post("reviews", review("x", quality_scores={"a": {"issues": ["@@"]}})) == 422
    assert post("reviews", review("x", improvement_suggestions=["@@"])) == 422


def test_numbers_that_are_none_and_depth_without_end_are_refused(api: TestClient) -> None:
    def post(metadata: str) -> int:
        item = execution()
        body = (
            f'{{"executions": [{{"client_id": "{item["client_id"]}", "execution_id": "e", "agent_name": "a",'
            f' "start_time": "2026-01-01T00:00Z", "metadata": {metadata}}}]}}'
        )
        return api.post(f"{PREFIX}/executions", content=body, headers={"Content-Type": "application/json"}).status_code

    assert post('{"a": NaN}') == post('{"a": -Infinity}') == post('{"a": 1e999}') == 422
    assert post('{"a": ' * 120 + "1" + "}" * 120) == 422
    assert post('{"a": ' * 90 + "1" + "}" * 90) == 200
    assert post('{"a": ' + "9" * 4000 + "}") == 200


def test_a_batch_has_its_limit(api: TestClient) -> None:
    assert send(api, "executions", [execution("many") for _ in range(MAX_BATCH)])["stored"] == MAX_BATCH
    assert api.post(f"{PREFIX}/executions", json={"executions": [execution()] * (MAX_BATCH + 1)}).status_code == 422


def test_applications_are_stored_once_or_not_at_all(api: TestClient, learned_world: LearnedWorld) -> None:
    def application(**more: Any) -> dict[str, Any]:
        own = {"application_id": str(uuid.uuid4()), "pattern_id": "p", "trial": 1, "agent_name": "intake", "execution_id": "e"}
        return own | {"applied": True, "propensity": 0.5, "assigned_at": "2026-01-01T00:00Z"} | more

    sent = [application(execution_id=f"applied {k}", predicted_quality=k / 4) for k in range(3)]
    assert send(api, "applications", sent) == {"stored": 3, "known": 0, "refused": []}
    assert send(api, "applications", [*sent, application(applied=False)]) == {"stored": 1, "known": 3, "refused": []}
    for wrong in (
        {"propensity": 1},
        {"propensity": 0},
        {"trial": 0},
        {"predicted_quality": 2},
        {"assigned_at": "2026-01-01T00:00"},
    ):
        assert api.post(f"{PREFIX}/applications", json={"applications": [application(), application(**wrong)]}).status_code == 422
    assert learned_world.rows("SELECT count(*) FROM learning_applications WHERE agent_name = 'intake'") == [(4,)]
