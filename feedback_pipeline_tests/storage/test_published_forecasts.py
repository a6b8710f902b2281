import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.published_forecasts import set_champion, write_forecasts, write_model
from feedback_pipeline_tests.storage.forecasts import RUN, START, champion_says, forecast, frame, model

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_model_is_stored_as_it_is(database: Database) -> None:
    metrics = {"r2": np.float64(0.5), "ceiling": np.nan, "per_agent": {"writer": [np.float32(np.inf), 1]}, "n": np.int64(3)}
    with database.connect() as connection:
        write_model(connection, model(7, metrics=metrics, tags={"little_to_predict": "true"}, reason="first", window_first=None))
    assert rows(
        database,
        "SELECT model_version, candidate, mlflow_run_id, learning_run_id, trained_at, window_first, window_last::text, n_reviews,"
        " n_contents, champion_since, champion_until, metrics, tags, reason FROM quality_models",
    ) == [
        (
            *(7, "eb_mixed", "abc", uuid.UUID(RUN), START, None, "2026-02-28", 900, 400, None, None),
            {"r2": 0.5, "ceiling": None, "per_agent": {"writer": [None, 1]}, "n": 3},
            *({"little_to_predict": "true"}, "first"),
        )
    ]


def test_a_model_written_again_stays_one_row_and_champion(database: Database) -> None:
    with database.connect() as connection:
        write_model(connection, model())
        set_champion(connection, 1, START)
        write_model(connection, model(metrics={"r2": 0.9}, reason="again"))
    found = rows(database, "SELECT metrics, reason, champion_since, champion_until FROM quality_models")
    assert found == [({"r2": 0.9}, "again", START, None)]


def test_a_champion_follows_the_other(database: Database) -> None:
    reigns = "SELECT model_version, champion_since, champion_until FROM quality_models ORDER BY 1"
    with database.connect() as connection:
        for version in (1, 2):
            write_model(connection, model(version))
        set_champion(connection, 1, START)
        set_champion(connection, 1, START + HOUR)  # it is already
        set_champion(connection, 2, START + 2 * HOUR)
    assert rows(database, reigns) == [(1, START, START + 2 * HOUR), (2, START + 2 * HOUR, None)]
    with database.connect() as connection:
        set_champion(connection, 1, START + 3 * HOUR)  # taken back by hand
    assert rows(database, reigns) == [(1, START + 3 * HOUR, None), (2, START + 2 * HOUR, START + 3 * HOUR)]


def test_a_champion_follows_by_a_clock_that_was_moved_back(database: Database) -> None:
    with database.connect() as connection:
        for version in (1, 2):
            write_model(connection, model(version))
        set_champion(connection, 1, START)
        set_champion(connection, 2, START - HOUR)
    found = rows(database, "SELECT model_version, champion_since, champion_until FROM quality_models ORDER BY 1")
    assert found == [(1, START, START), (2, START, None)]


def test_nobody_crowns_what_is_not_there(database: Database) -> None:
    with database.connect() as connection:
        write_model(connection, model())
        set_champion(connection, 1, START)
        with pytest.raises(StoreError, match="no quality model 9"):
            set_champion(connection, 9, START)
    assert rows(database, "SELECT model_version FROM quality_models WHERE champion_until IS NULL") == [(1,)]


def test_two_trainings_at_once_leave_one_champion(database: Database) -> None:
    def train(version: int) -> None:
        with database.connect() as connection:
            write_model(connection, model(version))
            set_champion(connection, version, START)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(train, range(1, 7)))
    found = rows(database, "SELECT count(*), count(champion_since), count(*) - count(champion_until) FROM quality_models")
    assert found == [(6, 6, 1)]


def test_forecasts_are_stored_as_they_are(database: Database) -> None:
    said = [
        forecast('run\t"1"\n\\N', 'o\'brien, "x"'),
        forecast("2", reviewer_id="ann", score=np.nan, low=np.nan, high=np.nan, p_approve=np.nan, reason="thin\tdata"),
        forecast("3", abstain=True, reason="never seen", score=1 / 3, low=-0.0, high=1e-9, p_approve=1.0),
    ]
    with database.connect() as connection:
        assert champion_says(connection, said) == 3
    stored = rows(
        database,
        "SELECT agent_name, execution_id, reviewer_id, score, low, high, p_approve, abstain, reason FROM quality_forecasts"
        " ORDER BY reason NULLS FIRST",
    )
    numbers = (6.5, 4.0, 9.0, 0.6)
    assert stored == [
        ('o\'brien, "x"', 'run\t"1"\n\\N', "", *numbers, False, None),
        ("writer", "3", "", 1 / 3, 0.0, 1e-9, 1.0, True, "never seen"),
        ("writer", "2", "ann", None, None, None, None, False, "thin\tdata"),
    ]
    shared = rows(database, "SELECT DISTINCT model_version, learning_run_id, made_at FROM quality_forecasts")
    assert shared == [(1, uuid.UUID(RUN), START)]


def test_what_a_model_has_said_stays(database: Database) -> None:
    with database.connect() as connection:
        assert champion_says(connection, [forecast("1"), forecast("1", reviewer_id="ann")]) == 2
        later = [forecast("1", score=1.0), forecast("2"), forecast("2", score=3.0)]
        more: dict[str, Any] = {"model_version": 1, "learning_run_id": None, "made_at": START + HOUR}
        assert write_forecasts(connection, frame(later), **more) == 1  # twice in one transaction
        assert write_forecasts(connection, frame([]), **more) == 0
        assert champion_says(connection, [forecast("1", score=2.0)], 2, START + HOUR) == 1
    query = "SELECT execution_id, reviewer_id, model_version, score FROM quality_forecasts ORDER BY 1, 2, 3"
    assert rows(database, query) == [("1", "", 1, 6.5), ("1", "", 2, 2.0), ("1", "ann", 1, 6.5), ("2", "", 1, 6.5)]


def test_columns_without_a_value_need_no_type(database: Database) -> None:
    empty = frame([forecast("1", score=None, low=None, high=None, p_approve=None, reason="none")])
    with database.connect() as connection:
        write_model(connection, model())
        write_forecasts(connection, empty.astype(object), model_version=1, learning_run_id=None, made_at=START)
    assert rows(database, "SELECT score, p_approve, learning_run_id FROM quality_forecasts") == [(None, None, None)]


@pytest.mark.parametrize(
    "changes",
    [
        {"p_approve": 1.01},
        {"p_approve": -0.01},
        {"low": 5.0, "high": 4.0},
        {"low": None},
        {"score": None},
        {"abstain": True},
        {"agent_name": None},
    ],
)
def test_what_cannot_be_is_refused_with_everything_else(database: Database, changes: dict[str, Any]) -> None:
    with pytest.raises(psycopg.errors.IntegrityError), database.connect() as connection:
        champion_says(connection, [forecast("1"), forecast("2", **changes)])
    assert rows(database, "SELECT count(*) FROM quality_models") == [(0,)]
    assert rows(database, "SELECT count(*) FROM quality_forecasts") == [(0,)]


def _of_no_model(connection: Any) -> None:
    write_forecasts(connection, frame([forecast("1")]), model_version=4, learning_run_id=None, made_at=START)


def _backwards(connection: Any) -> None:
    connection.execute("UPDATE quality_models SET champion_since = %s, champion_until = %s", (START, START - HOUR))


def _two_champions(connection: Any) -> None:
    write_model(connection, model(2))
    connection.execute("UPDATE quality_models SET champion_since = now()")


@pytest.mark.parametrize("wrong", [_of_no_model, _backwards, _two_champions])
def test_history_cannot_contradict_itself(database: Database, wrong: Callable[[Any], None]) -> None:
    with database.connect() as connection:
        write_model(connection, model())
    with pytest.raises(psycopg.errors.IntegrityError), database.connect() as connection:
        wrong(connection)


def test_many_forecasts_at_once(database: Database) -> None:
    n = 20_000
    agents = [f"agent_{i % 60}" for i in range(n)]
    many = pd.DataFrame({"agent_name": agents, "execution_id": [f"run {i}" for i in range(n)], "reviewer_id": None})
    generator = np.random.default_rng(1)
    score = generator.uniform(0, 10, n)
    many = many.assign(
        score=score, low=score - 1, high=score + 1, p_approve=generator.uniform(size=n), abstain=False, reason=None
    )
    with database.connect() as connection:
        write_model(connection, model())
        assert write_forecasts(connection, many, model_version=1, learning_run_id=RUN, made_at=START) == n
    stored = rows(database, "SELECT execution_id, score, p_approve FROM quality_forecasts")
    expected = zip(many["execution_id"], many["score"].tolist(), many["p_approve"].tolist(), strict=True)
    assert sorted(stored) == sorted(expected)
