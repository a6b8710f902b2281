"""What the checks of the quality predictor observe: plain numbers over what is published, no Dagster.

A check passes when its observed value is at most its threshold; where there is nothing to observe it passes and says why.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.orchestration.day_evidence import Evidence

if TYPE_CHECKING:
    from feedback_pipeline.storage.reading_models import KnownModel

COVERAGE: Final = 0.9
_REACH: Final = 0.05
LEAST_COVERED: Final = 50
FEW_OUTPUTS: Final = 10
MOST_NAMED: Final = 10
_BASELINES: Final = ("mean", "ridge")
_NO_CHAMPION: Final = {"reason": "there is no champion yet"}


def beaten_by_baseline(champion: "KnownModel | None") -> Evidence:
    """By how much of R2 the better of the mean and ridge is ahead of the champion; a champion that is one of them fails too."""
    if champion is None:
        return Evidence(0.0, 0.0, dict(_NO_CHAMPION))
    r2 = {name: _number(one.get("r2")) for name, one in _candidates(champion).items()}
    ahead = {name: r2[name] for name in _BASELINES if r2.get(name) is not None}
    own = r2.get(champion.candidate)
    details: dict[str, int | float | str] = {"champion": champion.candidate}
    details |= {f"r2 of {name}": value for name, value in (*ahead.items(), (champion.candidate, own)) if value is not None}
    if champion.candidate in _BASELINES:
        return Evidence(1.0, 0.0, details | {"reason": f"nothing was shown to forecast better than {champion.candidate}"})
    if own is None or not ahead:
        return Evidence(0.0, 0.0, details | {"reason": "no forecast has met its review yet"})
    best = max(value for value in ahead.values() if value is not None)
    return Evidence(max(best - own, 0.0), 0.0, details)


def coverage_off(share: float | None, n: int) -> Evidence:
    """Distance of the coverage of past forecasts from .90, against .05."""
    if share is None or n < LEAST_COVERED:
        return Evidence(0.0, _REACH, {"forecasts with a review": n, "reason": f"too few to judge; {LEAST_COVERED} are needed"})
    return Evidence(round(abs(share - COVERAGE), 6), _REACH, {"coverage": share, "forecasts with a review": n})


def drifted(alarm: str | None, champion: "KnownModel | None", shifted: Mapping[str, float]) -> Evidence:
    """1 where the charts of the champion's errors give an alarm; features that have shifted, by their index, are named."""
    if champion is None:
        return Evidence(0.0, 0.0, dict(_NO_CHAMPION))
    details: dict[str, int | float | str] = {} if alarm is None else {"alarm": alarm}
    if shifted:
        most = sorted(shifted, key=lambda name: (-shifted[name], name))[:MOST_NAMED]
        details |= {
            "features that shifted": len(shifted),
            "most of all": ", ".join(f"{name} ({shifted[name]:.2f})" for name in most),
        }
    return Evidence(0.0 if alarm is None else 1.0, 0.0, details)


def thin_agents(n_contents: Mapping[str, int]) -> Evidence:
    """Agents with too few reviewed outputs for a forecast to know them."""
    few = sorted(name for name, n in n_contents.items() if n < FEW_OUTPUTS)
    details: dict[str, int | float | str] = {"agents": len(n_contents), "needed": FEW_OUTPUTS}
    return Evidence(len(few), 0.0, details | ({"agents with too few": ", ".join(few[:MOST_NAMED])} if few else {}))


def _candidates(champion: "KnownModel") -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = champion.metrics.get("candidates") or {}
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
