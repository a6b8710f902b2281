"""What is known before a review and what follows from it: the score a reviewer will give, and whether they will approve."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from feedback_pipeline.learning.agent_effects import AgentSlopes, UsualAmounts, fit_agent_slopes
from feedback_pipeline.learning.approval import ApprovalModel, averaged_logistic, fit_approval
from feedback_pipeline.learning.approval_direct import fit_direct_approval
from feedback_pipeline.learning.features import numeric_columns
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Ints, Panel
from feedback_pipeline.learning.reviewer_moments import RowDesign
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import PersonalModel, ScoredRows, fit_score_model

BY_SCORE = "expected score"
BY_FEATURES = "features"

_ENOUGH_SCORES = 0.25  # for each decision; a score tells more than a decision
_LATEST = 0.2
_MOST_LATEST = 0.5
_STEADY = 16.0  # precision of the prior of the drift: standard deviation a quarter of a logit
_NEWTON_STEPS = 20
_CERTAIN = 1e-12


@dataclass(frozen=True)
class Reviews:
    """Reviews of known reviewers, beside the encoded outputs they are about.

    Attributes:
        encoding: What the columns mean; usual: what each agent usually uses, taken out before encoding.
        columns: Encoded outputs (N, P).
        output_agent: Agent of each output (N,).
        output: Output of each review (M,).
        reviewer: Reviewer of each review (M,).
        moment: When it was given (M,), any unit.
        aspects: Score of each aspect (M, K), NaN where the review gives none.
        score: Overall score (M,), NaN where it gives none.
        approved: 1 approved, 0 not, NaN without a decision (M,).
        n_agents: G; n_reviewers: R.
    """

    encoding: Encoding
    usual: UsualAmounts
    columns: npt.NDArray[np.floating]
    output_agent: Ints
    output: Ints
    reviewer: Ints
    moment: npt.NDArray[np.int64]
    aspects: Floats
    score: Floats
    approved: Floats
    n_agents: int
    n_reviewers: int

    @classmethod
    def of(cls, panel: Panel, score: Floats) -> "Reviews":
        """The reviews of a panel whose reviewer is known; `score` are the overall scores of all its reviews (M,)."""
        usual = UsualAmounts.of(panel.outputs, panel.output_agent, len(panel.agents))
        outputs = usual.relative(panel.outputs, panel.output_agent)
        encoding = Encoding.of(outputs, numeric_columns(outputs.select_dtypes("number").columns))
        everyone = cls(
            encoding,
            usual,
            encoding.encode(outputs),
            panel.output_agent,
            panel.review_output,
            panel.review_reviewer,
            np.asarray(panel.reviews["reviewed_at"].astype(np.int64), dtype=np.int64),
            panel.scores,
            score,
            _decisions(panel),
            len(panel.agents),
            len(panel.reviewers),
        )
        known = panel.review_reviewer != UNKNOWN_REVIEWER
        return everyone if known.all() else everyone.only(known)

    @property
    def agent(self) -> Ints:
        """Agent of each review (M,)."""
        return self.output_agent[self.output]

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Which have a score (M,)."""
        return ~np.isnan(self.score)

    @property
    def decided(self) -> npt.NDArray[np.bool_]:
        """Which have a decision (M,)."""
        return ~np.isnan(self.approved)

    def only(self, rows: npt.NDArray[np.bool_]) -> "Reviews":
        """Some of the reviews (M,), beside the same outputs."""
        return replace(
            self,
            output=self.output[rows],
            reviewer=self.reviewer[rows],
            moment=self.moment[rows],
            aspects=self.aspects[rows],
            score=self.score[rows],
            approved=self.approved[rows],
        )


def _decisions(panel: Panel) -> Floats:
    decision = panel.reviews["decision"]
    approves = (decision == "approve").to_numpy(dtype=bool, na_value=False)
    return np.where(decision.notna().to_numpy(), approves.astype(np.float64), np.nan)


@dataclass(frozen=True)
class Foresight:
    """What to expect of a review before it is given.

    Attributes:
        route: BY_SCORE, through the score that is expected; BY_FEATURES, the decision directly, where there are few scores.
        personal: What features do to everybody and to each reviewer: to scores in points, or to approval in logits.
        usual: What each agent usually uses, to be taken out of new outputs before they are encoded.
        agent_slopes: What features do to one agent's scores; None by features.
        approval: From the overall score to the decision; None by features, or without decisions that have a score.
        drift: Logits by which the latest decisions are more often approvals than the model of all times says.
    """

    route: str
    personal: PersonalModel
    usual: UsualAmounts
    agent_slopes: AgentSlopes | None
    approval: ApprovalModel | None
    drift: float = 0.0

    def response(self, reviews: Reviews) -> tuple[Floats, Floats]:
        """Expected score (or logit of approval) of each review (M,), and its variance without the noise of one review."""
        mean, variance = self.personal.predict(reviews.columns, reviews.output, reviews.agent, reviews.reviewer)
        if self.agent_slopes is not None:
            mean = mean + self.agent_slopes.points(reviews.columns, reviews.output_agent)[reviews.output]
        return mean, variance

    def probability(self, reviews: Reviews) -> Floats | None:
        """P(approve) of each review (M,) before it is given; None where no decision could be learned from."""
        if self.route == BY_SCORE and self.approval is None:
            return None
        mean, variance = self.response(reviews)
        if self.approval is None:
            p = averaged_logistic(mean, variance)
        else:
            p = self.approval.probability(mean, variance + self.personal.model.variances.noise, reviews.reviewer)
        return np.asarray(expit(_logit(p) + self.drift), dtype=np.float64)


def _logit(p: Floats) -> Floats:
    return np.asarray(logit(np.clip(p, _CERTAIN, 1.0 - _CERTAIN)), dtype=np.float64)


def start_of_latest(moment: npt.NDArray[np.int64]) -> int | None:
    """The moment from which nearly a fifth of the moments (M,) lie; None if that is more than half, as when all are equal."""
    times, count = np.unique(moment, return_counts=True)
    latest = count[::-1].cumsum()[::-1] / max(len(moment), 1)
    if len(times) < 2:
        return None
    best = 1 + int(np.argmin(np.abs(latest[1:] - _LATEST)))
    return int(times[best]) if latest[best] <= _MOST_LATEST else None


def fit_aspect(reviews: Reviews, score: Floats) -> ApprovalModel | None:
    """Fit the approval model of one score of the reviews (M,); None where no decision has this score.

    Raises:
        LearningError: the fit did not converge.
    """
    rows = reviews.decided & ~np.isnan(score)
    if not rows.any():
        return None
    return fit_approval(score[rows], reviews.approved[rows], reviews.reviewer[rows], reviews.n_reviewers)


def learn_foresight(reviews: Reviews, approval: ApprovalModel | None) -> Foresight | None:
    """Learn what to expect of a review; None without any score or decision.

    Args:
        reviews: What to learn from.
        approval: Approval model of their overall score, None where there is none.

    Raises:
        LearningError: a model did not converge.
    """
    scored, decided = reviews.scored, reviews.decided
    if scored.any() and scored.sum() >= _ENOUGH_SCORES * decided.sum() and (approval is not None or not decided.any()):
        foresight = _by_score(reviews.only(scored), approval)
    elif decided.any():
        foresight = _by_features(reviews.only(decided))
    else:
        return None
    return replace(foresight, drift=_drift(foresight, reviews.only(decided)))


def _drift(foresight: Foresight, reviews: Reviews) -> float:
    """Most likely shift of the latest fifth of the decisions, under a normal prior around 0.

    Scores and standards drift, and the next reviews resemble the latest ones. A slope beside the shift, as in Platt's
    calibration, brings nothing: the probabilities are averaged over their uncertainty already.
    """
    start = start_of_latest(reviews.moment)
    latest = None if start is None else reviews.only(reviews.moment >= start)
    p = None if latest is None else foresight.probability(latest)
    if latest is None or p is None:
        return 0.0
    expected, shift = _logit(p), 0.0
    for _ in range(_NEWTON_STEPS):
        p = expit(expected + shift)
        shift += float((latest.approved - p).sum() - _STEADY * shift) / float((p * (1.0 - p)).sum() + _STEADY)
    return shift


def _by_score(reviews: Reviews, approval: ApprovalModel | None) -> Foresight:
    encoding, columns = reviews.encoding, reviews.columns
    slopes = fit_agent_slopes(
        encoding, columns, reviews.output_agent, reviews.output, reviews.reviewer, reviews.score, reviews.n_agents
    )
    rest = reviews.score - slopes.points(columns, reviews.output_agent)[reviews.output]
    design = RowDesign(columns, reviews.output, reviews.reviewer, reviews.n_reviewers, encoding.personal)
    personal = fit_score_model(encoding, ScoredRows(design, reviews.agent, rest, reviews.n_agents))
    return Foresight(BY_SCORE, personal, reviews.usual, slopes, approval)


def _by_features(reviews: Reviews) -> Foresight:
    personal = fit_direct_approval(
        reviews.encoding,
        reviews.columns,
        reviews.output,
        reviews.agent,
        reviews.reviewer,
        reviews.approved,
        n_agents=reviews.n_agents,
        n_reviewers=reviews.n_reviewers,
    )
    return Foresight(BY_FEATURES, personal, reviews.usual, None, None)
