import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.quality_features import FeatureList, leaking_features


def table(n: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    stream = np.random.default_rng(5)
    y = np.round(stream.uniform(1, 9, n), 2)
    words = 100 + 40 * stream.standard_normal(n)
    return pd.DataFrame({"word_count": words, "tone": stream.choice(["a", "b"], n), "agent_name": "x", "reviewer_id": None}), y


def test_the_list_holds_numbers_and_categories_of_a_feature_table() -> None:
    found = FeatureList.of(["tone", "my_number", "word_count", "agent_name", "execution_id", "content_id", "reviewer_id"])
    assert found == FeatureList(("word_count", "my_number"), ("tone",))
    assert found.columns == ("word_count", "my_number", "tone", "agent_name", "reviewer_id")
    assert found.without(["my_number"]) == FeatureList(("word_count",), ("tone",))


def test_columns_come_in_the_lists_order_and_every_missing_one_is_named() -> None:
    X, _ = table()
    features = FeatureList(("word_count",), ("tone",))
    assert features.select(X[["reviewer_id", "tone", "word_count", "agent_name"]]).columns.tolist() == list(features.columns)
    with pytest.raises(LearningError, match=r"tone, reviewer_id; add them, with NaN or None"):
        features.select(X.drop(columns=["tone", "reviewer_id"]))


@pytest.mark.parametrize(
    ("name", "leak"),
    [
        ("final_score", lambda y: 3.0 - 2.0 * y),
        ("its_exponential", lambda y: np.exp(3 * y)),
        ("huge", lambda y: 1e200 * y),
        ("half_missing", lambda y: np.where(np.arange(len(y)) % 2, y, np.nan)),
        ("verdict", lambda y: np.array([f"score {v:.2f}" for v in y], dtype=object)),
    ],
)
def test_a_feature_that_repeats_the_score_is_found(name: str, leak: object) -> None:
    X, y = table()
    if name == "verdict":
        y = np.round(y)
    assert leaking_features(X, y) == ()
    assert callable(leak)
    assert leaking_features(X.assign(**{name: leak(y)}), y) == (name,)


def test_honest_features_pass() -> None:
    X, y = table()
    stream = np.random.default_rng(1)
    honest = X.assign(
        strong=y + 0.2 * stream.standard_normal(len(y)),
        constant=1.0,
        empty=np.nan,
        few=np.where(np.arange(len(y)) < 10, y, np.nan),  # ten rows show nothing
        unique=[f"title {i}" for i in range(len(y))],  # as many levels as rows explain everything and nothing
    )
    assert leaking_features(honest, y) == ()
    assert leaking_features(honest, np.full(len(y), 4.0)) == ()


def test_the_mean_score_of_the_content_is_no_feature_either() -> None:
    X, y = table()
    content = np.repeat(np.arange(20), 3)
    leak = X.assign(published_score=pd.Series(y).groupby(content).transform("mean"))
    assert leaking_features(leak, y) == ()
    assert leaking_features(leak, y, content) == ("published_score",)
