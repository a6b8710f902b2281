"""One family of tests per agent over the candidates of every kind: what a recommendation has to pass.

Looking for advice in correlations, contrasts, thresholds, rules, words and segments is looking many times; the false discovery
rate of what is recommended is that of all of it together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.pooling import q_values


@dataclass(frozen=True)
class JointFamily:
    """Benjamini-Hochberg over all candidates of each agent.

    Attributes:
        p: p-values of each agent, ascending.
        q: Their adjusted values.
    """

    p: Mapping[str, Floats]
    q: Mapping[str, Floats]

    @classmethod
    def of(cls, sources: Sequence[pd.DataFrame]) -> "JointFamily":
        """Pool the candidates.

        Args:
            sources: Frames with columns agent_name and p_value; an undefined p is no candidate.
        """
        tests = pd.concat([source[["agent_name", "p_value"]] for source in sources], ignore_index=True)
        tests = tests[np.isfinite(tests["p_value"].to_numpy(dtype=np.float64))]
        p = {str(name): np.sort(own.to_numpy(dtype=np.float64)) for name, own in tests.groupby("agent_name")["p_value"]}
        return cls(p, {name: q_values(own[None, :])[0] for name, own in p.items()})

    def q_values(self, candidates: pd.DataFrame) -> Floats:
        """Adjusted p of some candidates of the family (agent_name, p_value): NaN where p is undefined."""
        result = np.full(len(candidates), np.nan)
        p = candidates["p_value"].to_numpy(dtype=np.float64)
        for name, rows in candidates.groupby("agent_name").indices.items():
            own = rows[np.isfinite(p[rows])]
            if len(own):
                result[own] = self.q[str(name)][np.searchsorted(self.p[str(name)], p[own])]
        return result

    def size(self, agent_name: str) -> int:
        """Candidates of an agent."""
        return len(self.p.get(agent_name, ()))
