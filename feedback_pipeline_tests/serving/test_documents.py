"""What is read is what the command line shows, with its provenance; a walk through the pages meets everything once."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.serving.connections import Connections, OneSnapshot
from feedback_pipeline.serving.pages import page
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.past_forecasts import read_auto_approval
from feedback_pipeline.storage.queue_draws import draw_queue
from feedback_pipeline.storage.reading import read_findings, read_status
from feedback_pipeline.storage.reading_effects import read_effects
from feedback_pipeline.storage.reading_forecasts import read_forecasts
from feedback_pipeline.storage.reading_patterns import read_improvements, read_patterns
from feedback_pipeline.storage.reading_reviewers import read_agreement, read_reviewers
from feedback_pipeline.storage.reading_strategy import read_strategy
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld

pytestmark = WHOLE_ROOM

Read = Callable[[LearnedWorld, str], Any]
SAME: dict[str, Read] = {
    "agents/{}/improvements": lambda world, agent: read_improvements(world.database, agent),
    "agents/{}/patterns?limit=1000": lambda world, agent: read_patterns(world.database, agent),
    "agents/*/patterns?limit=1000": lambda world, _: read_patterns(world.database, "*"),
    "correlations/{}?all=true&limit=1000": lambda world, agent: read_findings(world.database, agent, unpublished=True),
    "correlations/*": lambda world, _: read_findings(world.database, "*"),
    "strategy/{}": lambda world, agent: read_strategy(world.database, agent),
    "agreement": lambda world, _: read_agreement(world.database),
    "agreement?agent={}": lambda world, agent: read_agreement(world.database, agent),
    "effectiveness": lambda world, _: read_effects(world.database),
    "forecasts?agent={}&limit=1000": lambda world, agent: read_forecasts(world.database, agent),
    "queue?limit=4": lambda world, _: draw_queue(world.database, world.settings.seed, 4, datetime.now(UTC).date()),
    "autoapproval": lambda world, _: read_auto_approval(world.database, world.settings),
    "reviewers": lambda world, _: {"reviewers": read_reviewers(world.database)},
    "reviewers/R2": lambda world, _: read_reviewers(world.database, "R2")[0],
}
LISTS = {
    "agents": "agents",
    "agents/*/patterns": "patterns",
    "correlations/{}?all=true": "findings",
    "reviewers": "reviewers",
    "effectiveness": "trials",
    "forecasts": "forecasts",
    "feedback/analytics": "weeks",
    "runs": "runs",
}


@pytest.fixture(scope="module", autouse=True)
def _trials_and_runs(learned_world: LearnedWorld, agent: str) -> None:
    """Three trials of two recommendations, and a learning run before the last."""
    with learned_world.database.connect() as connection:
        for pattern, trial, state in (("p", 1, "retired"), ("p", 2, "probation"), ("q", 1, "active")):
            connection.execute(
                "INSERT INTO pattern_effects (pattern_id, trial, agent_name, state, p_on, target, reason, since, started_at)"
                " VALUES (%s, %s, %s, %s, %s, '{}', 'because', now(), now())",
                (pattern, trial, agent, state, 0 if state == "retired" else 0.5),
            )
        connection.execute(
            "INSERT INTO learning_runs SELECT (json_populate_record(r, %s)).* FROM learning_runs r",
            [f'{{"learning_run_id": "{uuid.uuid4()}", "published_at": "2020-01-01T00:00:00Z"}}'],
        )


@pytest.mark.parametrize("path", SAME)
def test_a_document_is_that_of_the_command_line_and_says_what_it_rests_on(
    api: TestClient, learned_world: LearnedWorld, agent: str, path: str
) -> None:
    answer = api.get(f"{PREFIX}/{path.format(agent)}")
    assert answer.status_code == 200
    document = answer.json()
    expected = SAME[path](learned_world, agent)
    assert document.pop("next", None) is None
    ((run, n_reviews, n_contents, published),) = learned_world.rows(
        "SELECT learning_run_id::text, n_reviews, n_contents, published_at FROM learning_runs ORDER BY published_at DESC LIMIT 1"
    )
    provenance = document.pop("provenance")
    assert provenance == {
        "learning_run_id": run,
        "window": {"first": None, "last": provenance["window"]["last"], "lookback_days": None},
        "n_reviews": n_reviews,
        "n_contents": n_contents,
        "computed_at": published.isoformat(),
    }
    assert document == _as_json(expected)


def test_the_agents_are_those_of_status(api: TestClient, learned_world: LearnedWorld) -> None:
    document = api.get(f"{PREFIX}/agents").json()
    expected = _as_json(read_status(learned_world.database))
    assert {key: document[key] for key in ("agents", "last_run", "champion")} == {
        key: expected[key] for key in ("agents", "last_run", "champion")
    }


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("path", LISTS)
def test_a_walk_meets_everything_once_in_the_order_of_the_whole(api: TestClient, agent: str, path: str, size: int) -> None:
    address, name = f"{PREFIX}/{path.format(agent)}", LISTS[path]
    address += "&" if "?" in address else "?"
    whole = api.get(f"{address}limit=1000").json()[name]
    assert len(whole) > 1
    size *= max(1, len(whole) // 12)
    met, cursor = [], ""
    for _ in range(len(whole) + 1):
        part = api.get(f"{address}limit={size}{cursor}").json()
        assert 0 < len(part[name]) <= size
        met += part[name]
        if part["next"] is None:
            break
        cursor = f"&cursor={part['next']}"
    assert met == whole


def test_a_walk_meets_everything_whatever_order_the_database_has() -> None:
    names = ["zebra", "Ägypten", "apple", "Banana", "a new one"]
    met, cursor = [], None
    for _ in names:
        part = page([{"name": name} for name in names], lambda item: (item["name"],), 1, cursor)
        met += [item["name"] for item in part["items"]]
        cursor = part["next"]
    assert (met, cursor) == (sorted(names), None)


def test_an_item_that_is_gone_does_not_disturb_a_walk(api: TestClient, learned_world: LearnedWorld) -> None:
    first = api.get(f"{PREFIX}/effectiveness?limit=1").json()
    assert [trial["trial"] for trial in first["trials"]] == [2]
    with learned_world.database.connect() as connection:
        connection.execute("DELETE FROM pattern_effects WHERE pattern_id = 'p' AND trial = 2")
    rest = api.get(f"{PREFIX}/effectiveness?cursor={first['next']}").json()
    assert [(trial["pattern_id"], trial["trial"]) for trial in rest["trials"]] == [("p", 1), ("q", 1)]


def test_the_cursor_of_another_list_is_refused(api: TestClient) -> None:
    cursor = api.get(f"{PREFIX}/reviewers?limit=1").json()["next"]
    for path in ("agents", "runs"):
        assert api.get(f"{PREFIX}/{path}?cursor={cursor}").status_code == 400


def test_analytics_counts_the_reviews_of_every_agent_and_week(api: TestClient, learned_world: LearnedWorld, agent: str) -> None:
    weeks = api.get(f"{PREFIX}/feedback/analytics?limit=1000").json()["weeks"]
    expected = learned_world.rows(
        "SELECT agent_name, date_trunc('week', reviewed_at AT TIME ZONE 'UTC')::date::text, count(*) FROM ("
        "SELECT DISTINCT ON (p.agent_name, p.execution_id, reviewer_id, stage) p.agent_name, reviewed_at FROM review_feedback r"
        " JOIN content_review_workflows w ON w.id = r.workflow_id"
        " JOIN agent_performance p ON p.execution_id = w.workflow_execution_id"
        " ORDER BY p.agent_name, p.execution_id, reviewer_id, stage, reviewed_at DESC) AS latest GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert [(row["agent_name"], row["week"], row["reviews"]) for row in weeks] == expected
    for name, n in learned_world.rows("SELECT agent_name, n_contents FROM agent_learning_state"):
        own = [row for row in weeks if row["agent_name"] == name]
        assert sum(row["outputs"] for row in own) == n
        assert all(row["approval_rate"] == row["approved"] / row["decided"] for row in own)
    only = api.get(f"{PREFIX}/feedback/analytics?agent={agent}&weeks=1").json()
    assert {row["agent_name"] for row in only["weeks"]} == {agent}
    assert len(only["weeks"]) == 1
    assert {effect["agent_name"] for effect in only["effects"]} == {agent}
    assert api.get(f"{PREFIX}/feedback/analytics?agent=nobody").status_code == 404


def test_one_snapshot_is_of_one_moment(learned_world: LearnedWorld, api: TestClient, agent: str) -> None:
    """Two reads through it see the same, whatever is written in between."""
    connections = api.app.state.service.connections  # type: ignore[attr-defined]
    with connections.snapshot(published=True) as snapshot:
        assert isinstance(snapshot, OneSnapshot)
        before = read_improvements(snapshot, agent)
        with learned_world.database.connect() as connection:
            connection.execute("UPDATE agent_learning_patterns SET times_applied = 41 WHERE agent_name = %s", (agent,))
        assert read_improvements(snapshot, agent) == before
    assert read_improvements(learned_world.database, agent) != before


def test_what_is_published_is_read_with_the_rights_of_a_reader(api: TestClient) -> None:
    connections = api.app.state.service.connections  # type: ignore[attr-defined]
    with connections.snapshot(published=True) as snapshot:
        assert snapshot.connection.execute("SELECT current_user::text").fetchone() == ("feedback_reader",)
    with connections.snapshot() as snapshot:
        assert snapshot.connection.execute("SELECT current_user::text").fetchone() != ("feedback_reader",)
        assert snapshot.connection.execute("SHOW transaction_read_only").fetchone() == ("on",)


def _as_json(document: Any) -> Any:
    return json.loads(json.dumps(document))


def test_a_database_is_not_changed_by_being_wrapped(learned_world: LearnedWorld) -> None:
    connections = Connections(learned_world.database)
    connections.open()
    with connections.snapshot() as wrapped:
        assert wrapped.name == learned_world.database.name
        assert isinstance(wrapped, Database)
    connections.close()


def test_functions_that_open_connections_themselves_take_them_from_the_pools(learned_world: LearnedWorld) -> None:
    connections = Connections(learned_world.database)
    connections.open()
    try:
        with connections.snapshot() as snapshot, snapshot.connect() as writer:
            assert writer.execute("SHOW lock_timeout").fetchone() == ("5s",)
            assert writer is not snapshot.connection
        with connections.pooled.snapshot() as reader:
            assert reader.execute("SHOW statement_timeout").fetchone() == ("10s",)
            assert reader.execute("SHOW transaction_read_only").fetchone() == ("on",)
        with pytest.raises(ValueError, match="in a transaction"):
            connections.pooled.connect(autocommit=True)
    finally:
        connections.close()
