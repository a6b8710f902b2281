"""What goes with a reviewer, a review and a content; and a forgetting that is interrupted after any of its steps."""

import contextlib
import dataclasses
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from feedback_pipeline.errors import LearningError, NotFound, StoreError, StoreUnavailable, UserError
from feedback_pipeline.learning_pass import forgetting_steps
from feedback_pipeline.learning_pass.forgetting import begin_forgetting, finish_forgetting, forget
from feedback_pipeline.learning_pass.forgetting_steps import Installation
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import World, simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.bulk import stable_id
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.forget_receipts import (
    BEGUN_AGAIN,
    STATES,
    Receipt,
    advance,
    hashed,
    read_receipt,
    read_unfinished,
    unfinished_receipts,
)
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.reading_models import read_champion
from feedback_pipeline.storage.reviews_intake import insert_reviews
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline_tests.passes import Pass
from feedback_pipeline_tests.storage.forecasts import champion_says, forecast
from feedback_pipeline_tests.storage.tracking_stores import trained
from feedback_pipeline_tests.test_reference import tables_of
from feedback_pipeline_tests.traces import traces

pytestmark = pytest.mark.slow
UNTIL = date(2026, 1, 31)


class Killed(BaseException):
    """The process is gone."""


@dataclass
class FakeTracking:
    """Notes what would be kept in MLflow, or is away."""

    away: bool = False
    kept: list[list[int]] = field(default_factory=list)

    def remove_trainings(self, kept: Collection[int], installation: str, day: str) -> list[int]:
        assert installation
        assert day
        if self.away:
            raise StoreUnavailable("MLflow is away")
        self.kept.append(sorted(kept))
        return []


@dataclass
class Bench:
    """An installation whose learning pass only reads the days: what a pass learns is tested where passes are."""

    plain: Pass
    world: World
    tracking: FakeTracking = field(default_factory=FakeTracking)
    relearned: list[str] = field(default_factory=list)
    fails: bool = False

    @property
    def database(self) -> Database:
        return self.plain.database

    @property
    def installation(self) -> Installation:
        return Installation(self.database, self.plain.settings, cast(Tracking, self.tracking), self._relearn)

    def _relearn(self, days: Sequence[date]) -> str:
        if self.fails:
            raise LearningError("step x failed")
        self.plain.extract(list(days))
        run_id = f"dagster {len(self.relearned)}"
        self.relearned.append(run_id)
        self.published(run_id)
        return run_id

    def published(self, dagster_run_id: str) -> None:
        now = datetime.now(UTC)
        self.execute(
            "INSERT INTO learning_runs (learning_run_id, dagster_run_id, started_at, n_reviews, n_contents, n_agents,"
            " n_reviewers, code_version) VALUES (%s, %s, %s, 1, 1, 1, 1, '1')",
            uuid.uuid4(),
            dagster_run_id,
            now,
        )

    def execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def count(self, table: str) -> int:
        return int(self.execute(f"SELECT count(*) FROM {table}")[0][0])

    def traces(self, *words: str) -> set[tuple[str, str]]:
        """Also in what the server has logged."""
        log = Path(self.execute("SHOW data_directory")[0][0]).with_name("server.log")
        logged = {(word, log.name) for word in words if word in log.read_text()}
        return logged | traces(words, [self.database], [Path(self.plain.settings.home)])

    def people(self) -> list[str]:
        return list(self.world.reviews["reviewer_id"].value_counts().index)


@pytest.fixture(scope="module")
def small_world() -> World:
    return simulate(WorldSpec(agents=2, executions=25, reviewers=6, days=4, seed=3, until=UNTIL))


@pytest.fixture
def bench(database: Database, tmp_path: Path, small_world: World) -> Bench:
    """The world in the database and its days in the store, one learning run, a champion and what it said."""
    write_world(database, small_world)
    made = Bench(Pass.at(database, tmp_path), small_world)
    made.plain.extract()
    made.published("first")
    first = small_world.reviews.iloc[0]
    with database.connect() as connection:
        said = [
            forecast(first["execution_id"], first["agent_name"], reviewer_id=name)
            for name in (None, *sorted(set(small_world.reviews["reviewer_id"])))
        ]
        champion_says(connection, said)
    _as_of_a_pass(made)
    return made


def _as_of_a_pass(bench: Bench) -> None:
    """Rows that name reviewers and reviews, as passes leave them: models in versions, evidence, a question, an entry."""
    for name in bench.people():
        for version in (1, 2):
            bench.execute("INSERT INTO human_preference_models (reviewer_id, model_version) VALUES (%s, %s)", name, version)
    ids = [uuid.UUID(value) for value in bench.world.reviews["feedback_id"]]
    agent = bench.world.reviews["agent_name"].iloc[0]
    for place, (superseded, applied) in enumerate([(False, 0), (True, 0), (True, 7)]):
        bench.execute(
            "INSERT INTO agent_learning_patterns (agent_name, pattern_type, pattern_description, input_features,"
            " output_characteristics, human_feedback_signals, sample_size, learned_from_feedback_ids, superseded_by_run,"
            " times_applied, sentence) VALUES (%s, 'quality_threshold', %s, '{}', '{\"cut\": 3}', '{}', 9, %s, %s, %s, 'said')",
            *(agent, f"f{place} | threshold", ids, uuid.uuid4() if superseded else None, applied),
        )
    bench.execute(
        "INSERT INTO rejected_feedback (source, row_id, reason) SELECT 'review_feedback', id::text, 'score out of bounds'"
        " FROM review_feedback"
    )
    bench.execute("ANALYZE")  # as autovacuum does: Postgres keeps frequent values of every column


def _receipt(bench: Bench, receipt_id: str) -> Receipt:
    return read_receipt(bench.database, receipt_id)


CLEANING = "cleaning"


@contextmanager
def _interrupted_at(place: str) -> Iterator[None]:
    """The process dies when a step is complete and not yet written down, or before Postgres drops what is left."""

    def die(connection: Connection, receipt: Receipt, reached: str, now: datetime, **found: object) -> None:
        if reached == place:
            raise Killed
        advance(connection, receipt, reached, now, **found)

    def die_at_once(database: Database) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(forgetting_steps, "advance", die)
        if place == CLEANING:
            monkeypatch.setattr(forgetting_steps, "clean_pages", die_at_once)
        yield


def _fail_to_write(bench: Bench, reviewer: str, comment: str) -> None:
    """A review that does not get in: its statement fails."""
    one = {"client_id": str(uuid.uuid4()), "execution_id": bench.world.reviews["execution_id"].iloc[0], "comments": comment}
    with bench.database.connect() as locking, bench.database.connect() as writing:
        locking.execute("LOCK TABLE review_feedback")
        writing.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            insert_reviews(writing, [one | {"reviewer_id": reviewer, "decision": "reject"}])


def test_a_reviewer_is_gone_whatever_interrupts_it(bench: Bench) -> None:
    for place, name in zip((*STATES[1:], CLEANING), bench.people(), strict=True):
        reviews = bench.world.reviews.loc[bench.world.reviews["reviewer_id"] == name, "feedback_id"].tolist()
        words = (name, reviews[0], reviews[-1])
        assert {word for word, _ in bench.traces(*words)} == set(words)
        _fail_to_write(bench, name, comment=f"marmalade of {name}")
        with _interrupted_at(place), pytest.raises(Killed):
            forget(bench.installation, "reviewer", name)
        (unfinished,) = read_unfinished(bench.database)
        assert unfinished.state == ("swept" if place == CLEANING else STATES[STATES.index(place) - 1])
        # Only the receipt still knows whom to look for, and no longer than that is needed.
        assert (unfinished.target is None) == (unfinished.state == "swept")
        assert not bench.execute("SELECT FROM review_feedback WHERE reviewer_id = %s", name)
        if place == CLEANING:
            assert (name, f"{bench.database.name}.pg_statistic") in bench.traces(name)
        runs = len(bench.relearned)

        (document,) = finish_forgetting(bench.installation)

        assert (document["state"], document["receipt_id"]) == ("done", unfinished.id)
        assert list(document["times"]) == list(STATES)
        assert document["id_sha256"] == hashed(document["salt"], name)
        assert document["counts"]["review_feedback"] == len(reviews)
        assert document["dagster_run_id"] == bench.relearned[-1]
        # A pass that was published is repeated only where that was not written down.
        assert len(bench.relearned) - runs == (place in ("withdrawn", "relearned"))
        assert bench.traces(*words, "marmalade") == set()
        assert bench.plain.pending() == []
        assert finish_forgetting(bench.installation) == []
    assert bench.count("forget_receipts") == 6


def test_what_goes_with_a_reviewer(bench: Bench) -> None:
    name, other = bench.people()[:2]
    document = forget(bench.installation, "reviewer", name)
    left = bench.world.reviews[bench.world.reviews["reviewer_id"] != name]
    assert bench.count("review_feedback") == len(left)
    assert bench.count("agent_performance") == len(bench.world.executions)
    assert document["counts"] == {
        "review_feedback": len(bench.world.reviews) - len(left),
        "rejected_feedback": len(bench.world.reviews) - len(left),
        "human_preference_models": 2,
        "quality_forecasts": 1,
        "agent_learning_patterns": 3,
    }
    assert bench.execute("SELECT count(*) FROM human_preference_models WHERE reviewer_id = %s", other) == [(2,)]
    # What is not found any more goes, unless it was applied: then its counters stay.
    rows = bench.execute(
        "SELECT times_applied, sentence, learned_from_feedback_ids FROM agent_learning_patterns ORDER BY times_applied"
    )
    (live, applied) = rows
    assert (live[1], set(map(str, live[2]))) == ("said", set(left["feedback_id"]))
    assert applied == (7, None, None)
    top, receipt = tables_of("`feedback-pipeline forget --reviewer ID")
    assert (list(top), list(receipt)) == (["receipts"], list(document))
    assert set(STATES) <= set(re.findall(r"\w+", receipt["state"]))
    # The model that knew them is champion no more, and has no files any more.
    with bench.database.snapshot() as connection:
        assert read_champion(connection) is None
    assert bench.tracking.kept == [[]]
    assert bench.execute("SELECT tags ? 'forgotten', champion_until >= champion_since FROM quality_models") == [(True, True)]
    assert document["model_versions"] == [1]


def test_one_review_and_one_content(bench: Bench) -> None:
    reviews = bench.world.reviews
    one, content = str(reviews["feedback_id"].iloc[0]), str(reviews["content_id"].iloc[-1])
    document = forget(bench.installation, "feedback", one.upper())
    assert document["counts"]["review_feedback"] == 1
    assert document["id_sha256"] == hashed(document["salt"], one)
    assert bench.traces(one) == set()

    of_content = reviews[reviews["content_id"] == content]
    execution = str(of_content["execution_id"].iloc[0])
    (run,) = bench.execute("SELECT id::text FROM agent_performance WHERE execution_id = %s", execution)
    bench.execute(
        "INSERT INTO learning_applications VALUES (gen_random_uuid(), 'p', 1, %s, %s, true, .5, NULL, now())",
        *(of_content["agent_name"].iloc[0], execution),
    )
    document = forget(bench.installation, "content", content)
    assert (
        document["counts"].items()
        >= {
            "review_feedback": len(of_content),
            "content_review_workflows": 1,
            "agent_performance": 1,
            "learning_applications": 1,
        }.items()
    )
    assert document["counts"]["agent_decisions"] >= 1
    assert bench.traces(content, execution, run[0], *of_content["feedback_id"]) == set()
    assert bench.count("review_feedback") == len(reviews) - 1 - len(of_content)


def test_an_execution_of_two_contents_stays(bench: Bench) -> None:
    content, execution = bench.world.reviews[["content_id", "execution_id"]].iloc[0]
    other = str(uuid.uuid4())
    bench.execute("INSERT INTO content_review_workflows (content_id, workflow_execution_id) VALUES (%s, %s)", other, execution)
    document = forget(bench.installation, "content", content)
    assert document["counts"]["content_review_workflows"] == 1
    assert "agent_performance" not in document["counts"]
    assert bench.execute("SELECT count(*) FROM agent_performance WHERE execution_id = %s", execution) == [(1,)]
    assert bench.traces(content) == set()


def test_a_question_to_a_reviewer_goes_with_its_trial(bench: Bench) -> None:
    name, (agent, *_) = bench.people()[0], bench.world.reviews["agent_name"]
    bench.execute(
        "INSERT INTO agent_recommendations (recommendation_id, agent_name, rank, kind, direction, target, expected_effect,"
        " evidence, text, action, learning_run_id) SELECT '00000000-0000-4000-8000-00000000000a', %s, 1, 'ask_reviewer_standard',"
        " 'ask', '{}', '{}', '{}', 'ask', jsonb_build_object('reviewer_id', %s::text), learning_run_id FROM learning_runs",
        *(agent, name),
    )
    bench.execute(
        "INSERT INTO pattern_effects (pattern_id, trial, agent_name, state, p_on, target, reason, since, started_at)"
        " VALUES ('00000000-0000-4000-8000-00000000000a', 1, %s, 'probation', .5, '{}', 'on trial', now(), now())",
        agent,
    )
    counts = forget(bench.installation, "reviewer", name)["counts"]
    assert (counts["agent_recommendations"], counts["pattern_effects"]) == (1, 1)
    assert bench.traces(name) == set()


def _put_aside(bench: Bench, agent: str, reviewer: str, feature: str) -> str:
    """The trial of a question that is not recommended any more, with an application; the id, as a pass computes it."""
    question = str(stable_id("recommendation", agent, f"ask_reviewer_standard | {feature} | {reviewer}"))
    bench.execute(
        "INSERT INTO pattern_effects (pattern_id, trial, agent_name, state, p_on, target, reason, since, started_at)"
        " SELECT %s, trial, %s, state, 0, '{}', 'was on trial', now(), now()"
        " FROM (VALUES (1, 'retired'), (2, 'candidate')) AS trials (trial, state)",
        *(question, agent),
    )
    bench.execute(
        "INSERT INTO learning_applications VALUES (gen_random_uuid(), %s, 1, %s, %s, true, .5, NULL, now())",
        *(question, agent, str(uuid.uuid4())),
    )
    return question


def test_questions_that_were_put_aside_go_too(bench: Bench) -> None:
    """Their trials name nobody but by a hash that whoever knows the reviewer can compute."""
    name, other = bench.people()[:2]
    agent, second = sorted(set(bench.world.reviews["agent_name"]))
    # Own features of the agents: one is known from the model of the reviewer, one from a trial, one from a correlation.
    bench.execute(
        'UPDATE human_preference_models SET style_preferences = \'{"slopes": {"emojis": {}}}\' WHERE reviewer_id = %s'
        " AND model_version = 1",
        name,
    )
    bench.execute(
        "INSERT INTO pattern_effects (pattern_id, trial, agent_name, state, p_on, target, recommendation, reason, since,"
        " started_at) VALUES ('p', 1, %s, 'candidate', 0, '{}', '{\"feature\": \"hedges\"}', 'not now', now(), now())",
        agent,
    )
    bench.execute(
        "INSERT INTO feedback_quality_correlations (agent_name, agent_output_feature, human_feedback_aspect, sample_size)"
        " VALUES (%s, 'puns', 'overall', 9)",
        agent,
    )
    asked = [_put_aside(bench, agent, name, feature) for feature in ("word_count", "emojis", "hedges", "puns")]
    asked += [_put_aside(bench, second, name, feature) for feature in ("reasoning_length", "emojis")]
    others = _put_aside(bench, agent, other, "word_count")
    counts = forget(bench.installation, "reviewer", name)["counts"]
    assert (counts["pattern_effects"], counts["learning_applications"]) == (2 * len(asked), len(asked))
    assert "agent_recommendations" not in counts
    left = bench.execute("SELECT DISTINCT pattern_id FROM pattern_effects ORDER BY 1")
    assert left == sorted([(others,), ("p",)])
    assert bench.execute("SELECT pattern_id FROM learning_applications") == [(others,)]
    assert bench.traces(name, *asked) == set()


def test_a_model_whose_training_died_before_it_was_written_down_goes(
    bench: Bench, make_database: Callable[[str], Database], mlflow_template: str, tmp_path: Path
) -> None:
    """MLflow has its version, Postgres has not; what the forgetting trains itself stays."""
    tracking = Tracking(make_database(mlflow_template).sqlalchemy_url(), str(tmp_path / "mlflow"))
    with bench.database.connect() as connection:
        own = read_installation(connection).id
    known, lost = trained(tracking, 5.0, own), trained(tracking, 6.0, own)

    def relearn(days: Sequence[date]) -> str:
        fresh = trained(tracking, 7.0, own)
        with bench.database.connect() as connection:
            champion_says(connection, [], fresh)
        return bench._relearn(days)

    document = forget(dataclasses.replace(bench.installation, tracking=tracking, relearn=relearn), "reviewer", bench.people()[0])
    fresh, *others = tracking.models.versions()
    assert (fresh.number, fresh.has_files, document["champion"]) == (lost + 1, True, lost + 1)
    assert tracking.models.load(fresh.number).columns
    assert [(version.number, version.has_files, "forgotten" in version.tags) for version in others] == [
        *((lost, False, True), (known, False, True))
    ]
    assert document["model_versions"] == [known, lost]


def test_an_unknown_id_changes_nothing(bench: Bench) -> None:
    tables = ("review_feedback", "quality_forecasts", "human_preference_models", "feedback_changes", "forget_receipts")
    before = [bench.count(table) for table in tables]
    for kind in ("reviewer", "feedback", "content"):
        with pytest.raises(NotFound, match=f"no {kind} 'nobody'.*nothing was changed"):
            forget(bench.installation, kind, "nobody")
    for kind, identifier in (("reviewer", ""), ("agent", "writer")):
        with pytest.raises(UserError, match="name a reviewer, feedback, content"):
            forget(bench.installation, kind, identifier)
    assert [bench.count(table) for table in tables] == before
    with bench.database.snapshot() as connection:
        assert read_champion(connection) is not None
    assert (bench.relearned, bench.tracking.kept) == ([], [])


def test_several_unfinished_ones_share_one_pass_and_say_how_to_go_on(bench: Bench) -> None:
    first, second, third = bench.people()[:3]
    bench.fails = True
    with pytest.raises(LearningError, match=r"step x failed; the rows are deleted.*`feedback-pipeline forget` without an id"):
        forget(bench.installation, "reviewer", first)
    begin_forgetting(bench.installation, "reviewer", second)
    # Whatever pass comes first, there is nothing of them to read.
    assert traces([first, second], [], [Path(bench.plain.settings.home)]) == set()
    bench.fails, bench.tracking.away = False, True
    with pytest.raises(StoreUnavailable, match=r"MLflow is away; the rows are deleted"):
        forget(bench.installation, "reviewer", third)
    unfinished = read_unfinished(bench.database)
    assert [receipt.state for receipt in unfinished] == ["relearned"] * 3
    with bench.database.connect() as connection:
        assert unfinished_receipts(connection) == 3
    # Whoever asks for them is told why they do not go on; what failed before has been got over.
    assert all("MLflow is away; the rows are deleted" in receipt.document["failure"]["reason"] for receipt in unfinished)
    # Asked for again it is not unknown, but what is under way.
    bench.tracking.away = False
    document = forget(bench.installation, "reviewer", first)
    assert document["state"] == "done"
    assert document["id_sha256"] == hashed(document["salt"], first)
    assert document["failure"] is None
    assert read_unfinished(bench.database) == []
    with bench.database.connect() as connection:
        assert unfinished_receipts(connection) == 0
    assert (len(bench.relearned), bench.tracking.kept) == (1, [[]])
    assert bench.traces(first, second, third) == set()


def test_two_processes_finish_the_same_once(bench: Bench) -> None:
    begin_forgetting(bench.installation, "reviewer", bench.people()[0])
    learning, go_on = threading.Event(), threading.Event()

    def relearn(days: Sequence[date]) -> str:
        learning.set()
        assert go_on.wait(60)
        return bench._relearn(days)

    slow = dataclasses.replace(bench.installation, relearn=relearn)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(finish_forgetting, slow)
        assert learning.wait(60)
        second = pool.submit(finish_forgetting, slow)
        asking = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s"
        deadline = time.monotonic() + 60
        while bench.execute(asking, "SELECT pg_try_advisory_lock%")[0][0] < 2:
            assert time.monotonic() < deadline
        go_on.set()
        assert [document["state"] for document in first.result()] == ["done"]
        assert second.result() == []
    assert len(bench.relearned) == 1


def test_what_is_left_behind_by_a_process_that_died(bench: Bench, tmp_path: Path) -> None:
    """A data file that no manifest names, an artifact that no list names."""
    name = bench.people()[0]
    days = next(iter((tmp_path / "store").iterdir())) / "days"
    file = next(each for each in sorted(days.rglob("human_feedback-*.parquet")) if name in str(_column(each)))
    (file.parent / "human_feedback-000000000000000000000000.parquet").write_bytes(file.read_bytes())
    (file.parent / "feature_table-0.parquet.abc.tmp").write_bytes(file.read_bytes()[:200])
    orphan = days.parent / "results" / "a-run" / "preference_models"
    orphan.mkdir(parents=True)
    (orphan / "reviews.parquet").write_bytes(file.read_bytes())
    forget(bench.installation, "reviewer", name)
    assert bench.traces(name) == set()
    assert not list((tmp_path / "store").rglob("*.tmp"))


def _column(file: Path) -> list[Any]:
    import pyarrow.parquet as pq

    return list(pq.read_table(file, columns=["reviewer_id"])["reviewer_id"].to_pylist())


def test_before_anything_was_learned_nothing_is_learned(database: Database, tmp_path: Path, small_world: World) -> None:
    write_world(database, small_world)
    bench = Bench(Pass.at(database, tmp_path), small_world)
    document = forget(bench.installation, "reviewer", bench.people()[0])
    assert (document["learning_run_id"], document["champion"], document["model_versions"]) == (None, None, [])
    assert (bench.relearned, bench.tracking.kept) == ([], [[]])
    assert bench.traces(bench.people()[0]) == set()


def test_a_pass_that_is_running_is_waited_for(bench: Bench) -> None:
    """It would publish the reviewer again: it has read the reviews already."""
    from feedback_pipeline.storage.pass_lock import learning_pass_lock

    class Waiting(Exception):
        """Instead of the end of the other pass."""

    def wait() -> None:
        raise Waiting

    asked = dataclasses.replace(bench.installation, on_wait=wait)
    with learning_pass_lock(bench.database, lambda: None), pytest.raises(Waiting):
        forget(asked, "reviewer", bench.people()[0])
    assert bench.count("review_feedback") == len(bench.world.reviews)
    assert bench.count("forget_receipts") == 0


@contextmanager
def _writer(bench: Bench, statement: str, *values: object) -> Iterator[Connection]:
    """A transaction of the platform that has written and not yet committed."""
    with contextlib.closing(bench.database.connect()) as connection:
        connection.execute(statement.encode(), values)
        yield connection


REVIEW = (
    "INSERT INTO review_feedback (workflow_id, reviewer_id, decision, comments, reviewed_at, is_training_data)"
    " SELECT workflow_id, %s, 'reject', 'late marmalade', reviewed_at, true FROM review_feedback LIMIT 1"
)


def test_what_is_committed_while_it_is_forgotten_goes_too(bench: Bench) -> None:
    """A pass has learned it by then: all begins again."""
    name = bench.people()[0]
    reviews = int((bench.world.reviews["reviewer_id"] == name).sum())
    with _writer(bench, REVIEW, name) as late:

        def relearn(days: Sequence[date]) -> str:
            late.commit()
            return bench._relearn([*days, *bench.plain.pending()])

        document = forget(dataclasses.replace(bench.installation, relearn=relearn), "reviewer", name)
    assert document["state"] == "done"
    assert (document["counts"]["review_feedback"], document["counts"][BEGUN_AGAIN]) == (reviews + 1, 1)
    assert list(document["times"]) == list(STATES)
    assert document["dagster_run_id"] == bench.relearned[-1] == "dagster 1"
    assert bench.traces(name, "late marmalade") == set()
    assert bench.plain.pending() == []


def _until_it_waits(bench: Bench) -> None:
    """For a transaction that writes; the look itself is one of two."""
    asking = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%%FROM pg_locks%%RowExcl%%'"
    )
    deadline = time.monotonic() + 60
    while bench.execute(asking)[0][0] < 2:
        assert time.monotonic() < deadline


def test_a_transaction_that_is_open_all_the_while_is_waited_for(bench: Bench) -> None:
    name = bench.people()[0]
    with ThreadPoolExecutor(1) as pool, _writer(bench, REVIEW, name) as late:
        impatient = dataclasses.replace(bench.installation, writers_may_take_s=0.3)
        with pytest.raises(StoreUnavailable, match=rf"open for 0.3 s.*: {late.info.backend_pid}\); the rows are deleted"):
            forget(impatient, "reviewer", name)
        (unfinished,) = read_unfinished(bench.database)
        assert unfinished.state == "retrained"
        finishing = pool.submit(finish_forgetting, bench.installation)
        _until_it_waits(bench)
        late.commit()
        (document,) = finishing.result(60)
    assert (document["state"], document["counts"][BEGUN_AGAIN]) == ("done", 1)
    assert bench.traces(name, "late marmalade") == set()


def _until_it_is(bench: Bench, state: str) -> Receipt:
    deadline = time.monotonic() + 60
    while True:
        (receipt,) = read_unfinished(bench.database)
        if receipt.state == state:
            return receipt
        assert time.monotonic() < deadline, receipt.state
        time.sleep(0.05)


def test_whoever_begins_to_write_later_holds_up_nothing_but_the_cleaning(bench: Bench) -> None:
    first, second = bench.people()[:2]
    with ThreadPoolExecutor(1) as pool, _writer(bench, REVIEW, first) as early:
        forgetting = pool.submit(forget, bench.installation, "reviewer", first)
        _until_it_waits(bench)
        with _writer(bench, REVIEW, second):
            early.rollback()
            assert _until_it_is(bench, "swept").target is None
            assert not forgetting.done()
        document = forgetting.result(60)
    assert document["state"] == "done"
    assert BEGUN_AGAIN not in document["counts"]


@contextmanager
def _named_session(database: Database, name: str) -> Iterator[Connection]:
    with contextlib.closing(database.connect()) as connection:
        connection.execute("SELECT set_config('application_name', %s, false)", (name,))
        connection.commit()
        yield connection


def _hold_snapshot(connection: Connection) -> None:
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute("SELECT count(*) FROM review_feedback")


def _write(connection: Connection) -> None:
    """A snapshot that is taken meanwhile, in any database, begins there: it may come between a look and VACUUM."""
    connection.execute("SELECT pg_current_xact_id()")


@pytest.mark.parametrize(("begin", "elsewhere"), [(_hold_snapshot, False), (_write, True)])
def test_a_snapshot_that_may_still_see_deleted_rows_is_waited_for(
    bench: Bench, postgres_server: Database, begin: Callable[[Connection], None], elsewhere: bool
) -> None:
    """VACUUM would leave the rows in their pages and say nothing."""
    name = bench.people()[0]
    impatient = dataclasses.replace(bench.installation, snapshots_may_take_s=0.3)
    database = postgres_server if elsewhere else bench.database
    with ThreadPoolExecutor(1) as pool, _named_session(database, "dump of the night") as older:
        begin(older)
        pid = older.info.backend_pid
        said = (
            rf"older snapshot may see them; end process {pid} \(dump of the night\), open since \d{{4}}-[^;]* UTC; the rows are"
        )
        with pytest.raises(StoreUnavailable, match=said):
            forget(impatient, "reviewer", name)
        (unfinished,) = read_unfinished(bench.database)
        assert unfinished.state == "swept"
        assert re.search(said, unfinished.document["failure"]["reason"])
        assert elsewhere or _dead_rows(bench) > 0
        finishing = pool.submit(finish_forgetting, bench.installation)
        with pytest.raises(TimeoutError):
            finishing.result(1)
        older.rollback()
        (document,) = finishing.result(60)
    assert (document["state"], document["failure"]) == ("done", None)
    assert _dead_rows(bench) == 0


def _dead_rows(bench: Bench) -> int:
    """That VACUUM has to leave in the pages of the reviews."""
    notices: list[str] = []
    with bench.database.connect(autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute("VACUUM (VERBOSE) review_feedback")
    found = [int(dead) for notice in notices for dead in re.findall(r"(\d+) are dead but not yet removable", notice)]
    assert found
    return sum(found)


def test_a_snapshot_of_another_database_holds_nothing(bench: Bench, postgres_server: Database) -> None:
    with postgres_server.snapshot():
        assert forget(bench.installation, "reviewer", bench.people()[0])["state"] == "done"


def test_a_late_part_of_a_content_is_known_by_what_has_gone(bench: Bench) -> None:
    """Its run, decision and review name the execution and the workflow, which name the content, and are deleted."""
    content, execution, workflow, run = (str(uuid.uuid4()) for _ in range(4))
    bench.execute(
        "INSERT INTO content_review_workflows (id, content_id, workflow_execution_id) VALUES (%s, %s, %s)",
        *(workflow, content, execution),
    )
    rest = "INSERT INTO agent_performance (id, agent_name, execution_id) VALUES (%s, 'late', %s)"
    with _writer(bench, rest, run, execution) as late:
        late.execute("INSERT INTO agent_decisions (performance_id, reasoning) VALUES (%s, 'late marmalade')", (run,))
        late.execute("INSERT INTO review_feedback (workflow_id, reviewed_at) VALUES (%s, now())", (workflow,))

        def relearn(days: Sequence[date]) -> str:
            late.commit()
            return bench._relearn(days)

        document = forget(dataclasses.replace(bench.installation, relearn=relearn), "content", content)
    came = {"content_review_workflows", "agent_performance", "agent_decisions", "review_feedback", BEGUN_AGAIN}
    assert document["counts"] == dict.fromkeys(came, 1)
    assert bench.traces(content, execution, workflow, run, "late marmalade") == set()


def test_rows_that_come_again_and_again_are_named_and_never_called_forgotten(bench: Bench) -> None:
    name = bench.people()[0]

    def relearn(days: Sequence[date]) -> str:
        bench.execute(REVIEW, name)
        return bench._relearn(days)

    with pytest.raises(StoreError, match=r"have come again 3 times.*stop whoever writes them; the rows are deleted"):
        forget(dataclasses.replace(bench.installation, relearn=relearn), "reviewer", name)
    (unfinished,) = read_unfinished(bench.database)
    assert (unfinished.state, unfinished.document["counts"][BEGUN_AGAIN]) == ("withdrawn", 3)
    assert not bench.execute("SELECT FROM review_feedback WHERE reviewer_id = %s", name)
    (document,) = finish_forgetting(bench.installation)
    assert document["state"] == "done"
    assert bench.traces(name) == set()
