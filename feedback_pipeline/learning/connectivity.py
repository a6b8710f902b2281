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
        components: Reviewers of each component, sorted; the component with most reviewers first, of equally large ones that
            with most reviews, then by name. Severity cannot be compared between two components.
        bridges: The fewest reviews that would connect everybody, one per component but the first: agent_name, execution_id
            of an output of the first component, the newest ones, each of another execution while there are enough;
            reviewer_id who should review it as well, the one with most reviews of their component; component, that
            reviewer's place in `components`. One review connects; every further one makes the comparison more precise.
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
        scored: Reviews that count (M,); by default those with a score in any aspect, which is the graph of `overall`: an
            aspect that fewer reviews score can fall into more components. Reviews of unknown reviewers never count.
    """
    counted = (~np.isnan(panel.scores)).any(axis=1) if scored is None else scored
    rows = np.flatnonzero(counted & (panel.review_reviewer != UNKNOWN_REVIEWER))
    output, reviewer = panel.review_output[rows], panel.review_reviewer[rows]
    design = ReviewDesign.of(panel.output_agent[output], output, reviewer, len(panel.reviewers))
    per_reviewer = np.bincount(reviewer, minlength=len(panel.reviewers))
    place = _places(design.component, per_reviewer, design.n_components)
    order = np.argsort(place, kind="stable")
    order = order[place[order] >= 0]  # reviewers without a score are in no component
    members = np.split(panel.reviewers[order], np.searchsorted(place[order], np.arange(1, design.n_components)))
    components = tuple(tuple(str(name) for name in group) for group in members if len(group))
    return Connectivity(components, _bridges(panel, rows, place, per_reviewer))


def _places(component: Ints, per_reviewer: Ints, n_components: int) -> Ints:
    """Place of each reviewer's component among all (R,), most reviewers, then most reviews first; -1 without a score."""
    seen = component >= 0
    size = np.bincount(component[seen], minlength=n_components)
    reviews = np.bincount(component[seen], weights=per_reviewer[seen], minlength=n_components)
    # Components are numbered by their first reviewer and reviewers sorted by name, so ties stay in the order of the names.
    rank = np.empty(n_components, dtype=np.intp)
    rank[np.lexsort((-reviews, -size))] = np.arange(n_components)
    place = np.full(len(component), -1, dtype=np.intp)
    place[seen] = rank[component[seen]]
    return place


def _bridges(panel: Panel, rows: Ints, place: Ints, per_reviewer: Ints) -> pd.DataFrame:
    # The reviewer with most reviews of each other component is the one whose severity its data know best.
    busiest = np.lexsort((-per_reviewer, place))
    busiest = busiest[place[busiest] >= 0]
    chosen = busiest[np.unique(place[busiest], return_index=True)[1]][1:]
    newest = _newest_outputs(panel, rows[place[panel.review_reviewer[rows]] == 0]) if len(chosen) else chosen
    output = np.resize(newest, len(chosen))  # begins again at the newest when there are more bridges than outputs
    return pd.DataFrame(
        {
            "agent_name": panel.outputs["agent_name"].to_numpy(dtype=object)[output],
            "execution_id": panel.outputs["execution_id"].to_numpy(dtype=object)[output],
            "reviewer_id": panel.reviewers[chosen],
            "component": np.arange(1, len(chosen) + 1),
        }
    )


def _newest_outputs(panel: Panel, rows: Ints) -> Ints:
    """The outputs of these reviews, last reviewed first, one per execution: a review counts for all agents of its execution."""
    moment = panel.reviews["reviewed_at"].astype(np.int64).to_numpy(dtype=np.int64)[rows]
    output = panel.review_output[rows[np.argsort(-moment, kind="stable")]]
    execution = pd.factorize(panel.outputs["execution_id"].iloc[output])[0]
    return np.asarray(output[np.unique(execution, return_index=True)[1]], dtype=np.intp)
