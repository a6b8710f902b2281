import numpy as np
import pytest

from feedback_pipeline.simulation.term_texts import N_BAD, N_GOOD, TermSpec, simulate_terms


def test_the_same_spec_gives_the_same_world_and_another_seed_another() -> None:
    first, second, other = (simulate_terms(TermSpec(documents=50, seed=seed)) for seed in (4, 4, 5))
    assert first.texts == second.texts
    np.testing.assert_array_equal(first.score, second.score)
    assert first.texts != other.texts


def test_texts_have_sixty_words_and_reviews_are_of_different_people() -> None:
    world = simulate_terms(TermSpec(documents=2_000, agents=4, reviewers=12, seed=1))
    length = np.array([text.count(" ") + 1 for text in world.texts])
    assert np.mean(length) == pytest.approx(60, abs=5)
    assert np.bincount(world.agent).tolist() == [500] * 4
    assert set(world.review_output) == set(range(2_000))
    assert (np.diff(world.review_output) >= 0).all()
    assert len(set(zip(world.review_output.tolist(), world.review_reviewer.tolist(), strict=True))) == len(world.score)
    assert len(world.score) / 2_000 == pytest.approx(2, abs=0.2)
    assert set(world.review_reviewer) == set(range(12))
    assert world.score.min() >= 0
    assert world.score.max() <= 10


def test_what_is_planted_is_there() -> None:
    world = simulate_terms(TermSpec(documents=4_000, seed=2))
    assert (len(world.good), len(world.bad)) == (N_GOOD, N_BAD)
    mean = np.bincount(world.review_output, world.score) / np.bincount(world.review_output)
    words = [set(text.split()) for text in world.texts]
    for group, sign in ((world.good, 1), (world.bad, -1)):
        has = np.array([[word in own for own in words] for word in group])
        assert has.mean() == pytest.approx(0.042, abs=0.005)
        gap = np.mean([mean[own].mean() - mean[~own].mean() for own in has])
        assert sign * gap == pytest.approx(0.6, abs=0.15)


def test_longer_texts_are_better_and_words_come_in_bursts() -> None:
    world = simulate_terms(TermSpec(documents=4_000, seed=3))
    length = np.array([text.count(" ") + 1 for text in world.texts])
    mean = np.bincount(world.review_output, world.score) / np.bincount(world.review_output)
    assert np.corrcoef(length, mean)[0, 1] > 0.15
    most = [max(np.unique(text.split(), return_counts=True)[1]) for text in world.texts[:300]]
    assert np.median(most) >= 5


def test_a_null_world_has_the_words_but_not_their_effect() -> None:
    null, planted = simulate_terms(TermSpec(documents=300, effect=0.0, seed=6)), simulate_terms(TermSpec(documents=300, seed=6))
    assert null.texts == planted.texts
    assert not np.array_equal(null.score, planted.score)


@pytest.mark.parametrize(("documents", "agents", "reviewers"), [(0, 1, 3), (1, 1, 1), (3, 3, 2)])
def test_small_worlds(documents: int, agents: int, reviewers: int) -> None:
    world = simulate_terms(TermSpec(documents=documents, agents=agents, reviewers=reviewers))
    assert len(world.texts) == documents
    assert set(world.review_output) == set(range(documents))
