"""The states of a trial and what they mean: how many executions apply the pattern, and why it is where it is.

Only the standard library: what an agent reads imports this.
"""

import math
from typing import Final

CANDIDATE: Final = "candidate"
PROBATION: Final = "probation"
ACTIVE: Final = "active"
RETIRED: Final = "retired"
STATES: Final = (CANDIDATE, PROBATION, ACTIVE, RETIRED)
WORTH: Final = 0.02
"""Uplift in approval from which a pattern is worth applying."""
PATIENCE: Final = 3000
"""Executions after which it must have been shown to help."""
SETTLED_AFTER: Final = 2000
_SHARE: Final = {CANDIDATE: 0.0, PROBATION: 0.5, ACTIVE: 0.8, RETIRED: 0.0}
_SETTLED_SHARE: Final = 0.95  # never 1: without a holdout nothing would be noticed
FIRST_LOOK: Final = 60
"""Executions from which there are bounds of an uplift: before it their asymptotics do not hold."""


def share_applied(state: str, n: int = 0, low: float | None = None) -> float:
    """Share of the executions that apply a pattern: 0, .5 on probation, .8 active, .95 once that is settled.

    Args:
        state: Of its trial.
        n: Executions decided.
        low: Lower bound of its uplift, None or NaN = none.
    """
    settled = state == ACTIVE and n >= SETTLED_AFTER and low is not None and low > 0
    return _SETTLED_SHARE if settled else _SHARE[state]


def measured_to_help(state: str, low: float | None) -> bool:
    """Whether a trial is active, or would be: a candidate goes on where its numbers put it now.

    What is recommended again goes on with all its executions, each weighed by its own propensity, so its bounds hold as before:
    active where the lower one lies above 0, on probation where it does not.

    Args:
        state: Of the trial.
        low: Lower bound of its uplift, None or NaN = none.
    """
    return state == ACTIVE or (state == CANDIDATE and low is not None and low > 0)


def reason(state: str, n: int, effect: float, low: float, high: float) -> str:
    """Why a trial is in its state, with the numbers at that moment.

    Args:
        state: Its state.
        n: Executions decided.
        effect: Uplift in approval.
        low: Lower bound.
        high: Upper bound; both NaN where there are none yet.
    """
    if math.isnan(low):
        if state == RETIRED:
            return f"retired at {n:,} executions: its uplift cannot be measured, all of them applied it or none did"
        missing = f"{FIRST_LOOK} needed" if n < FIRST_LOOK else "all of them applied it or none did"
        return f"on trial: {n:,} executions decided, {missing}" if n else "on trial: nothing is decided yet"
    said = f"approval {100 * effect:+.1f} points [{100 * low:.1f}, {100 * high:.1f}]"
    if state == RETIRED:
        why = f"it does not help by {100 * WORTH:.0f} points" if high < WORTH else "it is still not shown to help"
        return f"retired at {n:,} executions: {why}, {said}"
    if state == ACTIVE:
        return f"kept: it helps, {said} at {n:,} executions"
    return f"on trial: {said} at {n:,} executions holds 0"
