"""Real reviews: scores of outputs whose source item was not learned from."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.promotion import first_champion
from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_models import CANDIDATES, eligible
from feedback_pipeline.learning.quality_models_base import QualityModel
from feedback_pipeline.learning.quality_models_forest import FOREST_FEATURES
from feedback_pipeline.learning.quality_validation import forward_predictions, grouped_folds, least_loss
from feedback_pipeline.learning.text import Documents, text_features

pytestmark = pytest.mark.slow


def outputs_of(folder: Path, group: str) -> tuple[pd.DataFrame, Ints, pd.DataFrame]:
    """Features of each output as the feature table has them, its source item, its mean score in each aspect."""
    runs, decisions, workflows, reviews = (
        pd.read_parquet(folder / f"{name}.parquet")
        for name in ("agent_performance", "agent_decisions", "content_review_workflows", "review_feedback")
    )
    written = decisions.set_index("performance_id").loc[runs["id"], "output_data"]
    texts = [json.loads(text)["content"].encode() for text in written]
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    measured = text_features(Documents(np.frombuffer(b"".join(texts), np.uint8), offsets, np.zeros(len(texts), dtype=bool)))
    X = pd.DataFrame(measured | {name: np.full(len(runs), np.nan) for name in FOREST_FEATURES})
    X = X.assign(agent_name=runs["agent_name"].to_numpy(), reviewer_id=None)
    scores = pd.DataFrame([{k: v["score"] for k, v in json.loads(text).items()} for text in reviews["quality_scores"]])
    execution = workflows.set_index("id").loc[reviews["workflow_id"], "workflow_execution_id"].to_numpy()
    mean = scores.groupby(execution).mean().loc[runs["execution_id"]].reset_index(drop=True)
    item = pd.factorize(pd.Series([json.loads(text)[group] for text in runs["metadata"]]))[0]
    return X, item.astype(np.intp), mean


def held_out(X: pd.DataFrame, y: Floats, item: Ints, bounds: tuple[float, float]) -> tuple[Floats, Floats, list[str]]:
    """Forecast and training mean of each output, and the candidate chosen by folds inside each training part."""
    features = FeatureList.of(X.columns)
    prediction, constant, chosen = np.empty(len(y)), np.empty(len(y)), []
    for train, test in GroupKFold(5).split(X, y, item):
        names = eligible(len(train))
        builds: dict[str, Callable[[], QualityModel]] = {name: partial(CANDIDATES[name], features, bounds, 0) for name in names}
        best = least_loss(builds, X.iloc[train], y[train], item[train], grouped_folds(item[train], 3, seed=0))
        prediction[test] = builds[best]().fit(X.iloc[train], y[train], content=item[train]).predict(X.iloc[test])
        constant[test] = y[train].mean()
        chosen.append(best)
    return prediction, constant, chosen


def rmse(error: Floats) -> float:
    return float(np.sqrt((error**2).mean()))


@pytest.mark.parametrize(
    "aspect",
    ["aspect_coverage", "coherence", "faithfulness", "fluency", "relevance", "sentiment_consistency", "specificity"],
)
def test_summeval_is_forecast_at_least_as_well_as_by_the_ridge_of_the_truth(aspect: str, shared_data: Path) -> None:
    folder = shared_data / "summeval_op"
    X, item, mean = outputs_of(folder, "product")
    expected = json.loads((folder / "truth.json").read_text())["aspects"][aspect]["cv5_by_group_rmse"]
    y = mean[aspect].to_numpy()
    prediction, constant, _ = held_out(X, y, item, (1.0, 5.0))
    assert rmse(y - constant) == pytest.approx(expected["mean"], rel=0.01)  # the protocol is the same
    assert rmse(y - prediction) <= 1.03 * expected["ridge"]
    assert rmse(y - prediction) <= 0.75 * expected["mean"]


def test_wmt_is_hardly_better_than_the_constant_and_never_worse(shared_data: Path) -> None:
    folder = shared_data / "wmt_ted_ende"
    X, item, mean = outputs_of(folder, "doc")
    expected = json.loads((folder / "truth.json").read_text())["aspects"]["mqm"]["cv5_by_group_rmse"]
    y = mean["mqm"].to_numpy()
    prediction, constant, chosen = held_out(X, y, item, (-25.0, 0.0))
    share = rmse(y - prediction) / expected["mean"]
    assert "random_forest_50" not in chosen
    assert 0.93 <= share <= 1.0
    assert rmse(y - prediction) < rmse(y - constant)
    # Five documents are no evidence of anything better, and what might be gained is little: the mean is champion, and says so.
    names, features, folds = ["mean", "ridge", "eb_mixed"], FeatureList.of(X.columns), list(GroupKFold(5).split(X, y, item))
    builds = [partial(CANDIDATES[name], features, (-25.0, 0.0), 0) for name in names]
    losses = [(y - forward_predictions(build, X, y, item, folds)) ** 2 for build in builds]
    choice = first_champion(names, np.column_stack(losses), item)
    assert (choice.name, choice.little_to_predict) == ("mean", True)
    assert {test.reason for _, test in choice.tests} == {"5 contents compared; a promotion needs 200"}
