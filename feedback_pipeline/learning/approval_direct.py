"""Approval straight from the features, for reviews that give no scores."""

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.approval import fit_logistic
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.reviewer_moments import RowDesign
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import PersonalModel, agent_levels

_REVIEWS_FOR_SLOPES = 10


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
    count = np.bincount(reviewer, minlength=n_reviewers)
    slopes = bool(len(reviewer)) and float(np.median(count[count > 0])) >= _REVIEWS_FOR_SLOPES
    personal = encoding.personal if slopes else encoding.personal[:1]
    personal_group = encoding.personal_group if slopes else encoding.personal_group[:1]
    share = (approved.sum() + 0.5) / (len(approved) + 1.0)
    level = np.zeros(n_agents)
    if len(approved):
        # A difference of shares, as logits near the mean share.
        level = agent_levels(agent, reviewer, approved, n_agents, n_reviewers) / (share * (1.0 - share))
    design = RowDesign(columns, unit, reviewer, n_reviewers, personal)
    fit = fit_logistic(design, approved, encoding.group, personal_group=personal_group, offset=level[agent])
    return PersonalModel(encoding, level, fit.model, slopes, np.nan)
