"""Tested words of some lists as rows of the pattern frame: which are published, and what agents read of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.effects import Z95
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.pattern_frame import DOCUMENTS, ISSUE_TERMS, REASONING_TERMS, documents, pattern_frame
from feedback_pipeline.learning.term_lists import SCORE, Arrangement, Judged, Names
from feedback_pipeline.learning.term_sentences import term_description, term_sentence
from feedback_pipeline.learning.terms import MAX_Q

MOST_PUBLISHED: Final = 10
ALGORITHM: Final = "score_test_length_stratified"
NOT_STRONGEST: Final = f"not among the {MOST_PUBLISHED} strongest of its list"
MIN_CONFIDENCE: Final = 0.5
UNSURE: Final = f"confidence below {MIN_CONFIDENCE:.2f}"
HOLDS_ZERO: Final = "its interval holds 0"
REPEATED: Final = "said of all stages and decision points"
_TOLD: Final = (*DOCUMENTS, "sentence")
_DETAILS: Final = ("points", "points_low", "points_high", "n_with", "n_documents", "outcome", "judged")
_REPORTED_Q = 0.5
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TermColumn:
    """The tested terms of some lists (E of them) under one outcome.

    Attributes:
        arrangement: The lists.
        agents: Names of the lists' parents.
        judged: The tests.
        k: The column of this outcome.
    """

    arrangement: Arrangement
    agents: Names
    judged: Judged
    k: int

    @property
    def kind(self) -> str:
        """Pattern type."""
        return self.arrangement.family.kind

    @property
    def parent(self) -> Ints:
        """Place of each term's agent in `agents` (E,)."""
        return self.arrangement.parent[self.judged.tested.owner]

    @property
    def effect(self) -> Floats:
        """Effects in standard deviations (E,)."""
        return self.judged.tested.effect[:, self.k]

    @property
    def se(self) -> Floats:
        """Their standard errors (E,)."""
        return self.judged.tested.se[:, self.k]

    @property
    def p_value(self) -> Floats:
        """P of each term (E,), NaN where there is no test."""
        return self.judged.tested.p_value[:, self.k]

    def p_values(self) -> pd.DataFrame:
        """agent_name, pattern_type, p_value of the terms that have a test."""
        known = np.isfinite(self.p_value)
        names = self.agents[self.parent[known]]
        return pd.DataFrame({"agent_name": names, "pattern_type": self.kind, "p_value": self.p_value[known]})

    def rows(self, sure: Floats) -> dict[str, Any]:
        """The published terms and the others with q <= .5, as columns of the pattern frame and what sentences say beside them.

        Args:
            sure: Confidence of every tested term (E,).
        """
        published = self._published(sure)
        rows = np.flatnonzero(published | (self.judged.tested.q_value[:, self.k] <= _REPORTED_Q))
        details = self._details(rows)
        columns = self._numbers(rows) | self._names(rows, details["judged"])
        q, shown = columns["q_value"], published[rows]
        weak = [~(q <= MAX_Q), columns["ci_low"] * columns["ci_high"] <= 0, ~(sure[rows] >= MIN_CONFIDENCE)]
        reason = np.select(weak, [f"q above {MAX_Q:.2f}", HOLDS_ZERO, UNSURE], NOT_STRONGEST).astype(object)
        reason[shown] = None
        return columns | {"confidence": sure[rows], "published": shown, "reason": reason} | details

    def _numbers(self, rows: Ints) -> dict[str, Any]:
        tested = self.judged.tested
        effect, se = self.effect[rows], self.se[rows]
        share = tested.n_with[rows] / tested.n[tested.owner[rows]]
        return {
            "direction": np.sign(effect),
            "effect": effect,
            "se": se,
            "ci_low": effect - Z95 * se,
            "ci_high": effect + Z95 * se,
            "p_value": self.p_value[rows],
            "q_value": tested.q_value[rows, self.k],
            # All documents would have a good term, none a bad one.
            "gain": np.where(effect > 0, (1.0 - share) * effect, share * -effect),
            "n_contents": self.judged.n_outputs[tested.owner[rows]],
            "n_reviewers": tested.n_reviewers[rows],
        }

    def _names(self, rows: Ints, judged: Names) -> dict[str, Any]:
        lists, owner = self.arrangement, self.judged.tested.owner[rows]
        terms = lists.family.documents.presence.vocabulary[self.judged.tested.term[rows]]
        group, stage, point = lists.group[owner], lists.stage[owner], np.full(len(rows), None, dtype=object)
        aspect = judged
        if self.kind == REASONING_TERMS:
            point = group
        elif self.kind == ISSUE_TERMS:
            aspect = group  # issues are called by the aspect they are of, whatever they are judged by
        description = np.empty(len(rows), dtype=object)
        description[:] = [term_description(self.kind, *identity) for identity in zip(terms, aspect, stage, point, strict=True)]
        return {
            "agent_name": self.agents[self.parent[rows]],
            "pattern_type": np.full(len(rows), self.kind, dtype=object),
            "description": description,
            "term": terms,
            "aspect": aspect,
            "stage": stage,
            "decision_point": point,
        }

    def _details(self, rows: Ints) -> dict[str, Any]:
        """What the documents and the sentence say beside the columns of the frame: `_DETAILS`."""
        tested = self.judged.tested
        owner = tested.owner[rows]
        choices = self.judged.outcomes[self.k].choices
        chosen = self.judged.chosen[owner, self.k]
        group = self.arrangement.group[owner]
        kinds = np.array([kind for kind, *_ in choices], dtype=object)[chosen]
        scored = np.array([aspect for _, aspect, _ in choices], dtype=object)[chosen]
        judged = np.where(pd.isna(scored), group, scored)
        judged[kinds != SCORE] = None
        points, half = tested.points[rows, self.k], Z95 * tested.points_se[rows, self.k]
        values = (points, points - half, points + half, tested.n_with[rows], tested.n[owner], kinds, judged)
        return dict(zip(_DETAILS, values, strict=True))

    def _published(self, sure: Floats) -> Flags:
        """The strongest terms of each list and sign with q <= .10, an interval on one side of 0 and a confidence of .5 (E,)."""
        tested = self.judged.tested
        one_sided = np.abs(self.effect) > Z95 * self.se
        found = np.flatnonzero((tested.q_value[:, self.k] <= MAX_Q) & one_sided & (sure >= MIN_CONFIDENCE))
        shrunk = tested.shrunk[found, self.k]
        side = 2 * tested.owner[found] + (shrunk > 0)
        order = np.lexsort((tested.term[found], -np.abs(shrunk), side))
        ordered = side[order]
        rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        published = np.zeros(len(tested.term), dtype=bool)
        published[found[order[rank < MOST_PUBLISHED]]] = True
        return published


def term_frame(columns: Sequence[TermColumn], sure: Sequence[Floats]) -> pd.DataFrame:
    """What of the columns is told, as one pattern frame: the published terms and the others with q <= .5.

    Args:
        columns: Tested terms.
        sure: Confidence of every tested term of each column.
    """
    parts = [column.rows(confidence) for column, confidence in zip(columns, sure, strict=True)]
    if not parts:
        return pattern_frame({}, 0)
    # One frame for all: a frame takes longer to make than a thousand terms to put into it.
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # As it is: pandas takes a column of names for one of its own kind, which has NaN for None.
    own = {name: whole.pop(name) for name in _DETAILS}
    details = pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in own.items()})
    return _with_documents(pattern_frame(whole | {"unit": "sd", "algorithm": ALGORITHM}, len(details)), details)


def without_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without words of one stage or decision point that are published for all of them with the same sign."""
    key = ["agent_name", "pattern_type", "aspect", "term", "direction"]
    keys = pd.MultiIndex.from_frame(frame[key].astype(object).where(frame[key].notna(), ""))
    narrow = frame["stage"].notna() | frame["decision_point"].notna()
    said = frame["published"] & ~narrow
    repeated = (frame["published"] & narrow).to_numpy() & keys.isin(keys[said])
    silent = {name: frame[name].astype(object).where(~repeated, None) for name in _TOLD}
    reason = frame["reason"].astype(object).where(~repeated, REPEATED)
    return frame.assign(published=frame["published"] & ~repeated, reason=reason, **silent)


def _with_documents(frame: pd.DataFrame, details: pd.DataFrame) -> pd.DataFrame:
    """The frame with the documents and the sentences of published terms."""
    shown = np.flatnonzero(frame["published"].to_numpy())
    # Pandas takes a column of texts for one of its own kind, which has NaN for None.
    texts = frame[["aspect", "stage", "decision_point"]].astype(object)
    frame = frame.assign(**texts.where(texts.notna(), None))
    made = [
        _told(cast("dict[str, Any]", row), cast("dict[str, Any]", own))
        for row, own in zip(frame.iloc[shown].to_dict("records"), details.iloc[shown].to_dict("records"), strict=True)
    ]
    for name in _TOLD:
        column = np.full(len(frame), None, dtype=object)
        for place, told in zip(shown, made, strict=True):
            column[place] = told[name]
        frame[name] = pd.Series(column, dtype=object)
    return frame


def _told(row: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    characteristics = {"points": own["points"], "share": own["n_with"] / own["n_documents"]}
    signals = {name: own[name] for name in ("n_documents", "n_with", "outcome")} | {"scored_aspect": own["judged"]}
    told: dict[str, Any] = documents(row, inputs={}, characteristics=characteristics, signals=signals)
    return told | {"sentence": term_sentence(row | own)}
