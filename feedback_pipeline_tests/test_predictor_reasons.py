"""When the quality predictor is trained, and what its forecasts are held against."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_rows import QualityRows
from feedback_pipeline.learning_pass.champion_watch import champion_coverage, drift_of, reason_to_train, shifts
from feedback_pipeline.learning_pass.predictor import with_columns
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.past_forecasts import past_forecasts
from feedback_pipeline.storage.reading_models import KnownModel, read_champion
from feedback_pipeline_tests.storage.forecasts import champion_says, forecast

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CROWNED = datetime(2026, 3, 1, tzinfo=UTC)


def model(trained: datetime = NOW - timedelta(days=1), outputs: int = 100, last: int = 0) -> KnownModel:
    return KnownModel(1, "eb_mixed", "run", trained, trained, {"n_outputs": outputs, "last_review_ns": last})


def rows(moments: list[int]) -> QualityRows:
    """One review each of an output of its own."""
    n = len(moments)
    nothing = FeatureList((), ())
    frame = pd.DataFrame({"agent_name": ["a"] * n, "reviewer_id": ["r"] * n})
    codes = np.arange(n)
    return QualityRows(nothing, frame, np.zeros(n), codes, codes, np.array(moments, dtype=np.int64), np.full(n, np.nan))


def test_a_first_champion_is_trained() -> None:
    assert reason_to_train(rows([1]), None, None, None, NOW) == "there is no champion"


def test_a_tenth_more_outputs_is_a_reason_and_less_is_none() -> None:
    known = model(outputs=100, last=5)
    assert reason_to_train(rows([1] * 100 + [6] * 9), known, known, None, NOW) is None
    told = reason_to_train(rows([1] * 100 + [6] * 10), known, known, None, NOW)
    assert told == "10 outputs were reviewed since the last training"
    # A second review of an output that was known is no new output.
    again = rows([1] * 100 + [6] * 50)
    again.output[100:] = np.arange(50)
    assert reason_to_train(again, known, known, None, NOW) is None


def test_a_week_is_a_reason() -> None:
    assert reason_to_train(rows([0]), model(NOW - timedelta(days=6, hours=23)), model(), None, NOW) is None
    assert reason_to_train(rows([0]), model(NOW - timedelta(days=7)), model(), None, NOW) == "the last training is 7 days old"


def test_an_alarm_is_a_reason_in_its_own_words() -> None:
    assert reason_to_train(rows([0]), model(), model(), "reviews come out lower", NOW) == "reviews come out lower"


def test_outputs_reviewed_since_the_last_training_are_held_against_those_before() -> None:
    n = 800
    # Two reviews of each output, the second ones later than all first ones; the later half of the outputs is unlike the rest.
    output, moment, late = np.tile(np.arange(n), 2), np.arange(2 * n), np.arange(n) >= n // 2
    words, tone = np.random.default_rng(2).normal(100, 10, n) + 30 * late, np.where(late, "dry", "warm")
    X = pd.DataFrame({"word_count": words, "tone": tone, "agent_name": "a", "reviewer_id": "r"}).iloc[output]
    features, scores = FeatureList(("word_count",), ("tone",)), np.zeros(2 * n)
    known = QualityRows(features, X.reset_index(drop=True), scores, output, output, moment, scores)
    # Before the first training the later half stands for the new ones; a second review makes no output new.
    for since in (None, n // 2 - 1):
        found = shifts(known, since)
        assert found["warning"].all()
        assert found[["n_reference", "n_recent"]].to_numpy().tolist() == [[n // 2, n // 2]] * 2
    alike = shifts(known.take(np.flatnonzero(output < n // 2)), None)
    assert alike["psi"].between(0, 0.2).all()
    nothing_new = shifts(known, 2 * n)
    assert set(nothing_new["reason"]) == {f"{n} rows to compare with and 0 new ones; the index needs 200 of each"}


def judged(database: Database, error: float, weeks: int, each: int, **changes: Any) -> None:
    """A champion that expected 6.5 of outputs, and reviews of 6 give or take 1, plus an error, week after week."""
    with database.connect() as connection:
        said = [forecast(f"e{number}", "writer", low=4.9, high=8.1) for number in range(weeks * each)]
        champion_says(connection, said, made_at=CROWNED, **changes)
        for number in range(weeks * each):
            when = CROWNED + timedelta(days=7 * (number // each) + 1, minutes=number)
            score = 6.5 + error + (1.0 if number % 2 else -1.0)
            values = {"execution": f"e{number}", "when": when, "score": score}
            connection.execute(
                "INSERT INTO agent_performance (agent_name, execution_id, status, start_time)"
                " VALUES ('writer', %(execution)s, 'success', %(when)s)",
                values,
            )
            connection.execute(
                "WITH w AS (INSERT INTO content_review_workflows (workflow_execution_id) VALUES (%(execution)s) RETURNING id)"
                " INSERT INTO review_feedback (workflow_id, reviewer_id, decision, reviewed_at, quality_scores, is_training_data)"
                " SELECT id, 'ann', 'approve', %(when)s, jsonb_build_object('clarity', %(score)s::float8), true FROM w",
                values,
            )


REFERENCE = {"reference": {"mean": 0.0, "sd": 1.0, "design_effect": 1.0, "n": 500, "reason": None}}


@pytest.mark.parametrize(("error", "drifts"), [(0.0, False), (-0.8, True)])
def test_drift_away_from_the_champion_is_seen_once(database: Database, error: float, drifts: bool) -> None:
    judged(database, error, weeks=6, each=30, metrics=REFERENCE)
    with database.snapshot() as connection:
        told = drift_of(connection, Settings(), read_champion(connection), NOW)
    assert (told is not None) is drifts
    if told is not None:
        assert "come out lower than forecast" in told
        with database.connect() as connection:
            connection.execute("UPDATE quality_models SET trained_at = %s", (NOW,))
        with database.snapshot() as connection:
            # A training has answered it.
            assert drift_of(connection, Settings(), read_champion(connection), NOW) is None


def test_coverage_is_that_of_the_reviews_that_came(database: Database) -> None:
    judged(database, 0.7, weeks=2, each=30, metrics=REFERENCE)
    with database.snapshot() as connection:
        past = past_forecasts(connection, Settings().score_bounds)
        share, n = champion_coverage(past)
    # 6.5 + .7 + 1 lies outside of 4.9 to 8.1, 6.5 + .7 - 1 inside.
    assert (share, n) == (0.5, 60)


def test_without_a_champion_or_reviews_nothing_is_observed(database: Database) -> None:
    with database.snapshot() as connection:
        assert drift_of(connection, Settings(), None, NOW) is None
        share, n = champion_coverage(past_forecasts(connection, Settings().score_bounds))
    assert (share, n) == (None, 0)


def test_columns_the_champion_knows_and_the_window_lacks_are_missing() -> None:
    X = pd.DataFrame({"word_count": [3.0], "agent_name": ["a"], "reviewer_id": [None], "other": [1.0]})
    found = with_columns(X, FeatureList(("cost", "word_count"), ("tone",)))
    assert list(found.columns) == ["cost", "word_count", "tone", "agent_name", "reviewer_id"]
    assert math.isnan(found["cost"].iloc[0])
    assert found["tone"].iloc[0] is None
