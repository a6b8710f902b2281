"""What is recommended next to what is on trial: which recommendations open a trial, stay as they are, or are held back.

What is on trial must stay the same thing, or its effect would be that of several. So its target stays; one learned later that
lies beyond the old one's interval is another recommendation, and opens the next trial. As long as nobody has applied it, what is
learned is published as it is, and another target is another trial as well: an agent that was away may still apply the old one,
whose applications name the old number. A retired recommendation is held back until it is found again on reviews that are all
later than its retirement. One that was measured to help is kept even where it is not found again (`measured_advice`).
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pandas as pd

from feedback_pipeline.learning.measured_advice import FROZEN, MEANING, OpenTrial, at_most_ten, beside
from feedback_pipeline.learning.recommendation_documents import ASK_REVIEWER_STANDARD
from feedback_pipeline.learning.trial_states import RETIRED

Record = dict[str, Any]

_DOCUMENT: Final = (
    *(*MEANING, *FROZEN, "confidence", "q_value", "gain", "pattern_keys"),
    *("n_contents", "n_reviewers", "interval"),
)


@dataclass(frozen=True)
class Settled:
    """What is published.

    Attributes:
        recommendations: Rows as those given, with what is on trial as it is there, ranked anew.
        trials: pattern_id, trial, agent_name, recommendation (document), pattern_keys: the trial of each that was found and is
            listed or held back (recommendation None = it stays as it is). A trial that is not there yet is opened.
        closed: pattern_id, trial, reason of each applied trial whose target was overtaken; one that nobody has applied gives its
            place to the next.
        held_back: Recommendations not listed because applying them did not help, by agent.
    """

    recommendations: pd.DataFrame
    trials: pd.DataFrame
    closed: pd.DataFrame
    held_back: dict[str, int]


def settle(
    found: pd.DataFrame,
    known: Collection[OpenTrial],
    first_review: Mapping[str, datetime],
    testable: Collection[str],
) -> Settled:
    """Hold what was found against what is on trial.

    Args:
        found: Recommendations of `recommendations.recommend` with pattern_id, by agent in order of their rank.
        known: The newest trial of every recommendation there ever was.
        first_review: When the first of the reviews learned from was given, by agent.
        testable: Agents of which something could be tested; of others nothing is kept.
    """
    newest = {trial.pattern_id: trial for trial in known}
    back, fresh = _apart(found, newest, first_review)
    helping = {trial.pattern_id for trial in known if trial.helps}
    there = {row["pattern_id"] for row in (*back, *fresh)}
    missing = [trial for trial in known if trial.helps and trial.agent_name in testable and trial.pattern_id not in there]
    listed, kept = beside(fresh, helping, missing)
    trials = [_trial(row, newest[row["pattern_id"]].trial, None) for row in back]
    without_evidence = {row["pattern_id"] for row in kept}
    published: list[Record] = []
    closed: list[Record] = []
    for row in at_most_ten([*listed, *kept], helping):
        trial = newest.get(row["pattern_id"])
        # Its books stay as they are, with the patterns it was made of.
        if row["pattern_id"] in without_evidence:
            published.append(row)
            continue
        shown, number, document = _on_trial(row, trial)
        published.append(shown)
        trials.append(_trial(shown, number, document))
        if trial is not None and trial.state != RETIRED and trial.applied and number > trial.trial:
            why = f"retired: a target beyond its interval was learned, trial {number} tests that"
            closed.append({"pattern_id": trial.pattern_id, "trial": trial.trial, "reason": why})
    return Settled(
        _ranked(published, found),
        pd.DataFrame(trials, columns=["pattern_id", "trial", "agent_name", "recommendation", "pattern_keys"]),
        pd.DataFrame(closed, columns=["pattern_id", "trial", "reason"]),
        dict(Counter(row["agent_name"] for row in back)),
    )


def beyond(interval: object, target: Mapping[str, Any]) -> bool:
    """Whether a target lies outside the interval of an older one; False where either has no number."""
    ends = [float(end) for end in interval if end is not None] if isinstance(interval, list | tuple) else []
    value = _aim(target)
    return len(ends) == 2 and value is not None and not ends[0] <= value <= ends[1]


def _aim(target: Mapping[str, Any]) -> float | None:
    """The number of a target."""
    values = [target.get(name) for name in ("best", "min", "max")]
    return next((float(each) for each in values if each is not None and math.isfinite(each)), None)


def _apart(
    found: pd.DataFrame, newest: Mapping[str, OpenTrial], first_review: Mapping[str, datetime]
) -> tuple[list[Record], list[Record]]:
    """What is held back of what was found, and the rest."""
    back: list[Record] = []
    fresh: list[Record] = []
    for record in found.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        trial, first = newest.get(row["pattern_id"]), first_review.get(row["agent_name"])
        retired = trial is not None and trial.state == RETIRED and (first is None or first <= trial.since)
        (back if retired else fresh).append(row)
    return back, fresh


def _on_trial(row: Record, trial: OpenTrial | None) -> tuple[Record, int, Record | None]:
    """A recommendation as it is published, the number of its trial, and its document, None = as it stands in the books."""
    if trial is None:
        return row, 1, _document(row)
    known = trial.recommendation
    if not trial.applied and trial.state != RETIRED:
        same = not known or all(known.get(name) == row[name] for name in ("target", "action"))
        return row, trial.trial if same else trial.trial + 1, _document(row)
    # A target that is learned again as it is stays, even where rounding has put it beyond its own interval.
    moved = _aim(row["target"]) != _aim(known.get("target", {})) and beyond(known.get("interval"), row["target"])
    if trial.state == RETIRED or moved:
        return row, trial.trial + 1, _document(row)
    frozen = row | {name: known[name] for name in FROZEN if name in known}
    # What was recommended before there were trials has a short document: the rest of it is added once.
    return frozen, trial.trial, None if "identity" in known else _document(frozen)


def _trial(row: Record, number: int, recommendation: Record | None) -> Record:
    known = {name: row[name] for name in ("pattern_id", "agent_name", "pattern_keys")}
    return known | {"trial": number, "recommendation": recommendation}


def _document(row: Record) -> Record:
    """What is kept of a recommendation; of a question to a reviewer nothing, since it names one."""
    return {} if row["kind"] == ASK_REVIEWER_STANDARD else {name: row[name] for name in _DOCUMENT}


def _ranked(listed: list[Record], like: pd.DataFrame) -> pd.DataFrame:
    """By agent, in the order given, ranked from 1."""
    place: dict[str, int] = {}
    rows = []
    for row in sorted(listed, key=lambda one: str(one["agent_name"])):
        place[row["agent_name"]] = place.get(row["agent_name"], 0) + 1
        rows.append(row | {"rank": place[row["agent_name"]]})
    return pd.DataFrame(rows, columns=list(like.columns))
