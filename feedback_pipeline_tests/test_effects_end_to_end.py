"""From applications and reviews in Postgres to recommendations that are taken back: real database, the asset in Dagster."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from feedback_pipeline.learning.holdout import assign
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.resources import DatabaseResource, LearningLock
from feedback_pipeline.storage.applications import Application, insert_applications
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.reading_effects import read_effects
from feedback_pipeline.storage.reading_patterns import read_improvements, read_patterns
from feedback_pipeline_tests.passes import Pass
from feedback_pipeline_tests.test_advice_end_to_end import AGENT, parts, world_after

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning"),
]
ASSIGNED = datetime(2026, 6, 29, tzinfo=UTC)
EXECUTIONS = 320


def recommendations(database: Database) -> dict[str, dict[str, Any]]:
    return {one["feature"]: one for one in read_improvements(database, AGENT)["recommendations"]}


def apply(
    database: Database, recommendation: dict[str, Any], executions: range, approval: dict[bool, float]
) -> list[Application]:
    """An agent applies a recommendation as its trial says; people approve as many of either side as `approval` says.

    The last ten executions are not decided.
    """
    generator, trial = np.random.default_rng(1), recommendation["trial"]
    rows = []
    with database.connect() as connection:
        for i in executions:
            execution, moment = f"trial-{i}", ASSIGNED + timedelta(minutes=i)
            applied = assign(trial["salt"], recommendation["id"], execution, trial["p_on"])
            identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{recommendation['id']} {i}"))
            known = (identity, recommendation["id"], trial["trial"], AGENT, execution)
            rows.append(Application(*known, applied, trial["p_on"], 0.5 if i % 3 else None, moment))
            if i < executions.stop - 10:
                verdict = "approve" if generator.random() < approval[applied] else "reject"
                _review(connection, execution, verdict, moment + timedelta(minutes=1))
    assert insert_applications(database, rows) == len(rows)
    return rows


def _review(connection: Any, execution: str, verdict: str, moment: datetime) -> None:
    """The execution, its workflow, a decision from before the assignment that must not count, and the one that does."""
    workflow = uuid.uuid5(uuid.NAMESPACE_URL, execution)
    connection.execute(
        "INSERT INTO agent_performance (id, agent_name, agent_type, execution_id, start_time, status)"
        " VALUES (%s, %s, 'writer', %s, %s, 'success')",
        (workflow, AGENT, execution, moment - timedelta(hours=1)),
    )
    connection.execute(
        "INSERT INTO content_review_workflows (id, content_id, workflow_execution_id) VALUES (%s, %s, %s)",
        (workflow, workflow, execution),
    )
    for reviewer, decision, at in (("early", "approve", moment - timedelta(days=2)), ("anna", verdict, moment)):
        connection.execute(
            "INSERT INTO review_feedback (workflow_id, content_id, reviewer_id, stage, decision, reviewed_at, is_training_data)"
            " VALUES (%s, %s, %s, 'final_approval', %s, %s, true)",
            (workflow, workflow, reviewer, decision, at),
        )


def materialize(database: Database) -> dg.ExecuteInProcessResult:
    resource = DatabaseResource(url=database.url)
    defs = build_defs(resource_overrides={"database": resource, "learning_lock": LearningLock(database=resource)})
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("learn")
        result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("learning_effectiveness")])
    assert result.success
    return result


def test_what_harms_is_taken_back_and_what_is_on_trial_stays_the_same(database: Database, tmp_path: Path) -> None:
    installation = world_after(database, tmp_path, executions=400)
    before = recommendations(database)
    harmful, frozen, unapplied = before["word_count"], before["input_tokens"], before["output_tokens"]
    assert (harmful["trial"]["state"], harmful["trial"]["trial"], harmful["trial"]["p_on"]) == ("probation", 1, 0.5)
    rows = apply(database, harmful, range(EXECUTIONS), {True: 0.2, False: 0.7})
    apply(database, frozen, range(1000, 1020), {True: 0.5, False: 0.5})
    assert insert_applications(database, rows) == 0

    result = materialize(database)
    _asset_says_so(result)
    _harm_is_retired(database, harmful, rows)
    _counters_are_set(database, harmful, rows)
    _next_pass_holds_it_back(installation, before, harmful, frozen, unapplied)
    _another_target_opens_the_next_trial(installation, frozen)
    _found_on_later_reviews_it_returns(installation, harmful)
    _not_found_it_waits_with_its_measurements(installation, unapplied)


def _asset_says_so(result: dg.ExecuteInProcessResult) -> None:
    (materialization,) = result.asset_materializations_for_node("learning_effectiveness")
    told = materialization.metadata
    assert told["trials retired now"].value == 1
    assert told["applications"].value == EXECUTIONS + 20
    assert "data:image/png;base64," in str(told["confidence sequences"].value)
    assert "trial-" not in str(told), "no id of an execution"
    (check,) = result.get_asset_check_evaluations()
    assert check.passed, check.metadata
    assert check.severity == dg.AssetCheckSeverity.WARN


def _harm_is_retired(database: Database, harmful: dict[str, Any], rows: list[Application]) -> None:
    effects = {trial["pattern_id"]: trial for trial in read_effects(database, AGENT)["trials"]}
    trial = effects[harmful["id"]]
    assert (trial["state"], trial["p_on"]) == ("retired", 0)
    assert "does not help by 2 points" in trial["reason"]
    assert trial["high"] < 0.02
    assert (trial["n"], trial["n_waiting"]) == (EXECUTIONS - 10, 10)
    assert trial["n_applied"] == sum(row.applied for row in rows[:-10])
    assert trial["success_rate"] == pytest.approx(0.2, abs=0.1)
    assert trial["success_rate_held_out"] == pytest.approx(0.7, abs=0.1)
    assert trial["looks"][-1][0] == trial["n"]
    assert trial["computed_at"] == trial["since"] == read_effects(database)["computed_at"]
    # It is gone for its agent at once, and so is what it was made of.
    assert "word_count" not in recommendations(database)
    shown = {pattern["description"] for pattern in read_improvements(database, AGENT)["patterns"]}
    named = {
        one["description"]
        for one in read_patterns(database, AGENT)["patterns"]
        if one["id"] in harmful["evidence"]["pattern_ids"]
    }
    assert named
    assert not named & shown


def _counters_are_set(database: Database, harmful: dict[str, Any], rows: list[Application]) -> None:
    with database.connect() as connection:
        counted = connection.execute(
            "SELECT id::text, times_applied, success_rate, success_rate_held_out, last_applied FROM agent_learning_patterns"
            " WHERE id = ANY(%s::uuid[])",
            (harmful["evidence"]["pattern_ids"],),
        ).fetchall()
        ((others,),) = connection.execute(
            "SELECT count(*) FROM agent_learning_patterns WHERE times_applied > 0 AND agent_name <> %s", (AGENT,)
        ).fetchall()
    applied = [row for row in rows if row.applied]
    assert counted
    for _, times, rate, held_out, last in counted:
        assert times == len(applied) < len(rows), "the holdout does not count"
        assert rate == pytest.approx(0.2, abs=0.1)
        assert held_out == pytest.approx(0.7, abs=0.1)
        assert last == applied[-1].assigned_at
    assert others == 0


def _next_pass_holds_it_back(
    installation: Pass, before: dict[str, Any], harmful: dict[str, Any], frozen: dict[str, Any], unapplied: dict[str, Any]
) -> None:
    database = installation.database
    with database.connect() as connection:
        connection.execute("UPDATE agent_performance SET input_tokens = input_tokens * 1.1, output_tokens = output_tokens * 1.1")
    installation.learn()
    after = recommendations(database)
    with database.connect() as connection:
        listed = connection.execute(
            "SELECT recommendation_id::text, rank FROM agent_recommendations WHERE agent_name = %s", (AGENT,)
        )
        ranks: dict[str, int] = dict(listed.fetchall())
    assert harmful["id"] not in ranks
    assert sorted(ranks.values()) == list(range(1, len(ranks) + 1))
    assert parts(database)["recommendations"]["held_back"] == 1
    on_trial = {one["pattern_id"] for one in read_effects(database, AGENT)["trials"] if one["p_on"] > 0}
    assert on_trial == set(ranks), "nothing outside of the list is on trial"
    now = after[frozen["feature"]]
    assert {name: now[name] for name in ("target", "action", "text")} == {
        name: frozen[name] for name in ("target", "action", "text")
    }
    assert now["trial"]["trial"] == 1
    # Nobody has applied it: what is learned is published, under the next number, in case somebody was away and still does.
    renewed = after[unapplied["feature"]]
    assert (renewed["id"], renewed["trial"]["trial"]) == (unapplied["id"], 2)
    assert renewed["target"] != unapplied["target"]
    assert [one["trial"] for one in read_effects(database, AGENT)["trials"] if one["pattern_id"] == renewed["id"]] == [2]
    assert set(after) <= set(before) | {one["feature"] for one in after.values()}


def _another_target_opens_the_next_trial(installation: Pass, frozen: dict[str, Any]) -> None:
    with installation.database.connect() as connection:
        connection.execute("UPDATE agent_performance SET input_tokens = input_tokens * 5")
    installation.learn()
    after = recommendations(installation.database)["input_tokens"]
    assert after["id"] == frozen["id"]
    assert (after["trial"]["trial"], after["trial"]["n"]) == (2, 0)
    assert after["trial"]["salt"] != frozen["trial"]["salt"]
    assert after["target"]["max"] > 3 * frozen["target"]["max"]
    newest, oldest = [one for one in read_effects(installation.database, AGENT)["trials"] if one["pattern_id"] == frozen["id"]]
    assert (newest["trial"], newest["state"], newest["target"]) == (2, "probation", after["target"])
    assert (oldest["trial"], oldest["state"], oldest["target"]) == (1, "retired", frozen["target"])


def _found_on_later_reviews_it_returns(installation: Pass, harmful: dict[str, Any]) -> None:
    with installation.database.connect() as connection:
        connection.execute("UPDATE pattern_effects SET since = '2026-01-01' WHERE pattern_id = %s", (harmful["id"],))
    installation.reduce()
    again = recommendations(installation.database)["word_count"]
    assert again["id"] == harmful["id"]
    assert (again["trial"]["state"], again["trial"]["trial"]) == ("probation", 2)


def _not_found_it_waits_with_its_measurements(installation: Pass, unapplied: dict[str, Any]) -> None:
    database = installation.database
    applied = recommendations(database)["output_tokens"]
    assert applied["id"] == unapplied["id"]
    apply(database, applied, range(2000, 2080), {True: 0.5, False: 0.5})
    with database.connect() as connection:
        connection.execute("CREATE TABLE tokens AS SELECT id, output_tokens FROM agent_performance")
        connection.execute("UPDATE agent_performance SET output_tokens = NULL")
    installation.learn()
    assert "output_tokens" not in recommendations(database)
    materialize(database)
    aside = _trial_of(database, unapplied)
    assert (aside["state"], aside["p_on"], aside["n"], aside["n_waiting"]) == ("candidate", 0, 70, 10)
    assert aside["reason"].startswith("not recommended now")
    with database.connect() as connection:
        connection.execute("UPDATE agent_performance p SET output_tokens = t.output_tokens FROM tokens t WHERE t.id = p.id")
    installation.learn()
    again = recommendations(database)["output_tokens"]
    assert {name: again[name] for name in ("id", "target")} == {name: applied[name] for name in ("id", "target")}
    assert again["trial"]["trial"] == applied["trial"]["trial"]
    assert (again["trial"]["state"], again["trial"]["p_on"], again["trial"]["n"]) == ("probation", 0.5, 70)
    assert again["trial"]["ci"] == [aside["low"], aside["high"]]


def _trial_of(database: Database, recommendation: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [one for one in read_effects(database, AGENT)["trials"] if one["pattern_id"] == recommendation["id"]]
    return found
