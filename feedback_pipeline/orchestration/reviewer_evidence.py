"""What the checks of the reviewers observe: plain counts over the numbered frames of preference_models, no Dagster.

Reviewers are numbers here (reviewer_frames); no evidence holds an id.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.orchestration.day_evidence import Evidence
from feedback_pipeline.orchestration.reviewer_frames import drifts, rank

if TYPE_CHECKING:
    import pandas as pd

NAMED: Final = 20

Details = dict[str, int | float | str]


def disagreement(agreement: "pd.DataFrame") -> Evidence:
    """Aspects, and the decision, in which the reviewers of all agents may agree no better than chance.

    Counts those whose 95 % interval of alpha is not above 0, as scored. The interval after severity is removed does not know
    that the severities come from the same scores: it is above 0 in up to one of six panels that do not agree at all.

    Args:
        agreement: rows of `agreement.agreement`.
    """
    fleet = agreement[agreement["agent_name"] == FLEET].sort_values("aspect", key=lambda names: names.map(rank))
    measured = fleet[fleet["ci_low"].notna()]
    chance = measured[measured["ci_low"] <= 0]
    details: Details = {"aspects measured": len(measured)}
    for row in chance.head(NAMED).to_dict("records"):
        details[f"alpha: {row['aspect']}"] = _alpha(row)
    for reason, rows in fleet[fleet["ci_low"].isna()].groupby("reason", sort=True):
        details[f"not measured ({reason})"] = _named(rows["aspect"])
    return Evidence(len(chance), 0, details)


def _alpha(row: "Mapping[Any, Any]") -> str:
    as_scored = f"{row['alpha']:.2f} ({row['ci_low']:.2f} to {row['ci_high']:.2f})"
    after = row["alpha_adjusted"]
    return as_scored if after != after else f"{as_scored}, {after:.2f} after severity is removed"


def separation(components: "pd.DataFrame", bridges: "pd.DataFrame") -> Evidence:
    """Groups of reviewers between which severity cannot be compared, because no output connects them.

    Args:
        components: reviewer, component.
        bridges: one row per second review that would connect a component to the largest.
    """
    sizes = components["component"].value_counts()
    details: Details = {"reviewers": len(components)}
    if len(sizes) > 1:
        details["reviewers by component"] = _sizes(sizes)
        details["second reviews that would connect them"] = len(bridges)
    return Evidence(len(sizes), 1, details)


def _sizes(sizes: "pd.Series") -> str:
    """Largest first, equal ones together: '40, 3, 12 x 1'."""
    counted = sizes.value_counts().sort_index(ascending=False)
    return _named(f"{size:,}" if count == 1 else f"{count:,} x {size:,}" for size, count in counted.items())


def unsteadiness(models: "pd.DataFrame") -> Evidence:
    """Reviewers whose severity changes from month to month beyond chance.

    Args:
        models: reviewer and severity (JSON).
    """
    drift = drifts(models)
    changed = drift[drift["drifted"].eq(True)].sort_values(["q_value", "reviewer"])
    details: Details = {"reviewers tested": int(drift["drifted"].notna().sum())}
    if len(changed):
        details["severity changes"] = _named(
            f"R{row['reviewer']} (spread {row['spread']:.2g})" for row in changed.to_dict("records")
        )
    for reason, rows in drift[drift["drifted"].isna()].groupby("reason", sort=True):
        details[f"not tested: {reason}"] = len(rows)
    return Evidence(len(changed), 0, details)


def failed_models(facts: Mapping[str, Any]) -> Evidence:
    """Parts whose model failed: the severity of an aspect falls back to agent means, the standard of an aspect is undefined.

    Args:
        facts: severity_failures and preference_failures, the reason by aspect or part.
    """
    parts = {
        **{f"severity: {aspect}": reason for aspect, reason in facts["severity_failures"].items()},
        **{f"preferences: {part}": reason for part, reason in facts["preference_failures"].items()},
    }
    return Evidence(len(parts), 0, dict(sorted(parts.items())[:NAMED]))


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    rest = [f"and {len(listed) - NAMED:,} more"] if len(listed) > NAMED else []
    return ", ".join([*listed[:NAMED], *rest])
