"""Which words of reasonings, comments and issues go with good or bad judgements: patterns, and what became of every agent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.agents import INSUFFICIENT, SUCCESS, UNDEFINED
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.panel import Floats, Ints, Panel
from feedback_pipeline.learning.pattern_frame import COMMENT_TERMS, ISSUE_TERMS, REASONING_TERMS, TERM_TYPES, concatenated
from feedback_pipeline.learning.pooling import confidence
from feedback_pipeline.learning.term_frames import TermColumn, term_frame, without_repeats
from feedback_pipeline.learning.term_lists import Arrangement, Names, term_families
from feedback_pipeline.learning.term_sentences import SOURCES
from feedback_pipeline.learning.terms import MIN_DOCUMENTS, TermTexts

_NOUNS: Final = {
    REASONING_TERMS: "outputs with reasonings",
    COMMENT_TERMS: "comments",
    ISSUE_TERMS: "reviews with issues or scores of an aspect",
}


def find_terms(
    panel: Panel, texts: TermTexts, bounds: dict[str, tuple[float, float]]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Find the words that go with good or bad judgements, for every agent and, under `*`, over all agents.

    A word is published with q <= .10 in its list, an interval on one side of 0 and a confidence of .5 (a list may be short), at
    most the 10 strongest good and the 10 strongest bad ones by shrunken effect; of one stage or decision point only where it is
    not said of all of them.

    Args:
        panel: Panel whose scores are severity-adjusted.
        texts: Words of its outputs and reviews.
        bounds: (low, high) by aspect, "*" for the rest.

    Returns:
        patterns: A pattern frame of the published terms and of the other tested ones with q <= .5; `confidence` is over all
            tested terms of the kind.
        parts: agent_name, part ("terms"), document {status, reason, published, tested, and for each source {documents,
            sampled_from, status, reason}}, one row per agent and for `*`.
        tested: agent_name, pattern_type, p_value of every tested term.
    """
    columns: list[TermColumn] = []
    states: list[_State] = []
    for family in term_families(panel, texts, bounds):
        for agents in (panel.agents, np.array([FLEET], dtype=object)):
            for place, arrangement in enumerate(family.arrangements(fleet=agents is not panel.agents)):
                own = [
                    TermColumn(arrangement, agents, judged, k)
                    for judged in arrangement.judged()
                    for k in range(len(judged.outcomes))
                ]
                columns += own
                if place == 0:
                    states.append(_State.of(arrangement, agents, own))
    by_kind = sorted(columns, key=lambda column: TERM_TYPES.index(column.kind))
    sure = [sure for _, same in groupby(by_kind, lambda column: column.kind) for sure in _confidence(list(same))]
    patterns = without_repeats(concatenated([term_frame(by_kind, sure)]))
    none = pd.DataFrame({"agent_name": [], "pattern_type": [], "p_value": []}, dtype=object).astype({"p_value": np.float64})
    tested = pd.concat([none, *(column.p_values() for column in columns)], ignore_index=True)
    return patterns, _parts(panel.agents, states, patterns, tested), tested


def _confidence(columns: Sequence[TermColumn]) -> Iterator[Floats]:
    """Confidence of every term of each column, under the prior of all of them."""
    effect, se = (np.concatenate([np.empty(0), *(getattr(column, name) for column in columns)]) for name in ("effect", "se"))
    sure = confidence(effect, np.where(se > 0, se**2, np.nan))
    yield from np.split(sure, np.cumsum([len(column.effect) for column in columns]))[: len(columns)]


@dataclass(frozen=True)
class _State:
    """What became of one source of every agent, over all stages.

    Attributes:
        kind: Pattern type; agents: their names (G,).
        documents: Documents (rows of the panel) that were read; sampled_from: rows that have one.
        most: Documents with an outcome in the longest list; n_terms: tested terms; n_defined: those whose test is defined.
    """

    kind: str
    agents: Names
    documents: Ints
    sampled_from: Ints
    most: Ints
    n_terms: Ints
    n_defined: Ints

    @classmethod
    def of(cls, arrangement: Arrangement, agents: Names, columns: Sequence[TermColumn]) -> "_State":
        """The state of one source under all its outcomes (`columns`)."""
        family, n = arrangement.family, len(agents)
        fleet = list(agents) == [FLEET]
        _, first = np.unique(family.documents.row, return_index=True)
        documents = np.bincount(np.zeros_like(first) if fleet else family.agent[first], minlength=n)
        sampled_from = family.documents.sampled_from
        most, counts = np.zeros(n, dtype=np.intp), np.zeros((2, n), dtype=np.intp)
        np.maximum.at(most, arrangement.parent, arrangement.most())
        for column in columns:
            counts[0] += np.bincount(column.parent, minlength=n)
            counts[1] += np.bincount(column.parent[np.isfinite(column.p_value)], minlength=n)
        return cls(family.kind, agents, documents, sampled_from.sum(keepdims=True) if fleet else sampled_from, most, *counts)

    def document(self, place: int) -> dict[str, Any]:
        """The state of one agent."""
        status, reason = SUCCESS, None
        if self.most[place] < MIN_DOCUMENTS:
            status, reason = INSUFFICIENT, f"{self.most[place]:,} {_NOUNS[self.kind]}, {MIN_DOCUMENTS} needed"
        elif not self.n_terms[place]:
            status, reason = UNDEFINED, "no word is used in enough of them"
        elif not self.n_defined[place]:
            status, reason = UNDEFINED, "the judgements do not vary"
        sizes = {"documents": int(self.documents[place]), "sampled_from": int(self.sampled_from[place])}
        return sizes | {"status": status, "reason": reason}


def _parts(agents: Names, states: Sequence[_State], patterns: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """agent_name, part, document: what became of every agent and of all together."""
    published = patterns.loc[patterns["published"], "agent_name"].value_counts()
    sizes = tested["agent_name"].value_counts()
    rows = []
    for name in (FLEET, *agents):
        sources: dict[str, Any] = {}
        for state in states:
            place = np.flatnonzero(state.agents == name)
            # The decision points of outputs follow the outputs as a whole.
            if len(place):
                sources.setdefault(SOURCES[state.kind], state.document(int(place[0])))
        statuses = [source["status"] for source in sources.values()]
        status = next(one for one in (SUCCESS, UNDEFINED, INSUFFICIENT) if one in statuses)
        reasons = None if status == SUCCESS else "; ".join(source["reason"] for source in sources.values())
        counts = {"published": int(published.get(name, 0)), "tested": int(sizes.get(name, 0))}
        rows.append({"agent_name": name, "part": "terms", "document": {"status": status, "reason": reasons} | counts | sources})
    return pd.DataFrame(rows, columns=["agent_name", "part", "document"])
