"""What POST /forget or another process begins is finished, whatever fails meanwhile, and GET says what stands in the way."""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun
from fastapi.testclient import TestClient

from feedback_pipeline.environment import Environment, prepared
from feedback_pipeline.learning_pass.forgetting import begin_forgetting
from feedback_pipeline.learning_pass.forgetting_steps import Installation
from feedback_pipeline.serving import forgetting as serving_forgetting
from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.serving.forgetting import Forgetting, _reason
from feedback_pipeline.settings import Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import World, simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.forget_receipts import one_forgetting
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline_tests.beside import drop_beside
from feedback_pipeline_tests.passes import Pass
from feedback_pipeline_tests.serving.conftest import LearnedWorld
from feedback_pipeline_tests.serving.web_servers import web_server

pytestmark = pytest.mark.slow

DEADLINE_S = 60.0
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def small_world() -> World:
    return simulate(WorldSpec(agents=1, executions=15, reviewers=3, days=2, seed=3, until=date(2026, 1, 31)))


@pytest.fixture
def unlearned(
    database: Database, tmp_path: Path, small_world: World, make_database: Callable[[str], Database], mlflow_template: str
) -> LearnedWorld:
    """Reviews that nothing was learned from: forgetting them takes no learning pass."""
    write_world(database, small_world)
    tracking = Tracking(make_database(mlflow_template).sqlalchemy_url(), str(tmp_path / "mlflow"))
    return LearnedWorld(database, Pass.at(database, tmp_path).settings, tracking)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and tries again at once: how long it waits is no matter here."""
    monkeypatch.setattr(serving_forgetting, "_LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(serving_forgetting, "_PAUSES_S", (0.1, 0.2))
    monkeypatch.setattr(serving_forgetting, "_LONGEST_PAUSE_S", 0.3)


@pytest.fixture
def reviewer(small_world: World) -> str:
    return str(small_world.reviews["reviewer_id"].iloc[0])


def begun(world: LearnedWorld, reviewer: str) -> str:
    """The receipt that a process leaves which dies after its answer to POST."""

    def relearn(_days: object) -> str:
        raise AssertionError

    return begin_forgetting(Installation(world.database, world.settings, world.tracking, relearn), "reviewer", reviewer)


def until(client: TestClient, receipt_id: str, condition: Callable[[Answer], object]) -> Answer:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        answer = client.get(f"{PREFIX}/forget/{receipt_id}")
        assert answer.status_code == 200
        (receipt,) = answer.json()["receipts"]
        if condition(receipt):
            return cast(Answer, receipt)
        assert time.monotonic() < deadline, receipt
        time.sleep(0.05)


def forgetting(client: TestClient) -> Forgetting:
    return cast(Forgetting, client.app.state.service.forgetting)  # type: ignore[attr-defined]


def is_done(receipt: Answer) -> bool:
    return bool(receipt["state"] == "done")


def learn_once(world: LearnedWorld) -> None:
    """From now on it takes a pass to forget anybody."""
    with world.database.connect() as connection:
        connection.execute(
            "INSERT INTO learning_runs (learning_run_id, started_at, n_reviews, n_contents, n_agents, n_reviewers, code_version)"
            " VALUES (%s, now(), 1, 1, 1, 1, '1')",
            [uuid.uuid4()],
        )


def test_what_is_asked_for_is_done(unlearned: LearnedWorld, small_world: World) -> None:
    with unlearned.client() as client:
        for name in small_world.reviews["reviewer_id"].unique()[:2]:
            answer = client.post(f"{PREFIX}/forget", json={"kind": "reviewer", "id": name})
            assert answer.status_code == 202
            (receipt,) = answer.json()["receipts"]
            assert receipt["counts"]["review_feedback"] == (small_world.reviews["reviewer_id"] == name).sum()
            assert until(client, receipt["receipt_id"], is_done)["failure"] is None
    assert unlearned.rows("SELECT count(*) FROM forget_receipts WHERE target IS NULL") == [(2,)]


def test_a_process_finishes_what_the_one_before_has_begun(unlearned: LearnedWorld, reviewer: str) -> None:
    receipt_id = begun(unlearned, reviewer)
    assert unlearned.rows("SELECT state, target ->> 'id' FROM forget_receipts") == [("withdrawn", reviewer)]
    with unlearned.client() as client:
        forgetting(client).resume()
        until(client, receipt_id, is_done)
    assert unlearned.rows("SELECT state, target FROM forget_receipts") == [("done", None)]


@pytest.mark.usefixtures("impatient")
def test_what_another_process_leaves_is_found_while_this_one_runs(unlearned: LearnedWorld, reviewer: str) -> None:
    """As `feedback-pipeline forget`, killed beside a running `up`."""
    with unlearned.client() as client:
        receipt_id = begun(unlearned, reviewer)
        until(client, receipt_id, is_done)


@pytest.mark.usefixtures("impatient")
def test_what_another_process_goes_on_with_is_left_to_it(unlearned: LearnedWorld, reviewer: str) -> None:
    looking = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_try_adv%%'"
    with unlearned.client() as client:
        with one_forgetting(unlearned.database):
            receipt_id = begun(unlearned, reviewer)
            for _ in range(10):
                time.sleep(0.1)
                assert until(client, receipt_id, bool)["state"] == "withdrawn"
                # Nor does it wait for its turn: this is the other process.
                assert unlearned.rows(looking) == [(1,)]
        assert until(client, receipt_id, is_done)["failure"] is None


@pytest.fixture
def environment(unlearned: LearnedWorld, postgres_server: Database, tmp_path: Path) -> Iterator[Environment]:
    """Where Dagster keeps its runs."""
    settings = Settings(database_url=unlearned.database.url, home=tmp_path / "home")  # type: ignore[arg-type]
    with prepared(settings, overridable=False) as ready:
        yield ready
    drop_beside(postgres_server, unlearned.database)


@pytest.mark.usefixtures("impatient")
def test_a_learning_pass_that_failed_is_tried_again(
    environment: Environment,
    unlearned: LearnedWorld,
    reviewer: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The web server has no daemon beside it: what becomes of a run is what is reported here."""
    learn_once(unlearned)
    for name, value in environment.variables.items():
        monkeypatch.setenv(name, value)
    with (
        DagsterInstance.get() as instance,
        web_server(environment) as address,
        caplog.at_level(logging.WARNING),
        unlearned.client(dagster=address) as client,
    ):
        answer = client.post(f"{PREFIX}/forget", json={"kind": "reviewer", "id": reviewer})
        receipt_id = answer.json()["receipts"][0]["receipt_id"]
        for failures in (1, 2, 3):
            run = newest_run(instance, failures)
            instance.report_run_failed(run)
            failed = until(client, receipt_id, lambda receipt, run_id=run.run_id: run_id in str(receipt["failure"]))  # type: ignore[misc]
            assert failed["state"] == "withdrawn"
            assert f"the learning pass failed; Dagster run {run.run_id} says why" in failed["failure"]["reason"]
        run = newest_run(instance, 4)
        ended = DagsterEvent(DagsterEventType.RUN_SUCCESS.value, run.job_name)
        instance.report_dagster_event(ended, run.run_id)
        done = until(client, receipt_id, is_done)
    assert (done["dagster_run_id"], done["failure"]) == (run.run_id, None)
    said = [vars(record)["about"] for record in caplog.records if record.getMessage() == "a forgetting does not go on"]
    assert [(one["failures"], one["tried_again_after_s"]) for one in said] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert {one["error"] for one in said} == {"LearningError"}


def newest_run(instance: DagsterInstance, expected: int) -> DagsterRun:
    """Once there are so many."""
    deadline = time.monotonic() + DEADLINE_S
    while len(runs := instance.get_runs()) < expected:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(runs) == expected
    return runs[0]


def test_pauses_grow_and_are_a_few_minutes_at_most() -> None:
    pauses = [*serving_forgetting._PAUSES_S, serving_forgetting._LONGEST_PAUSE_S]
    assert pauses == sorted(pauses)
    assert (len(pauses), pauses[-1], serving_forgetting._LOOK_EVERY_S) == (5, 300.0, 60.0)


@pytest.mark.usefixtures("impatient")
def test_a_store_that_is_away_is_named_and_asked_again(
    unlearned: LearnedWorld, reviewer: str, caplog: pytest.LogCaptureFixture
) -> None:
    learn_once(unlearned)
    receipt_id = begun(unlearned, reviewer)
    with caplog.at_level(logging.ERROR), unlearned.client() as client:
        forgetting(client).resume()
        failed = until(client, receipt_id, lambda receipt: receipt["failure"])
        assert (failed["state"], set(failed["failure"])) == ("withdrawn", {"at", "reason"})
        assert "the Dagster web server does not answer" in failed["failure"]["reason"]
        assert "the rows are deleted, traces of them are left" in failed["failure"]["reason"]
        with unlearned.database.connect() as connection:  # now it takes no pass any more
            connection.execute("DELETE FROM learning_runs")
        assert until(client, receipt_id, is_done)["failure"] is None
    logged = [vars(record)["about"] for record in caplog.records if record.getMessage() == "error"]
    assert {one["error"] for one in logged} == {"StoreUnavailable"}
    assert reviewer not in str([vars(record) for record in caplog.records])


def test_what_waiting_does_not_mend_is_named_and_left_to_who_can(unlearned: LearnedWorld, reviewer: str) -> None:
    receipt_id = begun(unlearned, reviewer)
    without = LearnedWorld(unlearned.database, unlearned.settings, cast(Tracking, None))
    with without.client() as client:
        forgetting(client).resume()
        failed = until(client, receipt_id, lambda receipt: receipt["failure"])
        assert failed["failure"]["reason"] == "no MLflow store is named; start the service with `feedback-pipeline up`"
    # The next process has one.
    with unlearned.client() as client:
        forgetting(client).resume()
        assert until(client, receipt_id, is_done)["failure"] is None


def test_a_process_that_stops_tries_no_more(unlearned: LearnedWorld, reviewer: str) -> None:
    learn_once(unlearned)
    receipt_id = begun(unlearned, reviewer)
    with unlearned.client() as client:
        own = forgetting(client)
        own.resume()
        until(client, receipt_id, lambda receipt: receipt["failure"])
        own.stop()
        deadline = time.monotonic() + DEADLINE_S
        while own._working:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        own.resume()
        assert own._working
        own.stop()


def test_what_nobody_foresaw_is_named_without_its_message() -> None:
    assert _reason(KeyError("zoe.marked")).startswith("KeyError; the log of the API says where")
