"""Approval straight from the features, for reviews that give no scores: the logistic version of the score model."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.approval import (
    FURTHEST,
    LONGEST_STEP,
    PSEUDO_REVIEWERS,
    RESTED,
    ROUNDS,
    WEAK_PRIOR,
    starting_logit,
)
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.reviewer_moments import RowDesign, moments_of
from feedback_pipeline.learning.reviewers import FIXED, ReviewerModel, fit_reviewer_model
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import PersonalModel, agent_levels
from feedback_pipeline.learning.reviewers_steps import Variances

_REVIEWS_FOR_SLOPES = 10


def fit_logistic(
    design: RowDesign,
    approved: Floats,
    group: Ints,
    *,
    personal_group: Ints | None = None,
    offset: Floats | None = None,
) -> ReviewerModel:
    """Fit the logit of approval ~ X b + W u_r by penalised quasi-likelihood.

    Args:
        design: M rows.
        approved: 1 or 0 for each row (M,).
        group: Prior group of each population column (P,), `reviewers.FIXED` for a weak one (sd 5).
        personal_group: Personal columns of one group share their variance (Q,); each has its own when left out.
        offset: Known part of each row's logit (M,), 0 when left out.

    Returns:
        Effects in logits; the noise is 1, the likelihood that of the last working responses.

    Raises:
        LearningError: there is no row, or the effects did not come to rest.
    """
    if not len(approved):
        raise LearningError("the approval model has no decision to learn from; wait for reviews with decisions")
    logit = np.full(len(approved), starting_logit(approved))
    known = np.zeros(len(approved)) if offset is None else offset
    variances = Variances(1.0, np.full(len(design.personal), 0.1), np.full(int(group.max()) + 1, 0.1))
    weak = np.diag(np.where(group == FIXED, WEAK_PRIOR, 0.0))
    for _ in range(ROUNDS):
        p = expit(logit)
        weight = p * (1.0 - p)
        sums = moments_of(design, logit + (approved - p) / weight - known, weight)
        model = fit_reviewer_model(
            replace(sums, xx=sums.xx + weak),
            group,
            personal_group=personal_group,
            noise=1.0,
            start=variances,
            pseudo_effects=PSEUDO_REVIEWERS,
        )
        variances = model.variances
        ahead = np.clip(known + design.linear(model.population, model.effects), -FURTHEST, FURTHEST) - logit
        logit += np.clip(ahead, -LONGEST_STEP, LONGEST_STEP)
        if np.sqrt(np.mean(ahead**2)) < RESTED * (1.0 + np.abs(logit).mean()):
            return model
    raise LearningError(f"the approval model did not converge in {ROUNDS} rounds; check for extreme features")


def fit_direct_approval(
    encoding: Encoding,
    columns: npt.NDArray[np.floating],
    unit: Ints,
    agent: Ints,
    reviewer: Ints,
    approved: Floats,
    *,
    n_agents: int,
    n_reviewers: int,
) -> PersonalModel:
    """Fit the logit of approval on features, agents and reviewers; predictions are logits.

    Personal slopes are on where the median reviewer has 10 decisions or more: the quasi-likelihood cannot choose.

    Args:
        encoding: What the columns mean.
        columns: Encoded outputs (N, P).
        unit: Output of each decision (M,).
        agent: Agent of each decision (M,).
        reviewer: Reviewer of each decision (M,), known.
        approved: 1 or 0 (M,).
        n_agents: G.
        n_reviewers: R.

    Raises:
        LearningError: there is no decision, or the fit did not converge.
    """
    if not len(approved):
        raise LearningError("the approval model has no decision to learn from; wait for reviews with decisions")
    count = np.bincount(reviewer)
    slopes = float(np.median(count[count > 0])) >= _REVIEWS_FOR_SLOPES
    used = slice(None) if slopes else slice(1)
    share = float(expit(starting_logit(approved)))
    # A difference of shares, as logits near the mean share.
    level = agent_levels(agent, reviewer, approved, n_agents, n_reviewers) / (share * (1.0 - share))
    design = RowDesign(columns, unit, reviewer, n_reviewers, encoding.personal[used])
    model = fit_logistic(design, approved, encoding.group, personal_group=encoding.personal_group[used], offset=level[agent])
    return PersonalModel(encoding, level, model, slopes, np.nan)
