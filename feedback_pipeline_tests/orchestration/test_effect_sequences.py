import struct

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.trial_states import ACTIVE, CANDIDATE, PROBATION, RETIRED
from feedback_pipeline.learning_pass.effectiveness import EffectsOutcome
from feedback_pipeline.orchestration.drawing import sentence_alone
from feedback_pipeline.orchestration.effect_report import describe_effects, holdout_evidence
from feedback_pipeline.orchestration.effect_sequences import MAX_LINES, NOTHING, confidence_sequences

HOSTILE = "$\\frac{x}{y}$ <b>\n\u202e" + "w" * 300


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header of the file."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def trials(count: int, length: int = 20, **changes: object) -> pd.DataFrame:
    n = np.linspace(60, 500, length).astype(int)
    paths = [np.array([n, u + 0 * n, u - 9 / n, u + 9 / n]).T.tolist() for u in np.linspace(-0.1, 0.1, count)]
    numbers = {"p_on": 0.5, "n": range(500 + count, 500, -1), "n_applied": 250, "n_held_out": 250, "n_waiting": 3, "uplift": 0.1}
    rates = {"success_rate": 0.6, "success_rate_held_out": np.nan, "low": 0.05, "high": 0.2, "reason": "on trial"}
    known = {"trial": 1, "agent_name": "writer", "kind": "set_threshold", "feature": "word_count"}
    states = [(PROBATION, ACTIVE, RETIRED)[i % 3] for i in range(count)]
    return pd.DataFrame({"state": states, "looks": pd.Series(paths, dtype=object)} | known | numbers | rates | changes)


@pytest.mark.parametrize("count", [1, 3, MAX_LINES + 5])
def test_a_line_a_pattern(count: int) -> None:
    png = confidence_sequences(trials(count))
    width, height = size_of(png)
    assert 700 < width <= 1180
    assert height > 300
    assert png == confidence_sequences(trials(count))


def test_what_is_not_recommended_is_not_drawn_as_retired() -> None:
    pictures = {state: confidence_sequences(trials(1, state=state)) for state in (CANDIDATE, PROBATION, ACTIVE, RETIRED)}
    assert len(set(pictures.values())) == 4


def test_hostile_names_one_look_and_no_feature() -> None:
    rows = trials(2, length=1, agent_name=HOSTILE, feature=[None, HOSTILE], kind=[None, HOSTILE], trial=7)
    assert size_of(confidence_sequences(rows))[0] <= 1180


def test_nothing_on_trial_is_said() -> None:
    assert confidence_sequences(trials(2, looks=[[], []])) == sentence_alone(NOTHING)
    assert confidence_sequences(pd.DataFrame()) == sentence_alone(NOTHING)


def outcome(shares: pd.DataFrame, broken: int = 0) -> EffectsOutcome:
    return EffectsOutcome({"applications": 3, "open trials": 2}, trials(3), shares, broken, 300)


def share(*off: bool) -> pd.DataFrame:
    known = {"pattern_id": [f"p{i}" for i in range(len(off))], "trial": 1, "n": 500, "applied": 0.61, "expected": 0.5}
    return pd.DataFrame(known | {"p_value": 1e-6, "off": list(off)})


def test_the_check_says_how_far_the_holdout_was_respected() -> None:
    assert holdout_evidence(outcome(share(False, False))).passed
    assert holdout_evidence(outcome(share())).passed
    wrong = holdout_evidence(outcome(share(False, True)))
    assert not wrong.passed
    assert wrong.details["worst share"] == "61.0 % applied it where 50.0 % should"
    assert not holdout_evidence(outcome(share(False), broken=2)).passed


def test_the_metadata_holds_the_trials_with_the_most_executions_first() -> None:
    told = describe_effects(outcome(share()))
    rows = told["trials"].value["records"] if isinstance(told["trials"].value, dict) else told["trials"].records
    assert [record.data["n"] for record in rows] == [503, 502, 501]
    assert "success_rate_held_out" in rows[0].data
    assert told["dagster/row_count"] == 2
