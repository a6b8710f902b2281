import numpy as np
import pytest

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.adjustment import adjust, severity_frame
from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.learning.mixed_model import ReviewDesign
from feedback_pipeline.learning.severity import Severity, severity_of
from feedback_pipeline.simulation.spec import ASPECTS, WorldSpec
from feedback_pipeline.simulation.world import truth_about_reviewers
from feedback_pipeline_tests.worlds import BOUNDS, Learned, learn


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
    found, panel = learned.adjustment, learned.panel
    for k, severity in enumerate(found.severities):
        difference = found.raw[:, k] - found.adjusted[:, k]
        given = ~np.isnan(found.raw[:, k])
        np.testing.assert_allclose(difference[given], severity.value[panel.review_reviewer[given]], atol=1e-12)
        assert np.isnan(found.adjusted[~given, k]).all()


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


def test_an_aspect_that_does_not_converge_falls_back_with_its_reason(learned: Learned, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = learned.panel
    troubled = panel.scores[~np.isnan(panel.scores[:, 1]), 1]

    def fails_for_one_aspect(design: ReviewDesign, score: np.ndarray) -> Severity:
        if np.array_equal(score, troubled):
            raise LearningError("severity did not converge: on purpose")
        return severity_of(design, score)

    monkeypatch.setattr("feedback_pipeline.learning.adjustment.severity_of", fails_for_one_aspect)
    found = adjust(panel, BOUNDS)
    assert [severity.reason for severity in found.severities[:2]] == [None, "severity did not converge: on purpose"]
    assert found.severities[1].method == "agent means"
    assert not found.severities[1].comparable.any()
    assert np.isfinite(found.severities[1].value).all()
    np.testing.assert_array_equal(found.adjusted[:, 0], learned.adjustment.adjusted[:, 0])
