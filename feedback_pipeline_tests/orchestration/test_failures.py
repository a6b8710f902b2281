from collections.abc import Callable

import dagster as dg
import psycopg
import pyarrow as pa
import pytest

from feedback_pipeline.errors import LearningError, StoreError, StoreUnavailable, UserError
from feedback_pipeline.orchestration.failures import in_own_words, only_stores_are_retried

QUOTED = "reviewer-7f3a said"


def test_a_store_that_is_away_is_asked_again() -> None:
    for error in (StoreUnavailable("no server"), psycopg.OperationalError("connection lost")):
        with pytest.raises(dg.RetryRequested) as request, only_stores_are_retried():
            raise error
        assert request.value.max_retries > 0


def test_where_nothing_may_be_repeated_a_store_that_is_away_is_a_failure() -> None:
    with pytest.raises(dg.Failure, match="no server") as failure, in_own_words():
        raise StoreUnavailable("no server")
    assert not failure.value.allow_retries


@pytest.mark.parametrize("error", [UserError("wrong"), LearningError("not converged"), StoreError("damaged")])
def test_bad_data_is_a_failure_in_its_own_words(error: Exception) -> None:
    with pytest.raises(dg.Failure) as failure, only_stores_are_retried():
        raise error
    assert failure.value.description == str(error)
    assert not failure.value.allow_retries


def test_a_bug_stays_a_bug() -> None:
    with pytest.raises(ZeroDivisionError), only_stores_are_retried():
        raise ZeroDivisionError


def test_a_failure_names_the_place_in_the_code() -> None:
    from feedback_pipeline.storage.database import Database

    with pytest.raises(dg.Failure) as failure, only_stores_are_retried():
        Database("mysql://host/name")
    assert "storage/database.py:" in str(failure.value.metadata["raised in"].value)


def _arrow() -> None:
    pa.array([QUOTED]).cast(pa.int64())


def _postgres() -> None:
    raise psycopg.errors.UniqueViolation(f'duplicate key value violates unique constraint "k"\nDETAIL: Key (id)=({QUOTED})')


def _own_with_a_cause() -> None:
    try:
        _postgres()
    except psycopg.Error as error:
        raise StoreError("the rows were refused; correct them") from error


def _lost() -> None:
    raise psycopg.OperationalError(f'disk full\nCONTEXT: COPY review_feedback, line 3, column comments: "{QUOTED}"')


@pytest.mark.parametrize("fail", [_arrow, _postgres, _own_with_a_cause, _lost])
def test_no_value_of_a_row_reaches_the_event_log(fail: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback_pipeline.orchestration.failures.RETRY_AFTER_S", 0.0)

    @dg.op
    def step() -> None:
        with only_stores_are_retried():
            fail()

    @dg.job
    def failing() -> None:
        step()

    with pytest.raises((psycopg.Error, pa.ArrowException, StoreError)) as plain:
        fail()
    assert QUOTED in f"{plain.value} {plain.value.__cause__}"
    with dg.DagsterInstance.ephemeral() as instance:
        result = failing.execute_in_process(instance=instance, raise_on_error=False)
        assert not result.success
        assert QUOTED not in "".join(dg.serialize_value(entry) for entry in instance.all_logs(result.run_id))
