"""One unit, one key: from the rows of the feature store to aligned arrays.

An output is (agent_name, execution_id); a review is (output, reviewer, stage), the latest one when it was given twice.
Everything downstream works on the integer codes built here.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.errors import LearningError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

UNKNOWN_REVIEWER = -1


@dataclass(frozen=True)
class Panel:
    """Outputs and their deduplicated reviews as aligned arrays, in canonical order.

    Attributes:
        agents: Sorted agent names (G,).
        reviewers: Sorted reviewer ids (R,).
        aspects: Sorted names of the scored aspects (K,).
        outputs: One row per output, sorted by agent_name and execution_id: the feature table (N rows).
        output_agent: Agent code of each output (N,), ascending.
        output_content: Content code of each output (N,).
        reviews: One row per review, sorted by output: feedback_id, reviewer_id, stage, decision, reviewed_at (M rows).
        review_output: Output code of each review (M,), ascending.
        review_reviewer: Reviewer code of each review (M,), -1 where unknown.
        scores: Raw scores (M, K), NaN where the review gives none.
    """

    agents: npt.NDArray[np.object_]
    reviewers: npt.NDArray[np.object_]
    aspects: tuple[str, ...]
    outputs: pd.DataFrame
    output_agent: Ints
    output_content: Ints
    reviews: pd.DataFrame
    review_output: Ints
    review_reviewer: Ints
    scores: Floats

    @property
    def review_agent(self) -> Ints:
        """Agent code of each review (M,)."""
        return self.output_agent[self.review_output]


def build_panel(human_feedback: pd.DataFrame, scores: Floats, aspects: tuple[str, ...], feature_table: pd.DataFrame) -> Panel:
    """Deduplicate reviews and outputs over all days and align them.

    Args:
        human_feedback: Rows of the feature store, one per (output, review); untrainable ones are left out here.
        scores: Raw scores (rows of human_feedback, aspects), NaN = none.
        aspects: Names of the columns of `scores`.
        feature_table: Rows of the feature store, one per output and day; the last day's row of an output is kept.

    Raises:
        LearningError: a reviewed output has no row in the feature table.
    """
    trainable = human_feedback["is_training_data"].to_numpy(dtype=bool)
    reviews, scores = human_feedback[trainable].reset_index(drop=True), scores[trainable]
    agent_code, agents = pd.factorize(reviews["agent_name"], sort=True)
    execution_code, executions = pd.factorize(reviews["execution_id"], sort=True)
    reviewer_code, reviewers = pd.factorize(reviews["reviewer_id"], sort=True, use_na_sentinel=True)
    key = agent_code.astype(np.int64) * max(len(executions), 1) + execution_code
    keep = _latest(reviews, key, reviewer_code)
    reviews, scores = reviews.iloc[keep].reset_index(drop=True), scores[keep]
    output_key, review_output = np.unique(key[keep], return_inverse=True)

    outputs = _align_outputs(feature_table, output_key, agents, executions)
    aspect_order = np.argsort(np.array(aspects, dtype=object)) if aspects else np.empty(0, dtype=np.intp)
    return Panel(
        agents=np.asarray(agents, dtype=object),
        reviewers=np.asarray(reviewers, dtype=object),
        aspects=tuple(aspects[i] for i in aspect_order),
        outputs=outputs,
        output_agent=(output_key // max(len(executions), 1)).astype(np.intp),
        output_content=pd.factorize(outputs["content_id"])[0].astype(np.intp),
        reviews=reviews,
        review_output=review_output.astype(np.intp),
        review_reviewer=reviewer_code[keep].astype(np.intp),
        scores=np.ascontiguousarray(scores[:, aspect_order]),
    )


def _latest(reviews: pd.DataFrame, output: npt.NDArray[np.int64], reviewer: npt.NDArray[np.intp]) -> Ints:
    """Positions to keep, ordered by (output, reviewer, stage, time): the latest of each key, all reviews of unknown reviewers."""
    stage, stages = pd.factorize(reviews["stage"], sort=True)
    # One number for (output, reviewer, stage); unknown reviewers and missing stages are -1.
    key = (output * (int(reviewer.max(initial=-1)) + 2) + reviewer + 1) * (len(stages) + 1) + stage + 1
    moment = reviews["reviewed_at"].astype(np.int64).to_numpy(dtype=np.int64)
    order = np.lexsort((moment, key))
    same = _equal_neighbours(order, key)
    if (same & _equal_neighbours(order, moment)).any():
        # Ranking ids is the dearest sort of all; only reviews of the same moment need it.
        identity = pd.factorize(reviews["feedback_id"], sort=True)[0].astype(np.intp)
        order = np.lexsort((identity, moment, key))
        same = _equal_neighbours(order, key)
    superseded = np.zeros(len(order), dtype=bool)
    superseded[:-1] = same & (reviewer[order[1:]] != UNKNOWN_REVIEWER)
    return order[~superseded]


def _equal_neighbours(order: Ints, key: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Whether each row in this order has the same key as the next one."""
    ordered = key[order]
    equal: npt.NDArray[np.bool_] = ordered[1:] == ordered[:-1]
    return equal


def _align_outputs(
    feature_table: pd.DataFrame, output_key: npt.NDArray[np.int64], agents: pd.Index, executions: pd.Index
) -> pd.DataFrame:
    agent = pd.Index(agents).get_indexer(pd.Index(feature_table["agent_name"])).astype(np.int64)
    execution = pd.Index(executions).get_indexer(pd.Index(feature_table["execution_id"])).astype(np.int64)
    key = np.where((agent >= 0) & (execution >= 0), agent * max(len(executions), 1) + execution, -1)
    last = pd.Series(np.arange(len(key)), index=key).groupby(level=0).last()
    found = last.reindex(output_key)
    if found.isna().any():
        missing = int(found.isna().sum())
        raise LearningError(
            f"{missing} reviewed outputs have no row in feature_table; materialize human_feedback and feature_table again"
        )
    return feature_table.iloc[found.to_numpy(dtype=np.intp)].reset_index(drop=True)


def overall_scores(scores: Floats, aspects: tuple[str, ...], bounds: dict[str, tuple[float, float]]) -> Floats:
    """Mean of the aspects present in each review (M,), NaN where there is none.

    Aspects with different bounds are first scaled to 0..10, so that no aspect weighs more because its scale is wider.
    """
    limits = {bounds.get(aspect, bounds["*"]) for aspect in aspects}
    if len(limits) > 1:
        low, high = np.array([bounds.get(aspect, bounds["*"]) for aspect in aspects]).T
        scores = 10.0 * (scores - low) / (high - low)
    present = ~np.isnan(scores)
    count = present.sum(axis=1)
    total = np.where(present, scores, 0.0).sum(axis=1)
    mean: Floats = np.divide(total, count, out=np.full(len(scores), np.nan), where=count > 0)
    return mean


def output_means(values: Floats, review_output: Ints, n_outputs: int) -> Floats:
    """Mean over the reviews of each output, column by column: (M, K) -> (N, K), NaN where an output has no value."""
    present = ~np.isnan(values)
    starts = np.flatnonzero(np.diff(review_output, prepend=-1))
    total = np.full((n_outputs, values.shape[1]), 0.0)
    count = np.zeros((n_outputs, values.shape[1]))
    if len(starts):
        rows = review_output[starts]
        total[rows] = np.add.reduceat(np.where(present, values, 0.0), starts, axis=0)
        count[rows] = np.add.reduceat(present, starts, axis=0, dtype=np.float64)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def output_outcomes(panel: Panel) -> Floats:
    """Outcome of each output (N,): 1 iff more than half of its decisions approve (a tie is 0), NaN without a decision."""
    decision = panel.reviews["decision"]
    decided = decision.notna().to_numpy()
    approves = (decision == "approve").to_numpy(dtype=bool, na_value=False) & decided
    n = len(panel.outputs)
    share = np.bincount(panel.review_output[approves], minlength=n) / np.maximum(
        np.bincount(panel.review_output[decided], minlength=n), 1
    )
    known = np.bincount(panel.review_output[decided], minlength=n) > 0
    return np.where(known, (share > 0.5).astype(np.float64), np.nan)


def group_sums(codes: Ints, values: Floats, n: int) -> Floats:
    """Sum of the values of each code 0..n-1, (n,)."""
    return np.asarray(np.bincount(codes, weights=values, minlength=n), dtype=np.float64)
