from pathlib import Path
from typing import Any

import pytest

from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.published_reviewers import VERSIONS_KEPT
from feedback_pipeline_tests.passes import Pass

pytestmark = pytest.mark.slow

_SOMEBODY = "(SELECT min(reviewer_id) FROM review_feedback)"


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Pass:
    write_world(database, simulate(WorldSpec(agents=2, executions=60, reviewers=6, seed=3, days=10)))
    installation = Pass.at(database, tmp_path)
    installation.learn()
    return installation


def rows(shop: Pass, query: str) -> list[tuple[Any, ...]]:
    with shop.database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def change(shop: Pass, statement: str) -> None:
    with shop.database.connect() as connection:
        connection.execute(statement.encode())


def test_all_that_is_learned_of_the_reviewers_belongs_to_one_run(shop: Pass) -> None:
    tables = ("human_preference_models", "reviewer_agreement", "reviewer_components", "reviewer_severity_months")
    for table in tables:
        assert rows(shop, f"SELECT learning_run_id FROM {table} GROUP BY 1") == rows(
            shop, "SELECT learning_run_id FROM learning_runs"
        )
    reviewers = rows(shop, "SELECT DISTINCT reviewer_id FROM review_feedback WHERE reviewer_id IS NOT NULL ORDER BY 1")
    models = rows(shop, "SELECT reviewer_id, model_version, superseded_by_run FROM human_preference_models ORDER BY 1")
    assert models == [(reviewer, 1, None) for (reviewer,) in reviewers]
    agents = rows(shop, "SELECT '*' UNION SELECT agent_name FROM agent_learning_state ORDER BY 1")
    assert rows(shop, "SELECT agent_name FROM reviewer_agreement GROUP BY 1 ORDER BY 1") == agents


def test_a_changed_review_makes_a_new_version_of_its_reviewer_alone(shop: Pass) -> None:
    before = dict(rows(shop, "SELECT reviewer_id, severity ->> 'overall' FROM human_preference_models"))
    change(
        shop,
        "UPDATE review_feedback SET decision = CASE decision WHEN 'approve' THEN 'reject' ELSE 'approve' END::review_decision,"
        f' quality_scores = \'{{"clarity": {{"score": 1}}}}\' WHERE reviewer_id = {_SOMEBODY}',
    )
    shop.learn()
    found = rows(
        shop,
        "SELECT reviewer_id, model_version, severity ->> 'overall', superseded_by_run IS NULL, superseded_reason"
        " FROM human_preference_models ORDER BY 1, 2",
    )
    first = min(before)
    assert [(row[1], row[3], row[4]) for row in found if row[0] == first] == [(1, False, "a newer version"), (2, True, None)]
    others = [row for row in found if row[0] != first]
    assert [(row[0], row[1], row[3]) for row in others] == [(name, 1, True) for name in sorted(before)[1:]]
    # Severity is relative: the others' current version says what is known now.
    assert all(row[2] != before[row[0]] for row in others)
    assert rows(shop, "SELECT count(DISTINCT learning_run_id) FROM human_preference_models WHERE superseded_by_run IS NULL") == [
        (1,)
    ]


def test_the_last_ten_versions_are_kept(shop: Pass) -> None:
    for score in range(VERSIONS_KEPT + 1):
        change(
            shop,
            f'UPDATE review_feedback SET quality_scores = \'{{"clarity": {{"score": {score / 2}}}}}\''
            f" WHERE id = (SELECT min(id::text)::uuid FROM review_feedback WHERE reviewer_id = {_SOMEBODY})",
        )
        shop.learn()
    versions = f"SELECT model_version FROM human_preference_models WHERE reviewer_id = {_SOMEBODY} ORDER BY 1"
    assert [version for (version,) in rows(shop, versions)] == list(range(3, VERSIONS_KEPT + 3))
    assert rows(shop, "SELECT count(*) FROM human_preference_models WHERE superseded_by_run IS NULL") == [(6,)]


def test_a_reviewer_without_reviews_is_superseded_and_comes_back_as_they_were(shop: Pass) -> None:
    change(shop, f"UPDATE review_feedback SET is_training_data = false WHERE reviewer_id = {_SOMEBODY}")
    shop.learn()
    state = f"SELECT model_version, superseded_reason FROM human_preference_models WHERE reviewer_id = {_SOMEBODY} ORDER BY 1"
    assert rows(shop, state) == [(1, "no reviews in the window")]
    assert rows(shop, f"SELECT count(*) FROM reviewer_components WHERE reviewer_id = {_SOMEBODY}") == [(0,)]
    change(shop, "UPDATE review_feedback SET is_training_data = true")
    shop.learn()
    assert rows(shop, state) == [(1, None)]


def test_models_of_the_original_table_are_followed_by_the_next_version(database: Database, tmp_path: Path) -> None:
    write_world(database, simulate(WorldSpec(agents=1, executions=30, reviewers=3, seed=3, days=10)))
    shop = Pass.at(database, tmp_path)
    change(
        shop,
        "INSERT INTO human_preference_models (reviewer_id, content_preferences, model_version, training_samples, model_accuracy)"
        f' SELECT {_SOMEBODY}, \'{{"preferred_tone": "warm"}}\', 4, 12, 0.9',
    )
    shop.learn()
    found = rows(
        shop,
        "SELECT model_version, superseded_reason, content_preferences ->> 'preferred_tone' = 'warm' IS TRUE"
        f" FROM human_preference_models WHERE reviewer_id = {_SOMEBODY} ORDER BY 1",
    )
    assert [row[:2] for row in found] == [(4, "a newer version"), (5, None)]
    assert found[0][2]
