"""POST learn against a real Dagster web server: one run over what changed, and the same one while it is under way."""

import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from playwright.sync_api import expect

from feedback_pipeline.environment import Environment, prepared
from feedback_pipeline.orchestration.jobs import learn
from feedback_pipeline.orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from feedback_pipeline.orchestration.resources import INSTALLATION_TAG, PASS_TAG, installation_tag
from feedback_pipeline.orchestration.run_states import UNDER_WAY
from feedback_pipeline.serving import dagster_runs, learning
from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.settings import Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline_tests.beside import drop_beside
from feedback_pipeline_tests.page.conftest import chromium
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld, served
from feedback_pipeline_tests.serving.web_servers import web_server

pytestmark = WHOLE_ROOM

FIRST, UNTIL = date(2026, 6, 1), date(2026, 6, 30)


@pytest.fixture
def environment(database: Database, postgres_server: Database, tmp_path: Path) -> Iterator[Environment]:
    write_world(database, simulate(WorldSpec(agents=2, executions=20, reviewers=3, days=10, seed=5, until=UNTIL)))
    settings = Settings(database_url=database.url, home=tmp_path / "home")  # type: ignore[arg-type]
    with prepared(settings, overridable=False) as ready:
        yield ready
    drop_beside(postgres_server, database)


def test_a_pass_is_started_once_over_what_changed(
    environment: Environment, learned_world: LearnedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = LearnedWorld(environment.database, environment.settings, learned_world.tracking)
    with web_server(environment) as address, world.client(dagster=address) as client:
        answers: list[Any] = []
        ask = [threading.Thread(target=lambda: answers.append(client.post(f"{PREFIX}/agents/drafter/learn"))) for _ in range(3)]
        for thread in ask:
            thread.start()
        for thread in ask:
            thread.join()
        assert [answer.status_code for answer in answers] == [202] * 3
        started = [answer.json() for answer in answers]
        (run_id,) = {one["run_id"] for one in started}
        assert sorted(one["already_running"] for one in started) == [False, True, True]
        assert started[0]["page"] == f"{address}/runs/{run_id}"

        progress = client.get(f"{PREFIX}/runs/{run_id}").json()
        assert (progress["status"], progress["steps_done"], progress["started_at"]) == ("queued", 0, None)
        assert {"preference_models", "learned_improvements"} <= {step["step"] for step in progress["steps"]}
        assert progress["steps_total"] == len(progress["steps"])
        assert client.get(f"{PREFIX}/runs/{'0' * 8}").status_code == 404
    for name, value in environment.variables.items():
        monkeypatch.setenv(name, value)
    with DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
    assert run is not None
    assert (run.job_name, run.status) == (learn.name, DagsterRunStatus.QUEUED)
    tags = installation_tag(environment.database) | PASS_TAG
    assert {key: run.tags[key] for key in tags} == tags
    assert FIRST < date.fromisoformat(run.tags[RANGE_START_TAG]) < date.fromisoformat(run.tags[RANGE_END_TAG]) == UNTIL


def test_the_page_starts_a_pass_and_says_how_far_it_is(
    environment: Environment, learned_world: LearnedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.variables.items():
        monkeypatch.setenv(name, value)
    with web_server(environment) as dagster, DagsterInstance.get() as instance, chromium() as browser:
        settings = environment.settings.model_copy(update={"dagster_port": int(dagster.rpartition(":")[2])})
        with served(LearnedWorld(environment.database, settings, learned_world.tracking)) as address:
            first, second = (browser.new_page() for _ in range(2))
            for page in (first, second):
                page.goto(address)
                page.get_by_role("button", name="Learn now").click()
                expect(page.get_by_role("status")).to_contain_text("The learning pass waits for its turn.")
                expect(page.get_by_role("button", name="Learn now")).to_be_disabled()
            (run,) = instance.get_runs()
            # Whoever watches may be turned away for a moment; the pass goes on, and so does the watching.
            first.route(f"**/runs/{run.run_id}", lambda route: route.abort(), times=2)
            for page in (first, second):
                link = page.get_by_role("link", name="This run in Dagster")
                expect(link).to_have_attribute("href", f"{dagster}/runs/{run.run_id}")
            instance.report_run_canceled(run)
            for page in (first, second):
                expect(page.get_by_role("status")).to_contain_text("The learning pass was cancelled.")
                expect(page.get_by_role("button", name="Learn now")).to_be_enabled()
            first.get_by_role("button", name="Learn now").click()
            expect(first.get_by_role("status")).to_contain_text("The learning pass waits for its turn.")
            (again,) = [one for one in instance.get_runs() if one.run_id != run.run_id]
            instance.report_run_failed(again)
            expect(first.get_by_role("status")).to_contain_text("The learning pass failed; its page in Dagster says why.")


def test_every_status_of_dagster_has_a_name() -> None:
    assert set(dagster_runs._STATUS) >= {status.value for status in DagsterRunStatus}
    assert set(dagster_runs._UNDER_WAY) == {status.value for status in UNDER_WAY}


def test_the_names_that_both_sides_of_the_web_server_use_are_the_same() -> None:
    assert (
        learn.name,
        INSTALLATION_TAG,
        (RANGE_START_TAG, RANGE_END_TAG),
    ) == (dagster_runs.JOB, learning.INSTALLATION_TAG, learning._RANGE)
    assert dict([learning._PASS_TAG]) == PASS_TAG
