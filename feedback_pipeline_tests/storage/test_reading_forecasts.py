import json
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from psycopg.sql import SQL, Identifier

from feedback_pipeline.errors import UserError
from feedback_pipeline.learning.auto_approval import what_if
from feedback_pipeline.learning.review_queue import daily_seed, propensities
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.past_forecasts import PastForecasts, past_forecasts, read_auto_approval
from feedback_pipeline.storage.published_forecasts import write_model
from feedback_pipeline.storage.queue_draws import draw_queue
from feedback_pipeline.storage.reading import read_status
from feedback_pipeline.storage.reading_forecasts import LOWEST_APPROVAL, RANDOM, read_forecasts, read_queue
from feedback_pipeline_tests.storage.forecasts import START, champion_says, forecast, model
from feedback_pipeline_tests.storage.original_schema import VARIANTS, original_schema
from feedback_pipeline_tests.storage.random_sources import insert

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)
TODAY = date(2026, 1, 5)
BOUNDS = {"*": (0.0, 10.0)}


def as_json(document: object) -> Any:
    return json.loads(json.dumps(document, allow_nan=False))


def run(execution: str, agent: str = "writer", **changes: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "agent_name": agent, "execution_id": execution, "status": "success"} | changes


def produce(connection: Connection, *executions: str, agent: str = "writer") -> None:
    insert(connection, "agent_performance", [run(execution, agent) for execution in executions])


def review(connection: Connection, execution: str, at: datetime | None = START + HOUR, **changes: Any) -> None:
    """A workflow of the execution with one review."""
    keys = {"id": str(uuid.uuid4()), "workflow_execution_id": execution, "content_id": changes.pop("content_id", None)}
    insert(connection, "content_review_workflows", [keys])
    row = {"id": str(uuid.uuid4()), "workflow_id": keys["id"], "decision": "approve", "reviewer_id": "ann", "reviewed_at": at}
    insert(connection, "review_feedback", [row | changes])


def executions(document: dict[str, Any], key: str = "forecasts") -> list[str]:
    return [row["execution_id"] for row in document[key]]


READERS: list[Callable[[Database], Any]] = [
    read_forecasts,
    lambda database: read_queue(database, 1, 20),
    lambda database: read_auto_approval(database, Settings()),
]


@pytest.mark.parametrize("read", READERS)
def test_without_a_champion_the_next_step_is_named(database: Database, read: Callable[[Database], Any]) -> None:
    with pytest.raises(UserError, match=r"no champion yet.*feedback-pipeline learn --all"):
        read(database)
    assert read_status(database)["champion"] is None


def test_the_champion_of_the_status(database: Database) -> None:
    with database.connect() as connection:
        champion_says(connection, [], 1)
        champion_says(connection, [], 2, START + HOUR, candidate="stack", mlflow_run_id=None, metrics={"r2": np.nan, "n": 3})
    expected = {"model_version": 2, "candidate": "stack", "since": "2026-03-01T01:00:00+00:00", "mlflow_run_id": None}
    assert read_status(database)["champion"] == expected | {"metrics": {"r2": None, "n": 3}}
    assert read_forecasts(database)["champion"] == read_status(database)["champion"]


def test_forecasts_of_outputs_without_a_review_least_likely_first(database: Database) -> None:
    with database.connect() as connection:
        produce(connection, "a", "b", "c", "d", "e")
        said = [forecast("a", p_approve=0.9), forecast("b", p_approve=0.1), forecast("c", p_approve=0.5), forecast("d")]
        thin: dict[str, Any] = {"score": None, "low": None, "high": None, "p_approve": None, "abstain": True, "reason": "thin"}
        champion_says(connection, [*said, forecast("e", **thin)])
        review(connection, "d")
        review(connection, "c", at=None)
    document = read_forecasts(database)
    assert executions(document) == ["b", "c", "a", "e"]
    assert document["forecasts"][0] == {
        **{"agent_name": "writer", "execution_id": "b", "reviewer_id": None, "score": 6.5, "low": 4.0, "high": 9.0},
        **{"p_approve": 0.1, "abstain": False, "reason": None, "model_version": 1, "made_at": START.isoformat()},
    }
    assert {name: document["forecasts"][3][name] for name in thin} == thin
    assert (document["agent_name"], document["execution_id"], document["reason"]) == (None, None, None)
    assert as_json(document) == document


def test_only_the_champion_is_heard(database: Database) -> None:
    with database.connect() as connection:
        produce(connection, "a", "b")
        champion_says(connection, [forecast("a", p_approve=0.2), forecast("b")])
        champion_says(connection, [forecast("a", p_approve=0.3)], 2, START + HOUR)
    found = read_forecasts(database)["forecasts"]
    assert [(row["model_version"], row["execution_id"], row["p_approve"]) for row in found] == [(2, "a", 0.3)]
    document = read_forecasts(database, execution_id="b")
    assert document["forecasts"] == []
    assert "model 2 has made no forecast" in document["reason"]


def test_by_agent_execution_and_reviewer(database: Database) -> None:
    with database.connect() as connection:
        produce(connection, "a", "b")
        produce(connection, "a", agent="editor")
        said = [forecast("a"), forecast("b"), forecast("a", "editor"), forecast("a", reviewer_id="ann", p_approve=0.2)]
        champion_says(connection, said)

    def found(*arguments: Any) -> list[tuple[str, str, str | None]]:
        rows = read_forecasts(database, *arguments)["forecasts"]
        return [(row["agent_name"], row["execution_id"], row["reviewer_id"]) for row in rows]

    assert found() == [("editor", "a", None), ("writer", "a", None), ("writer", "b", None)]
    assert found("writer") == [("writer", "a", None), ("writer", "b", None)]
    assert found("writer", "a") == [("writer", "a", None)]
    assert found(None, "a") == [("editor", "a", None), ("writer", "a", None)]
    assert found("writer", "a", ["ann"]) == [("writer", "a", "ann"), ("writer", "a", None)]
    assert read_forecasts(database, "writer", "a", ["ann"])["reason"] is None
    document = read_forecasts(database, "writer", "b", ["ann", "bob", "bob"])
    assert len(document["forecasts"]) == 1
    assert document["reason"] == "no forecast for ann, bob is stored"


def test_why_there_is_none(database: Database) -> None:
    with database.connect() as connection:
        insert(connection, "agent_performance", [run("read"), run("new"), run("failed", status="failed")])
        champion_says(connection, [forecast("read")])
        review(connection, "read")
    assert read_forecasts(database, execution_id="read")["reason"] == "it has been reviewed"
    assert "no forecast for it yet" in read_forecasts(database, "writer", "new")["reason"]
    assert "no forecast for it yet" in read_forecasts(database, "writer")["reason"]
    assert "no forecast for it yet" in read_queue(database, 1, 5)["reason"]
    for agent, execution in (("writer", "failed"), (None, "nothing"), ("editor", "new"), (None, "' or true --")):
        with pytest.raises(UserError, match="no successful run"):
            read_forecasts(database, agent, execution)
    with pytest.raises(UserError, match="no agent 'editor' has run"):
        read_forecasts(database, "editor")


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_types_of_keys(empty_database: Database, variant: str) -> None:
    execution = "bbbbbbbb-0000-0000-0000-000000000001"
    with empty_database.connect() as connection:
        connection.execute(original_schema(variant))
    migrate(empty_database)
    with empty_database.connect() as connection:
        champion_says(connection, [forecast(execution)], made_at=datetime(2024, 2, 29, tzinfo=UTC))
    assert read_forecasts(empty_database, "writer", execution)["reason"] == "it has been reviewed"
    with empty_database.snapshot() as connection:
        past = past_forecasts(connection, BOUNDS)
    assert past.execution_id.tolist() == [execution]
    assert past.approved.tolist() == [1.0]
    with empty_database.connect() as connection:
        connection.execute("DELETE FROM review_feedback")
    assert executions(read_forecasts(empty_database, execution_id=execution)) == [execution]
    with pytest.raises(UserError, match="no successful run"):
        read_forecasts(empty_database, execution_id="no uuid")


@pytest.fixture
def forty(database: Database) -> Database:
    """Outputs whose P(approve) rises with their number; the model abstains from the least likely one."""
    with database.connect() as connection:
        produce(connection, *(f"{i:02}" for i in range(40)))
        said = [forecast(f"{i:02}", p_approve=i / 40) for i in range(1, 40)]
        champion_says(connection, [*said, forecast("00", p_approve=0.0, abstain=True, reason="unlike anything seen")])
    return database


def test_the_queue_is_mostly_the_least_likely_and_partly_random(forty: Database) -> None:
    document = read_queue(forty, 3, 10)
    rows = document["queue"]
    assert (document["n_outputs"], document["random_share"], document["reason"]) == (40, 0.3, None)
    assert [row["place"] for row in rows] == list(range(1, 11))
    by_rule = [row["execution_id"] for row in rows if row["why"] == LOWEST_APPROVAL]
    assert [row["why"] for row in rows].count(RANDOM) >= 1
    assert by_rule == sorted(by_rule)
    assert len(by_rule) >= 6
    assert "00" not in by_rule
    # The rule's place of each output: those that abstain come last.
    expected = np.roll(propensities(40, 10), 1)
    assert [row["propensity"] for row in rows] == [expected[int(row["execution_id"])] for row in rows]
    assert as_json(document) == document
    assert read_queue(forty, 3, 10) == document
    assert executions(read_queue(forty, 3, 5), "queue") == executions(document, "queue")[:5]
    assert executions(read_queue(forty, 4, 10), "queue") != executions(document, "queue")


def test_a_queue_longer_than_the_outputs_holds_all_of_them(forty: Database) -> None:
    rows = read_queue(forty, 3, 500)["queue"]
    assert sorted(row["execution_id"] for row in rows) == [f"{i:02}" for i in range(40)]
    assert {row["propensity"] for row in rows} == {1.0}
    last = next(row for row in rows if row["execution_id"] == "00")
    assert (last["abstain"], last["reason"], last["why"]) == (True, "unlike anything seen", RANDOM)


def test_a_queue_that_was_shown_is_kept_once_with_its_propensities(forty: Database) -> None:
    document = draw_queue(forty, 3, 10, TODAY)
    assert draw_queue(forty, 3, 10, TODAY) == document
    others = [
        draw_queue(forty, 4, 10, TODAY),
        draw_queue(forty, 3, 10, TODAY + timedelta(days=1)),
        draw_queue(forty, 3, 5, TODAY),
    ]
    assert len({document["draw_id"], *(other["draw_id"] for other in others)}) == 4
    assert as_json(document) == document == {"draw_id": document["draw_id"]} | read_queue(forty, daily_seed(3, TODAY), 10)
    with forty.connect() as connection:
        kept = connection.execute(
            "SELECT place, agent_name, execution_id, why, propensity, p_approve, model_version, n_outputs, seed"
            " FROM queue_draws WHERE draw_id = %s ORDER BY place",
            [document["draw_id"]],
        ).fetchall()
        places = connection.execute("SELECT count(*) FROM queue_draws").fetchone()
    shown = ("place", "agent_name", "execution_id", "why", "propensity", "p_approve")
    assert kept == [(*(row[name] for name in shown), 1, 40, daily_seed(3, TODAY)) for row in document["queue"]]
    assert places == (35,)


def test_who_may_only_read_sees_the_queue_and_leaves_nothing(forty: Database) -> None:
    login = f"reads_{forty.name}"
    with forty.connect(autocommit=True) as connection:
        connection.execute(SQL("CREATE ROLE {} LOGIN IN ROLE feedback_reader").format(Identifier(login)))
    readers = forty.url.replace("//postgres@", f"//{login}@"), f"{forty.url}&options=-c%20default_transaction_read_only%3Don"
    try:
        for url in readers:
            document = draw_queue(Database(url), 3, 10, TODAY)
            assert document == {"draw_id": None} | read_queue(forty, daily_seed(3, TODAY), 10)
    finally:
        with forty.connect(autocommit=True) as connection:
            connection.execute(SQL("DROP ROLE {}").format(Identifier(login)))
    with forty.connect() as connection:
        assert connection.execute("SELECT count(*) FROM queue_draws").fetchone() == (0,)
        connection.execute("UPDATE agent_performance SET status = 'failed'")
        connection.execute("DELETE FROM quality_forecasts")
    nothing = draw_queue(forty, 3, 10, TODAY)
    assert (nothing["draw_id"], nothing["queue"]) == (None, [])


def past_of(database: Database, **arguments: Any) -> PastForecasts:
    with database.snapshot() as connection:
        return past_forecasts(connection, arguments.pop("bounds", BOUNDS), **arguments)


def scores(**aspects: float) -> str:
    return json.dumps({name: {"score": score} for name, score in aspects.items()})


def test_past_forecasts_beside_their_reviews(database: Database) -> None:
    moments = [START + i * HOUR for i in range(4)]
    with database.connect() as connection:
        produce(connection, "a", "b", "c")
        produce(connection, "a", agent="editor")
        said = [forecast("a", score=7.0), forecast("a", "editor", low=None, high=None, abstain=True, reason="thin")]
        champion_says(connection, [*said, forecast("b"), forecast("b", reviewer_id="ann", score=1.0), forecast("c")])
        content = str(uuid.UUID(int=5))
        review(connection, "a", moments[2], reviewer_id="bob", decision="reject", quality_scores=scores(x=4), content_id=content)
        review(connection, "a", moments[1], quality_scores=scores(x=6, y=9))
        review(connection, "a", moments[0], reviewer_id="cid", quality_scores=scores(x=1))  # when the forecast was made
        review(connection, "b", moments[3], reviewer_id=None, decision=None)
    past = past_of(database)
    assert list(zip(past.agent_name, past.execution_id, strict=True)) == [("editor", "a"), ("writer", "a"), ("writer", "b")]
    assert past.score.tolist() == [6.5, 7.0, 6.5]
    np.testing.assert_array_equal(past.low, [np.nan, 4.0, 4.0])
    np.testing.assert_array_equal(past.review_score, [7.5, 7.5, np.nan])
    np.testing.assert_array_equal(past.mean_score, [5.75, 5.75, np.nan])
    np.testing.assert_array_equal(past.approved, [0.0, 0.0, np.nan])  # a tie is none
    np.testing.assert_array_equal(past.relied_on, [np.nan, 0.6, 0.6])
    assert past.abstained.tolist() == [True, False, False]
    assert past.content[0] == past.content[1] != past.content[2]
    ns = [int(moment.timestamp()) * 10**9 for moment in moments]
    assert past.reviewed_at.tolist() == [ns[1], ns[1], ns[3]]
    assert past.made_at.tolist() == [ns[0]] * 3
    assert past.model_version.tolist() == [1, 1, 1]
    assert len(past) == 3


def test_reviews_are_those_that_are_learned_from(database: Database) -> None:
    with database.connect() as connection:
        produce(connection, "a", "b", "c")
        champion_says(connection, [forecast("a"), forecast("b"), forecast("c")])
        review(connection, "a", quality_scores=scores(x=2), decision="reject")
        # The same reviewer again counts for the first time.
        review(connection, "a", START + 2 * HOUR, quality_scores=scores(x=8, y=11))
        review(connection, "b", is_training_data=False)
        review(connection, "c", datetime(2999, 1, 1, tzinfo=UTC))
        connection.execute("INSERT INTO review_feedback (reviewed_at, decision) VALUES ('infinity', 'approve')")
    past = past_of(database)
    assert past.execution_id.tolist() == ["a"]
    assert (past.review_score.tolist(), past.approved.tolist()) == ([8.0], [1.0])
    # Of different scales each aspect is first brought to 0..10.
    assert past_of(database, bounds={"*": (0.0, 10.0), "y": (1.0, 21.0)}).review_score.tolist() == [6.5]


def test_the_first_forecast_of_the_champion_of_its_time(database: Database) -> None:
    with database.connect() as connection:
        produce(connection, "a", "b")
        champion_says(connection, [forecast("a", score=1.0)])
        champion_says(connection, [forecast("a", score=2.0), forecast("b", score=3.0)], 2, START + 2 * HOUR)
        write_model(connection, model(3))
        connection.execute(
            "INSERT INTO quality_forecasts (agent_name, execution_id, model_version, score, made_at) VALUES"
            # No longer champion, and never champion.
            " ('writer', 'b', 1, 9, '2026-03-01 02:00:00+00'), ('writer', 'a', 3, 9, '2026-02-28 00:00:00+00')"
        )
        review(connection, "a", START + 3 * HOUR)
        review(connection, "b", START + 3 * HOUR)
    past = past_of(database)
    assert list(zip(past.execution_id, past.model_version, past.score, strict=True)) == [("a", 1, 1.0), ("b", 2, 3.0)]


def test_only_reviews_since_a_day(database: Database) -> None:
    with database.connect() as connection:
        produce(connection, "a", "b")
        champion_says(connection, [forecast("a"), forecast("b")])
        review(connection, "a", quality_scores=scores(x=2))
        review(connection, "a", START + 24 * HOUR, reviewer_id="bob", quality_scores=scores(x=8))
        review(connection, "b")
    past = past_of(database, first=date(2026, 3, 2))
    assert (past.execution_id.tolist(), past.mean_score.tolist()) == (["a"], [8.0])
    assert past_of(database, first=date(2026, 3, 1)).mean_score.tolist()[0] == 5.0


def test_nothing_past(database: Database) -> None:
    past = past_of(database)
    assert len(past) == 0
    assert past.score.dtype == past.approved.dtype == past.review_score.dtype == np.float64
    with database.connect() as connection:
        produce(connection, "a")
        champion_says(connection, [forecast("a")])
    assert len(past_of(database)) == 0
    document = read_auto_approval(database, Settings())
    assert (document["n_outputs"], document["n_abstained"]) == (0, 0)
    assert [risk["alpha"] for risk in document["risks"]] == [0.02, 0.05, 0.10]
    assert {risk["reason"] for risk in document["risks"]} == {"0 decisions on earlier forecasts; a threshold needs 500"}
    assert {risk["threshold"] for risk in document["risks"]} == {None}
    assert as_json(document) == document


def test_what_could_be_spared_is_learned_from_the_past(database: Database) -> None:
    n = 900
    generator = np.random.default_rng(5)
    p = generator.uniform(size=n)
    approved = generator.uniform(size=n) < np.minimum(1.0, 1.6 * p)
    with database.connect() as connection:
        with connection.cursor().copy("COPY agent_performance (agent_name, execution_id) FROM STDIN") as copy:
            for i in range(n):
                copy.write_row(("writer", f"{i:04}"))
        abstain: dict[str, Any] = {"abstain": True, "reason": "thin"}
        said = [forecast(f"{i:04}", p_approve=float(p[i]), **(abstain if i < 100 else {})) for i in range(n)]
        champion_says(connection, said)
        connection.execute(
            "INSERT INTO content_review_workflows (workflow_execution_id) SELECT execution_id FROM agent_performance"
        )
        connection.execute(
            "INSERT INTO review_feedback (workflow_id, decision, reviewed_at) SELECT w.id, d.decision::review_decision, %s"
            " FROM content_review_workflows w JOIN unnest(%s::text[]) WITH ORDINALITY AS d (decision, number)"
            " ON d.number = w.workflow_execution_id::int + 1",
            (START + HOUR, ["approve" if yes else "reject" for yes in approved]),
        )
    document = read_auto_approval(database, Settings())
    assert (document["n_outputs"], document["n_abstained"]) == (n, 100)
    for risk, expected in zip(document["risks"], what_if(p[100:], approved[100:].astype(np.float64)), strict=True):
        assert risk["n"] == 800
        assert risk["spared"] == expected.spared
        assert risk["upper"] == (None if np.isnan(expected.upper) else expected.upper)
    assert document["risks"][2]["spared"] > 0.1
    assert "10 %" in document["audit_rule"]
    assert "counts 10 times" in document["audit_rule"]
    assert as_json(document) == document
