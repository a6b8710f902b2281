"""The step that measures whether applying a recommendation helps, and keeps or retires it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from feedback_pipeline.learning.assignments import count_broken, shares
from feedback_pipeline.learning.effectiveness import measure
from feedback_pipeline.learning.trial_states import ACTIVE, CANDIDATE, PROBATION, RETIRED
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.application_outcomes import read_decided_applications, read_trials
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.published_effects import write_counters, write_effects
from feedback_pipeline.storage.reading_effects import read_most_tried

MOST_SHOWN = 100
_KEY = ["pattern_id", "trial"]


@dataclass(frozen=True)
class EffectsOutcome:
    """Result of `measure_effects`.

    Attributes:
        facts: Counts.
        trials: The trials with the most executions, retired ones among them, as `reading_effects.read_most_tried` returns them.
        shares: Of `assignments.shares`.
        broken: Newest applications that are not what their hash says.
        recomputed: How many of them were looked at.
    """

    facts: dict[str, Any]
    trials: pd.DataFrame = field(repr=False)
    shares: pd.DataFrame = field(repr=False)
    broken: int
    recomputed: int


def measure_effects(database: Database, settings: Settings, *, now: datetime) -> EffectsOutcome:
    """Measure every open trial, decide its state, and set the counters of the patterns behind all trials, in one transaction.

    Raises:
        StoreUnavailable: Postgres is away; nothing was written.
    """
    with database.snapshot() as connection:
        trials = read_trials(connection)
        applications = read_decided_applications(connection, settings.score_bounds)
        installation = read_installation(connection).id
    opened = trials[trials["state"] != RETIRED].reset_index(drop=True)
    row = pd.Series(opened.index, index=pd.MultiIndex.from_frame(opened[_KEY]))
    placed = applications.assign(trial_row=row.reindex(pd.MultiIndex.from_frame(applications[_KEY])).to_numpy(np.float64))
    measured = measure(placed[placed["trial_row"].notna()], opened[["state", "n", "reason"]])
    effects = pd.concat([opened[_KEY], measured.effects], axis=1)
    lists = dict(iter(measured.looks.groupby("trial_row")[["n", "uplift", "low", "high"]]))
    looks = [lists[i].to_numpy(object).tolist() if i in lists else [] for i in range(len(effects))]
    with database.connect() as connection:
        write_effects(connection, effects.assign(looks=pd.Series(looks, dtype=object)), now)
        changed = write_counters(connection, pattern_counters(applications, trials))
        shown = pd.DataFrame(read_most_tried(connection, MOST_SHOWN))
    states = effects["state"].value_counts()
    broken, recomputed = count_broken(applications, installation)
    facts = {
        "applications": len(applications),
        "decided": int(applications["approved"].notna().sum()),
        "open trials": len(effects),
        **{f"trials {state}": int(states.get(state, 0)) for state in (CANDIDATE, PROBATION, ACTIVE)},
        "trials retired now": int(states.get(RETIRED, 0)),
        "states that changed": int((effects["changed_at"] > 0).sum()),
        "patterns whose counters changed": changed,
    }
    return EffectsOutcome(facts, shown, shares(applications), broken, recomputed)


def pattern_counters(applications: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """How often each pattern was applied, over all trials of the recommendations made of it, and what came of it.

    Args:
        applications: Of `application_outcomes.read_decided_applications`.
        trials: Of `application_outcomes.read_trials`.

    Returns:
        Of every pattern with an application: id, times_applied (without the holdout), success_rate and success_rate_held_out
        (approved among those decided, NaN = none), last_applied.
    """
    links = trials[[*_KEY, "pattern_ids"]].explode("pattern_ids").dropna().rename(columns={"pattern_ids": "id"})
    on = applications["applied"]
    rows = applications[_KEY].assign(
        times_applied=on.astype("int64"),
        success_rate=applications["approved"].where(on),
        success_rate_held_out=applications["approved"].where(~on),
        last_applied=applications["assigned_at"].where(on),
    )
    of_pattern = rows.merge(links, on=_KEY).groupby("id")
    counters = of_pattern.agg(
        times_applied=("times_applied", "sum"),
        success_rate=("success_rate", "mean"),
        success_rate_held_out=("success_rate_held_out", "mean"),
        last_applied=("last_applied", "max"),
    )
    return counters.reset_index()
