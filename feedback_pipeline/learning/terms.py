"""Words that go with good or bad judgements: a score test of every word of every list, stratified by the length of the texts.

A list is what is tested together: the documents of one agent, source, aspect, stage and decision point. What counts is whether a
document has the word, not how often. Documents of the same reviewer or output are taken as independent: severity is out of the
scores, and a word of comments needs three reviewers, but what several texts of one person share beyond that is not modelled.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.pooling import q_values

MIN_DOCUMENTS: Final = 300
MIN_REVIEWERS: Final = 3
MIN_WITH: Final = 5
MIN_OUTPUTS_WITH: Final = 20
MAX_Q: Final = 0.10
_MIN_SHARE = 0.01
_MIN_SPREAD = 0.005
_DECILES = 10
_TINY = 1e-9


@dataclass(frozen=True)
class Presence:
    """Which words the documents have.

    Attributes:
        matrix: 1 where a document has a term (D, V), 0 is not stored; sorted columns.
        vocabulary: The terms (V,), sorted.
        length: Number of words of each document (D,).
    """

    matrix: sparse.csr_array
    vocabulary: npt.NDArray[np.object_]
    length: npt.NDArray[np.int64]


@dataclass(frozen=True)
class TermDocuments:
    """Documents of one source.

    Attributes:
        row: Output (reasoning) or review (comments, issues) of each document (D,), ascending, a code of the panel.
        group: Decision point or aspect of each document (D,), -1 = none.
        groups: Names of the groups, sorted.
        presence: Their words.
        sampled_from: Rows of each agent (G,) that have a document; more than there are in `row` where a sample was drawn.
    """

    row: Ints
    group: Ints
    groups: tuple[str, ...]
    presence: Presence
    sampled_from: Ints


@dataclass(frozen=True)
class TermTexts:
    """The documents of all sources: reasonings of whole outputs, of their decision points, comments, issues by aspect."""

    reasoning: TermDocuments
    points: TermDocuments
    comments: TermDocuments
    issues: TermDocuments


@dataclass(frozen=True)
class ScoreTest:
    """Result of `score_test`: points (C, K), outcome of documents with a term less that of the others; se, p_value (C, K)."""

    points: Floats
    se: Floats
    p_value: Floats


@dataclass(frozen=True)
class TestedTerms:
    """Every tested term of every list, for K outcomes; sorted by list and term.

    Attributes:
        owner: List of each term (E,); term: its code; n_with: documents with it; n_reviewers: known reviewers behind them.
        points, points_se: Difference in units of the outcome (E, K).
        effect, se: The same in standard deviations of the outcome within strata.
        shrunk: Effect shrunken towards 0 by the spread of the list's effects; for ranking.
        p_value, q_value: Of the score test, and Benjamini-Hochberg within the list.
        n: Documents of each list (L,).
    """

    owner: Ints
    term: Ints
    n_with: Ints
    n_reviewers: Ints
    points: Floats
    points_se: Floats
    effect: Floats
    se: Floats
    shrunk: Floats
    p_value: Floats
    q_value: Floats
    n: Ints


@dataclass(frozen=True)
class Lists:
    """Documents arranged in lists.

    Attributes:
        matrix: Presence (D, V).
        owner: List of each document (D,), 0..n_lists - 1.
        n_lists: L.
        stratum: Stratum of each document (D,), from `length_strata`; a stratum lies within one list.
        reviewers: 1 where a known reviewer wrote or judged a document (R, D).
        least: Documents a term needs at least.
        min_reviewers: Known reviewers behind its documents that a term needs at least.
    """

    matrix: sparse.csr_array
    owner: Ints
    n_lists: int
    stratum: Ints
    reviewers: sparse.csr_array
    least: int
    min_reviewers: int


def length_strata(length: npt.NDArray[np.integer], owner: Ints) -> Ints:
    """Stratum of each document (D,): its owner and the decile of its length among the owner's documents.

    Documents without a word are a stratum of their own: they cannot say which word matters. Equal lengths share a decile.
    """
    if not len(length):
        return np.empty(0, dtype=np.intp)
    key = owner * (int(length.max()) + 1) + length
    distinct, place, count = np.unique(key, return_inverse=True, return_counts=True)
    of, value = np.divmod(distinct, int(length.max()) + 1)
    worded = np.where(value > 0, count, 0)
    before = np.cumsum(worded) - worded
    starts = np.searchsorted(of, of)
    total = np.bincount(of, worded)[of]
    middle = before - before[starts] + 0.5 * worded
    decile = np.where(value > 0, 1 + np.floor(_DECILES * middle / np.maximum(total, 1)), 0)
    strata: Ints = (of * (_DECILES + 1) + decile).astype(np.intp)[place]
    return strata


def score_test(matrix: sparse.csr_array, stratum: Ints, outcome: Floats) -> ScoreTest:
    """Test whether the outcome differs between documents with and without a term, within strata.

    u = sum_s x_s'(e_s - mean e_s), v = sum_s var(e_s) df_s (1 - df_s / n_s), z = u / sqrt(v); the difference in points is u over
    w = sum_s df_s (1 - df_s / n_s), which is the mean of the strata's differences weighted by n1 n0 / n, its standard error
    sqrt(v) / w (the permutation variance within strata).

    Args:
        matrix: Presence (D, C).
        stratum: Stratum of each document (D,).
        outcome: Outcomes (D, K), finite.
    """
    _, s = np.unique(stratum, return_inverse=True)
    n = np.bincount(s).astype(np.float64)
    inside = sparse.csr_array((np.ones(len(s)), (s, np.arange(len(s)))), shape=(len(n), len(s)))
    residual = outcome
    for _ in range(2):  # the mean of large numbers of little spread is only nearly theirs at first
        residual = residual - (np.asarray(inside @ residual) / n[:, None])[s]
    variance: Floats = np.asarray(inside @ residual**2) / np.maximum(n - 1.0, 1.0)[:, None]
    # A spread of rounding errors is none.
    variance[np.sqrt(variance) <= _TINY * np.abs(outcome).max(axis=0, initial=0.0)] = 0.0
    present = matrix.astype(np.float64)
    spread = (inside @ present).tocsr()
    spread.data *= 1.0 - spread.data / n[np.repeat(np.arange(len(n)), np.diff(spread.indptr))]
    u, v, w = present.T @ residual, spread.T @ variance, np.asarray(spread.sum(axis=0))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        points, se = np.where(v > 0, u / w, np.nan), np.where(v > 0, np.sqrt(v) / w, np.nan)
    return ScoreTest(points, se, 2.0 * special.ndtr(-np.abs(points / se)))


def tested_terms(lists: Lists, outcome: Floats) -> TestedTerms:
    """Test every word that is frequent enough in the lists of at least 300 documents.

    A term needs max(least, 1 %) documents of the list and `min_reviewers` reviewers.

    Args:
        lists: Documents.
        outcome: K outcomes of each document (D, K), each known (not NaN) for the same documents.
    """
    known = np.isfinite(outcome).all(axis=1)
    n = np.bincount(lists.owner[known], minlength=lists.n_lists)
    known &= n[lists.owner] >= MIN_DOCUMENTS
    rows = np.flatnonzero(known)[np.argsort(lists.owner[known], kind="stable")]
    owner, values = lists.owner[rows], outcome[rows]
    own, list_of, term = _own_columns(lists.matrix[rows], owner, n, lists.least)
    n_reviewers = np.bincount((lists.reviewers[:, rows] @ own).tocsr().indices, minlength=own.shape[1]).astype(np.intp)
    kept = np.flatnonzero(n_reviewers >= lists.min_reviewers)
    own, list_of, term, n_reviewers = own[:, kept], list_of[kept], term[kept], n_reviewers[kept]
    test = score_test(own, lists.stratum[rows], values)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = _spread(lists.stratum[rows], owner, values, lists.n_lists)[list_of]
        effect, se = test.points / scale, test.se / scale
    n_with = np.bincount(own.indices, minlength=len(term)).astype(np.intp)
    results = (test.points, test.se, effect, se, _shrunk(effect, se, list_of), test.p_value, _by_list(test.p_value, list_of))
    return TestedTerms(list_of, term, n_with, n_reviewers, *results, n=n)


def _own_columns(matrix: sparse.csr_array, owner: Ints, n: Ints, least: int) -> tuple[sparse.csr_array, Ints, Ints]:
    """The documents with a column for each list and frequent term of it: matrix (D, E), list and term of each column.

    Args:
        matrix: Presence (D, V), rows sorted by list.
        owner: List of each row, ascending.
        n: Documents of each list.
        least: Documents a term needs at least.
    """
    column = np.full(matrix.nnz, -1, dtype=np.int64)
    lists, terms, made = [], [], 0
    used, first = np.unique(owner, return_index=True)
    edges = matrix.indptr[np.append(first, len(owner))]
    place = np.full(matrix.shape[1], -1, dtype=np.int64)
    for one, low, high in zip(used, edges[:-1], edges[1:], strict=True):
        indices = matrix.indices[low:high]
        count = np.bincount(indices, minlength=matrix.shape[1])
        frequent = np.flatnonzero(count >= max(least, _MIN_SHARE * n[one]))
        place[frequent] = made + np.arange(len(frequent))
        column[low:high] = place[indices]
        place[frequent] = -1
        lists.append(np.full(len(frequent), one))
        terms.append(frequent)
        made += len(frequent)
    kept = column >= 0
    starts = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    own = sparse.csr_array((np.ones(int(kept.sum()), dtype=np.int8), column[kept], starts), shape=(len(owner), made))
    none = np.empty(0, dtype=np.intp)
    return own, np.concatenate([none, *lists]), np.concatenate([none, *terms])


def _spread(stratum: Ints, owner: Ints, values: Floats, n_lists: int) -> Floats:
    """Standard deviation of each outcome within the strata of each list (L, K), pooled; NaN where undefined."""
    distinct, first, s = np.unique(stratum, return_index=True, return_inverse=True)
    n = np.bincount(s, minlength=len(distinct)).astype(np.float64)
    of = owner[first]
    freedom = np.bincount(of, n - 1.0, minlength=n_lists)
    columns = []
    for k in range(values.shape[1]):
        mean = np.bincount(s, values[:, k], minlength=len(n)) / n
        columns.append(np.bincount(owner, (values[:, k] - mean[s]) ** 2, minlength=n_lists))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread: Floats = np.sqrt(np.column_stack(columns) / freedom[:, None])
    return np.where(spread > 0, spread, np.nan)


def _shrunk(effect: Floats, se: Floats, list_of: Ints) -> Floats:
    """Effects times t2 / (t2 + se^2), with t2 = max(mean(effect^2 - se^2), .005) over the terms of a list."""
    known = np.isfinite(effect)
    shrunk = np.full(effect.shape, np.nan)
    for k in range(effect.shape[1]):
        rows = known[:, k]
        e, v, of = effect[rows, k], se[rows, k] ** 2, list_of[rows]
        spread = np.maximum(np.bincount(of, e * e - v) / np.maximum(np.bincount(of), 1), _MIN_SPREAD)[of] if len(of) else v
        shrunk[rows, k] = e * spread / (spread + v)
    return shrunk


def _by_list(p_value: Floats, list_of: Ints) -> Floats:
    """Benjamini-Hochberg within each list, outcome by outcome; `list_of` is ascending."""
    q = np.full(p_value.shape, np.nan)
    used, row, count = np.unique(list_of, return_inverse=True, return_counts=True)
    if len(used):
        place = np.arange(len(list_of)) - np.repeat(np.cumsum(count) - count, count)
        for k in range(p_value.shape[1]):
            family = np.full((len(used), int(count.max())), np.nan)
            family[row, place] = p_value[:, k]
            q[:, k] = q_values(family)[row, place]
    return q
