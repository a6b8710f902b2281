"""Between which reviewers severity can be compared at all, and the fewest second reviews that would connect them all.

Reviewers are connected who reviewed the same output, directly or through others. Between groups without a shared output no
data can tell a strict group from one that got worse outputs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.mixed_model import ReviewDesign
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Ints, Panel


@dataclass(frozen=True)
class Connectivity:
    """Connected components of the reviewer-output graph.

    Attributes:
        components: Reviewers of each component, sorted; the component with most reviewers first, then by name.
            Severity cannot be compared between two components.
        bridges: The fewest reviews that would connect everybody, one per component but the first: agent_name, execution_id
            of an output of the first component; reviewer_id who should review it as well; component, that reviewer's place
            in `components`. One review connects; every further one makes the comparison more precise.
    """

    components: tuple[tuple[str, ...], ...]
    bridges: pd.DataFrame

    @property
    def connected(self) -> bool:
        """Whether every reviewer can be compared with every other one."""
        return len(self.components) <= 1


def connectivity(panel: Panel, scored: npt.NDArray[np.bool_] | None = None) -> Connectivity:
    """Find the components of the graph of reviewers and outputs and what would connect them.

    Args:
        panel: Deduplicated reviews.
        scored: Reviews that count (M,); by default those with a score in any aspect, because severity rests on scores.
            Reviews of unknown reviewers never count.
    """
    counted = (~np.isnan(panel.scores)).any(axis=1) if scored is None else scored
    rows = np.flatnonzero(counted & (panel.review_reviewer != UNKNOWN_REVIEWER))
    output, reviewer = panel.review_output[rows], panel.review_reviewer[rows]
    design = ReviewDesign.of(panel.output_agent[output], output, reviewer, len(panel.reviewers))
    place = _places(design.component, design.n_components)
    order = np.argsort(place, kind="stable")
    order = order[place[order] >= 0]  # reviewers without a score are in no component
    members = np.split(panel.reviewers[order], np.searchsorted(place[order], np.arange(1, design.n_components)))
    components = tuple(tuple(str(name) for name in group) for group in members if len(group))
    return Connectivity(components, _bridges(panel, rows, place, design.n_components))


def _places(component: Ints, n_components: int) -> Ints:
    """Place of each reviewer's component among all (R,), largest first, -1 without a score; reviewers are sorted by name."""
    seen = component >= 0
    size = np.bincount(component[seen], minlength=n_components)
    # Components are numbered by their first reviewer, so equal sizes stay in the order of their names.
    rank = np.empty(n_components, dtype=np.intp)
    rank[np.argsort(-size, kind="stable")] = np.arange(n_components)
    place = np.full(len(component), -1, dtype=np.intp)
    place[seen] = rank[component[seen]]
    return place


def _bridges(panel: Panel, rows: Ints, place: Ints, n_components: int) -> pd.DataFrame:
    reviewer = panel.review_reviewer[rows]
    per_reviewer = np.bincount(reviewer, minlength=len(panel.reviewers))
    # The reviewer with most reviews of each other component is the one whose severity its data know best.
    busiest = np.lexsort((-per_reviewer, place))
    busiest = busiest[place[busiest] >= 0]
    chosen = busiest[np.unique(place[busiest], return_index=True)[1]][1:]

    own = rows[place[reviewer] == 0]
    moment = panel.reviews["reviewed_at"].astype(np.int64).to_numpy(dtype=np.int64)[own]
    recent = panel.review_output[own[np.argsort(-moment, kind="stable")]]
    newest = recent[np.sort(np.unique(recent, return_index=True)[1])]
    # An output of its own for each bridge while there are enough.
    output = newest[np.arange(len(chosen)) % max(len(newest), 1)] if len(chosen) else newest[:0]
    return pd.DataFrame(
        {
            "agent_name": panel.outputs["agent_name"].to_numpy(dtype=object)[output],
            "execution_id": panel.outputs["execution_id"].to_numpy(dtype=object)[output],
            "reviewer_id": panel.reviewers[chosen],
            "component": np.arange(1, len(chosen) + 1),
        }
    )
