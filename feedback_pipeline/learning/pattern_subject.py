"""What decision patterns are computed from: decided outputs, who judged them, and their features by decision point."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.effects import value_order
from feedback_pipeline.learning.features import DECISION_FEATURES
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Ints, Panel, output_outcomes

RARE_SET = 10
"""Outputs below which a set of reviewers is no stratum of its own."""


@dataclass(frozen=True)
class Comparison:
    """Features of outputs that are compared with each other.

    Attributes:
        decision_point: The point the features were measured at, None = all of an output's decisions.
        features: Names of the columns (J,).
        values: (n, J), NaN = missing.
        group, stratum, content, approved: Of each output (n,).
        by_value: Outputs in the order of each feature's values (J, n).
    """

    decision_point: str | None
    features: tuple[str, ...]
    values: Floats
    group: Ints
    stratum: Ints
    content: Ints
    approved: Floats
    by_value: Ints

    def candidates(self, testable: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Group and column of every candidate: the features of the testable groups (G,) that have outputs here."""
        present = testable & (np.bincount(self.group, minlength=len(testable)) > 0)
        group, column = np.nonzero(np.repeat(present[:, None], len(self.features), axis=1))
        return group, column


@dataclass(frozen=True)
class Decided:
    """Outputs with a decision, in the order of the panel.

    Attributes:
        agents: Name of each group (G,), and a number that belongs to the name (names, G): resampling of an agent must not depend
            on which others there are.
        judge, judge_group: Known reviewers who decided, once for each group they did (P,).
        features: Names of the features (J,); values: (N, J).
        group, content: Of each output (N,); approved: 1 or 0.
        reviewer_set: Code of the set of known reviewers who decided on each output (N,), any group.
        stratum: Code of that set within the group, rare sets of a group pooled.
        points: Names of the decision points; point_output: output of each measured point (Q,), ascending; point_code (Q,);
            point_values: (Q, decision features).
    """

    agents: npt.NDArray[np.object_]
    names: Ints
    judge: Ints
    judge_group: Ints
    features: tuple[str, ...]
    values: Floats
    group: Ints
    content: Ints
    approved: Floats
    reviewer_set: Ints
    stratum: Ints
    points: tuple[str, ...]
    point_output: Ints
    point_code: Ints
    point_values: Floats

    @classmethod
    def of(cls, panel: Panel, points: pd.DataFrame, features: Sequence[str]) -> "Decided":
        """Lay out the decided outputs of a panel.

        Args:
            panel: Deduplicated reviews and their outputs.
            points: Features of outputs by decision point: agent_name, execution_id, decision_point, `DECISION_FEATURES`.
            features: Numeric columns of the panel's outputs.

        Raises:
            LearningError: an output has one decision point twice.
        """
        approved = output_outcomes(panel)
        kept = ~np.isnan(approved)
        group = panel.output_agent[kept]
        reviewer_set, judge, judge_group = _reviewer_sets(panel, kept)
        output, code, names, values = _points_of(panel, points, kept)
        return cls(
            agents=panel.agents,
            names=np.array([uuid.uuid5(uuid.NAMESPACE_OID, name).int % 2**31 for name in panel.agents], dtype=np.intp),
            judge=judge,
            judge_group=judge_group,
            features=tuple(features),
            values=panel.outputs.loc[kept, list(features)].to_numpy(dtype=np.float64).reshape(len(group), len(features)),
            group=group,
            content=panel.output_content[kept],
            approved=approved[kept],
            reviewer_set=reviewer_set,
            stratum=strata(group, reviewer_set),
            points=names,
            point_output=output,
            point_code=code,
            point_values=values,
        )

    def only(self, kept: npt.NDArray[np.bool_]) -> "Decided":
        """The outputs of some groups alone, as `kept` (G,) says."""
        rows = kept[self.group]
        measured = rows[self.point_output]
        return replace(
            self,
            agents=self.agents[kept],
            names=self.names[kept],
            judge=self.judge[kept[self.judge_group]],
            judge_group=(np.cumsum(kept) - 1)[self.judge_group[kept[self.judge_group]]],
            values=self.values[rows],
            group=(np.cumsum(kept) - 1)[self.group[rows]],
            content=self.content[rows],
            approved=self.approved[rows],
            reviewer_set=self.reviewer_set[rows],
            stratum=self.stratum[rows],
            point_output=(np.cumsum(rows) - 1)[self.point_output[measured]],
            point_code=self.point_code[measured],
            point_values=self.point_values[measured],
        )

    @property
    def n_reviewers(self) -> Ints:
        """Known reviewers who decided on outputs of each group (G,)."""
        n: Ints = np.bincount(self.judge_group, minlength=len(self.agents))
        return n

    @cached_property
    def _everything(self) -> Comparison:
        one = np.zeros_like(self.group)
        return Comparison(None, self.features, self.values, one, one, self.content, self.approved, value_order(self.values))

    def outputs_by_point(self) -> Ints:
        """Outputs of each group with each decision point (G, P)."""
        key = self.group[self.point_output] * len(self.points) + self.point_code
        n: Ints = np.bincount(key, minlength=len(self.agents) * len(self.points)).reshape(len(self.agents), len(self.points))
        return n

    def comparisons(self) -> list[Comparison]:
        """All outputs, then those of each decision point, of the agents that have two points or more."""
        whole = replace(self._everything, group=self.group, stratum=self.stratum)
        several = (self.outputs_by_point() > 0).sum(axis=1) > 1
        found = [whole]
        order = np.argsort(self.point_code, kind="stable")
        bounds = np.searchsorted(self.point_code[order], np.arange(len(self.points) + 1))
        for code, point in enumerate(self.points):
            measured = order[bounds[code] : bounds[code + 1]]
            measured = measured[several[self.group[self.point_output[measured]]]]
            if len(measured):
                rows = self.point_output[measured]
                found.append(
                    Comparison(
                        point,
                        DECISION_FEATURES,
                        self.point_values[measured],
                        self.group[rows],
                        self.stratum[rows],
                        self.content[rows],
                        self.approved[rows],
                        value_order(self.point_values[measured]),
                    )
                )
        return found

    def fleet(self) -> tuple[Comparison, Comparison]:
        """All outputs as one group: compared within reviewer sets whatever the agent, and within the strata of the agents."""
        pooled = replace(self._everything, stratum=strata(self._everything.group, self.reviewer_set))
        width = int(self.stratum.max(initial=0)) + 1
        return pooled, replace(pooled, stratum=self.group * width + self.stratum)


def strata(group: Ints, reviewer_set: Ints) -> Ints:
    """Stratum of each output (N,): its set of reviewers within its group, sets with fewer than 10 outputs of it pooled as 0.

    Codes count from the first output of the group that has the set, so they do not depend on other groups.
    """
    width = int(reviewer_set.max(initial=0)) + 1
    _, first, place, count = np.unique(group * width + reviewer_set, return_index=True, return_inverse=True, return_counts=True)
    owner = group[first]
    order = np.lexsort((first, owner))
    code = np.empty(len(first), dtype=np.intp)
    code[order] = np.arange(len(first)) - np.searchsorted(owner[order], owner[order]) + 1
    stratum: Ints = np.where(count < RARE_SET, 0, code)[place]
    return stratum


def _reviewer_sets(panel: Panel, kept: npt.NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Code of the set of known deciding reviewers of each kept output; such reviewers and their agents, each pair once."""
    known = panel.reviews["decision"].notna().to_numpy() & (panel.review_reviewer != UNKNOWN_REVIEWER)
    output, reviewer = panel.review_output[known], panel.review_reviewer[known]
    width = max(len(panel.reviewers), 1)
    pairs = np.unique(output * width + reviewer)
    # The sum of 64 random bits a reviewer stands for the set: order does not matter, and two sets of ten thousand million billion
    # share one.
    bits = np.random.default_rng(0).integers(0, 2**64, size=width, dtype=np.uint64)
    total = np.zeros(len(panel.outputs), dtype=np.uint64)
    starts = np.flatnonzero(np.diff(pairs // width, prepend=-1))
    if len(starts):
        total[pairs[starts] // width] = np.add.reduceat(bits[pairs % width], starts)
    judge_group, judge = np.divmod(np.unique(panel.output_agent[pairs // width] * width + pairs % width), width)
    return pd.factorize(total[kept])[0].astype(np.intp), judge, judge_group


def _points_of(panel: Panel, points: pd.DataFrame, kept: npt.NDArray[np.bool_]) -> tuple[Ints, Ints, tuple[str, ...], Floats]:
    """Output, code, names of the points and values of what was measured at decision points of the kept outputs."""
    keys = ["agent_name", "execution_id"]
    outputs = panel.outputs.loc[kept, keys].assign(output=np.arange(int(kept.sum())))
    found = points[[*keys, "decision_point", *DECISION_FEATURES]].merge(outputs, on=keys, how="inner")
    code, names = pd.factorize(found["decision_point"], sort=True)
    order = np.lexsort((code, found["output"].to_numpy()))
    output, code = found["output"].to_numpy(dtype=np.intp)[order], code[order].astype(np.intp)
    if ((output[1:] == output[:-1]) & (code[1:] == code[:-1])).any():
        raise LearningError("an output has one decision point twice; materialize feature_table again")
    return output, code, tuple(str(name) for name in names), found[list(DECISION_FEATURES)].to_numpy(dtype=np.float64)[order]
