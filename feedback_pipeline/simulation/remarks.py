"""What agents note and reviewers write: reasonings of an exact length, alternatives, scores as JSON, comments, issues."""

import json
from functools import lru_cache

import numpy as np
import pandas as pd

from feedback_pipeline.simulation import phrases
from feedback_pipeline.simulation.judging import DECISIONS
from feedback_pipeline.simulation.population import Floats, Ints
from feedback_pipeline.simulation.spec import ASPECTS, MOST_ALTERNATIVES

_LENGTH = 160_000
_LONGEST_REASONING = 20_000
_SHORTEST_CLOSING = 30
_LONGEST_SENTENCE = 140
STARTS = 1000
"""Number of places a reasoning can start at."""


def reasonings(starts: Ints, lengths: Ints) -> list[str]:
    """Texts of exactly ``lengths`` characters (40 to 20,000), cut from one long reasoning at sentence ``starts``."""
    text, ends = _reasoning_stream()
    closings = _closings()
    first = ends[starts]
    last = ends[np.searchsorted(ends, first + lengths - _SHORTEST_CLOSING, side="right") - 1]
    rows = zip(first.tolist(), last.tolist(), (lengths - (last - first)).tolist(), strict=True)
    return [text[begin:end] + closings[rest] for begin, end, rest in rows]


@lru_cache(maxsize=1)
def _reasoning_stream() -> tuple[str, Ints]:
    """The long text and the place of each sentence in it."""
    random = np.random.default_rng([*b"reasoning"])
    pieces = (phrases.REASONING_OPENINGS, phrases.REASONING_OBJECTS, phrases.REASONING_CONSEQUENCES)
    sentences, total = [], 0
    while total < _LENGTH + _LONGEST_REASONING:
        opening, what, then = (options[int(random.integers(len(options)))] for options in pieces)
        sentences.append(f"{opening} {what}, {then}. ")
        total += len(sentences[-1])
    return "".join(sentences), np.concatenate([[0], np.cumsum([len(sentence) for sentence in sentences])])


@lru_cache(maxsize=1)
def _closings() -> dict[int, str]:
    """One closing remark for every number of characters that can be missing."""
    random = np.random.default_rng([*b"closings"])
    found: dict[int, str] = {}
    wanted = range(_SHORTEST_CLOSING, _SHORTEST_CLOSING + _LONGEST_SENTENCE)
    pieces = (phrases.CLOSING_STARTS, phrases.CLOSING_CHOICES, phrases.CLOSING_REASONS)
    while len(found) < len(wanted):
        picked = [[options[int(random.integers(len(options)))] for options in pieces] for _ in range(random.integers(1, 4))]
        text = " ".join(f"{start} {choice}{reason}." for start, choice, reason in picked)
        if len(text) in wanted:
            found.setdefault(len(text), text)
    return found


def alternatives(counts: Ints, starts: Ints) -> "pd.Series[str]":
    """JSON arrays of ``counts`` considered alternatives, taken in turn from ``starts``."""
    options = phrases.ALTERNATIVES
    pool = [
        json.dumps([options[(start + i) % len(options)] for i in range(count)])
        for count in range(MOST_ALTERNATIVES + 1)
        for start in range(len(options))
    ]
    return pd.Series(pd.array(pool, dtype="str").take(counts * len(options) + starts % len(options)))


def score_json(scores: Floats) -> "pd.Series[str]":
    """``{"content_quality": {"score": 7}, ...}`` of each row of (reviews, aspects) scores; a missing score is left out."""
    codes = np.where(np.isnan(scores), 0, scores).astype(np.int64) @ (11 ** np.arange(len(ASPECTS)))
    distinct, place = np.unique(codes, return_inverse=True)
    pool = []
    for code in distinct.tolist():
        entries: dict[str, dict[str, int]] = {}
        for aspect in ASPECTS:
            code, score = divmod(code, 11)
            entries |= {aspect: {"score": score}} if score else {}
        pool.append(json.dumps(entries))
    return pd.Series(pd.array(pool, dtype="str").take(place))


def comments(decision: Ints, best: Ints, worst: Ints, pick: Ints) -> "pd.Series[str]":
    """A verdict and one remark: praise of the best aspect when approved, a complaint about the worst one otherwise."""
    verdicts, remarks = 4, 3
    pool = [
        f"{remark} {verdict}" if decision_code else f"{verdict} {remark}"
        for decision_code, name in enumerate(DECISIONS)
        for aspect in ASPECTS
        for verdict in phrases.VERDICTS[name]
        for remark in (phrases.COMPLAINTS if decision_code else phrases.PRAISE)[aspect]
    ]
    aspect = np.where(decision == 0, best, worst)
    place = (decision * len(ASPECTS) + aspect) * verdicts * remarks + pick % (verdicts * remarks)
    return pd.Series(pd.array(pool, dtype="str").take(place))


def issue_json(decision: Ints, worst: Ints, pick: Ints) -> "pd.Series[str]":
    """``{"worst aspect": {"issues": [...]}}`` where not approved, ``{}`` otherwise."""
    pool = [json.dumps({aspect: {"issues": [issue]}}) for aspect in ASPECTS for issue in phrases.ISSUES[aspect]]
    place = np.where(decision == 0, len(pool), worst * 3 + pick % 3)
    return pd.Series(pd.array([*pool, "{}"], dtype="str").take(place))


def suggestions(decision: Ints, worst: Ints, pick: Ints) -> "pd.Series[str]":
    """A Postgres text array with one suggestion for the worst aspect where not approved, NULL otherwise."""
    pool = [f'{{"{text}"}}' for aspect in ASPECTS for text in phrases.SUGGESTIONS[aspect]]
    place = np.where(decision == 0, len(pool), worst * 3 + pick % 3)
    return pd.Series(pd.array([*pool, None], dtype="str").take(place))
