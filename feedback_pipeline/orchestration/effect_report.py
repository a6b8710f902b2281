"""Metadata of learning_effectiveness: what became of the trials, with the confidence sequences over time."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from feedback_pipeline.orchestration.day_evidence import Evidence
from feedback_pipeline.orchestration.drawing import markdown
from feedback_pipeline.orchestration.effect_sequences import confidence_sequences
from feedback_pipeline.orchestration.learned_columns import EFFECTS
from feedback_pipeline.orchestration.metadata import table

if TYPE_CHECKING:
    from feedback_pipeline.learning_pass.effectiveness import EffectsOutcome


def describe_effects(outcome: "EffectsOutcome") -> dict[str, Any]:
    """Counts, the confidence sequences, and the trials with the most executions; no id of an execution."""
    picture = confidence_sequences(outcome.trials)
    return {
        **outcome.facts,
        "dagster/row_count": outcome.facts["open trials"],
        "confidence sequences": dg.MetadataValue.md(markdown(picture, "uplift of each pattern over its executions")),
        "trials": table(outcome.trials, EFFECTS),
    }


def holdout_evidence(outcome: "EffectsOutcome") -> Evidence:
    """Trials whose share applied could hardly be chance, and assignments that are not what the hash of the execution says."""
    off = outcome.shares[outcome.shares["off"].astype(bool)]
    details: dict[str, int | float | str] = {
        "trials": len(outcome.shares),
        "trials with a wrong share": len(off),
        "assignments looked at": outcome.recomputed,
        "assignments that were not followed": outcome.broken,
    }
    if len(off):
        worst = off.sort_values(["p_value", "pattern_id"]).iloc[0]
        details["worst share"] = f"{100 * worst['applied']:.1f} % applied it where {100 * worst['expected']:.1f} % should"
    return Evidence(len(off) + outcome.broken, 0, details)
