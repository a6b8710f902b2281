from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from feedback_pipeline.errors import StoreError
from feedback_pipeline.learning.pattern_frame import CORRELATION_PATTERN
from feedback_pipeline.learning_pass.correlations import learn_correlations
from feedback_pipeline.learning_pass.publication import publish
from feedback_pipeline.learning_pass.reviewers import learn_preference_models
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.installation import read_installation, set_lookback
from feedback_pipeline.storage.publication import _delete_changes
from feedback_pipeline.storage.reading import read_findings, read_status
from feedback_pipeline_tests.passes import NOW, Pass

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Pass:
    write_world(database, simulate(WorldSpec(agents=3, executions=120, reviewers=12, seed=2, days=20)))
    installation = Pass.at(database, tmp_path)
    installation.learn()
    return installation


def rows(shop: Pass, query: str) -> list[tuple[object, ...]]:
    with shop.database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def test_published_rows_share_one_run_and_patterns_carry_their_evidence(shop: Pass) -> None:
    tables = ("agent_learning_state", "feedback_quality_correlations", "agent_recommendations", "content_segments")
    runs = rows(
        shop,
        " UNION ".join(f"SELECT learning_run_id FROM {table}" for table in (*tables, "content_allocations"))
        + " UNION SELECT learning_run_id FROM agent_learning_patterns WHERE superseded_by_run IS NULL",
    )
    assert runs == rows(shop, "SELECT learning_run_id FROM learning_runs")
    patterns = rows(
        shop,
        "SELECT agent_name, input_features, output_characteristics, human_feedback_signals, confidence_score, sample_size,"
        " cardinality(learned_from_feedback_ids), times_applied, success_rate, pattern_description, pattern_type"
        " FROM agent_learning_patterns WHERE published",
    )
    assert len({row[-1] for row in patterns}) > 2
    for agent, inputs, outputs, signals, confidence, size, evidence, applied, success, description, kind in patterns:
        if kind == CORRELATION_PATTERN:
            assert description == f"{inputs['feature']} | correlation | aspect={signals['feedback_category']}"  # type: ignore[index]
            assert -1 <= outputs["correlation"] <= 1  # type: ignore[index]
        else:
            assert {"effect", "se", "ci", "unit", "direction", "p_value", "q_value"} <= set(outputs)  # type: ignore[call-overload]
        assert 0 <= confidence <= 1  # type: ignore[operator]
        assert size >= 20  # type: ignore[operator]
        assert evidence == (None if agent == "*" else 100)
        assert (applied, success) == (0, None)


def test_counters_survive_relearning_and_what_is_not_found_again_is_superseded(shop: Pass) -> None:
    with shop.database.connect() as connection:
        connection.execute("UPDATE agent_learning_patterns SET times_applied = 7, success_rate = 0.5")
        connection.execute(
            "UPDATE review_feedback SET quality_scores = '{}', feedback_categories = '{}' WHERE reviewer_id IS NOT NULL"
        )
    before = set(rows(shop, "SELECT id FROM agent_learning_patterns"))
    shop.learn()
    assert set(rows(shop, "SELECT id FROM agent_learning_patterns")) >= before
    live, counted = rows(
        shop,
        "SELECT count(*) FILTER (WHERE superseded_by_run IS NULL AND pattern_type = 'correlation_pattern'),"
        " count(*) FILTER (WHERE times_applied = 7 AND success_rate = 0.5) FROM agent_learning_patterns",
    )[0]
    assert (live, counted) == (0, len(before))
    reasons = (
        "SELECT DISTINCT agent_name = '*', superseded_reason FROM agent_learning_patterns"
        " WHERE pattern_type = 'correlation_pattern' ORDER BY 1"
    )
    assert rows(shop, reasons) == [(False, "no scores, only decisions"), (True, "not found again")]
    assert read_findings(shop.database, "drafter")["parts"]["correlations"]["reason"] == "no scores, only decisions"


def test_a_pattern_found_again_comes_back_with_its_counters(shop: Pass) -> None:
    with shop.database.connect() as connection:
        connection.execute(
            "UPDATE agent_learning_patterns SET times_applied = 3, superseded_by_run = learning_run_id, superseded_reason = 'x'"
        )
    shop.learn()
    assert rows(shop, "SELECT DISTINCT times_applied, superseded_by_run, superseded_reason FROM agent_learning_patterns") == [
        (3, None, None)
    ]


def test_an_agent_that_leaves_the_window_is_superseded_with_that_reason(shop: Pass) -> None:
    with shop.database.connect() as connection:
        connection.execute("DELETE FROM agent_performance WHERE agent_name = 'drafter'")
    shop.learn()
    found = read_findings(shop.database, "drafter", unpublished=True)
    assert (found["status"], found["reason"], found["findings"]) == ("insufficient_data", "no reviews in the window", [])
    assert rows(shop, "SELECT DISTINCT superseded_reason FROM agent_learning_patterns WHERE agent_name = 'drafter'") == [
        ("no reviews in the window",)
    ]
    assert len({agent["learning_run_id"] for agent in read_status(shop.database)["agents"]}) == 1


def test_results_of_different_runs_are_refused_naming_the_asset(shop: Pass) -> None:
    learn_preference_models(shop.database, shop.store, shop.settings, now=NOW)
    with pytest.raises(StoreError, match="materialize quality_correlations again"):
        publish(shop.database, shop.store, shop.settings, dagster_run_id=None, now=NOW)


def test_publishing_the_same_run_twice_is_the_same_run(shop: Pass) -> None:
    before = shop.published()
    publish(shop.database, shop.store, shop.settings, dagster_run_id="again", now=NOW)
    assert shop.published() == before
    assert rows(shop, "SELECT count(*), max(dagster_run_id) FROM learning_runs") == [(1, "again")]


def test_by_a_clock_that_was_moved_back_the_last_run_is_still_the_latest(shop: Pass) -> None:
    ((first,),) = rows(shop, "SELECT learning_run_id::text FROM learning_runs")
    second = replace(shop, now=NOW - timedelta(hours=5)).reduce().learning_run_id
    assert read_status(shop.database)["last_run"]["learning_run_id"] == second != first


def test_a_failing_publish_leaves_the_previous_run_whole(shop: Pass) -> None:
    before, run = shop.published(), rows(shop, "SELECT learning_run_id FROM agent_learning_state")
    with shop.database.connect() as connection:
        connection.execute("DELETE FROM review_feedback WHERE id IN (SELECT id FROM review_feedback LIMIT 50)")
        connection.execute("ALTER TABLE agent_learning_patterns ADD CONSTRAINT broken CHECK (learning_run_id IS NULL) NOT VALID")
    with pytest.raises(Exception, match="broken"):
        shop.learn()
    assert shop.published() == before
    assert rows(shop, "SELECT learning_run_id FROM agent_learning_state") == run
    assert shop.pending_changes() == 50


def test_fewer_than_ten_outputs_is_insufficient_data(database: Database, tmp_path: Path) -> None:
    write_world(database, simulate(WorldSpec(agents=2, executions=9, reviewers=5, seed=2, days=5)))
    installation = Pass.at(database, tmp_path)
    installation.learn()
    found = read_findings(database, "drafter")
    assert (found["status"], found["n_contents"]) == ("insufficient_data", 9)
    assert found["parts"]["correlations"]["reason"] == "9 reviewed outputs, 10 needed"


def test_the_window_ends_at_the_newest_trainable_day_and_counts_back(shop: Pass) -> None:
    with shop.database.connect() as connection:
        set_lookback(connection, 7)
        assert read_installation(connection).lookback_days == 7
    shop.learn()
    window = read_findings(shop.database, "drafter")["window"]
    assert window == {"first": "2026-06-24", "last": "2026-06-30", "lookback_days": 7}
    kept = rows(shop, "SELECT count(DISTINCT workflow_id) FROM review_feedback WHERE reviewed_at >= '2026-06-24'")[0][0]
    assert rows(shop, "SELECT n_contents FROM learning_runs ORDER BY n_contents LIMIT 1")[0][0] == kept


def test_an_empty_database_learns_nothing_and_says_so(database: Database, tmp_path: Path) -> None:
    installation = Pass.at(database, tmp_path)
    run = installation.learn()
    assert run.facts["window_last"] is None
    status = read_status(database)
    assert status["agents"] == []
    assert status["last_run"]["n_contents"] == 0


def test_another_score_scale_reads_every_day_again(shop: Pass) -> None:
    assert shop.pending() == []
    other = Pass(shop.database, shop.settings.model_copy(update={"score_bounds": {"*": (1.0, 10.0)}}))
    assert len(other.pending()) == 20


def test_publishing_a_run_again_with_other_findings_supersedes_what_is_gone(shop: Pass) -> None:
    live = (
        f"SELECT count(*) FROM agent_learning_patterns WHERE superseded_by_run IS NULL AND pattern_type = '{CORRELATION_PATTERN}'"
    )
    before = rows(shop, live)[0][0]
    learn_correlations(shop.store, shop.settings, only=["cost"])
    publish(shop.database, shop.store, shop.settings, dagster_run_id=None, now=NOW)
    published = rows(shop, "SELECT count(*) FROM feedback_quality_correlations WHERE published")[0][0]
    assert rows(shop, live)[0][0] == published
    assert published < before  # type: ignore[operator]


def test_days_extracted_after_the_scores_were_adjusted_are_refused(shop: Pass) -> None:
    with shop.database.connect() as connection:
        connection.execute("UPDATE agent_performance SET cost = cost * 2")
    shop.extract()
    with pytest.raises(StoreError, match="materialize preference_models again"):
        learn_correlations(shop.store, shop.settings)


def test_sizes_are_published_under_both_names(shop: Pass) -> None:
    assert rows(shop, "SELECT count(*) FROM feedback_quality_correlations WHERE n_contents IS DISTINCT FROM sample_size") == [
        (0,)
    ]


def test_pending_counts_only_changes_inside_the_window(shop: Pass) -> None:
    with shop.database.connect() as connection:
        set_lookback(connection, 5)
    shop.learn()
    with shop.database.connect() as connection:
        connection.execute("UPDATE review_feedback SET decision = 'reject' WHERE reviewed_at < '2026-06-20'")
    assert sum(agent["pending"] for agent in read_status(shop.database)["agents"]) == 0
    with shop.database.connect() as connection:
        connection.execute("UPDATE review_feedback SET decision = 'reject' WHERE reviewed_at >= '2026-06-30'")
    assert sum(agent["pending"] for agent in read_status(shop.database)["agents"]) > 0


def test_exactly_the_consumed_changes_are_deleted(shop: Pass) -> None:
    with shop.database.connect() as connection:
        for _ in range(3):
            connection.execute("UPDATE agent_performance SET cost = cost + 1")
        ids = [row[0] for row in connection.execute("SELECT id FROM feedback_changes ORDER BY id")]
        consumed = np.array([i for i in ids if i % 7 not in (2, 3)][:-1])
        assert _delete_changes(connection, consumed) == len(consumed)
        left = [row[0] for row in connection.execute("SELECT id FROM feedback_changes ORDER BY id")]
        assert left == sorted(set(ids) - set(consumed.tolist()))
        assert _delete_changes(connection, np.empty(0, dtype=np.int64)) == 0
