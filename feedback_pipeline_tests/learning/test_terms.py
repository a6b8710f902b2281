import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse, stats
from statsmodels.stats.contingency_tables import StratifiedTable

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.pooling import q_values
from feedback_pipeline.learning.terms import Lists, length_strata, score_test
from feedback_pipeline.learning.terms import tested_terms as all_tests


def presence(rng: np.random.Generator, n: int, shares: Floats) -> sparse.csr_array:
    return sparse.csr_array((rng.random((n, len(shares))) < shares).astype(np.int8))


def lists_of(
    matrix: sparse.csr_array,
    owner: Ints | None = None,
    stratum: Ints | None = None,
    *,
    reviewer: Ints | None = None,
    least: int = 5,
) -> Lists:
    n = matrix.shape[0]
    owner = np.zeros(n, dtype=np.intp) if owner is None else owner
    reviewer = np.arange(n) % 7 if reviewer is None else reviewer
    rows = np.flatnonzero(reviewer >= 0)
    wrote = sparse.csr_array((np.ones(len(rows)), (reviewer[rows], rows)), shape=(int(reviewer.max()) + 1, n))
    return Lists(matrix, owner, int(owner.max()) + 1, owner if stratum is None else stratum, wrote, least, 3)


def test_with_one_stratum_it_is_the_correlation_and_the_difference_of_means() -> None:
    rng = np.random.default_rng(1)
    x = presence(rng, 500, np.array([0.02, 0.1, 0.5]))
    y = rng.gamma(2.0, size=500) + 0.3 * x.toarray()[:, 1]
    found = score_test(x, np.zeros(500, dtype=np.intp), y[:, None])
    for j in range(3):
        has = x.toarray()[:, j] == 1
        assert found.points[j, 0] == pytest.approx(y[has].mean() - y[~has].mean())
        r = stats.pearsonr(has, y).statistic
        assert found.p_value[j, 0] == pytest.approx(2 * stats.norm.sf(np.sqrt(499) * abs(r)))


def test_with_a_decision_it_is_the_test_of_mantel_and_haenszel() -> None:
    rng = np.random.default_rng(2)
    stratum = rng.choice([3, 5, 11], 400, p=[0.6, 0.35, 0.05])
    x = presence(rng, 400, np.array([0.2, 0.4]))
    y = (rng.random(400) < 0.3 + 0.05 * stratum / 3 + 0.15 * x.toarray()[:, 0]).astype(float)
    found = score_test(x, stratum, y[:, None])
    for j in range(2):
        has = x.toarray()[:, j]
        tables = [
            np.array([[((has == a) & (y == b) & (stratum == s)).sum() for b in (1, 0)] for a in (1, 0)]) for s in (3, 5, 11)
        ]
        expected = StratifiedTable(tables).test_null_odds(correction=False)
        assert found.p_value[j, 0] == pytest.approx(expected.pvalue, rel=1e-9)


def test_points_are_the_strata_s_differences_weighted_and_several_outcomes_are_apart() -> None:
    rng = np.random.default_rng(3)
    stratum, x = np.repeat([0, 1, 2], [10, 30, 60]), presence(rng, 100, np.array([0.3]))
    y = rng.normal(size=(100, 2)) + stratum[:, None]
    found = score_test(x, stratum, y)
    has = x.toarray()[:, 0] == 1
    for k in range(2):
        total = weights = variance = 0.0
        for s in range(3):
            inside = stratum == s
            n1, n0 = (has & inside).sum(), (~has & inside).sum()
            weight = n1 * n0 / (n1 + n0)
            total += weight * (y[has & inside, k].mean() - y[~has & inside, k].mean())
            variance += weight * y[inside, k].var(ddof=1)
            weights += weight
        assert found.points[0, k] == pytest.approx(total / weights)
        assert found.se[0, k] == pytest.approx(np.sqrt(variance) / weights)


def test_the_level_is_right_where_length_drives_both() -> None:
    rng = np.random.default_rng(4)
    n, terms = 2_000, 400
    quality = rng.normal(size=n)
    length = np.rint(np.exp(4 + 0.4 * quality + rng.normal(0, 0.3, n))).astype(np.int64)
    share = 1 - (1 - rng.uniform(0.001, 0.01, terms)) ** length[:, None]
    x = sparse.csr_array((rng.random((n, terms)) < share).astype(np.int8))
    owner = np.zeros(n, dtype=np.intp)
    plain = score_test(x, owner, quality[:, None]).p_value
    assert (plain < 0.05).mean() > 0.8
    kept = score_test(x, length_strata(length, owner), quality[:, None]).p_value
    assert (kept < 0.05).mean() < 0.12


def test_strata_are_deciles_of_each_owner_and_documents_without_words_are_apart() -> None:
    rng = np.random.default_rng(5)
    length = np.concatenate([np.arange(1, 101), np.zeros(40, dtype=np.int64), rng.integers(1, 9, 50)])
    owner = np.repeat([0, 0, 4], [100, 40, 50])
    strata = length_strata(length, owner)
    assert np.unique(strata[:100], return_counts=True)[1].tolist() == [10] * 10
    assert (np.diff(strata[:100]) >= 0).all()
    assert len(set(strata[100:140])) == 1
    assert not set(strata[100:140]) & set(strata[:100])
    assert not set(strata[140:]) & set(strata[:140])
    for value in range(1, 9):
        assert len(set(strata[140:][length[140:] == value])) == 1
    order = rng.permutation(len(length))
    np.testing.assert_array_equal(length_strata(length[order], owner[order]), strata[order])
    assert length_strata(length[:0], owner[:0]).shape == (0,)


def test_equal_lengths_are_one_stratum() -> None:
    assert len(set(length_strata(np.full(50, 7), np.zeros(50, dtype=np.intp)))) == 1


def planted(rng: np.random.Generator, n: int = 600, terms: int = 40) -> tuple[sparse.csr_array, Floats]:
    x = presence(rng, n, np.full(terms, 0.1))
    return x, (rng.normal(size=n) + 1.2 * x.toarray()[:, 0] - 1.2 * x.toarray()[:, 1])[:, None]


def test_planted_terms_are_found_with_their_sign_and_shrunken_towards_zero() -> None:
    rng = np.random.default_rng(6)
    x, y = planted(rng)
    found = all_tests(lists_of(x), y)
    assert found.term.tolist() == list(range(40))
    assert set(found.term[found.q_value[:, 0] <= 0.1]) >= {0, 1}
    assert np.sign(found.effect[:2, 0]).tolist() == [1, -1]
    assert (np.abs(found.shrunk) < np.abs(found.effect)).all()
    assert (np.sign(found.shrunk) == np.sign(found.effect)).all()
    np.testing.assert_array_equal(found.q_value[:, 0], q_values(found.p_value.T)[0])
    scale = found.points / found.effect
    np.testing.assert_allclose(scale, scale[0, 0])
    assert scale[0, 0] == pytest.approx(y.std(), rel=0.01)


def test_lists_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(7)
    parts = [planted(rng, n) for n in (400, 299, 600)]
    owner = np.repeat([0, 1, 2], [400, 299, 600])
    x, y = sparse.vstack([part[0] for part in parts], format="csr"), np.concatenate([part[1] for part in parts])
    reviewer = np.concatenate([np.arange(n) % 7 for n in (400, 299, 600)])
    together = all_tests(lists_of(x, owner, reviewer=reviewer), y)
    assert together.n.tolist() == [400, 299, 600]
    assert set(together.owner) == {0, 2}
    for one, (own, values) in zip((0, 2), parts[::2], strict=True):
        alone, rows = all_tests(lists_of(own), values), together.owner == one
        for name in ("term", "n_with", "n_reviewers", "points", "se", "effect", "shrunk", "p_value", "q_value"):
            np.testing.assert_array_equal(getattr(together, name)[rows], getattr(alone, name), err_msg=name)


def test_lists_may_lie_mixed_and_in_any_order() -> None:
    rng = np.random.default_rng(8)
    x, y = planted(rng, 800)
    owner, stratum = rng.integers(2, size=800), rng.integers(3, size=800)
    stratum += 3 * owner
    reviewer = rng.integers(5, size=800)
    first = all_tests(lists_of(x, owner, stratum, reviewer=reviewer), y)
    order = rng.permutation(800)
    second = all_tests(lists_of(x[order], owner[order], stratum[order], reviewer=reviewer[order]), y[order])
    for name in ("owner", "term", "n_with", "n_reviewers"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_allclose(first.p_value, second.p_value, rtol=1e-9)


def test_what_is_missing_is_left_out_of_everything() -> None:
    rng = np.random.default_rng(9)
    x, y = planted(rng)
    holes = y.copy()
    holes[rng.random(600) < 0.3] = np.nan
    known = np.isfinite(holes[:, 0])
    reviewer = np.arange(600) % 7
    with_holes = all_tests(lists_of(x, reviewer=reviewer), holes)
    without = all_tests(lists_of(x[np.flatnonzero(known)], reviewer=reviewer[known]), y[known])
    np.testing.assert_array_equal(with_holes.p_value, without.p_value)
    np.testing.assert_array_equal(with_holes.n_with, without.n_with)
    assert with_holes.n.tolist() == [known.sum()]


@pytest.mark.parametrize(("n", "least", "needed"), [(400, 5, 5), (1_000, 5, 10), (400, 20, 20)])
def test_a_term_needs_documents(n: int, least: int, needed: int) -> None:
    rng = np.random.default_rng(10)
    dense = np.zeros((n, 2), dtype=np.int8)
    dense[rng.choice(n, needed, replace=False), 0] = 1
    dense[rng.choice(n, needed - 1, replace=False), 1] = 1
    found = all_tests(lists_of(sparse.csr_array(dense), least=least), rng.normal(size=(n, 1)))
    assert found.term.tolist() == [0]
    assert found.n_with.tolist() == [needed]


def test_a_term_needs_three_known_reviewers() -> None:
    rng = np.random.default_rng(11)
    dense = np.zeros((400, 3), dtype=np.int8)
    dense[:40] = 1
    reviewer = np.arange(400) % 9
    dense[reviewer > 2, 0] = 0  # used by 0, 1, 2
    dense[reviewer > 1, 1] = 0  # used by 0, 1
    reviewer[reviewer == 8] = -1
    dense[~np.isin(reviewer, [-1, 0, 1]), 2] = 0  # used by 0, 1 and somebody unknown
    found = all_tests(lists_of(sparse.csr_array(dense), reviewer=reviewer), rng.normal(size=(400, 1)))
    assert found.term.tolist() == [0]
    assert found.n_reviewers.tolist() == [3]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e100])
def test_equal_judgements_have_no_test(value: float) -> None:
    x, _ = planted(np.random.default_rng(12))
    found = all_tests(lists_of(x), np.full((600, 1), value))
    assert len(found.term) == 40
    for undefined in (found.p_value, found.q_value, found.effect, found.shrunk, found.points):
        assert np.isnan(undefined).all()


def test_a_term_of_every_document_has_no_test_and_spoils_no_other() -> None:
    rng = np.random.default_rng(13)
    x, y = planted(rng)
    everywhere = sparse.hstack([x, sparse.csr_array(np.ones((600, 1), dtype=np.int8))], format="csr")
    found, without = all_tests(lists_of(everywhere), y), all_tests(lists_of(x), y)
    assert np.isnan(found.p_value[-1, 0])
    np.testing.assert_array_equal(found.q_value[:-1], without.q_value)


@pytest.mark.parametrize("n", [0, 299])
def test_too_few_documents(n: int) -> None:
    x = presence(np.random.default_rng(14), n, np.full(3, 0.5))
    lists = Lists(x, np.zeros(n, dtype=np.intp), 1, np.zeros(n, dtype=np.intp), sparse.csr_array((1, n)), 5, 0)
    found = all_tests(lists, np.ones((n, 1)))
    assert found.n.tolist() == [n]
    assert len(found.term) == 0
    assert found.p_value.shape == (0, 1)


def test_scores_on_another_scale_give_the_same_effects() -> None:
    x, y = planted(np.random.default_rng(15))
    first, second = all_tests(lists_of(x), y), all_tests(lists_of(x), 1e-6 * y + 5e-6)
    np.testing.assert_allclose(first.effect, second.effect, rtol=1e-6)
    np.testing.assert_allclose(first.p_value, second.p_value, rtol=1e-6)


def test_inputs_stay_as_they_are() -> None:
    x, y = planted(np.random.default_rng(16))
    lists, copies = lists_of(x), [x.toarray(), y.copy()]
    all_tests(lists, y)
    kept: list[npt.NDArray[np.generic]] = [x.toarray(), y]
    for before, after in zip(copies, kept, strict=True):
        np.testing.assert_array_equal(before, after)
