"""What a check of the findings observes: plain counts over a data frame, no Dagster."""

from typing import TYPE_CHECKING, Final

from feedback_pipeline.orchestration.day_evidence import Evidence

if TYPE_CHECKING:
    import pandas as pd

PAIR: Final = ["agent_name", "feature", "aspect"]
_RANGES: Final = {
    "r": (-1.0, 1.0),
    "r_shrunk": (-1.0, 1.0),
    "ci_low": (-1.0, 1.0),
    "ci_high": (-1.0, 1.0),
    "q_value": (0.0, 1.0),
    "confidence": (0.0, 1.0),
}


def unusable_findings(findings: "pd.DataFrame") -> Evidence:
    """Findings that repeat a pair, leave a range, are published without a value, or are withheld without a reason."""
    bad = {"repeated pairs": int(findings.duplicated(PAIR).sum())}
    for name, (low, high) in _RANGES.items():
        bad[f"{name} out of range"] = int(((findings[name] < low) | (findings[name] > high)).sum())
    published = findings["published"].astype(bool)
    bad["empty intervals"] = int((findings["ci_low"] > findings["ci_high"]).sum())
    bad["published without a value"] = int((published & findings["r"].isna()).sum())
    bad["withheld without a reason"] = int((~published & findings["reason"].isna()).sum())
    return Evidence(sum(bad.values()), 0, {"findings": len(findings), **{name: count for name, count in bad.items() if count}})
