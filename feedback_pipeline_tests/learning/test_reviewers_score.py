import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.reviewer_moments import RowDesign
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import ScoredRows, agent_levels, fit_score_model, shrunken_means

OUTPUTS, REVIEWERS, EACH = 500, 40, 30


def rows(slope_sd: float, seed: int = 1, agents: int = 5) -> tuple[Encoding, ScoredRows, np.ndarray]:
    """Reviewers of known severity (sd .9) and slopes on readability, and agents of known level (sd .5)."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"readability": rng.normal(size=OUTPUTS), "tone": rng.choice(["formal", "friendly"], OUTPUTS)})
    encoding = Encoding.of(frame, ["readability"])
    reviewer, unit = np.repeat(np.arange(REVIEWERS), EACH), rng.integers(0, OUTPUTS, REVIEWERS * EACH)
    agent = unit % agents
    slopes = rng.normal(0, slope_sd, REVIEWERS)
    score = 6 + rng.normal(0, 0.9, REVIEWERS)[reviewer] + (0.3 + slopes[reviewer]) * frame["readability"].to_numpy()[unit]
    score += rng.normal(0, 0.5, agents)[agent] + rng.normal(0, 0.8, len(unit))
    design = RowDesign(encoding.encode(frame), unit, reviewer, REVIEWERS, encoding.personal)
    return encoding, ScoredRows(design, agent, score, agents), slopes


def test_slopes_are_on_where_reviewers_have_them() -> None:
    encoding, scored, slopes = rows(0.4)
    found = fit_score_model(encoding, scored)
    assert found.slopes
    (place,) = np.flatnonzero(found.model.personal == encoding.positions("slope", "readability")[0])
    assert np.corrcoef(found.model.effects[:, place], slopes)[0, 1] > 0.85


def test_the_gain_is_what_slopes_add_less_one_for_each_variance() -> None:
    """The levels of tone share one variance, so they cost one together."""
    encoding, scored, _ = rows(0.4)
    found = fit_score_model(encoding, scored)
    on, off = (fit_score_model(encoding, scored, slopes=slopes) for slopes in (True, False))
    assert (on.slopes, off.slopes) == (True, False)
    free = {int(group) for group in encoding.personal_group[on.model.variances.personal > 0]} - {0}
    assert found.slope_gain == pytest.approx(on.model.log_likelihood - off.model.log_likelihood - len(free))
    assert len(off.model.personal) == 1


def test_predictions_are_the_sum_of_the_parts() -> None:
    encoding, scored, _ = rows(0.4)
    found = fit_score_model(encoding, scored, slopes=True)
    columns, personal = scored.design.columns, found.model.personal
    unit, agent, reviewer = np.array([3, 3, 7]), np.array([0, -1, 2]), np.array([5, -1, 8])
    mean, variance = found.predict(columns, unit, agent, reviewer)
    x = columns[unit].astype(np.float64)
    common = x @ found.model.population
    np.testing.assert_allclose(mean[0], common[0] + found.agent_level[0] + x[0, personal] @ found.model.effects[5], rtol=1e-5)
    np.testing.assert_allclose(mean[1], common[1], rtol=1e-5)
    np.testing.assert_allclose(variance[1], (x[1, personal] ** 2) @ found.model.variances.personal, rtol=1e-5)
    np.testing.assert_allclose(variance[2], x[2, personal] @ found.model.uncertainty[8] @ x[2, personal], rtol=1e-5)


def test_agent_levels_are_not_fooled_by_strict_reviewers() -> None:
    rng = np.random.default_rng(1)
    agent = np.repeat(np.arange(6), 300)
    # Agents 0..2 mostly get the strict half of the reviewers.
    reviewer = np.where(rng.random(1800) < np.where(agent < 3, 0.8, 0.2), rng.integers(0, 10, 1800), rng.integers(10, 20, 1800))
    level = np.tile([-0.5, 0.0, 0.5], 2)
    score = 6 + level[agent] + np.where(reviewer < 10, -1.0, 1.0) + rng.normal(0, 0.8, 1800)
    found = agent_levels(agent, reviewer, score, 6, 20)
    np.testing.assert_allclose(found, level, atol=0.2)


@pytest.mark.parametrize("agents", [1, 2])
def test_few_agents(agents: int) -> None:
    encoding, scored, _ = rows(0.4, agents=agents)
    found = fit_score_model(encoding, scored)
    assert len(found.agent_level) == agents
    if agents == 1:
        np.testing.assert_array_equal(found.agent_level, 0)


def test_shrunken_means_have_the_closed_form_of_a_balanced_layout() -> None:
    rng = np.random.default_rng(2)
    code = np.repeat(np.arange(12), 10)
    value = 3 + rng.normal(0, 1, 12)[code] + rng.normal(0, 0.7, 120)
    mean = value.reshape(12, 10).mean(axis=1)
    within = ((value - mean[code]) ** 2).sum() / (120 - 12)
    between = mean.var(ddof=1) - within / 10
    np.testing.assert_allclose(shrunken_means(code, value, 13)[:12], (mean - mean.mean()) * between / (between + within / 10))
    assert shrunken_means(code, value, 13)[12] == 0


def test_nothing_is_shrunken_to_nothing() -> None:
    none = np.empty(0, dtype=np.intp)
    np.testing.assert_array_equal(shrunken_means(none, np.empty(0), 3), 0)
    np.testing.assert_array_equal(shrunken_means(np.arange(3), np.array([1.0, 5.0, 9.0]), 3), 0)
    np.testing.assert_array_equal(shrunken_means(np.zeros(5, dtype=np.intp), np.arange(5.0), 1), 0)
    np.testing.assert_array_equal(shrunken_means(np.arange(6) % 2, np.full(6, 7.0), 2), 0)


def test_no_score_is_an_error() -> None:
    encoding, scored, _ = rows(0.4)
    with pytest.raises(LearningError, match="no score"):
        fit_score_model(encoding, scored.only(np.zeros(len(scored.score), dtype=bool)))
