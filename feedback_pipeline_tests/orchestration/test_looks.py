import pytest

from feedback_pipeline.orchestration.looks import looks_every

ROUND_S = 5  # of the daemon of Dagster
JITTER_S = 0.9


@pytest.mark.parametrize("seconds", range(1, 31))
def test_the_first_round_that_is_due_looks_though_it_comes_a_moment_early_and_no_earlier_one(seconds: int) -> None:
    due = -(-seconds // ROUND_S) * ROUND_S
    assert due - ROUND_S + JITTER_S < looks_every(seconds) <= due - JITTER_S
