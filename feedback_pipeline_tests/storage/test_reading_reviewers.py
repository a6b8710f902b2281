import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.simulation.spec import ASPECTS, WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.reading_reviewers import read_agreement, read_reviewers
from feedback_pipeline_tests.passes import Pass

pytestmark = pytest.mark.slow

HOSTILE = "\x1b[31m[bold]a'b\"%s\n"
_REVIEWED = (
    "review_feedback f JOIN content_review_workflows w ON w.id = f.workflow_id"
    " JOIN agent_performance p ON p.execution_id = w.workflow_execution_id"
)
# The drafter's reviewers see nothing else, and one person has reviewed one output that nobody else has.
_APART = (
    "UPDATE review_feedback SET reviewer_id = 'b.' || reviewer_id WHERE id IN"
    f" (SELECT f.id FROM {_REVIEWED} WHERE p.agent_name = 'drafter')",
    "UPDATE review_feedback SET reviewer_id = 'loner' WHERE id = (SELECT min(f.id::text)::uuid FROM review_feedback f"
    " WHERE f.reviewer_id NOT LIKE 'b.%' AND (SELECT count(*) FROM review_feedback o WHERE o.workflow_id = f.workflow_id) = 1)",
)


@pytest.fixture(scope="module")
def learned(make_database: Callable[[str], Database], migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Pass:
    """Two groups of reviewers who share no output, a third of one person, and a name that could break a terminal."""
    database = make_database(migrated_template)
    write_world(database, simulate(WorldSpec(agents=3, executions=60, reviewers=8, seed=5, days=40)))
    with database.connect() as connection:
        for statement in _APART:
            connection.execute(statement.encode())
        connection.execute(
            "UPDATE review_feedback SET reviewer_id = %s WHERE reviewer_id ="
            " (SELECT max(reviewer_id) FROM review_feedback WHERE reviewer_id NOT LIKE 'b.%%' AND reviewer_id <> 'loner')",
            (HOSTILE,),
        )
        connection.execute(
            "UPDATE review_feedback SET reviewer_id = NULL WHERE id = (SELECT min(id::text)::uuid FROM review_feedback"
            " WHERE reviewer_id LIKE 'b.%')"
        )
    shop = Pass.at(database, tmp_path_factory.mktemp("learned"))
    shop.learn()
    return shop


def test_labels_are_those_of_the_pictures_and_name_a_reviewer(learned: Pass) -> None:
    everybody = read_reviewers(learned.database)
    by_id = sorted(everybody, key=lambda model: model["reviewer_id"])
    assert [model["label"] for model in by_id] == [f"R{number}" for number in range(1, len(by_id) + 1)]
    for model in everybody:
        assert (
            read_reviewers(learned.database, model["label"]) == read_reviewers(learned.database, model["reviewer_id"]) == [model]
        )
    with pytest.raises(UserError, match="no reviewer 'R0'"):
        read_reviewers(learned.database, "R0")


@pytest.fixture
def shop(learned: Pass, make_database: Callable[[str], Database]) -> Pass:
    """A copy that may be changed."""
    return replace(learned, database=make_database(learned.database.name))


def rows(shop: Pass, query: str) -> list[tuple[Any, ...]]:
    with shop.database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def change(shop: Pass, *statements: str) -> None:
    with shop.database.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def groups(pairs: Iterable[tuple[str, str]]) -> set[frozenset[str]]:
    """Reviewers who share outputs, directly or through others."""
    found: list[tuple[set[str], set[str]]] = []
    for reviewer, output in pairs:
        touched = [group for group in found if reviewer in group[0] or output in group[1]]
        found = [group for group in found if group not in touched]
        found.append(({reviewer}.union(*(g[0] for g in touched)), {output}.union(*(g[1] for g in touched))))
    return {frozenset(group[0]) for group in found}


def test_every_reviewer_is_listed_strictest_first_with_their_own_reviews(learned: Pass) -> None:
    found = read_reviewers(learned.database)
    # Two reviews of one person of one output at one stage are one review.
    counted = rows(
        learned,
        f"SELECT f.reviewer_id, count(DISTINCT (p.agent_name, p.execution_id, f.stage)) FROM {_REVIEWED}"
        " WHERE f.reviewer_id IS NOT NULL GROUP BY 1",
    )
    assert {reviewer["reviewer_id"]: reviewer["n_reviews"] for reviewer in found} == dict(counted)
    order = [(reviewer["severity"]["overall"], reviewer["reviewer_id"]) for reviewer in found]
    assert order == sorted(order)
    assert {reviewer["model_version"] for reviewer in found} == {1}
    ((run,),) = rows(learned, "SELECT learning_run_id::text FROM learning_runs")
    assert {reviewer["learning_run_id"] for reviewer in found} == {run}


def test_documents_hold_every_aspect_and_months_count_every_scored_output(learned: Pass) -> None:
    found = read_reviewers(learned.database)
    for reviewer in found:
        assert set(reviewer["severity"]["aspects"]) == set(ASPECTS)
        assert set(reviewer["quality_standards"]) == {*ASPECTS, "overall"}
        months = reviewer["severity"]["months"]
        assert [month["month"] for month in months] == sorted({month["month"] for month in months})
        assert sum(month["n_reviews"] for month in months) == reviewer["n_reviews"]
        assert all((month["severity"] is None) == (month["reason"] is not None) for month in months)
        assert (reviewer["model_accuracy"] is None) == (reviewer["n_test"] == 0) == (reviewer["reason"] is not None)
    json.dumps(found, allow_nan=False)
    json.dumps(read_agreement(learned.database), allow_nan=False)


def test_one_reviewer_is_read_as_in_the_list_whatever_the_name(learned: Pass) -> None:
    everybody = {reviewer["reviewer_id"]: reviewer for reviewer in read_reviewers(learned.database)}
    assert {HOSTILE, "loner"} < set(everybody)
    for name in (HOSTILE, "loner", min(everybody)):
        assert read_reviewers(learned.database, name) == [everybody[name]]


@pytest.mark.parametrize("name", ["nobody", "", "%", "no\nbody"])
def test_an_unknown_reviewer_is_one_line_that_says_what_to_do(learned: Pass, name: str) -> None:
    with pytest.raises(UserError, match="`feedback-pipeline reviewers --json` lists everybody") as error:
        read_reviewers(learned.database, name)
    assert "\n" not in str(error.value)


def test_a_reviewer_who_left_the_window_is_told_from_an_unknown_one(shop: Pass) -> None:
    change(shop, "UPDATE human_preference_models SET superseded_by_run = learning_run_id WHERE reviewer_id = 'loner'")
    with pytest.raises(UserError, match="learn --lookback DAYS"):
        read_reviewers(shop.database, "loner")
    assert "loner" not in {reviewer["reviewer_id"] for reviewer in read_reviewers(shop.database)}


def test_versions_of_the_past_and_rows_of_others_are_not_read(shop: Pass) -> None:
    copied = "reviewer_id, severity, content_preferences, style_preferences, quality_standards, training_samples"
    change(
        shop,
        f"INSERT INTO human_preference_models ({copied}, model_version, superseded_by_run, learning_run_id)"
        f" SELECT {copied}, 7, learning_run_id, learning_run_id FROM human_preference_models",
        "INSERT INTO human_preference_models (reviewer_id, model_version) VALUES ('theirs', 1), ('loner', 9)",
    )
    found = read_reviewers(shop.database)
    assert {reviewer["model_version"] for reviewer in found} == {1}
    assert "theirs" not in {reviewer["reviewer_id"] for reviewer in found}


def test_without_a_severity_reviewers_come_last_by_name(shop: Pass) -> None:
    change(
        shop,
        "UPDATE human_preference_models SET severity = jsonb_set(severity, '{overall}', 'null') WHERE reviewer_id LIKE 'b.%'",
    )
    found = [reviewer["reviewer_id"] for reviewer in read_reviewers(shop.database)]
    last = sorted(name for name in found if name.startswith("b."))
    assert found[-len(last) :] == last


def test_nothing_learned_says_what_to_do(database: Database) -> None:
    for read in (read_reviewers, read_agreement):
        with pytest.raises(UserError, match="nothing has been learned yet; run `feedback-pipeline learn --all`"):
            read(database)


def test_a_run_from_before_there_were_reviewers_says_what_to_do(shop: Pass) -> None:
    change(shop, "DELETE FROM reviewer_agreement", "DELETE FROM human_preference_models")
    for read in (read_reviewers, read_agreement):
        with pytest.raises(UserError, match="older than what is learned of reviewers; run `feedback-pipeline learn`"):
            read(shop.database)


def test_components_are_the_groups_that_share_outputs_and_bridges_connect_them(learned: Pass) -> None:
    pairs = rows(learned, f"SELECT DISTINCT f.reviewer_id, p.agent_name || '/' || p.execution_id FROM {_REVIEWED}")
    known = [pair for pair in pairs if pair[0] is not None]
    found = read_agreement(learned.database)
    assert {frozenset(members) for members in found["components"]} == groups(known)
    sizes = [len(members) for members in found["components"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    assert all(members == sorted(members) for members in found["components"])
    assert [bridge["component"] for bridge in found["bridges"]] == [1, 2]
    for bridge in found["bridges"]:
        assert bridge["reviewer_id"] in found["components"][bridge["component"]]
    added = [(bridge["reviewer_id"], f"{bridge['agent_name']}/{bridge['execution_id']}") for bridge in found["bridges"]]
    assert len(groups([*known, *added])) == 1


def test_agreement_is_of_the_agent_asked_for_and_components_are_of_everybody(learned: Pass) -> None:
    everybody, drafter = read_agreement(learned.database), read_agreement(learned.database, "drafter")
    assert (everybody["agent_name"], drafter["agent_name"]) == ("*", "drafter")
    for document in (everybody, drafter):
        assert [row["aspect"] for row in document["aspects"]] == [*sorted(ASPECTS), "overall", "decision"]
        assert document["reason"] is None
    ((n_everybody, n_drafter),) = rows(
        learned,
        "SELECT count(*), count(*) FILTER (WHERE agent_name = 'drafter') FROM (SELECT p.agent_name, p.execution_id"
        f" FROM {_REVIEWED} GROUP BY 1, 2 HAVING count(DISTINCT f.reviewer_id) > 1) shared",
    )
    overall = [next(row for row in document["aspects"] if row["aspect"] == "overall") for document in (everybody, drafter)]
    assert [row["n_outputs"] for row in overall] == [n_everybody, n_drafter]
    assert overall[0]["alpha"] != overall[1]["alpha"]
    assert everybody["components"] == drafter["components"]
    assert everybody["bridges"] == drafter["bridges"]
    ((run,),) = rows(learned, "SELECT learning_run_id::text FROM learning_runs")
    assert {everybody["learning_run_id"], drafter["learning_run_id"]} == {run}


def test_an_unknown_agent_is_named_and_one_without_reviews_has_a_reason(shop: Pass) -> None:
    with pytest.raises(UserError, match=r"known agents: .*drafter"):
        read_agreement(shop.database, "nobody")
    change(
        shop,
        "DELETE FROM reviewer_agreement WHERE agent_name = 'drafter'",
        "UPDATE agent_learning_state SET status = 'insufficient_data', reason = 'no reviews in the window'"
        " WHERE agent_name = 'drafter'",
    )
    found = read_agreement(shop.database, "drafter")
    assert (found["aspects"], found["reason"]) == ([], "no reviews in the window")


@pytest.mark.parametrize(
    ("read", "table"), [(read_reviewers, "reviewer_severity_months"), (read_agreement, "reviewer_components")]
)
def test_an_answer_is_of_one_moment(shop: Pass, read: Callable[[Database], Any], table: str) -> None:
    """What is published while an answer is being read is not part of it."""
    before = read(shop.database)
    with ThreadPoolExecutor(1) as pool, shop.database.connect() as writer:
        writer.execute(f"LOCK TABLE {table}".encode())
        answer = pool.submit(read, shop.database)
        deadline = time.monotonic() + 30
        while not writer.execute("SELECT FROM pg_locks WHERE NOT granted AND relation = %s::regclass", (table,)).fetchall():
            assert time.monotonic() < deadline
        writer.execute(f"DELETE FROM {table}".encode())
        writer.commit()
        assert answer.result() == before
    assert read(shop.database) != before
