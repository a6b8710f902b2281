"""Agents ask for their improvements all the time: what has not changed is not sent again, what has is never kept back."""

from itertools import pairwise

from fastapi.testclient import TestClient

from feedback_pipeline.schemas.improvements import Improvements
from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld

pytestmark = WHOLE_ROOM

CHANGES = (
    "UPDATE agent_learning_patterns SET times_applied = coalesce(times_applied, 0) + 1 WHERE agent_name = %s",
    "UPDATE agent_learning_state SET computed_at = now() WHERE agent_name = %s",
    "INSERT INTO pattern_effects (pattern_id, trial, agent_name, state, p_on, target, reason, since, started_at)"
    " VALUES ('tag', 1, %s, 'probation', .5, '{}', 'because', now(), now())",
    "UPDATE pattern_effects SET computed_at = now() WHERE agent_name = %s",
    "DELETE FROM pattern_effects WHERE pattern_id = 'tag' AND agent_name = %s",
)


def test_what_has_not_changed_is_not_sent_again(api: TestClient, agent: str) -> None:
    address = f"{PREFIX}/agents/{agent}/improvements"
    first = api.get(address)
    again = api.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    for tags in (f'"x", W/{first.headers["etag"]}', "*"):
        assert api.get(address, headers={"If-None-Match": tags}).status_code == 304
    other = api.get(address, headers={"If-None-Match": '"x"'})
    assert (other.status_code, other.content) == (200, first.content)
    Improvements.model_validate(first.json())


def test_every_change_of_what_it_is_read_from_changes_the_tag(api: TestClient, learned_world: LearnedWorld, agent: str) -> None:
    address = f"{PREFIX}/agents/{agent}/improvements"
    tags = [api.get(address).headers["etag"]]
    for change in CHANGES:
        with learned_world.database.connect() as connection:
            assert connection.execute(change.encode(), (agent,)).rowcount
        answer = api.get(address, headers={"If-None-Match": tags[-1]})
        assert answer.status_code == 200
        tags.append(answer.headers["etag"])
    # A row that came and went leaves what there was before, and so the tag of that.
    assert all(tag != following for tag, following in pairwise(tags))
    applied = {pattern["applied_count"] for pattern in api.get(address).json()["patterns"]}
    assert applied
    assert 0 not in applied


def test_a_change_that_is_committed_out_of_order_is_seen(api: TestClient, learned_world: LearnedWorld, agent: str) -> None:
    """The older transaction commits last: the newest row is still the same one."""
    address = f"{PREFIX}/agents/{agent}/improvements"
    change = CHANGES[0].encode() + b" AND id = %s"
    ids = learned_world.rows("SELECT id FROM agent_learning_patterns WHERE agent_name = %s ORDER BY id LIMIT 2", agent)
    with learned_world.database.connect() as older, learned_world.database.connect() as younger:
        older.execute(change, (agent, *ids[0]))
        younger.execute(change, (agent, *ids[1]))
        younger.commit()
        tag = api.get(address).headers["etag"]
        older.commit()
        assert api.get(address).headers["etag"] != tag


def test_the_agents_of_one_service_are_kept_apart(api: TestClient) -> None:
    names = [row["agent_name"] for row in api.get(f"{PREFIX}/agents").json()["agents"]]
    answers = {name: api.get(f"{PREFIX}/agents/{name}/improvements") for name in names[:3]}
    assert all(answer.json()["agent_name"] == name for name, answer in answers.items())
    assert len({answer.headers["etag"] for answer in answers.values()}) == len(answers)
