"""What was measured to help next to what was found: it is kept, and goes before what is only found.

Agents that follow a recommendation leave nothing to compare in their reviews: it is not found again, or only by another support.
What is found about the same thing waits until what was measured to help is gone, unless it asks for the opposite.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from feedback_pipeline.learning.recommendation_documents import ASK, PREFER
from feedback_pipeline.learning.recommendations import MOST
from feedback_pipeline.learning.trial_states import ACTIVE, measured_to_help

Record = dict[str, Any]

KEPT_WITHOUT_EVIDENCE: Final = "not found again in these reviews; kept because applying it was measured to help"
MEASURED_OTHERWISE: Final = "applying the opposite was measured to help"
MEANING: Final = ("identity", "kind", "feature", "direction")
FROZEN: Final = ("target", "action", "text", "expected_effect")
"""Together they are what is applied, and what is said of it."""


@dataclass(frozen=True)
class OpenTrial:
    """The newest trial of a recommendation.

    Attributes:
        pattern_id: Id of the recommendation.
        trial: Its number.
        agent_name: Whose it is.
        state: Its state.
        low: Lower bound of its uplift, None = none yet.
        recommendation: The recommendation as it is on trial; empty where that has no meaning.
        since: When the state was reached.
        applied: Whether any application of it has arrived.
    """

    pattern_id: str
    trial: int
    agent_name: str
    state: str
    low: float | None
    recommendation: Mapping[str, Any]
    since: datetime
    applied: bool = True

    @property
    def helps(self) -> bool:
        """Whether applying it was measured to help."""
        return measured_to_help(self.state, self.low)


def beside(fresh: list[Record], helping: Collection[str], missing: list[OpenTrial]) -> tuple[list[Record], list[Record]]:
    """What is listed of what was found, and what is kept without having been found.

    Args:
        fresh: What was found and is not held back.
        helping: Ids of what was measured to help.
        missing: Those of it that were not found.
    """
    # What is followed now goes before what was put aside.
    waiting = sorted(missing, key=lambda one: (one.state != ACTIVE, one.agent_name, one.pattern_id))
    waiting = [trial for trial in waiting if "identity" in trial.recommendation]
    listed: list[Record] = []
    for row in fresh:
        against = [trial for trial in waiting if _opposed(row, trial)]
        waiting = [trial for trial in waiting if trial not in against]
        said = [f"{MEASURED_OTHERWISE}: {trial.recommendation['text'].partition(':')[0]}" for trial in against]
        alike = next((trial for trial in waiting if _about_the_same(row, trial)), None)
        if alike is None or row["pattern_id"] in helping:
            listed.append(row | {"conflicts": [*row["conflicts"], *said]})
        elif row["direction"] != PREFER:
            # The same advice by another support is evidence for what is on trial; of another category it is not.
            own = {name: alike.recommendation[name] for name in (*MEANING, *FROZEN)}
            listed.append(row | own | {"pattern_id": alike.pattern_id})
            waiting.remove(alike)
    kept: list[Record] = []
    for trial in waiting:
        own = {"agent_name": trial.agent_name, "pattern_id": trial.pattern_id, "conflicts": [KEPT_WITHOUT_EVIDENCE]}
        if not any(_opposed(row, trial) for row in kept):
            kept.append(dict(trial.recommendation) | own)
    return listed, kept


def _about_the_same(row: Record, trial: OpenTrial) -> bool:
    return _shares_feature(row, trial) and _point(row) == _point(trial.recommendation)


def _opposed(row: Record, trial: OpenTrial) -> bool:
    """Whether it asks for more of what the other asks for less of, at some decision point."""
    points = {_point(row), _point(trial.recommendation)}
    return (
        _shares_feature(row, trial)
        and row["direction"] != trial.recommendation["direction"]
        and (len(points) == 1 or None in points)
    )


def _shares_feature(row: Record, trial: OpenTrial) -> bool:
    # A question about a feature is no advice on it.
    known = row["feature"] is not None and row["direction"] != ASK
    return known and (row["agent_name"], row["feature"]) == (trial.agent_name, trial.recommendation["feature"])


def _point(document: Mapping[str, Any]) -> str | None:
    """Decision point it holds at, None = all."""
    point: str | None = document["action"].get("decision_point")
    return point


def at_most_ten(rows: list[Record], helping: Collection[str]) -> list[Record]:
    """The rows of each agent in the order given; where they are too many, what was measured to help stays before all else."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row["agent_name"], []).append(place)
    kept = {
        place
        for own in places.values()
        for place in sorted(own, key=lambda one: (rows[one]["pattern_id"] not in helping, one))[:MOST]
    }
    return [row for place, row in enumerate(rows) if place in kept]
