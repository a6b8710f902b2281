"""Does applying a recommendation help: all trials of all agents in one vectorised pass.

The outcome of an application is the human decision of the output: approved iff more than half of its decisions approve. Outputs
that nobody has decided wait. Nothing is approved without a human in this product; if that ever changes, what is approved
automatically must be left out here and its random audit sample weighted instead.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.confidence_sequences import Sequences, confidence_sequences, pseudo_outcomes
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.trial_states import PROBATION, reason, share_applied
from feedback_pipeline.learning.trials import Verdicts, decide

APPLICATION_COLUMNS: Final = ("trial_row", "execution_id", "applied", "propensity", "predicted_quality", "approved", "decided_at")
EFFECT_COLUMNS: Final = (
    *("state", "p_on", "n", "n_applied", "n_held_out", "n_waiting", "success_rate", "success_rate_held_out"),
    *("uplift", "low", "high", "reason", "changed_at"),
)
MOST_LOOKS: Final = 120


@dataclass(frozen=True)
class Effects:
    """What was measured.

    Attributes:
        effects: One row per trial, in the order and with the index of `trials`: `EFFECT_COLUMNS`. changed_at: executions after
            which the state became what it is, 0 = it is what it was.
        looks: The confidence sequences over time, at most `MOST_LOOKS` rows a trial: trial_row, n, uplift, low, high.
    """

    effects: pd.DataFrame
    looks: pd.DataFrame


def measure(applications: pd.DataFrame, trials: pd.DataFrame) -> Effects:
    """Uplift of every open trial, and what that decides.

    Args:
        applications: `APPLICATION_COLUMNS`, one row per execution and trial in any order: trial_row (position of its trial in
            `trials`), execution_id, applied, propensity, predicted_quality (NaN = none), approved (1, 0, NaN = not decided),
            decided_at (when it was first decided: any numbers that order the executions).
        trials: state, n (executions decided at the last look), reason; open trials: on probation, active, or candidates.
    """
    trial = applications["trial_row"].to_numpy(dtype=np.intp)
    outcome = applications["approved"].to_numpy(dtype=np.float64)
    waiting = np.bincount(trial[np.isnan(outcome)], minlength=len(trials))
    rows = _in_order(applications[~np.isnan(outcome)])
    group, applied = rows["trial_row"].to_numpy(dtype=np.intp), rows["applied"].to_numpy(dtype=bool)
    outcome, propensity, predicted = (rows[name].to_numpy(np.float64) for name in ("approved", "propensity", "predicted_quality"))
    sequences = confidence_sequences(group, pseudo_outcomes(group, outcome, applied, propensity, predicted), applied)
    verdicts = decide(trials["state"].to_numpy(object), trials["n"].to_numpy(np.intp), group, sequences)
    ends = np.flatnonzero(np.diff(group, append=len(trials)))
    shown = _shown(group, sequences, verdicts, ends, trials)
    size = len(trials)
    counts = {
        "n_applied": np.bincount(group[applied], minlength=size),
        "n_held_out": np.bincount(group[~applied], minlength=size),
        "n_waiting": waiting,
    }
    rates = {
        "success_rate": _rate(group[applied], outcome[applied], size),
        "success_rate_held_out": _rate(group[~applied], outcome[~applied], size),
    }
    effects = pd.DataFrame(counts | rates | shown, index=trials.index)[list(EFFECT_COLUMNS)]
    return Effects(effects, _thinned(group, sequences))


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """By trial, then in the order of the decisions, of the same moment by execution: the order of the input is nothing."""
    moment = rows["decided_at"].to_numpy()
    execution = rows["execution_id"].to_numpy()
    trial = rows["trial_row"].to_numpy(dtype=np.intp)
    ranks = execution if execution.dtype.kind in "iu" else pd.factorize(execution, sort=True)[0]
    return rows.iloc[np.lexsort((ranks, moment, trial))]


def _shown(group: Ints, sequences: Sequences, verdicts: Verdicts, ends: Ints, trials: pd.DataFrame) -> dict[str, object]:
    """State, share, the estimate after the newest execution, and the reason: that of the moment which decided."""
    size = len(trials)
    n, uplift, low, high = np.zeros(size, dtype=np.intp), *(np.full(size, np.nan) for _ in range(3))
    which = group[ends]
    n[which], uplift[which] = sequences.n[ends], sequences.effect[ends]
    low[which], high[which] = sequences.low[ends], sequences.high[ends]
    changed = verdicts.decided_at > 0
    starts = np.searchsorted(group, np.arange(size))
    told, share = [], []
    stored = trials["reason"].tolist()
    for i, state in enumerate(verdicts.state.tolist()):
        share.append(share_applied(state, int(n[i]), float(low[i])))
        if changed[i]:
            row = starts[i] + verdicts.decided_at[i] - 1
            numbers = (float(each[row]) for each in (sequences.effect, sequences.low, sequences.high))
            told.append(reason(state, int(verdicts.decided_at[i]), *numbers))
        elif state == PROBATION:
            told.append(reason(state, int(n[i]), float(uplift[i]), float(low[i]), float(high[i])))
        else:
            told.append(stored[i])
    numbers_now = {"n": n, "uplift": np.where(np.isnan(low), np.nan, uplift), "low": low, "high": high}
    return {"state": verdicts.state, "p_on": share, "reason": told, "changed_at": verdicts.decided_at} | numbers_now


def _rate(group: Ints, outcome: Floats, size: int) -> Floats:
    """Share approved in each group; NaN where it is empty."""
    n, approved = np.bincount(group, minlength=size), np.bincount(group, weights=outcome, minlength=size)
    rate: Floats = np.divide(approved, n, out=np.full(size, np.nan), where=n > 0)
    return rate


def _thinned(group: Ints, sequences: Sequences) -> pd.DataFrame:
    """Evenly spaced moments of each sequence from its first bounds on, the newest among them."""
    frame = pd.DataFrame({"trial_row": group} | {"n": sequences.n, "uplift": sequences.effect})
    frame = frame.assign(low=sequences.low, high=sequences.high)[~np.isnan(sequences.low)]
    behind = frame.groupby("trial_row").cumcount(ascending=False)
    step = np.ceil(frame.groupby("trial_row")["n"].transform("size") / MOST_LOOKS)
    thinned: pd.DataFrame = frame[behind % step == 0].reset_index(drop=True)
    return thinned
