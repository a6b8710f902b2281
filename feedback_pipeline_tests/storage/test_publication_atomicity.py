"""A learning run is published whole or not at all, whoever looks and whatever dies."""

import json
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import cycle
from threading import Event

import pytest

from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline_tests.storage.killed_publish import SIZES, run_to_publish
from feedback_pipeline_tests.storage.publications import PUBLISHED_AT, agent_names, publication

pytestmark = pytest.mark.slow

PUBLISHES = 200
# Each learning run that a reader finds rows of, by what it reads.
_RUNS = {
    "agent_learning_state": "SELECT learning_run_id FROM agent_learning_state WHERE agent_name = %(agent)s",
    "agent_learning_patterns": "SELECT learning_run_id FROM agent_learning_patterns WHERE agent_name = %(agent)s"
    " AND superseded_by_run IS NULL",
    "feedback_quality_correlations": "SELECT learning_run_id FROM feedback_quality_correlations WHERE agent_name = %(agent)s",
    "agent_recommendations": "SELECT learning_run_id FROM agent_recommendations WHERE agent_name = %(agent)s",
    "evidence": "SELECT (evidence ->> 'learning_run_id')::uuid FROM agent_recommendations WHERE agent_name = %(agent)s",
    "content_segments": "SELECT learning_run_id FROM content_segments WHERE agent_name = %(agent)s",
    # Current are those of the last run.
    "content_allocations": "SELECT learning_run_id FROM content_allocations WHERE agent_name = %(agent)s AND learning_run_id ="
    " (SELECT learning_run_id FROM learning_runs ORDER BY published_at DESC LIMIT 1)",
    "learning_runs": "(SELECT learning_run_id FROM learning_runs ORDER BY published_at DESC LIMIT 1)",
}
_TABLES = (
    *("learning_runs", "agent_learning_state", "agent_learning_patterns", "feedback_quality_correlations"),
    *("agent_recommendations", "content_segments", "content_allocations", "feedback_changes", "human_preference_models"),
    *("reviewer_agreement", "reviewer_components", "reviewer_bridges", "reviewer_severity_months"),
)


@dataclass
class Looks:
    """What a reader saw."""

    number: int = 0
    runs: set[str] = field(default_factory=set)
    wrong: list[set[tuple[str, str]]] = field(default_factory=list)


def look(connection: Connection, agent: str) -> set[tuple[str, str]]:
    """(table, learning run) of every row of an agent, asked for table by table."""
    return {
        (table, str(run))
        for table, query in _RUNS.items()
        for (run,) in connection.execute(query.encode(), {"agent": agent}).fetchall()
    }


def look_until(database: Database, done: Event) -> Looks:
    """Look at one agent after the other, each in a transaction of its own."""
    looks = Looks()
    for agent in cycle(agent_names(3)):
        with database.snapshot() as connection:
            found = look(connection, agent)
        runs = {run for _, run in found}
        looks.number, looks.runs = looks.number + 1, looks.runs | runs
        if len(runs) != 1 or {table for table, _ in found} != set(_RUNS):
            looks.wrong.append(found)
        if done.is_set():
            break
    return looks


def test_a_reader_never_sees_two_runs_of_an_agent_nor_none(database: Database) -> None:
    contents = [publication(3, seed=seed, **SIZES) for seed in (1, 2)]

    def publish(number: int) -> None:
        at = PUBLISHED_AT + timedelta(seconds=number)
        publish_run(database, replace(contents[number % 2], learning_run_id=str(uuid.UUID(int=number)), published_at=at))

    publish(0)
    done = Event()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(look_until, database, done)
        try:
            for number in range(1, PUBLISHES + 1):
                publish(number)
        finally:
            done.set()
        looks = reading.result()
    assert looks.wrong == []
    assert looks.number > PUBLISHES / 4
    assert len(looks.runs) > PUBLISHES / 10, "the reader saw too few of the runs to have met one that was half published"


def everything(connection: Connection) -> dict[str, str]:
    """A digest of every published table, with the times and ids of its rows."""
    digests = {}
    for table in _TABLES:
        query = f"SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ' ' ORDER BY t::text)), '') FROM {table} t"
        digests[table] = str(connection.execute(query.encode()).fetchall()[0][0])
    return digests


def test_a_process_killed_at_any_step_leaves_the_run_before_whole(database: Database) -> None:
    publish_run(database, publication(3, seed=1, **SIZES))
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO feedback_changes (source, operation) SELECT 'review_feedback', 'INSERT' FROM generate_series(1, 5)"
        )
        before = everything(connection)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-W", "error", "-m", "feedback_pipeline_tests.storage.killed_publish", database.url]
    steps = []
    with (
        database.connect(autocommit=True) as watcher,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | threads) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            steps.append(json.loads(line))
            assert everything(watcher) == before, f"killed at step {len(steps)}, {steps[-1]}"
            process.stdin.write("\n")
            process.stdin.flush()
        status = process.wait()
        after = everything(watcher)
    assert status == 0
    assert steps[-1].startswith("commit"), "every step up to the commit was one to be killed at"
    # Its DELETE or UPDATE, and the statement, COPY or stage that fills it.
    assert len(steps) >= 2 * len(_TABLES)
    assert {table for table in _TABLES if after[table] == before[table]} == {"reviewer_bridges"}, "empty in both runs"
    with database.connect() as connection:
        assert {run for _, run in look(connection, agent_names(1)[0])} == {run_to_publish().learning_run_id}
        assert connection.execute("SELECT array_agg(id ORDER BY id) FROM feedback_changes").fetchone() == ([4, 5],)
