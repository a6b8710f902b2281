"""What decision patterns are computed from: decided outputs, who judged them, and their features by decision point."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.effects import value_order
from feedback_pipeline.learning.features import DECISION_FEATURES
from feedback_pipeline.learning.leniency import output_leniency
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Ints, Panel, output_means, output_outcomes
from feedback_pipeline.learning.subject import name_seeds

RARE_SET = 10
"""Outputs below which a set of reviewers is no stratum of its own."""
LEAST_STRATUM = 20
"""Outputs of rare sets that make a stratum, those whose reviewers approve about as readily together."""
MOST_STRATA = 10


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
    """Outputs with a decision, in the order of the panel; an agent's outputs of one content count as one.

    Outputs of one content are not independent: taken as separate outputs, ten of them find a threshold in noise two times in
    three. Their features are averaged, their outcome is that of most of them.

    Attributes:
        agents: Name of each group (G,), and a number that belongs to the name (names, G): resampling of an agent must not depend
            on which others there are.
        judge, judge_group: Known reviewers who decided, once for each group they did (P,).
        features: Names of the features (J,); values: (N, J).
        group, content: Of each output (N,); approved: 1 or 0.
        reviewer_set: Code of the set of known reviewers who decided on each output (N,), any group; lenient: how readily they
            approve, on average.
        stratum: Code of that set within the group; rare sets are grouped by how readily they approve.
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
    lenient: Floats
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
        lenient = output_leniency(panel)[kept]
        output, code, names, values = _points_of(panel, points, kept)
        found = cls(
            agents=panel.agents,
            names=name_seeds(panel.agents),
            judge=judge,
            judge_group=judge_group,
            features=tuple(features),
            values=panel.outputs.loc[kept, list(features)].to_numpy(dtype=np.float64).reshape(len(group), len(features)),
            group=group,
            content=panel.output_content[kept],
            approved=approved[kept],
            reviewer_set=reviewer_set,
            lenient=lenient,
            stratum=strata(group, reviewer_set, lenient),
            points=names,
            point_output=output,
            point_code=code,
            point_values=values,
        )
        return found._one_per_content()

    def _one_per_content(self) -> "Decided":
        width = int(self.content.max(initial=0)) + 1
        units, first, place = np.unique(self.group * width + self.content, return_index=True, return_inverse=True)
        if len(units) == len(self.group):
            return self
        n = np.bincount(place).astype(np.float64)
        points = max(len(self.points), 1)
        point_units, point_place = np.unique(place[self.point_output] * points + self.point_code, return_inverse=True)
        group, reviewer_set = self.group[first], self.reviewer_set[first]
        lenient = np.round(np.bincount(place, self.lenient) / n, 12)
        return replace(
            self,
            values=_known_means(self.values, place, len(units)),
            group=group,
            content=self.content[first],
            approved=(np.bincount(place, self.approved) / n > 0.5).astype(np.float64),
            reviewer_set=reviewer_set,
            lenient=lenient,
            stratum=strata(group, reviewer_set, lenient),
            point_output=(point_units // points).astype(np.intp),
            point_code=(point_units % points).astype(np.intp),
            point_values=_known_means(self.point_values, point_place, len(point_units)),
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
            lenient=self.lenient[rows],
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
        pooled = replace(self._everything, stratum=strata(self._everything.group, self.reviewer_set, self.lenient))
        width = int(self.stratum.max(initial=0)) + 1
        return pooled, replace(pooled, stratum=self.group * width + self.stratum)


def _known_means(values: Floats, place: Ints, n: int) -> Floats:
    """Mean of the known values of each unit, column by column: (N, J) -> (n, J), NaN where none is known."""
    order = np.argsort(place, kind="stable")
    return output_means(values[order], place[order], n)


def strata(group: Ints, reviewer_set: Ints, lenient: Floats) -> Ints:
    """Stratum of each output (N,): its set of reviewers within its group.

    With many reviewers nearly every set has a few outputs only. Sets with fewer than 10 of the group's are put together by how
    readily their reviewers approve: up to ten equal parts of 20 outputs or more. Pooled without that, long texts that are handed
    to strict reviewers would look bad. Codes count from the first output of the group that has the set, those of the parts from
    0 down to -9 (then shifted to start at 0), so they do not depend on other groups.

    Args:
        group: Group of each output (N,).
        reviewer_set: Code of the set that judged it (N,).
        lenient: Mean leniency of that set (N,).
    """
    width = int(reviewer_set.max(initial=0)) + 1
    _, first, place, count = np.unique(group * width + reviewer_set, return_index=True, return_inverse=True, return_counts=True)
    owner = group[first]
    order = np.lexsort((first, owner))
    code = np.empty(len(first), dtype=np.intp)
    code[order] = np.arange(len(first)) - np.searchsorted(owner[order], owner[order]) + 1
    rare = (count < RARE_SET)[place]
    stratum: Ints = np.where(rare, 0, code[place])
    stratum[rare] = -_parts(group[rare], lenient[rare])
    return stratum + MOST_STRATA - 1


def _parts(group: Ints, value: Floats) -> Ints:
    """Equal parts of each group in order of the value (n,), 0..9; equal values stay together."""
    order = np.lexsort((value, group))
    size = np.bincount(group, minlength=1)[group[order]]
    start = np.searchsorted(group[order], group[order])
    parts = np.clip(size // LEAST_STRATUM, 1, MOST_STRATA)
    part = (np.arange(len(order)) - start) * parts // np.maximum(size, 1)
    # A tie takes the part of its first row.
    head = np.ones(len(order), dtype=bool)
    head[1:] = (value[order][1:] != value[order][:-1]) | (group[order][1:] != group[order][:-1])
    tied = part[np.maximum.accumulate(np.where(head, np.arange(len(order)), 0))] if len(order) else part
    found = np.empty(len(order), dtype=np.intp)
    found[order] = tied
    return found


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
