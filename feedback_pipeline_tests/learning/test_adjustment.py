import numpy as np
import pytest

from feedback_pipeline.learning.adjustment import severity_frame
from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.simulation.spec import ASPECTS, WorldSpec
from feedback_pipeline.simulation.world import truth_about_reviewers
from feedback_pipeline_tests.worlds import Learned, learn


@pytest.fixture(scope="module")
def learned() -> Learned:
    return learn(WorldSpec(agents=20, executions=100, reviewers=30, seed=3))


def test_severity_of_the_simulated_reviewers_is_recovered(learned: Learned) -> None:
    found = severity_frame(learned.panel, learned.adjustment)
    truth = truth_about_reviewers(learned.world).set_index("reviewer_id")["severity"]
    for aspect in (*ASPECTS, OVERALL):
        rows = found[found["aspect"] == aspect].set_index("reviewer_id")
        assert np.corrcoef(rows["severity"], truth.reindex(rows.index))[0, 1] > 0.93
        assert rows["comparable"].all()


def test_adjusted_is_score_minus_severity_and_nothing_else(learned: Learned) -> None:
    adjustment, panel = learned.adjustment, learned.panel
    for k, severity in enumerate(adjustment.severities):
        difference = adjustment.raw[:, k] - adjustment.adjusted[:, k]
        given = ~np.isnan(adjustment.raw[:, k])
        np.testing.assert_allclose(difference[given], severity.value[panel.review_reviewer[given]], atol=1e-12)
        assert np.isnan(adjustment.adjusted[~given, k]).all()


def test_assignment_of_long_texts_to_strict_reviewers_leaves_no_length_effect() -> None:
    """Strict reviewers get the long texts and length does nothing: raw scores correlate with length, adjusted ones do not."""
    spec = WorldSpec(
        agents=20,
        executions=200,
        reviewers=40,
        seed=2,
        effects=False,
        tastes=False,
        best_length=False,
        confounded_assignment=True,
    )
    found = learn(spec)
    words = found.panel.outputs["word_count"].to_numpy()[found.panel.review_output]
    given = ~np.isnan(found.adjustment.raw[:, 0])
    raw, adjusted = (
        np.corrcoef(np.log(words[given]), values[given, 0])[0, 1] for values in (found.adjustment.raw, found.adjustment.adjusted)
    )
    assert raw < -0.2
    assert abs(adjusted) < 0.05
