"""Decision patterns in plain words, with their intervals and what they rest on."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from feedback_pipeline.learning import features as registry

# The registry's labels say what more of a feature is; a value needs the name of the feature itself.
_COMPARATIVES: Final = (
    ("a higher ", ""),
    ("a larger ", ""),
    ("higher ", ""),
    ("more ", ""),
    ("longer ", "length of "),
    ("harder ", "difficulty of "),
)


def contrast_sentence(row: Mapping[str, Any], n_approved: int, n_other: int, lift: tuple[float, float] | None) -> str:
    """How approved outputs differ from the others.

    Args:
        row: feature, decision_point, effect (Hedges' g), ci_low, ci_high of the pattern.
        n_approved: Approved outputs.
        n_other: Other outputs.
        lift: Approval shares on the bad and on the good side of the feature's best cut, where they are known.
    """
    who = "approved outputs" if row["effect"] > 0 else "outputs that were not approved"
    text = (
        f"{who} have {registry.label(row['feature'])}{_at(row)}: g {row['effect']:+.2f} [{row['ci_low']:.2f}, "
        f"{row['ci_high']:.2f}], {n_approved:,} approved v {n_other:,} others"
    )
    return text if lift is None else f"{text}; approval {percent(lift[0])} -> {percent(lift[1])} across its best cut"


def threshold_sentence(row: Mapping[str, Any], characteristics: Mapping[str, Any], signals: Mapping[str, Any]) -> str:
    """From which value on outputs are approved more often; the arguments are the pattern and its documents."""
    side = "above" if row["direction"] > 0 else "below"
    return f"{condition(row['feature'], side, characteristics['cut'])}{_at(row)}: {_lift(row, characteristics, signals)}"


def curve_sentence(row: Mapping[str, Any], curve: Mapping[str, Sequence[float]]) -> str:
    """How approval goes with a feature that has no clear cut."""
    goes = "rises" if row["direction"] > 0 else "falls"
    low, high = (percent(share) for share in _outer_thirds(curve))
    ends = f"{low} in the lowest third -> {high} in the highest"
    return f"approval {goes} with {noun(row['feature'])}{_at(row)}: {ends}, no clear cut, {sum(curve['n']):,} outputs"


def _outer_thirds(curve: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Observed approval of the lowest and the highest third of the outputs; a bin across the border counts in parts."""
    n, observed = (np.asarray(curve[name], dtype=np.float64) for name in ("n", "observed"))
    third = n.sum() / 3.0
    shares = []
    for size, share in ((n, observed), (n[::-1], observed[::-1])):
        taken = np.clip(third - (np.cumsum(size) - size), 0.0, size)
        shares.append(float(taken @ share / third))
    return shares[0], shares[1]


def rule_sentence(row: Mapping[str, Any], characteristics: Mapping[str, Any], signals: Mapping[str, Any]) -> str:
    """Which combination of values is approved more often; the arguments are the pattern and its documents."""
    words = {">=": "at least", "<": "below"}
    parts = [condition(part["feature"], words[part["operator"]], part["value"]) for part in characteristics["conditions"]]
    return f"{' and '.join(parts)}: {_lift(row, characteristics, signals)}"


def confounding(effect_within: float) -> str:
    """What is added where a difference over all agents is not the one within agents."""
    return f"; confounded with the agent: g {effect_within:+.2f} within agents"


def condition(feature: str, relation: str, value: float) -> str:
    """A feature, a relation and a value with its unit: `length of texts above 320 words`."""
    name, unit = noun(feature), registry.unit(feature)
    shown = "" if unit in ("", "share") or unit in name else f" {unit}"
    return f"{name} {relation} {number(value)}{shown}"


def noun(feature: str) -> str:
    """The name of a feature in plain words, made from its label: `longer texts` gives `length of texts`."""
    label = registry.label(feature)
    for comparative, name in _COMPARATIVES:
        if label.startswith(comparative):
            return name + label.removeprefix(comparative)
    return label


def number(value: float) -> str:
    """A number to be read: about three digits that count."""
    size = abs(value)
    if size >= 1e15:
        return f"{value:.2e}"
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 or size == 0 else f"{value:.2g}"


def percent(share: float) -> str:
    """A share in per cent without decimals."""
    return f"{100 * share:.0f} %"


def _at(row: Mapping[str, Any]) -> str:
    return "" if row["decision_point"] is None else f" at {row['decision_point']}"


def _lift(row: Mapping[str, Any], characteristics: Mapping[str, Any], signals: Mapping[str, Any]) -> str:
    effect, low, high = np.round(100 * np.array([row["effect"], row["ci_low"], row["ci_high"]])).astype(int)
    return (
        f"approval {percent(characteristics['bad_rate'])} -> {percent(characteristics['good_rate'])}, {effect:+d} points "
        f"[{low}, {high}], {signals['n_bad']:,} v {signals['n_good']:,} outputs"
    )
