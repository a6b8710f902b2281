"""Which documents are tested together, and by what they are judged.

Outcomes are severity-adjusted scores: of the review in the aspect (comments, issues), of the output over all aspects and reviews
(reasonings). A list with too few scores takes the decisions: whether the review, or the output, was approved. Issues of an aspect
that is not scored take the overall score.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.learning.leniency import approvals, output_leniency, review_leniency
from feedback_pipeline.learning.panel import Floats, Ints, Panel, output_means, output_outcomes, overall_scores
from feedback_pipeline.learning.pattern_frame import COMMENT_TERMS, ISSUE_TERMS, REASONING_TERMS
from feedback_pipeline.learning.terms import (
    MIN_DOCUMENTS,
    MIN_OUTPUTS_WITH,
    MIN_REVIEWERS,
    MIN_WITH,
    Lists,
    TermDocuments,
    TermTexts,
    TestedTerms,
    length_strata,
    tested_terms,
)

SCORE: Final = "score"
APPROVAL: Final = "approval"
Names = npt.NDArray[np.object_]
_NO_ONE: Final = np.array([None], dtype=object)


@dataclass(frozen=True)
class Outcome:
    """What documents are judged by: the first of the choices that enough documents of a list have.

    Attributes:
        aspect: What the lists are of; None = the aspect is the group.
        choices: In order of preference (SCORE or APPROVAL, the aspect that is scored or None = that of the group, values (D,)).
    """

    aspect: str | None
    choices: Sequence[tuple[str, str | None, Floats]]


@dataclass(frozen=True)
class Judged:
    """Every tested term of some lists under outcomes that the same documents have.

    Attributes:
        tested: The tests, one column for each of `outcomes`.
        outcomes: What the documents were judged by.
        chosen: Which choice of the outcome each list took (L, K).
        n_outputs: Outputs whose documents were tested (L,).
    """

    tested: TestedTerms
    outcomes: Sequence[Outcome]
    chosen: Ints
    n_outputs: Ints


@dataclass(frozen=True)
class Family:
    """The documents of one source and what is known of them.

    Attributes:
        kind: Pattern type.
        documents: D documents.
        agent, output: Codes of the panel (D,).
        group: Decision point or aspect (D,), -1 = in no list; groups: names of the codes.
        stage: Code (D,), -1 = none; stages: names of the codes.
        reviewers: 1 where a known reviewer wrote or judged a document (R, D).
        outcomes: What the documents are judged by.
    """

    kind: str
    documents: TermDocuments = field(repr=False)
    agent: Ints = field(repr=False)
    output: Ints = field(repr=False)
    group: Ints = field(repr=False)
    groups: Names
    stage: Ints = field(repr=False)
    stages: Names
    reviewers: sparse.csr_array = field(repr=False)
    outcomes: Sequence[Outcome] = field(repr=False)

    def arrangements(self, *, fleet: bool) -> "Iterator[Arrangement]":
        """The documents in lists of each agent, or of all agents: over all stages and, where there are several, of each."""
        parent = np.zeros_like(self.agent) if fleet else self.agent
        # The only decision point of an agent would say the same again.
        group = _where_several(parent, self.group) if self.kind == REASONING_TERMS and self.groups[0] is not None else self.group
        yield self._arranged(parent, group, np.zeros_like(parent), _NO_ONE)
        stage = _where_several(parent, self.stage)
        if bool((stage >= 0).any()):
            yield self._arranged(parent, group, stage, self.stages)

    def _arranged(self, parent: Ints, group: Ints, stage: Ints, stages: Names) -> "Arrangement":
        rows = np.flatnonzero((group >= 0) & (stage >= 0))
        key = (parent[rows] * len(self.groups) + group[rows]) * len(stages) + stage[rows]
        distinct, owner = np.unique(key, return_inverse=True)
        of, which = np.divmod(distinct, len(stages))
        own, named = np.divmod(of, len(self.groups))
        return Arrangement(self, rows, owner.astype(np.intp), own, self.groups[named], stages[which])


@dataclass(frozen=True)
class Arrangement:
    """Documents of a family in L lists.

    Attributes:
        family: Where they are from.
        rows: Documents in lists (D',); owner: list of each.
        parent: Agent of each list (L,), 0 for all agents; group, stage: names of its decision point or aspect and its stage.
    """

    family: Family
    rows: Ints = field(repr=False)
    owner: Ints = field(repr=False)
    parent: Ints
    group: Names
    stage: Names

    def judged(self) -> Iterator[Judged]:
        """Test the lists under every outcome; outcomes that the same documents have are tested at once."""
        columns: dict[bytes, list[tuple[Outcome, Ints, Floats]]] = {}
        for outcome in self.family.outcomes:
            values, chosen = self._values(outcome)
            columns.setdefault(np.isfinite(values).tobytes(), []).append((outcome, chosen, values))
        lists = self.lists() if columns else None
        for same in columns.values():
            values = np.column_stack([column[2] for column in same])
            known = np.isfinite(values[:, 0])
            if lists is not None and known.any():
                pairs = np.unique(self.owner[known] * (int(self.family.output.max()) + 1) + self.family.output[self.rows][known])
                outputs = np.bincount(pairs // (int(self.family.output.max()) + 1), minlength=len(self.parent))
                chosen = np.column_stack([column[1] for column in same])
                yield Judged(tested_terms(lists, values), [column[0] for column in same], chosen, outputs)

    def most(self) -> Ints:
        """Documents of each list under the outcome that most of them have (L,)."""
        counts = [np.zeros(len(self.parent), dtype=np.intp)]
        for outcome in self.family.outcomes:
            counts += [self._count(values[self.rows]) for *_, values in outcome.choices]
        most: Ints = np.max(counts, axis=0)
        return most

    def _count(self, values: Floats) -> Ints:
        return np.bincount(self.owner[np.isfinite(values)], minlength=len(self.parent))

    def _values(self, outcome: Outcome) -> tuple[Floats, Ints]:
        """Values of the documents (D',), and which choice each list took (L,)."""
        choices = np.column_stack([values[self.rows] for *_, values in outcome.choices])
        enough = np.column_stack([self._count(choices[:, c]) >= MIN_DOCUMENTS for c in range(choices.shape[1])])
        chosen = np.argmax(enough, axis=1)
        return choices[np.arange(len(self.rows)), chosen[self.owner]], chosen

    def lists(self) -> Lists:
        """The documents as the tests take them; all agents are compared within agents: a stratum is of one agent."""
        family = self.family
        presence = family.documents.presence
        fine = self.owner * (int(family.agent.max(initial=0)) + 1) + family.agent[self.rows]
        reasoning = family.kind == REASONING_TERMS
        return Lists(
            matrix=presence.matrix[self.rows],
            owner=self.owner,
            n_lists=len(self.parent),
            stratum=length_strata(presence.length[self.rows], fine),
            reviewers=family.reviewers[:, self.rows],
            least=MIN_OUTPUTS_WITH if reasoning else MIN_WITH,
            min_reviewers=0 if reasoning else MIN_REVIEWERS,
        )


def term_families(panel: Panel, texts: TermTexts, bounds: dict[str, tuple[float, float]]) -> Iterator[Family]:
    """Reasonings of outputs, of decision points, comments, issues, one after the other.

    Args:
        panel: Panel whose scores are severity-adjusted.
        texts: Words of its outputs and reviews.
        bounds: (low, high) by aspect, "*" for the rest.
    """
    overall = overall_scores(panel.scores, panel.aspects, bounds)
    scores = output_means(overall[:, None], panel.review_output, len(panel.outputs))[:, 0]
    outcomes = output_outcomes(panel) - output_leniency(panel)
    for documents in (texts.reasoning, texts.points):
        row = documents.row
        judged = [Outcome(OVERALL, [(SCORE, OVERALL, scores[row]), (APPROVAL, None, outcomes[row])])]
        yield _of_outputs(panel, documents, judged)
    approved = approvals(panel) - review_leniency(panel)
    row = texts.comments.row
    judged = [Outcome(aspect, [(SCORE, aspect, panel.scores[row, k])]) for k, aspect in enumerate(panel.aspects)]
    judged.append(Outcome(OVERALL, [(SCORE, OVERALL, overall[row]), (APPROVAL, None, approved[row])]))
    yield _of_reviews(panel, COMMENT_TERMS, texts.comments, judged)
    row = texts.issues.row
    column = np.array([panel.aspects.index(name) if name in panel.aspects else -1 for name in texts.issues.groups] or [-1])
    own = np.column_stack([panel.scores, np.full(len(panel.scores), np.nan)])[row, column[texts.issues.group]]
    judged = [Outcome(None, [(SCORE, None, own), (SCORE, OVERALL, overall[row]), (APPROVAL, None, approved[row])])]
    yield _of_reviews(panel, ISSUE_TERMS, texts.issues, judged)


def _of_outputs(panel: Panel, documents: TermDocuments, judged: Sequence[Outcome]) -> Family:
    """Documents that are reasonings; their reviewers are those who judged the output."""
    known = panel.review_reviewer >= 0
    pairs = (np.ones(int(known.sum()), dtype=np.int32), (panel.review_reviewer[known], panel.review_output[known]))
    reviewers = sparse.csr_array(pairs, shape=(len(panel.reviewers), len(panel.outputs)))[:, documents.row]
    none = np.full(len(documents.row), -1, dtype=np.intp)
    agent = panel.output_agent[documents.row]
    return Family(REASONING_TERMS, documents, agent, documents.row, *_groups(documents), none, _NO_ONE, reviewers, judged)


def _of_reviews(panel: Panel, kind: str, documents: TermDocuments, judged: Sequence[Outcome]) -> Family:
    """Documents that are comments or issues."""
    row = documents.row
    stage, stages = pd.factorize(panel.reviews["stage"], sort=True)
    reviewer = panel.review_reviewer[row]
    known = np.flatnonzero(reviewer >= 0)
    ones = (np.ones(len(known), dtype=np.int32), (reviewer[known], known))
    reviewers = sparse.csr_array(ones, shape=(len(panel.reviewers), len(row)))
    names = np.append(np.asarray(stages, dtype=object), _NO_ONE)
    agent, output = panel.review_agent[row], panel.review_output[row]
    return Family(kind, documents, agent, output, *_groups(documents), stage[row].astype(np.intp), names, reviewers, judged)


def _groups(documents: TermDocuments) -> tuple[Ints, Names]:
    """Codes and names of the groups; one without a name where documents have none."""
    if not documents.groups:
        return np.zeros(len(documents.row), dtype=np.intp), _NO_ONE
    return documents.group, np.array(documents.groups, dtype=object)


def _where_several(parent: Ints, code: Ints) -> Ints:
    """The codes of those parents that have several of them, -1 elsewhere."""
    width = int(code.max(initial=0)) + 1
    pairs = np.unique(parent[code >= 0] * width + code[code >= 0])
    count = np.bincount(pairs // width, minlength=int(parent.max(initial=-1)) + 1)
    return np.where((code >= 0) & (count[parent] > 1), code, -1) if len(code) else code
