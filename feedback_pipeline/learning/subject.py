"""What findings are computed from: outputs, features and adjusted scores of all agents, or of the fleet as one."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.correlations import Design
from feedback_pipeline.learning.panel import Floats, Panel, output_means, output_outcomes


@dataclass(frozen=True)
class Subject:
    """What findings are computed from.

    Attributes:
        design: Outputs, features, adjusted scores.
        agents: Name of each group of the design (G,).
        features: Names of the design's features (J,).
        aspects: Names of the design's aspects (K,).
        bounds: (low, high) of each aspect (K, 2).
        approved: Outcome of each output (N,), NaN = no decision.
    """

    design: Design
    agents: npt.NDArray[np.object_]
    features: tuple[str, ...]
    aspects: tuple[str, ...]
    bounds: Floats
    approved: Floats

    @classmethod
    def of(
        cls, panel: Panel, adjusted: Floats, features: Sequence[str], bounds: dict[str, tuple[float, float]], seed: int
    ) -> "Subject":
        """Lay out a panel for the correlations.

        Args:
            panel: Deduplicated reviews and their outputs.
            adjusted: Adjusted scores of the panel's reviews and aspects (M, K).
            features: Columns of the panel's outputs.
            bounds: (low, high) by aspect, "*" for the rest.
            seed: Seed of the permutations.
        """
        matrix = panel.outputs[list(features)].to_numpy(dtype=np.float64).reshape(len(panel.outputs), len(features))
        design = design_of(panel, adjusted, matrix, seed)
        limits = [bounds.get(aspect, bounds["*"]) for aspect in panel.aspects]
        width = np.array(limits, dtype=np.float64).reshape(-1, 2)
        return cls(design, panel.agents, tuple(features), panel.aspects, width, output_outcomes(panel))

    def only(self, kept: npt.NDArray[np.bool_]) -> "Subject":
        """The outputs of some groups alone, as `kept` (G,) says."""
        design = self.design
        rows = kept[design.group]
        reviews = rows[design.review_output]
        return replace(
            self,
            agents=self.agents[kept],
            approved=self.approved[rows],
            design=replace(
                design,
                group=(np.cumsum(kept) - 1)[design.group[rows]],
                content=design.content[rows],
                features=design.features[rows],
                scores=design.scores[rows],
                review_output=(np.cumsum(rows) - 1)[design.review_output[reviews]],
                review_reviewer=design.review_reviewer[reviews],
                review_scores=design.review_scores[reviews],
                names=design.names[kept],
            ),
        )

    def as_one(self, name: str) -> "Subject":
        """All outputs as one group called `name`; several agents may work on one content, so contents stay the clusters."""
        design = replace(self.design, group=np.zeros_like(self.design.group), names=np.zeros(1, dtype=np.intp))
        return replace(self, design=design, agents=np.array([name], dtype=object))


def design_of(panel: Panel, review_scores: Floats, features: Floats, seed: int) -> Design:
    """Outputs, their features (N, J) and the scores of their reviews (M, K) as the correlations take them."""
    return Design(
        group=panel.output_agent,
        content=panel.output_content,
        features=features,
        scores=output_means(review_scores, panel.review_output, len(panel.outputs)),
        review_output=panel.review_output,
        review_reviewer=panel.review_reviewer,
        review_scores=review_scores,
        names=name_seeds(panel.agents),
        seed=seed,
    )


def name_seeds(names: npt.NDArray[np.object_]) -> npt.NDArray[np.intp]:
    """A number that belongs to each name: draws for one agent must not depend on which others there are."""
    return np.array([uuid.uuid5(uuid.NAMESPACE_OID, name).int % 2**31 for name in names], dtype=np.intp)


def score_spreads(subject: Subject) -> pd.DataFrame:
    """Mean and standard deviation of the outputs' adjusted scores: agent_name, aspect, mean, sd (NaN below two), n_scored."""
    parts = []
    for aspect, scores in zip(subject.aspects, subject.design.scores.T, strict=True):
        by_agent = pd.Series(scores).groupby(subject.design.group)
        numbers = {"mean": by_agent.mean(), "sd": by_agent.std(), "n_scored": by_agent.count()}
        parts.append(pd.DataFrame({"agent_name": subject.agents, "aspect": aspect} | numbers))
    none = pd.DataFrame({"agent_name": [], "aspect": [], "mean": [], "sd": [], "n_scored": []}, dtype=object)
    return pd.concat(parts, ignore_index=True) if parts else none.astype({"mean": float, "sd": float, "n_scored": int})
