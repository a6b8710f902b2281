import dagster as dg
import psycopg
import pytest

from feedback_pipeline.errors import LearningError, StoreError, StoreUnavailable, UserError
from feedback_pipeline.orchestration.failures import only_stores_are_retried


def test_a_store_that_is_away_is_asked_again() -> None:
    for error in (StoreUnavailable("no server"), psycopg.OperationalError("connection lost")):
        with pytest.raises(dg.RetryRequested) as request, only_stores_are_retried():
            raise error
        assert request.value.max_retries > 0
        assert request.value.__cause__ is error


@pytest.mark.parametrize("error", [UserError("wrong"), LearningError("not converged"), StoreError("damaged")])
def test_bad_data_is_a_failure_in_its_own_words(error: Exception) -> None:
    with pytest.raises(dg.Failure) as failure, only_stores_are_retried():
        raise error
    assert failure.value.description == str(error)
    assert not failure.value.allow_retries


def test_a_bug_stays_a_bug() -> None:
    with pytest.raises(ZeroDivisionError), only_stores_are_retried():
        raise ZeroDivisionError
