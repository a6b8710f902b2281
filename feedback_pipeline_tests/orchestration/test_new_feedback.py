"""The sensor over several ticks: a real database, real run records, and at the end a real Dagster instance on Postgres."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from feedback_pipeline.environment import Environment
from feedback_pipeline.learning.trigger import FIRST_PAUSE, MAX_RETRIES, PAUSES
from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.jobs import FORECAST_ASSETS, learn
from feedback_pipeline.orchestration.new_feedback import evaluate, new_feedback_sensor
from feedback_pipeline.orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from feedback_pipeline.orchestration.resources import PASS_TAG, DatabaseResource, FeatureStoreResource, installation_tag
from feedback_pipeline.orchestration.run_states import BATCH_TAG, Ours, run_in_flight
from feedback_pipeline.orchestration.sensors import outputs_without_forecast
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import set_lookback
from feedback_pipeline.storage.reading import read_status
from feedback_pipeline.storage.trigger_book import ASKED_AGAIN_AFTER

pytestmark = [
    pytest.mark.slow,
    # Dagster reads its own deprecated attribute whenever it sets up a resource.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning"),
]
TODAY = datetime.now(UTC).date()
LOCATION = "feedback_pipeline.definitions"
OTHERS = {"feedback_pipeline/installation": "00000000-0000-4000-8000-000000000000"}


def context(instance: dg.DagsterInstance, location: str = LOCATION) -> dg.SensorEvaluationContext:
    """What the daemon gives a sensor of a code location."""
    origin = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=location))
    return dg.SensorEvaluationContext(
        instance_ref=None, instance=instance, repository_name="__repository__", code_location_origin=origin
    )


def started(
    instance: dg.DagsterInstance,
    tags: dict[str, str],
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.QUEUED,
    job: str = learn.name,
    location: str = LOCATION,
    assets: frozenset[dg.AssetKey] | None = None,
) -> str:
    """A run as Dagster makes it for a code location, in the queue or further; its id."""
    code = LoadableTargetOrigin(module_name=location)
    origin = RemoteRepositoryOrigin(ManagedGrpcPythonEnvCodeLocationOrigin(code), "__repository__").get_job_origin(job)
    pointer = JobPythonOrigin(job, RepositoryPythonOrigin(sys.executable, ModuleCodePointer(location, "defs")))
    definition = build_defs().resolve_job_def(job)
    run = instance.create_run_for_job(
        definition, status=status, tags=tags, remote_job_origin=origin, job_code_origin=pointer, asset_selection=assets
    )
    return run.run_id


@dataclass
class Office:
    """People who write reviews, and a daemon that looks at them."""

    database: Database
    instance: dg.DagsterInstance
    settings: Settings

    @property
    def ours(self) -> Ours:
        return Ours(installation_tag(self.database), f"__repository__@{LOCATION}")

    def look(
        self, after: timedelta = timedelta(0), store: Callable[[], FeatureStore] | None = None
    ) -> dg.RunRequest | dg.SkipReason:
        """One tick, some time from now, with a connection of its own."""
        opened = store or (lambda: open_store(self.database, self.settings))
        with self.database.connect(autocommit=True) as connection:
            return evaluate(self.instance, connection, opened, self.settings, self.ours, now=datetime.now(UTC) + after)

    def lost(self) -> None:
        """Whoever asked for a run last has died before Dagster heard of it, some time ago."""
        with self.database.connect() as connection:
            connection.execute("UPDATE trigger_decisions SET decided_at = decided_at - %s", [ASKED_AGAIN_AFTER])

    def asked(self, after: timedelta = timedelta(0)) -> dg.RunRequest:
        found = self.look(after)
        assert isinstance(found, dg.RunRequest), found
        return found

    def skipped(self, after: timedelta = timedelta(0)) -> str:
        found = self.look(after)
        assert isinstance(found, dg.SkipReason), found
        return str(found.skip_message)

    def output(self, *agents: str, name: str) -> None:
        """One execution of some agents, ready for review."""
        with self.database.connect() as connection:
            for agent in agents:
                connection.execute("INSERT INTO agent_performance (agent_name, execution_id) VALUES (%s, %s)", [agent, name])
            connection.execute(
                "INSERT INTO content_review_workflows (id, workflow_execution_id) VALUES (md5(%s)::uuid, %s)", [name, name]
            )

    def review(self, name: str, times: int = 1, days_ago: int = 0, *, trainable: bool = True) -> None:
        with self.database.connect() as connection:
            connection.execute(
                "INSERT INTO review_feedback (workflow_id, reviewer_id, decision, reviewed_at, is_training_data)"
                " SELECT md5(%s)::uuid, 'ana ' || n, 'approve', %s::date + time '00:01', %s FROM generate_series(1, %s) AS n",
                [name, TODAY - timedelta(days=days_ago), trainable, times],
            )

    def submit(self, request: dg.RunRequest) -> str:
        """What the daemon does with a request: a run in the queue."""
        tags = {"dagster/sensor_name": "new_feedback_sensor", "dagster/run_key": str(request.run_key)}
        return started(self.instance, dict(request.tags) | tags)

    def fail(self, run_id: str) -> None:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        self.instance.report_run_failed(run)

    def published(self) -> None:
        """What a publication leaves of the changes: nothing."""
        with self.database.connect() as connection:
            connection.execute("DELETE FROM feedback_changes")

    def decisions(self) -> list[str]:
        with self.database.connect() as connection:
            return [kind for (kind,) in connection.execute("SELECT kind FROM trigger_decisions ORDER BY id")]

    def named(self) -> list[str | None]:
        """The runs of the starts."""
        with self.database.connect() as connection:
            rows = connection.execute("SELECT run_id FROM trigger_decisions WHERE kind IN ('fired', 'retry') ORDER BY id")
            return [run_id for (run_id,) in rows]


@pytest.fixture
def office(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """Run records in memory; nothing pending."""
    monkeypatch.setenv("FEEDBACK_DATABASE_URL", database.url)
    settings = Settings(home=tmp_path, store_url=None, quiet_seconds=0, learn_thresholds={"editor": 3})
    with dg.DagsterInstance.ephemeral() as instance:
        yield Office(database, instance, settings)


def test_a_state_that_lasts_is_one_row_and_its_numbers_are_up_to_date(office: Office) -> None:
    assert office.skipped() == "nothing has changed since the last learning run"
    office.output("drafter", name="one")
    office.review("one", 3)
    assert office.skipped(timedelta(hours=2)) == "drafter: 3 of 5 new reviews; oldest waits 2 h"
    assert office.skipped(timedelta(hours=3)) == "drafter: 3 of 5 new reviews; oldest waits 3 h"
    office.review("one")
    assert office.skipped(timedelta(hours=4)).startswith("drafter: 4 of 5")
    assert office.decisions() == ["idle", "waiting"]
    trigger = read_status(office.database)["trigger"]
    assert (trigger["kind"], trigger["agents"]) == ("waiting", {"drafter": 4})
    assert trigger["reason"].startswith("drafter: 4 of 5 new reviews; oldest waits ")
    with office.database.connect() as connection:
        connection.execute("UPDATE feedback_changes SET changed_at = changed_at - interval '2 days'")
    office.skipped()
    # As of now, whenever the last tick was: the daemon may have been down since.
    with office.database.connect() as connection:
        connection.execute("UPDATE trigger_decisions SET decided_at = decided_at - interval '9 days'")
    assert read_status(office.database)["trigger"]["reason"] == "drafter: 4 of 5 new reviews; oldest waits 2 d"
    assert office.decisions() == ["idle", "waiting"]
    office.output("writer", name="two")
    office.review("two")
    office.skipped()
    assert office.decisions() == ["idle", "waiting", "waiting"]


def test_agents_that_cross_together_make_one_run_over_the_days_that_changed(office: Office) -> None:
    office.output("drafter", "writer", name="both")
    office.output("editor", name="own")
    office.review("both", 5, days_ago=4)
    office.review("own", 3, days_ago=1)
    request = office.asked()
    assert request.tags[RANGE_START_TAG] == (TODAY - timedelta(days=4)).isoformat()
    assert request.tags[RANGE_END_TAG] == (TODAY - timedelta(days=1)).isoformat()
    assert request.tags["feedback_pipeline/agents"] == "3"
    assert request.tags["feedback_pipeline/pending"] == "drafter: 5, writer: 5, editor: 3"
    assert request.run_key == f"{request.tags[BATCH_TAG]}/1"
    assert request.tags.items() >= office.ours.tag.items()


def test_a_thousand_agents_that_cross_together_make_one_run(office: Office) -> None:
    with office.database.connect() as connection:
        connection.execute(
            "INSERT INTO agent_performance (agent_name, execution_id)"
            " SELECT 'agent ' || n, 'run ' || n FROM generate_series(1, 1000) n;"
            "INSERT INTO content_review_workflows (id, workflow_execution_id)"
            " SELECT md5('run ' || n)::uuid, 'run ' || n FROM generate_series(1, 1000) n;"
            "INSERT INTO review_feedback (workflow_id, reviewed_at) SELECT md5('run ' || n)::uuid, now() - interval '1 minute'"
            " FROM generate_series(1, 1000) n, generate_series(1, 5)"
        )
    request = office.asked()
    assert request.tags["feedback_pipeline/reviews"] == "5000"
    assert request.tags["feedback_pipeline/agents"].startswith("at least ")  # those of the oldest reviews
    assert all(len(value) < 1000 for value in request.tags.values())
    office.submit(request)
    assert "queued or under way" in office.skipped()
    assert len(office.instance.get_runs()) == 1


def test_daemons_that_decide_in_the_same_moment_start_one_run(office: Office) -> None:
    """Dagster looks for the run key and then makes the run: two daemons at once would make two runs of the same reviews."""
    office.output("editor", name="one")
    office.review("one", 3)
    together = threading.Barrier(3)

    def opened() -> FeatureStore:
        together.wait(timeout=60)  # each has decided to start by now
        return open_store(office.database, office.settings)

    with ThreadPoolExecutor(3) as daemons:
        answers = [answer.result() for answer in [daemons.submit(office.look, store=opened) for _ in range(3)]]
    requests = [answer for answer in answers if isinstance(answer, dg.RunRequest)]
    skipped = [str(answer.skip_message) for answer in answers if isinstance(answer, dg.SkipReason)]
    assert (len(requests), len(skipped)) == (1, 2)
    assert all(message.endswith("; a run for it was asked for a moment ago") for message in skipped)
    run_id = office.submit(requests[0])
    assert "queued or under way" in office.skipped()
    assert (office.decisions(), office.named()) == (["fired", "in_flight"], [run_id])
    with office.database.connect() as connection:
        reasons = connection.execute("SELECT reason FROM trigger_decisions WHERE kind = 'fired'").fetchall()
    assert reasons == [("editor: 3 of 3 new reviews; oldest waits 0 s",)]  # as of the start, whenever it is read


def test_a_request_that_was_lost_on_its_way_to_dagster_is_made_again(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    first = office.asked()
    assert "asked for a moment ago" in office.skipped()
    office.lost()
    again = office.asked()
    assert again.run_key == first.run_key
    assert "asked for a moment ago" in office.skipped()
    run_id = office.submit(again)
    office.lost()
    assert "queued or under way" in office.skipped()
    assert (office.decisions(), office.named()) == (["fired", "in_flight"], [run_id])


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_a_run_that_ends_between_two_looks_is_named_all_the_same(office: Office, status: dg.DagsterRunStatus) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    run_id = started(office.instance, dict(office.asked().tags), status)
    office.look()
    assert office.named()[0] == run_id


def test_a_batch_that_keeps_failing_is_retried_then_left_until_something_new_comes(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    keys = []
    for attempt in range(1 + MAX_RETRIES):
        after = FIRST_PAUSE * PAUSES[min(attempt, 3) - 1] + timedelta(seconds=1) if attempt else timedelta(0)
        request = office.asked(after)
        keys.append(request.run_key)
        run_id = office.submit(request)
        assert "queued or under way" in office.skipped()
        office.fail(run_id)
        if attempt < MAX_RETRIES:
            assert "failed, the next starts in" in office.skipped()
    assert len(set(keys)) == 1 + MAX_RETRIES
    assert "gave up after 4 failed runs" in office.skipped(timedelta(hours=5))
    assert office.decisions() == [
        "fired",
        "in_flight",
        "pausing",
        *["retry", "in_flight", "pausing"] * 2,
        "retry",
        "in_flight",
        "gave_up",
    ]
    assert office.named() == [run.run_id for run in reversed(office.instance.get_runs())]

    office.review("one")
    assert "4 runs in a row failed" in office.skipped()
    fresh = office.asked(FIRST_PAUSE * PAUSES[-1] + timedelta(seconds=1))
    assert fresh.tags[BATCH_TAG] != request.tags[BATCH_TAG]
    assert str(fresh.run_key).endswith("/1")


def test_an_attempt_has_a_number_of_its_own_though_earlier_ones_were_deleted(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    first = office.submit(office.asked())
    office.fail(first)
    second = office.asked(FIRST_PAUSE + timedelta(seconds=1))
    office.fail(office.submit(second))
    office.instance.delete_run(first)
    third = office.asked(FIRST_PAUSE * sum(PAUSES))
    assert str(second.run_key).endswith("/2")
    assert str(third.run_key).endswith("/3")


def test_failures_before_the_last_publication_are_over(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    beside = office.submit(office.asked())
    with office.database.connect() as connection:
        connection.execute(
            "INSERT INTO learning_runs (learning_run_id, dagster_run_id, started_at, n_reviews, n_contents, n_agents,"
            " n_reviewers, code_version) VALUES (gen_random_uuid(), %s, now(), 3, 1, 1, 3, 'test')",
            [beside],
        )
    office.published()
    office.fail(beside)  # the predictor had no MLflow; what agents read was published
    assert office.skipped() == "nothing has changed since the last learning run"
    office.review("one", 3)
    assert office.decisions()[-1] == "idle"
    assert str(office.asked().run_key).endswith("/1")


def test_a_training_that_succeeds_does_not_make_good_a_batch_that_failed(office: Office) -> None:
    """After four failures one retraining would empty the list of failures, and the batch would be tried for ever."""
    office.output("editor", name="one")
    office.review("one", 3)
    request = office.asked()
    for _ in range(1 + MAX_RETRIES):
        office.fail(office.submit(request))
    long = timedelta(hours=5)
    assert "gave up after 4 failed runs" in office.skipped(long)
    training = {**office.ours.tag, BATCH_TAG: "retrain model 1"}
    started(office.instance, training, dg.DagsterRunStatus.SUCCESS, assets=frozenset(FORECAST_ASSETS))
    assert "gave up after 4 failed runs" in office.skipped(long)


def test_a_training_that_fails_delays_no_learning(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    started(office.instance, dict(office.ours.tag), dg.DagsterRunStatus.FAILURE, assets=frozenset(FORECAST_ASSETS))
    assert str(office.asked().run_key).endswith("/1")


def test_a_canceled_run_counts_as_an_attempt_and_a_run_of_another_installation_does_not_count(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    request = office.asked()
    foreign = dict(request.tags) | OTHERS
    started(office.instance, foreign, dg.DagsterRunStatus.STARTED)
    started(office.instance, foreign, dg.DagsterRunStatus.FAILURE)
    office.lost()
    assert office.asked().run_key == request.run_key
    started(office.instance, dict(request.tags), dg.DagsterRunStatus.CANCELED)
    assert "1 run failed" in office.skipped()


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING])
def test_any_run_that_learns_is_waited_for(office: Office, status: dg.DagsterRunStatus) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    by_hand = started(office.instance, {}, status)
    assert f"run {by_hand[:8]} is queued or under way" in office.skipped()


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED])
def test_a_job_of_the_same_name_of_another_team_is_not_waited_for(office: Office, status: dg.DagsterRunStatus) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    started(office.instance, {}, status, location="another_team.definitions")
    job = build_defs().resolve_job_def(learn.name)
    office.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)  # of a process that nobody knows
    assert isinstance(office.look(), dg.RunRequest)
    assert run_in_flight(office.instance, Ours(office.ours.tag)) is None


def test_the_sensors_know_their_code_location(office: Office) -> None:
    """As the daemon calls them: a run of ours is waited for before it is tagged, one of another location never."""
    resources: dict[str, Any] = {
        "database": DatabaseResource(url=office.database.url),
        "feature_store": FeatureStoreResource(root=office.settings.store),
    }

    def said(sensor: dg.SensorDefinition) -> str:
        return str(getattr(sensor(context(office.instance), **resources), "skip_message", ""))

    for job, location in ((learn.name, "another_team.definitions"), ("forecast", "another_team.definitions")):
        started(office.instance, {}, job=job, location=location)
        started(office.instance, OTHERS, job=job)
    assert said(new_feedback_sensor) == "nothing has changed since the last learning run"
    assert said(outputs_without_forecast).startswith("no output waits")
    for job in (learn.name, "forecast"):
        started(office.instance, {}, job=job)
    assert "queued or under way" in said(new_feedback_sensor)
    assert said(outputs_without_forecast) == "a run that forecasts is under way"


def test_a_run_from_the_lineage_that_takes_the_lock_is_waited_for_and_one_that_forecasts_is_not(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    job, tags = build_defs().resolve_job_def("forecast"), dict(office.ours.tag)
    office.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    assert isinstance(office.look(), dg.RunRequest)
    office.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags | PASS_TAG)
    assert "queued or under way" in office.skipped()


def test_a_late_commit_counts_when_it_is_there(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 2)
    with office.database.connect() as late:
        late.execute(
            "INSERT INTO review_feedback (workflow_id, reviewed_at) VALUES (md5('one')::uuid, now() - interval '1 hour')"
        )
        office.review("one", 0)
        assert office.skipped().startswith("editor: 2 of 3")
    assert office.asked().tags["feedback_pipeline/pending"] == "editor: 3"


def test_deleted_and_edited_reviews_count_for_their_agent(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 3)
    office.published()
    with office.database.connect() as connection:
        connection.execute("DELETE FROM review_feedback WHERE reviewer_id = 'ana 1'")
    assert office.skipped().startswith("editor: 1 of 3")
    with office.database.connect() as connection:
        connection.execute("UPDATE review_feedback SET decision = 'reject' WHERE reviewer_id = 'ana 2'")
        connection.execute("UPDATE review_feedback SET is_training_data = false WHERE reviewer_id = 'ana 3'")
    assert office.asked().tags["feedback_pipeline/pending"] == "editor: 3"


def test_reviews_whose_execution_is_gone_too_cross_under_a_name_of_their_own(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 5)
    office.published()
    with office.database.connect() as connection:
        connection.execute("DELETE FROM content_review_workflows; DELETE FROM agent_performance; DELETE FROM review_feedback")
    assert office.asked().tags["feedback_pipeline/pending"] == "unknown agent: 5"
    assert "unknown agent" not in {agent["agent_name"] for agent in read_status(office.database)["agents"]}


def test_an_emptied_table_is_learned_at_once(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one")
    office.published()
    with office.database.connect() as connection:
        connection.execute("TRUNCATE review_feedback")
    assert office.asked().tags["feedback_pipeline/reason"] == "table review_feedback was emptied"


def test_changes_that_teach_nothing_start_no_run_and_are_taken_along_after_a_week(office: Office) -> None:
    office.output("editor", name="one")
    office.review("one", 50, trainable=False)
    office.review("one", 50, days_ago=-3)
    office.review("one", 1)
    assert office.skipped().startswith("editor: 1 of 3")
    request = office.asked(timedelta(days=7))
    assert request.tags["feedback_pipeline/reason"].startswith("1 new review; the oldest change waits 7 d")
    assert (request.tags[RANGE_START_TAG], request.tags[RANGE_END_TAG]) == (TODAY.isoformat(), TODAY.isoformat())


def test_a_clock_that_was_moved_back_delays_nothing(office: Office) -> None:
    office.settings = office.settings.model_copy(update={"quiet_seconds": 60.0, "longest_wait_seconds": 600.0})
    office.output("editor", name="one")
    office.review("one", 3)
    assert "the last change is 0 s old" in office.skipped()
    request = office.asked(-timedelta(days=1))
    office.fail(office.submit(request))
    assert office.asked(-timedelta(days=1)).run_key != request.run_key


def test_a_count_that_cannot_be_read_raises(office: Office) -> None:
    with office.database.connect() as connection:
        connection.execute("DROP TABLE feedback_changes")
    resources: dict[str, Any] = {
        "database": DatabaseResource(url=office.database.url),
        "feature_store": FeatureStoreResource(root=office.settings.store),
    }
    with pytest.raises(dg.Failure, match="feedback_changes"):
        new_feedback_sensor(context(office.instance), **resources)


@pytest.fixture
def reopened(environment: Environment) -> Callable[[], Office]:
    """After a restart of everything: objects that remember nothing, on the stores that do."""
    settings = environment.settings.model_copy(update={"quiet_seconds": 0.0})
    return lambda: Office(Database(environment.database.url), dg.DagsterInstance.get(), settings)


def test_below_crossing_in_flight_failed_retried_succeeded_quiet(reopened: Callable[[], Office]) -> None:
    """Between any two ticks the daemon, its cursor and the code server are lost."""
    office = reopened()
    with office.database.connect() as connection:
        set_lookback(connection, None)
    for number in range(4):
        office.output("drafter", name=f"content {number}")
    office.review("content 0", 4, days_ago=3)
    assert reopened().skipped().startswith("drafter: 4 of 5 new reviews")

    office.review("content 1", 2, days_ago=1)
    request = reopened().asked()
    run_id = reopened().submit(request)
    assert f"run {run_id[:8]} is queued or under way" in reopened().skipped()
    reopened().fail(run_id)
    assert "1 run failed" in reopened().skipped()

    pause = FIRST_PAUSE * PAUSES[0] + timedelta(seconds=1)
    retry = reopened().asked(pause)
    assert retry.run_key != request.run_key
    assert retry.tags[BATCH_TAG] == request.tags[BATCH_TAG]
    office = reopened()
    tags = dict(retry.tags) | {"dagster/run_key": str(retry.run_key)}
    result = build_defs().resolve_job_def(learn.name).execute_in_process(instance=office.instance, tags=tags)
    assert result.success

    assert reopened().skipped(pause) == "nothing has changed since the last learning run"
    status = read_status(office.database)
    assert status["last_run"]["dagster_run_id"] == result.run_id
    assert {agent["agent_name"]: agent["pending"] for agent in status["agents"]} == {"drafter": 0}
    kinds = ["waiting", "fired", "in_flight", "pausing", "retry", "idle"]
    assert office.decisions() == kinds

    # A change that nothing recorded: the daily comparison finds the day, and the sensor asks for it.
    with office.database.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE review_feedback SET decision = 'reject' WHERE reviewed_at < now() - interval '2 days'")
    assert build_defs().resolve_job_def("daily_check").execute_in_process(instance=office.instance).success
    found = reopened().asked(pause)
    assert found.tags["feedback_pipeline/reason"] == "1 day is to be read again after the daily check"
    assert found.tags[RANGE_START_TAG] == (TODAY - timedelta(days=3)).isoformat()
    with office.database.connect() as connection:
        warned = connection.execute("SELECT reason FROM trigger_decisions WHERE kind = 'safety_net'").fetchall()
    day = TODAY - timedelta(days=3)
    assert warned == [(f"1 day differs from the database: {day} (reviews); read again by the next pass",)]
