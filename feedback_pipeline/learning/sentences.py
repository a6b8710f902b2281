"""Findings in plain words."""

from collections.abc import Hashable
from typing import Any

from feedback_pipeline.learning import features as registry
from feedback_pipeline.learning.correlations import MIN_REVIEWERS

SCOPE_GENERAL, SCOPE_THESE, SCOPE_ONE, SCOPE_UNKNOWN = (
    "reviewers in general",
    "these reviewers",
    "one reviewer",
    "unknown reviewers",
)


def sentence(finding: dict[Hashable, Any]) -> str:
    """The finding in plain words, with its interval and what it rests on.

    Args:
        finding: A row of `find` as a dict.
    """
    subject, aspect, n_reviewers = registry.label(finding["feature"]), finding["aspect"], finding["n_reviewers"]
    goes = "goes" if _is_singular(subject) else "go"
    direction = "higher" if finding["r"] > 0 else "lower"
    people = f"{n_reviewers:,} reviewer{'' if n_reviewers == 1 else 's'}"
    text = (
        f"{subject} {goes} with {direction} {aspect}: {finding['r']:+.2f} [{finding['ci_low']:.2f}, {finding['ci_high']:.2f}], "
        f"{finding['n_contents']:,} outputs, {people}"
    )
    text += taste(n_reviewers)
    if finding["confounded_with_agent"]:
        text += f"; confounded with the agent: {finding['r_within']:+.2f} within agents"
    return text


def _is_singular(label: str) -> bool:
    return not label.split(" (")[0].split(" of ")[0].endswith("s")


def taste(n_reviewers: int) -> str:
    """What is added to a sentence where too few reviewers stand behind it to tell quality from their taste; 0 = unknown."""
    if n_reviewers >= MIN_REVIEWERS or n_reviewers < 1:
        return ""
    return "; may be this person's taste" if n_reviewers == 1 else "; may be the taste of these reviewers"
