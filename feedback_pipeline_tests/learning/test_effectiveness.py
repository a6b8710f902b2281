import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.assignments import count_broken, shares
from feedback_pipeline.learning.effectiveness import EFFECT_COLUMNS, MOST_LOOKS, measure
from feedback_pipeline.learning.holdout import assign, salt_of
from feedback_pipeline.learning.trial_states import ACTIVE, CANDIDATE, PROBATION, RETIRED

INSTALLATION = "f5fa04f2-5654-4416-b104-7f8fb5962220"


def trials(*states: str, n: int = 0, reason: str = "as before") -> pd.DataFrame:
    return pd.DataFrame({"state": list(states), "n": n, "reason": reason})


def applications(uplifts: list[float], n: int = 1500, seed: int = 1, waiting: int = 0) -> pd.DataFrame:
    """A trial for each uplift; the last executions of each are not decided yet."""
    generator = np.random.default_rng(seed)
    frames = []
    for row, uplift in enumerate(uplifts):
        ids = [f"execution-{i}" for i in range(n)]
        applied = np.array([assign(salt_of(INSTALLATION, 1), str(row), execution, 0.5) for execution in ids])
        quality = generator.uniform(0.2, 0.8, n)
        approved = (generator.random(n) < quality + uplift * applied).astype(float)
        approved[n - waiting :] = np.nan
        known = {"execution_id": ids, "applied": applied, "propensity": 0.5, "predicted_quality": quality, "approved": approved}
        frames.append(pd.DataFrame({"trial_row": row, "decided_at": np.where(np.isnan(approved), 0, np.arange(n))} | known))
    return pd.concat(frames, ignore_index=True)


def test_what_helps_is_kept_and_what_harms_is_retired() -> None:
    found = measure(applications([0.15, 0.0, -0.15], waiting=7), trials(PROBATION, PROBATION, PROBATION))
    effects = found.effects
    assert list(effects) == list(EFFECT_COLUMNS)
    assert effects["state"].tolist() == [ACTIVE, PROBATION, RETIRED]
    assert effects["p_on"].tolist() == [0.8, 0.5, 0.0]
    assert (effects["n"] == 1493).all()
    assert (effects["n_waiting"] == 7).all()
    assert (effects["n_applied"] + effects["n_held_out"] == effects["n"]).all()
    assert effects["uplift"].tolist() == pytest.approx([0.15, 0.0, -0.15], abs=0.06)
    assert effects["reason"][0].startswith("kept: it helps")
    assert f"at {effects['changed_at'][0]:,} executions" in effects["reason"][0]
    assert 60 <= effects["changed_at"][2] < 1493
    assert effects["changed_at"][1] == 0


def test_rates_are_those_of_counting() -> None:
    rows = applications([0.1], n=200, waiting=20)
    effects = measure(rows, trials(PROBATION)).effects
    decided = rows[rows["approved"].notna()]
    assert effects["success_rate"][0] == decided.loc[decided["applied"], "approved"].mean()
    assert effects["success_rate_held_out"][0] == decided.loc[~decided["applied"], "approved"].mean()


def test_the_order_of_the_rows_and_the_other_trials_change_nothing() -> None:
    rows, states = applications([0.15, 0.0, -0.15]), trials(PROBATION, PROBATION, PROBATION)
    whole = measure(rows, states)
    mixed = measure(rows.sample(frac=1.0, random_state=1), states)
    pd.testing.assert_frame_equal(whole.effects, mixed.effects)
    pd.testing.assert_frame_equal(whole.looks, mixed.looks)
    alone = measure(rows[rows["trial_row"] == 2].assign(trial_row=0), trials(PROBATION))
    pd.testing.assert_frame_equal(whole.effects.iloc[2:].reset_index(drop=True), alone.effects)


def test_an_active_trial_keeps_its_reason() -> None:
    effects = measure(applications([0.15]), trials(ACTIVE, n=1499, reason="kept: at 700")).effects
    assert effects["reason"].tolist() == ["kept: at 700"]
    assert effects["changed_at"].tolist() == [0]


def test_a_candidate_is_measured_and_applied_by_none() -> None:
    effects = measure(applications([0.15, -0.15], waiting=7), trials(CANDIDATE, CANDIDATE, reason="not recommended now")).effects
    assert effects["state"].tolist() == [CANDIDATE, RETIRED]
    assert effects["p_on"].tolist() == [0.0, 0.0]
    assert effects["reason"][0] == "not recommended now"
    assert effects["reason"][1].startswith("retired at")
    assert effects[["n", "n_waiting"]].to_numpy().tolist() == [[1493, 7]] * 2
    assert effects["low"][0] > 0


def test_nothing_is_undefined_and_not_zero() -> None:
    empty = measure(applications([0.0]).head(0), trials(PROBATION, PROBATION))
    assert empty.effects["n"].tolist() == [0, 0]
    assert empty.effects[["success_rate", "success_rate_held_out", "uplift", "low", "high"]].isna().all(axis=None)
    assert empty.effects["reason"].tolist() == ["on trial: nothing is decided yet"] * 2
    assert empty.looks.empty
    none = measure(applications([0.0]).head(0), trials())
    assert none.effects.empty
    undecided = measure(applications([0.0], n=50, waiting=50), trials(PROBATION))
    assert undecided.effects[["n", "n_waiting"]].to_numpy().tolist() == [[0, 50]]


def test_looks_are_few_and_end_with_the_newest() -> None:
    found = measure(applications([0.0, 0.1], n=3500), trials(PROBATION, PROBATION))
    for row in (0, 1):
        path = found.looks[found.looks["trial_row"] == row]
        assert len(path) <= MOST_LOOKS
        assert path["n"].iloc[-1] == 3500
        assert path["n"].is_monotonic_increasing
        assert (path["low"] <= path["uplift"]).all()


def named(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(pattern_id=rows["trial_row"].astype(str), trial=1, assigned_at=rows["decided_at"])


def test_shares_are_right_until_somebody_chooses() -> None:
    rows = named(applications([0.0, 0.1], n=1000))
    assert not shares(rows)["off"].any()
    chosen = rows.assign(applied=np.where((rows["trial_row"] == 1) & (rows.index % 5 == 0), True, rows["applied"]))
    assert shares(chosen)["off"].tolist() == [False, True]
    assert shares(rows.head(0)).empty


def test_assignments_are_recomputed() -> None:
    rows = named(applications([0.0], n=300))
    assert count_broken(rows, INSTALLATION) == (0, 300)
    assert count_broken(rows.assign(applied=True), INSTALLATION)[0] > 100
    assert count_broken(rows.head(0), INSTALLATION) == (0, 0)
