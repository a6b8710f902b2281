from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest

from feedback_pipeline.learning_pass.trials import settle_recommendations
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.migrations import sql_files, statements
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import CLOSED_COLUMNS, TRIAL_COLUMNS
from feedback_pipeline.storage.published_advice import dashed, recommendation_ids
from feedback_pipeline.storage.published_effects import read_newest_trials, write_counters, write_effects
from feedback_pipeline.storage.reading_effects import read_effects
from feedback_pipeline.storage.reading_patterns import read_improvements
from feedback_pipeline.storage.reading_provenance import improvements_state
from feedback_pipeline_tests.storage.publications import PUBLISHED_AT, agent_names, publication

pytestmark = pytest.mark.slow
(AGENT,) = agent_names(1)
DOCUMENT = {"text": "shorter", "kind": "target_range", "feature": "word_count", "target": {"max": 7}, "gain": np.float64("nan")}


def frame(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(TRIAL_COLUMNS))


def listed() -> list[str]:
    """Ids of what `publication(1)` recommends, in order."""
    return sorted(dashed(digits) for digits in recommendation_ids(publication(1).recommendations))


def by_trial(database: Database) -> dict[tuple[str, int], dict[str, Any]]:
    return {(one["pattern_id"], one["trial"]): one for one in read_effects(database, AGENT)["trials"]}


def test_trials_are_opened_and_closed(database: Database) -> None:
    p, q = listed()
    first = publication(1, trials=frame((p, 1, AGENT, DOCUMENT, [["decision_rule", "x"]]), (q, 1, AGENT, {}, [])))
    assert publish_run(database, first)["trials_opened"] == 2
    assert publish_run(database, first)["trials_opened"] == 0
    closed = pd.DataFrame([(q, 1, "retired: overtaken")], columns=list(CLOSED_COLUMNS))
    completed = DOCUMENT | {"target": {"max": 8}}
    trials = frame((p, 1, AGENT, completed, []), (q, 2, AGENT, DOCUMENT, []), ("r", 1, AGENT, None, []))
    assert publish_run(database, publication(1, tick=60, trials=trials, closed_trials=closed))["trials_opened"] == 1
    found = by_trial(database)
    assert list(found) == [(p, 1), (q, 2), (q, 1)]
    assert (found[p, 1]["target"], found[p, 1]["since"]) == ({"max": 8}, PUBLISHED_AT.isoformat())
    assert (found[q, 1]["state"], found[q, 1]["p_on"], found[q, 1]["reason"]) == ("retired", 0, "retired: overtaken")
    assert found[q, 2]["since"] == (PUBLISHED_AT + timedelta(seconds=60)).isoformat()
    with database.snapshot() as connection:
        newest = read_newest_trials(connection)
    assert [(one.pattern_id, one.trial, one.state, one.low) for one in newest] == [
        (p, 1, "probation", None),
        (q, 2, "probation", None),
    ]
    assert newest[0].recommendation["gain"] is None, "JSON has no NaN"


@pytest.mark.parametrize(
    ("low", "n", "state", "p_on", "reason"),
    [
        (None, 12, "probation", 0.5, "on trial: 12 executions decided, 60 needed"),
        (-0.01, 700, "probation", 0.5, "on trial: approval +5.0 points [-1.0, 9.0] at 700 executions holds 0"),
        (0.01, 700, "active", 0.8, "kept: it helps, approval +5.0 points [1.0, 9.0] at 700 executions"),
        (0.01, 2000, "active", 0.95, "kept: it helps, approval +5.0 points [1.0, 9.0] at 2,000 executions"),
    ],
)
def test_what_is_not_recommended_any_more_is_a_candidate_until_it_is_again(
    database: Database, low: float | None, n: int, state: str, p_on: float, reason: str
) -> None:
    p, q = listed()
    both = publication(1, trials=frame((p, 1, AGENT, DOCUMENT | {"feature": "feature_00"}, []), (q, 1, AGENT, DOCUMENT, [])))
    publish_run(database, both)
    with database.connect() as connection:
        connection.execute("UPDATE pattern_effects SET n = %s, n_applied = %s", (n, n))
        if low is not None:
            connection.execute("UPDATE pattern_effects SET uplift = 0.05, low = %s, high = 0.09", (low,))
        before = improvements_state(connection, AGENT)
    # The first is about the same feature as what is still recommended.
    other = both.recommendations.assign(identity="another", rank=1).tail(1)
    publish_run(database, replace(publication(1, seed=2, tick=60), recommendations=other.assign(feature="feature_00")))
    found = by_trial(database)
    assert [(one["state"], one["p_on"], one["n"]) for one in found.values()] == [("candidate", 0, n)] * 2
    assert found[p, 1]["reason"] == "not recommended now: another recommendation about the same is"
    assert found[q, 1]["reason"] == "not recommended now: these reviews do not show it, or show ten others more surely"
    aside = (PUBLISHED_AT + timedelta(seconds=60)).isoformat()
    assert {one["since"] for one in found.values()} == {aside}
    with database.connect() as connection:
        assert improvements_state(connection, AGENT) != before
    publish_run(database, replace(publication(1, seed=2, tick=90), recommendations=other))
    assert {one["since"] for one in by_trial(database).values()} == {aside}, "it stays as it is"

    publish_run(database, publication(1, seed=3, tick=120, trials=frame((p, 1, AGENT, None, []), (q, 1, AGENT, None, []))))
    for one in by_trial(database).values():
        assert (one["state"], one["p_on"], one["n"], one["reason"], one["low"]) == (state, p_on, n, reason, low)
        assert one["since"] == (PUBLISHED_AT + timedelta(seconds=120)).isoformat()
    assert {one["trial"]["state"] for one in read_improvements(database, AGENT)["recommendations"]} == {state}


def test_what_helps_is_published_though_it_is_found_by_another_support(database: Database) -> None:
    run = publication(1)
    first = run.recommendations.head(1).assign(interval=None)
    found = first.to_dict("records")[0]
    document = found | {
        "identity": "target_range | feature_00 | more",
        "kind": "target_range",
        "action": {"kind": "target_range"},
    }
    active = first.assign(**{name: [document[name]] for name in ("identity", "kind", "action")})
    (identity,) = (dashed(digits) for digits in recommendation_ids(active))
    opened = frame((identity, 1, AGENT, {str(name): value for name, value in document.items()}, []))
    publish_run(database, replace(run, recommendations=active, trials=opened))
    with database.connect() as connection:
        connection.execute("UPDATE pattern_effects SET state = 'active', p_on = 0.8, reason = 'kept'")
    states = pd.DataFrame({"agent_name": [AGENT], "status": "success", "reason": None, "published": 1, "candidates": 9})
    reviews = pd.DataFrame({"agent_name": [AGENT], "reviewed_at": PUBLISHED_AT})
    settled, _ = settle_recommendations(database, first, states, reviews)
    again = replace(run, recommendations=settled.recommendations, trials=settled.trials, closed_trials=settled.closed)
    assert publish_run(database, again)["trials_opened"] == 0
    (one,) = read_improvements(database, AGENT)["recommendations"]
    assert (one["id"], one["kind"], one["trial"]["state"], one["trial"]["p_on"]) == (identity, "target_range", "active", 0.8)
    assert one["evidence"]["pattern_ids"], "those of the day"
    assert list(by_trial(database)) == [(identity, 1)]


def test_a_retired_trial_stays_so_whatever_is_recommended(database: Database) -> None:
    p, q = listed()
    publish_run(database, publication(1, trials=frame((p, 1, AGENT, DOCUMENT, []), (q, 1, AGENT, DOCUMENT, []))))
    with database.connect() as connection:
        connection.execute("UPDATE pattern_effects SET state = 'retired', p_on = 0, reason = 'retired'")
    nothing = publication(1, tick=60)
    for run in (replace(nothing, recommendations=nothing.recommendations.head(0)), publication(1, tick=90)):
        publish_run(database, run)
        assert {(one["state"], one["reason"]) for one in by_trial(database).values()} == {("retired", "retired")}


def test_two_open_trials_of_a_pattern_cannot_be(database: Database) -> None:
    both = frame(("p", 1, AGENT, DOCUMENT, []), ("p", 2, AGENT, DOCUMENT, []))
    with pytest.raises(psycopg.errors.UniqueViolation):
        publish_run(database, publication(1, trials=both))


def test_effects_and_counters_are_written(database: Database) -> None:
    publish_run(database, publication(1, trials=frame(("p", 1, AGENT, DOCUMENT, []))))
    now = datetime(2026, 11, 2, tzinfo=UTC)
    numbers = {"n": 3, "n_applied": 1, "n_held_out": 2, "n_waiting": 4, "success_rate": 1.0, "success_rate_held_out": np.nan}
    state = {"state": "active", "p_on": 0.8, "uplift": np.nan, "low": np.nan, "high": np.nan, "reason": "kept", "changed_at": 3}
    measured = pd.DataFrame([{"pattern_id": "p", "trial": 1, "looks": [[60, 0.1, 0.0, 0.2]]} | numbers | state])
    with database.connect() as connection:
        write_effects(connection, measured, now)
    (trial,) = read_effects(database)["trials"]
    assert {name: trial[name] for name in numbers} == numbers | {"success_rate_held_out": None}
    assert (trial["since"], trial["computed_at"], trial["looks"]) == (now.isoformat(), now.isoformat(), [[60, 0.1, 0.0, 0.2]])
    with database.connect() as connection:
        ((one,), *_) = connection.execute("SELECT id::text FROM agent_learning_patterns ORDER BY id").fetchall()
        counters = pd.DataFrame(
            [{"id": one, "times_applied": 5, "success_rate": 0.6, "success_rate_held_out": np.nan, "last_applied": now}]
        )
        assert write_counters(connection, counters) == 1
    with database.connect() as connection:
        assert write_counters(connection, counters) == 0
        write_again = connection.execute(
            "SELECT times_applied, success_rate, success_rate_held_out, last_applied FROM agent_learning_patterns"
            " WHERE times_applied > 0"
        ).fetchall()
    assert write_again == [(5, 0.6, None, now)]


def test_what_was_recommended_before_there_were_trials_goes_on_trial(database: Database) -> None:
    run = publication(2)
    publish_run(database, run)
    before = read_improvements(database, AGENT)["recommendations"]
    assert {one["trial"]["state"] for one in before} == {"candidate"}
    assert {one["trial"]["p_on"] for one in before} == {0}
    (migration,) = [file for file in sql_files() if file.name == "012_effects.sql"]
    (adopt,) = [each for each in statements(migration.text) if "INSERT INTO pattern_effects" in each]
    with database.connect() as connection:
        connection.execute("UPDATE agent_recommendations SET kind = 'ask_reviewer_standard' WHERE rank = 2")
        connection.execute(adopt.encode())
    after = read_improvements(database, AGENT)["recommendations"]
    assert [(one["trial"]["state"], one["trial"]["trial"], one["trial"]["p_on"]) for one in after] == [("probation", 1, 0.5)] * 2
    first, second = (one for one in read_effects(database, AGENT)["trials"] if one["agent_name"] == AGENT)
    assert {first["text"], second["text"]} == {before[0]["text"], None}
    # The next pass takes them over.
    found = run.recommendations.assign(interval=None)
    states = pd.DataFrame({"agent_name": agent_names(2), "status": "success", "reason": None, "published": 2, "candidates": 9})
    reviews = pd.DataFrame({"agent_name": agent_names(2), "reviewed_at": PUBLISHED_AT})
    settled, told = settle_recommendations(database, found, states, reviews)
    assert settled.trials["trial"].tolist() == [1] * 4
    assert settled.trials["pattern_id"].tolist()[:2] == [one["id"] for one in after]
    assert told["held_back"].tolist() == [0, 0]
    assert told["published"].tolist() == [2, 2]
