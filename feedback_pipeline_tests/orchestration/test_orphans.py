import json
import os
import signal
import time
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from feedback_pipeline.environment import Environment
from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.orchestration.orphans import (
    LOOKS,
    OrphanWatch,
    fail_untagged,
    orphaned_runs,
    watch_for_orphans,
)
from feedback_pipeline.orchestration.resources import INSTALLATION_TAG, PASS_TAG, DatabaseResource, installation_tag
from feedback_pipeline.orchestration.run_states import Ours, run_in_flight
from feedback_pipeline.storage import pass_lock
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.pass_lock import learning_pass_lock, living_runs, sign_of_life
from feedback_pipeline_tests.orchestration.test_new_feedback import LOCATION, OTHERS, context, started

pytestmark = pytest.mark.slow


@dg.op
def nothing() -> None:
    """Does nothing."""


@dg.job
def idle() -> None:
    """A job whose runs are only booked, never executed."""
    nothing()


def _run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, tags: dict[str, str]) -> str:
    return instance.create_run_for_job(idle, status=status, tags=tags).run_id


def _status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_that_nobody_executes_is_failed_at_the_second_look(database: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        orphan = _run(instance, dg.DagsterRunStatus.STARTED, installation_tag(database))
        watch = OrphanWatch(instance, database)
        assert watch.look() == []
        assert _status(instance, orphan) == dg.DagsterRunStatus.STARTED
        assert watch.look() == [orphan]
        assert _status(instance, orphan) == dg.DagsterRunStatus.FAILURE
        assert watch.look() == []


@pytest.mark.parametrize("tags", [{}, {INSTALLATION_TAG: "00000000-0000-4000-8000-000000000000"}, {"team": "other"}])
def test_runs_of_others_in_the_same_dagster_stay_untouched(database: Database, tags: dict[str, str]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        foreign = _run(instance, dg.DagsterRunStatus.STARTED, tags)
        own = _run(instance, dg.DagsterRunStatus.STARTED, installation_tag(database))
        watch = OrphanWatch(instance, database)
        assert [watch.look(), watch.look(), watch.look()] == [[], [own], []]
        assert _status(instance, foreign) == dg.DagsterRunStatus.STARTED


def test_a_run_with_a_sign_of_life_is_left_alone_whatever_dies_beside_it(database: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        living, dead = (_run(instance, dg.DagsterRunStatus.STARTED, installation_tag(database)) for _ in range(2))
        watch = OrphanWatch(instance, database)
        # Also one that waits for the lock of another pass.
        with learning_pass_lock(database, lambda: None), sign_of_life(database, living):
            assert [watch.look(), watch.look()] == [[], [dead]]
        assert watch.look() == []
        assert _status(instance, living) == dg.DagsterRunStatus.STARTED


def test_a_living_run_is_left_alone_when_the_server_is_started_again(tmp_path: Path) -> None:
    """Its sign went with the server, and it was marked as failed while it did its work."""
    # Not the settings of the other tests: a killed server would lose what it has not written yet.
    server = EmbeddedPostgres(tmp_path / "home", settings={"fsync": "off"})
    with server.hold() as database, dg.DagsterInstance.ephemeral() as instance:
        migrate(database)
        living, dead = (_run(instance, dg.DagsterRunStatus.STARTED, installation_tag(database)) for _ in range(2))
        watch = OrphanWatch(instance, database)
        with sign_of_life(database, living):
            os.kill(json.loads((server.folder / "state.json").read_text())["server"], signal.SIGKILL)
            server.ensure_running()
            # The worst moment: the sign may not be back yet.
            assert watch.look() == []
            deadline = time.monotonic() + 60
            while not living_runs(database, [living]):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert [watch.look(), watch.look()] == [[dead], []]
        assert _status(instance, living) == dg.DagsterRunStatus.STARTED


def test_a_sign_between_two_looks_clears_the_suspicion(database: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = _run(instance, dg.DagsterRunStatus.STARTED, installation_tag(database))
        watch = OrphanWatch(instance, database)
        watch.look()
        with sign_of_life(database, run):
            watch.look()
        assert watch.look() == []


def test_a_watch_says_in_one_way_that_a_connection_is_lost(
    database: Database, environment: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = _run(instance, dg.DagsterRunStatus.STARTED, installation_tag(database))
    with watch_for_orphans(environment.database) as look:
        assert look() == []

        def lost(*_arguments: object) -> None:
            raise psycopg.errors.AdminShutdown("terminating connection")

        with monkeypatch.context() as broken:
            broken.setattr(pass_lock, "living_runs", lost)
            with pytest.raises(StoreUnavailable, match="connection was lost"):
                look()
        assert look() == [orphan]


def test_several_steps_show_the_sign_of_one_run(database: Database) -> None:
    assert living_runs(database, ["a", "b"]) == set()
    with sign_of_life(database, "a"):
        with sign_of_life(database, "a"):
            assert living_runs(database, ["a", "b"]) == {"a"}
        assert living_runs(database, ["a", "b"]) == {"a"}
    assert living_runs(database, ["a", "b"]) == set()


def test_the_sensor_keeps_its_suspects_in_the_cursor(database: Database) -> None:
    resources = {"database": DatabaseResource(url=database.url)}
    with dg.DagsterInstance.ephemeral() as instance:
        orphan = _run(instance, dg.DagsterRunStatus.STARTED, installation_tag(database))
        context = dg.build_sensor_context(instance=instance, resources=resources)
        orphaned_runs(context)
        # Another process of the daemon.
        again = dg.build_sensor_context(instance=instance, resources=resources, cursor=context.cursor)
        said = orphaned_runs(again)
        assert isinstance(said, dg.SkipReason)
        assert orphan in str(said.skip_message)
        assert _status(instance, orphan) == dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE])
def test_runs_that_do_not_execute_are_left_alone(database: Database, status: dg.DagsterRunStatus) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = _run(instance, status, installation_tag(database))
        watch = OrphanWatch(instance, database)
        assert [watch.look(), watch.look()] == [[], []]
        assert _status(instance, run) == status


def test_a_pass_that_died_before_it_was_tagged_is_failed_after_a_while(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one started in the web UI and killed with the code server: for hours, nothing was learned any more."""
    monkeypatch.setenv("FEEDBACK_DATABASE_URL", database.url)
    executing, plain = dg.DagsterRunStatus.STARTED, DatabaseResource(url=database.url)
    ours = Ours(installation_tag(database), f"__repository__@{LOCATION}")
    with dg.DagsterInstance.ephemeral() as instance:
        lost = sorted([started(instance, {}, executing), started(instance, dict(PASS_TAG), executing, job="daily_check")])
        others = [
            started(instance, OTHERS, executing),
            started(instance, {}, executing, location="another_team.definitions"),
            started(instance, {}, executing, job="forecast"),
        ]
        slow = started(instance, {}, executing)
        seen: dict[str, int] = {}
        for _ in range(LOOKS - 1):
            failed, seen = fail_untagged(instance, ours, seen)
            assert failed == []
        instance.add_run_tags(slow, installation_tag(database))
        late = started(instance, {}, executing)
        assert fail_untagged(instance, ours, seen) == (lost, {late: 1})
        assert {_status(instance, run_id) for run_id in lost} == {dg.DagsterRunStatus.FAILURE}
        assert {_status(instance, run_id) for run_id in others} == {executing}

        cursor = ""
        with sign_of_life(database, slow):
            for _ in range(LOOKS):
                assert _status(instance, late) == executing
                tick = context(instance).merge_resources({"database": plain})
                tick.update_cursor(cursor)
                orphaned_runs(tick)
                cursor = str(tick.cursor)
        assert _status(instance, late) == dg.DagsterRunStatus.FAILURE
        assert _status(instance, slow) == executing
        flying = run_in_flight(instance, ours)
        assert flying is not None
        assert flying[0].run_id == slow
