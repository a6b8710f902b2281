"""What is recommended next to what is on trial: which recommendations open a trial, stay as they are, or are held back.

What is on trial must stay the same thing from its first application on, or its effect would be that of several. So its target
stays; one learned later that lies beyond the old one's interval is another recommendation, and opens the next trial. A retired
recommendation is held back until it is found again on reviews that are all later than its retirement. One that was measured to
help is kept even where it is not found again: agents that follow it leave nothing to compare in their reviews.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pandas as pd

from feedback_pipeline.learning.recommendation_documents import ASK_REVIEWER_STANDARD
from feedback_pipeline.learning.recommendations import MOST
from feedback_pipeline.learning.trial_states import ACTIVE, RETIRED

Record = dict[str, Any]

KEPT_WITHOUT_EVIDENCE: Final = "not found again in these reviews; kept because applying it was measured to help"
# Together they are what is applied, and what is said of it.
_FROZEN: Final = ("target", "action", "text", "expected_effect")
_DOCUMENT: Final = (
    *("identity", "kind", "feature", "direction", *_FROZEN, "confidence", "q_value", "gain", "pattern_keys"),
    *("n_contents", "n_reviewers", "interval"),
)


@dataclass(frozen=True)
class OpenTrial:
    """The newest trial of a recommendation.

    Attributes:
        pattern_id: Id of the recommendation.
        trial: Its number.
        agent_name: Whose it is.
        state: Its state.
        applied: Whether an execution has been assigned in it.
        recommendation: The recommendation as it is on trial; empty where that has no meaning.
        since: When the state was reached.
    """

    pattern_id: str
    trial: int
    agent_name: str
    state: str
    applied: bool
    recommendation: Mapping[str, Any]
    since: datetime


@dataclass(frozen=True)
class Settled:
    """What is published.

    Attributes:
        recommendations: Rows as those given, with what is on trial as it is there, ranked anew.
        trials: pattern_id, trial, agent_name, recommendation (document), pattern_keys: the trial of each of them, of those held
            back too (recommendation None = it stays as it is). A trial that is not there yet is opened.
        closed: pattern_id, trial, reason of each trial whose target was overtaken.
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
    listed: list[Record] = []
    trials: list[Record] = []
    closed: list[Record] = []
    held_back: dict[str, int] = {}
    for record in found.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        trial, agent = newest.get(row["pattern_id"]), row["agent_name"]
        number = 1 if trial is None else trial.trial
        if trial is not None and trial.state == RETIRED:
            number += 1
            if not _later(first_review.get(agent), trial.since):
                held_back[agent] = held_back.get(agent, 0) + 1
                trials.append(_trial(row, trial.trial, None))
                continue
        elif trial is not None and trial.applied:
            if beyond(trial.recommendation.get("interval"), row["target"]):
                number += 1
                why = f"retired: a target beyond its interval was learned, trial {number} tests that"
                closed.append({"pattern_id": trial.pattern_id, "trial": trial.trial, "reason": why})
            else:
                row |= {name: trial.recommendation[name] for name in _FROZEN if name in trial.recommendation}
        listed.append(row)
        # What was applied stays as it is in the books, with its interval.
        frozen = trial is not None and trial.applied and number == trial.trial
        trials.append(_trial(row, number, None if frozen else _document(row)))
    listed = _with_kept(listed, {row["pattern_id"] for row in trials}, known, testable)
    return Settled(
        _ranked(listed, found),
        pd.DataFrame(trials, columns=["pattern_id", "trial", "agent_name", "recommendation", "pattern_keys"]),
        pd.DataFrame(closed, columns=["pattern_id", "trial", "reason"]),
        held_back,
    )


def beyond(interval: object, target: Mapping[str, Any]) -> bool:
    """Whether a target lies outside the interval of an older one; False where either has no number."""
    ends = [float(end) for end in interval if end is not None] if isinstance(interval, list | tuple) else []
    values = [target.get(name) for name in ("best", "min", "max")]
    value = next((float(each) for each in values if each is not None and math.isfinite(each)), None)
    return len(ends) == 2 and value is not None and not ends[0] <= value <= ends[1]


def _later(first: datetime | None, since: datetime) -> bool:
    return first is not None and first > since


def _trial(row: Record, number: int, recommendation: Record | None) -> Record:
    known = {name: row[name] for name in ("pattern_id", "agent_name", "pattern_keys")}
    return known | {"trial": number, "recommendation": recommendation}


def _document(row: Record) -> Record:
    """What is kept of a recommendation; of a question to a reviewer nothing, since it names one."""
    return {} if row["kind"] == ASK_REVIEWER_STANDARD else {name: row[name] for name in _DOCUMENT}


def _with_kept(
    listed: list[Record], found: Collection[str], known: Collection[OpenTrial], testable: Collection[str]
) -> list[Record]:
    """The list with what was measured to help and was not found again, unless something is found about the same feature."""
    about = {(row["agent_name"], row["feature"]) for row in listed if row["feature"] is not None}
    kept: list[Record] = []
    for trial in sorted(known, key=lambda one: (one.agent_name, one.pattern_id)):
        document = dict(trial.recommendation)
        missing = trial.state == ACTIVE and trial.pattern_id not in found and trial.agent_name in testable
        if missing and "identity" in document and (trial.agent_name, document["feature"]) not in about:
            own = {"agent_name": trial.agent_name, "pattern_id": trial.pattern_id, "conflicts": [KEPT_WITHOUT_EVIDENCE]}
            kept.append(document | own)
    room = {agent: MOST - sum(row["agent_name"] == agent for row in kept) for agent in {row["agent_name"] for row in kept}}
    place: dict[str, int] = {}
    chosen = []
    for row in listed:
        place[row["agent_name"]] = place.get(row["agent_name"], 0) + 1
        if place[row["agent_name"]] <= room.get(row["agent_name"], MOST):
            chosen.append(row)
    return [*chosen, *kept]


def _ranked(listed: list[Record], like: pd.DataFrame) -> pd.DataFrame:
    """By agent, in the order given, ranked from 1."""
    place: dict[str, int] = {}
    rows = []
    for row in sorted(listed, key=lambda one: str(one["agent_name"])):
        place[row["agent_name"]] = place.get(row["agent_name"], 0) + 1
        rows.append(row | {"rank": place[row["agent_name"]]})
    return pd.DataFrame(rows, columns=list(like.columns))
