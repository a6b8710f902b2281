"""Which score a reviewer will give an output: agent level + what features do to everybody + what they do to this reviewer."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Ints, Panel, group_sums
from feedback_pipeline.learning.reviewer_moments import ReviewerMoments, RowDesign, moments_of
from feedback_pipeline.learning.reviewers import ReviewerModel, fit_reviewer_model
from feedback_pipeline.learning.reviewers_design import Encoding

_ALTERNATIONS = 5
_VARIANCE_ROWS = 16_384


@dataclass(frozen=True)
class PersonalModel:
    """A mixed model of reviewers on encoded outputs, of scores (points) or of approvals (logits).

    Attributes:
        encoding: What the columns mean.
        agent_level: What an agent's outputs get more than those of the average agent (G,).
        model: Population and personal effects.
        slopes: Whether personal slopes are on; without them reviewers differ in severity alone.
        slope_gain: Log likelihood that slopes gain over severity alone, less one for each variance they cost.
    """

    encoding: Encoding
    agent_level: Floats
    model: ReviewerModel
    slopes: bool
    slope_gain: float

    def predict(self, columns: npt.NDArray[np.floating], unit: Ints, agent: Ints, reviewer: Ints) -> tuple[Floats, Floats]:
        """Expected response and its variance without the noise of a single review, per row.

        Args:
            columns: Encoded outputs (N, P).
            unit: Output of each row (M,).
            agent: Agent of each row (M,), -1 for a new one: the average agent.
            reviewer: Reviewer of each row (M,), -1 for a new one: the population, with its variance.
        """
        design = RowDesign(columns, unit, reviewer, len(self.model.rows), self.model.personal)
        level = np.where(agent >= 0, np.append(self.agent_level, 0.0)[agent], 0.0)
        mean = level + design.linear(self.model.population, self.model.effects)
        variance = np.zeros(len(unit))
        for rows in np.array_split(np.arange(len(unit)), max(len(unit) // _VARIANCE_ROWS, 1)):
            own = columns[unit[rows][:, None], self.model.personal].astype(np.float64)
            _, uncertainty = self.model.effects_of(reviewer[rows])
            variance[rows] = ((uncertainty @ own[:, :, None])[:, :, 0] * own).sum(axis=1)
        return mean, variance


@dataclass(frozen=True)
class ScoredRows:
    """Reviews of known reviewers with a score, as rows of the model.

    Attributes:
        design: The rows.
        agent: Agent of each row (M,).
        score: Scores (M,), finite.
        n_agents: G.
    """

    design: RowDesign
    agent: Ints
    score: Floats
    n_agents: int

    @classmethod
    def of(cls, panel: Panel, encoding: Encoding, columns: npt.NDArray[np.floating], score: Floats) -> "ScoredRows":
        """The reviews of a panel that have a score (M,) and a known reviewer; `columns` are its encoded outputs."""
        rows = ~np.isnan(score) & (panel.review_reviewer != UNKNOWN_REVIEWER)
        design = RowDesign(
            columns, panel.review_output[rows], panel.review_reviewer[rows], len(panel.reviewers), encoding.personal
        )
        return cls(design, panel.review_agent[rows], score[rows], len(panel.agents))

    def only(self, rows: npt.NDArray[np.bool_]) -> "ScoredRows":
        """Some rows (M,)."""
        return ScoredRows(self.design.only(rows), self.agent[rows], self.score[rows], self.n_agents)


def fit_score_model(encoding: Encoding, rows: ScoredRows, *, slopes: bool | None = None) -> PersonalModel:
    """Fit the score model of one aspect, or of the mean of the aspects.

    Args:
        encoding: What the columns of the rows mean.
        rows: Reviews with scores.
        slopes: Personal slopes on or off; None lets the marginal likelihood choose.

    Raises:
        LearningError: there is no score, or the fit did not converge.
    """
    if not len(rows.score):
        raise LearningError("the score model has no score to learn from; wait for reviews with scores")
    level = agent_levels(rows.agent, rows.design.reviewer, rows.score, rows.n_agents, rows.design.n_reviewers)
    return choose_slopes(encoding, level, moments_of(rows.design, rows.score - level[rows.agent]), slopes)


def choose_slopes(encoding: Encoding, agent_level: Floats, moments: ReviewerMoments, slopes: bool | None = None) -> PersonalModel:
    """Fit with severity alone and with all slopes, and keep the slopes if they gain more than one unit for each variance."""
    severity_alone = moments.with_personal(np.zeros(1, dtype=np.intp))
    if slopes is False or len(moments.personal) == 1:
        return PersonalModel(encoding, agent_level, fit_reviewer_model(severity_alone, encoding.group), False, 0.0)
    full = fit_reviewer_model(moments, encoding.group, personal_group=encoding.personal_group)
    if slopes is True:
        return PersonalModel(encoding, agent_level, full, True, np.inf)
    plain = fit_reviewer_model(severity_alone, encoding.group)
    variances = np.unique(encoding.personal_group[full.variances.personal > 0])
    gain = full.log_likelihood - plain.log_likelihood - float((variances > 0).sum())
    chosen = full if gain > 0 else plain
    return PersonalModel(encoding, agent_level, chosen, gain > 0, gain)


def agent_levels(agent: Ints, reviewer: Ints, response: Floats, n_agents: int, n_reviewers: int) -> Floats:
    """What each agent gets more than the average one (G,), shrunken, with the reviewers' means taken out by alternation.

    Agents are many and their reviews few: as columns of the model they would cost more than all features together.
    """
    centred = response - response.mean()
    level, severity = np.zeros(n_agents), np.zeros(n_reviewers)
    for _ in range(_ALTERNATIONS):
        level = shrunken_means(agent, centred - severity[reviewer], n_agents)
        severity = shrunken_means(reviewer, centred - level[agent], n_reviewers)
    return level


def shrunken_means(code: Ints, value: Floats, n: int) -> Floats:
    """Empirical-Bayes means of each code 0..n-1 around the mean of all (n,): one-way random effects, variances by moments."""
    count = np.bincount(code, minlength=n).astype(np.float64)
    seen = int((count > 0).sum())
    if len(value) <= seen or seen < 2:
        return np.zeros(n)
    value = value - value.mean()
    mean = np.divide(group_sums(code, value, n), count, out=np.zeros(n), where=count > 0)
    within = float(((value - mean[code]) ** 2).sum()) / (len(value) - seen)
    spread = len(value) - float((count**2).sum()) / len(value)
    between = max(float((count * mean**2).sum()) - within * (seen - 1), 0.0) / spread
    total = count * between + within
    shrunken: Floats = np.divide(mean * count * between, total, out=np.zeros(n), where=total > 0)
    return shrunken
