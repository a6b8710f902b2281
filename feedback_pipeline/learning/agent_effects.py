"""What is particular to an agent and must not be taken for a reviewer's taste: its usual amounts, and slopes of its own."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.panel import Floats, Ints, group_sums
from feedback_pipeline.learning.reviewer_moments import RowDesign, moments_of
from feedback_pipeline.learning.reviewers import fit_reviewer_model
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import shrunken_means

AMOUNTS: Final = ("duration_ms", "input_tokens", "output_tokens", "cost", "reasoning_length")
"""Amounts that depend on an agent's model and prompt, and that no reviewer sees."""


@dataclass(frozen=True)
class UsualAmounts:
    """What each agent usually uses: an agent on a slower model needs longer for everything, which says nothing of one output.

    Attributes:
        factors: By amount, how many times the average agent's usual amount each agent's is (G,), shrunken to 1.
    """

    factors: dict[str, Floats]

    @classmethod
    def of(cls, outputs: pd.DataFrame, agent: Ints, n_agents: int) -> "UsualAmounts":
        """Learn from outputs (N rows) and their agents (N,)."""
        factors = {}
        for name in AMOUNTS:
            if name not in outputs:
                continue
            value = outputs[name].to_numpy(dtype=np.float64, na_value=np.nan)
            positive = np.isfinite(value) & (value > 0)
            if positive.any():
                logarithm = np.log(value[positive])
                factors[name] = np.exp(shrunken_means(agent[positive], logarithm - logarithm.mean(), n_agents))
        return cls(factors)

    def relative(self, outputs: pd.DataFrame, agent: Ints) -> pd.DataFrame:
        """The outputs with their amounts as if the average agent had used them; agent -1 is new and left as it is."""
        amounts = {
            name: outputs[name] / np.append(factor, 1.0)[agent] for name, factor in self.factors.items() if name in outputs
        }
        return outputs.assign(**amounts)


@dataclass(frozen=True)
class AgentSlopes:
    """What features do to the scores of one agent, on top of what they do to those of all.

    Attributes:
        columns: Positions of the encoded slopes (Q,).
        effects: Points per standard deviation (G, Q), shrunken to 0.
    """

    columns: Ints
    effects: Floats

    def points(self, encoded: npt.NDArray[np.floating], agent: Ints) -> Floats:
        """Points of each output (N,) from its columns (N, P) and its agent (N,); 0 for a new agent (-1)."""
        effects = np.vstack([self.effects, np.zeros(len(self.columns))])
        points: Floats = np.einsum("nq,nq->n", encoded[:, self.columns], effects[agent])
        return points


def fit_agent_slopes(
    encoding: Encoding, encoded: npt.NDArray[np.floating], agent: Ints, output: Ints, reviewer: Ints, score: Floats, n_agents: int
) -> AgentSlopes:
    """Fit the mixed model with the agents in the place of the reviewers, on the mean score of each output.

    Args:
        encoding: What the columns mean.
        encoded: Encoded outputs (N, P).
        agent: Agent of each output (N,).
        output: Output of each review (M,).
        reviewer: Known reviewer of each review (M,); their mean scores are taken out.
        score: Scores (M,), finite.
        n_agents: G.

    Raises:
        LearningError: there is no score, or the fit did not converge.
    """
    count = np.maximum(np.bincount(reviewer), 1)
    adjusted = score - (group_sums(reviewer, score, len(count)) / count)[reviewer]
    weight = group_sums(output, np.ones(len(output)), len(encoded))
    seen = np.flatnonzero(weight)
    mean = group_sums(output, adjusted, len(encoded))[seen] / weight[seen]
    slopes = np.array([i for i, column in enumerate(encoding.columns) if column.kind == "slope"], dtype=np.intp)
    design = RowDesign(encoded, seen, agent[seen], n_agents, np.append(0, slopes))
    # All slopes share one variance: few agents tell little of each.
    shared = np.minimum(np.arange(len(slopes) + 1), 1)
    model = fit_reviewer_model(moments_of(design, mean, weight[seen]), encoding.group, personal_group=shared)
    return AgentSlopes(slopes, model.effects[:, 1:])
