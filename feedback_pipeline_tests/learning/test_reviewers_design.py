import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.reviewers import FIXED
from feedback_pipeline.learning.reviewers_design import LENGTH, Encoding

N = 400


def outputs(seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    words = np.exp(rng.normal(6, 0.5, N))
    return pd.DataFrame(
        {
            "word_count": words,
            "sentence_count": np.rint(words / 17),
            "readability": rng.normal(10, 2, N),
            "cost": np.exp(rng.normal(-3, 1, N)),
            "tone": rng.choice(["formal", "friendly", "expert"], N),
            "channel": rng.choice(["email", "website"], N),
        }
    )


def encoded(frame: pd.DataFrame, numeric: list[str]) -> tuple[Encoding, np.ndarray]:
    encoding = Encoding.of(frame, numeric)
    return encoding, encoding.encode(frame)


def test_the_length_has_a_parabola_and_other_features_a_broken_line() -> None:
    frame = outputs()
    encoding, columns = encoded(frame, ["word_count", "readability"])
    kinds = [(column.kind, column.feature) for column in encoding.columns]
    assert kinds[:4] == [("intercept", ""), ("slope", LENGTH), ("slope", "readability"), ("square", LENGTH)]
    assert [kind for kind in kinds if kind[0] == "bend"] == [("bend", "readability")] * 2
    logarithm = np.log(frame["word_count"])
    z = (logarithm - logarithm.mean()) / logarithm.std(ddof=0)
    np.testing.assert_allclose(columns[:, 1], z, atol=1e-5)
    np.testing.assert_allclose(columns[:, 3], z**2 - 1, atol=1e-5)
    slope = columns[:, 2]
    np.testing.assert_allclose(
        slope, (frame["readability"] - frame["readability"].mean()) / frame["readability"].std(ddof=0), atol=1e-5
    )
    for i in encoding.positions("bend", "readability"):
        np.testing.assert_allclose(columns[:, i], np.maximum(slope - encoding.columns[i].knot, 0), atol=1e-5)
        assert 0.3 < (columns[:, i] > 0).mean() < 0.7


def test_a_standard_score_leads_back_to_the_value() -> None:
    frame = outputs()
    encoding, _ = encoded(frame, ["word_count", "readability", "cost"])
    for scale in encoding.scales:
        value = frame[scale.feature].to_numpy()
        inside = np.abs(scale.standard(value)) < 4
        np.testing.assert_allclose(scale.value(scale.standard(value))[inside], value[inside])
        assert scale.low == pytest.approx(np.quantile(scale.standard(value), 0.01))
        assert scale.logarithm == (scale.feature != "readability")


def test_reviewers_differ_in_slopes_the_parabola_tone_and_structure() -> None:
    encoding, _ = encoded(outputs(), ["word_count", "readability"])
    own = [encoding.columns[i] for i in encoding.personal]
    assert [(column.kind, column.feature or column.level) for column in own[:4]] == [
        ("intercept", ""),
        ("slope", LENGTH),
        ("slope", "readability"),
        ("square", LENGTH),
    ]
    assert [column.level for column in own[4:]] == ["expert", "formal", "friendly"]
    np.testing.assert_array_equal(encoding.personal_group, [0, 1, 2, 3, 4, 4, 4])
    assert encoding.group[0] == FIXED
    assert len(set(encoding.group[encoding.positions("bend", "readability")])) == 1
    tones = {encoding.group[i] for i in encoding.positions("level", "tone")}
    channels = {encoding.group[i] for i in encoding.positions("level", "channel")}
    assert len(tones) == len(channels) == 1
    assert tones != channels


def test_a_missing_number_is_the_mean_and_marked() -> None:
    frame = outputs()
    frame.loc[::7, ["word_count", "readability"]] = [np.nan, np.inf]
    encoding, columns = encoded(frame, ["word_count", "readability"])
    for feature in ("word_count", "readability"):
        (mark,) = encoding.positions("missing", feature)
        np.testing.assert_array_equal(columns[:, mark], np.arange(N) % 7 == 0)
        for kind in ("slope", "square", "bend"):
            assert (columns[::7, encoding.positions(kind, feature)] == 0).all()
    assert np.isfinite(columns).all()
    whole, _ = encoded(outputs(), ["readability"])
    assert whole.positions("missing", "readability") == []


def test_features_that_say_nothing_of_their_own_are_left_out() -> None:
    frame = outputs().assign(constant=3.0, absent=np.nan, once=[1.0] + [np.nan] * (N - 1), channel="email")
    encoding, _ = encoded(frame, ["word_count", "sentence_count", "constant", "absent", "once", "unheard_of"])
    assert [scale.feature for scale in encoding.scales] == [LENGTH]
    assert encoding.positions("level", "channel") == []
    nothing, columns = encoded(pd.DataFrame({"word_count": [0.0, np.nan, 0.0]}), ["word_count"])
    assert len(nothing.columns) == 1
    np.testing.assert_array_equal(columns, np.ones((3, 1)))


def test_a_missing_new_or_rare_level_is_no_level() -> None:
    frame = outputs()
    frame.loc[:4, "tone"] = None
    encoding, columns = encoded(frame, [])
    tones = encoding.positions("level", "tone")
    assert (columns[:5, tones] == 0).all()
    assert (columns[5:, tones].sum(axis=1) == 1).all()
    new = encoding.encode(frame.assign(tone="sarcastic").drop(columns="channel"))
    assert (new[:, 1:] == 0).all()
    many = pd.DataFrame({"tone": [f"tone {i:02}" for i in range(40) for _ in range(1 + (i >= 10))]})
    levels = [column.level for column in Encoding.of(many, []).columns[1:]]
    assert levels == [f"tone {i:02}" for i in range(10, 40)]


@pytest.mark.parametrize("huge", [1e100, -1e100])
def test_one_huge_value_breaks_nothing(huge: float) -> None:
    frame = outputs()
    frame.loc[3, ["word_count", "readability"]] = [abs(huge), huge]
    _, columns = encoded(frame, ["word_count", "readability"])
    assert np.isfinite(columns).all()
    assert np.abs(columns).max() <= 15


def test_later_outputs_are_encoded_as_the_first_were() -> None:
    frame = outputs()
    before = frame.copy()
    encoding, columns = encoded(frame, ["word_count", "readability", "cost"])
    pd.testing.assert_frame_equal(frame, before)
    np.testing.assert_array_equal(encoding.encode(frame.iloc[10:20]), columns[10:20])
    shuffled = frame.sample(frac=1.0, random_state=3)
    again, _ = encoded(shuffled, ["word_count", "readability", "cost"])
    assert [(c.kind, c.feature, c.level) for c in again.columns] == [(c.kind, c.feature, c.level) for c in encoding.columns]
    np.testing.assert_allclose(again.encode(frame), columns, atol=1e-6)
