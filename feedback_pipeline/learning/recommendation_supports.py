"""What speaks for a recommendation: published findings and patterns of every kind on one scale, with their joint q-values.

The scale is the gain of following the advice, in standard deviations of the outcome (score or approval), over all outputs of the
agent: for a correlation the better half of the feature against the average output (.8 |r|, the mean of half a normal
distribution; root mean square over the aspects, so that what lifts every aspect outranks what lifts one), for a threshold the
share on its bad side times the lift, for a category its distance from the agent's mean.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning import pattern_frame as kinds
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.joint_family import JointFamily
from feedback_pipeline.learning.panel import Floats

BETTER_HALF: Final = float(np.sqrt(2.0 / np.pi))
"""Mean of the upper half of a standard normal distribution."""
CORRELATION, CONTRAST, THRESHOLD, TERM, CATEGORY = "correlation", "contrast", "threshold", "term", "category"
_TEXTS: Final = ("feature", "term", "aspect", "decision_point", "pattern_type", "description")
_COLUMNS: Final = (
    *("agent_name", "source", "feature", "term", "aspect", "decision_point", "direction", "gain", "confidence", "p_value"),
    *("pattern_type", "description", "n_contents", "n_reviewers", "outcome", "row"),
)


@dataclass(frozen=True)
class Learned:
    """What one learning run has found.

    Attributes:
        agents: Names of all agents of the run.
        findings: Rows of `findings.find`; `feature_range` as JSON text.
        spreads: Rows of `subject.score_spreads`.
        patterns: Rows by `pattern_frame.PATTERN_COLUMNS`; documents as JSON text.
        term_tests: agent_name, pattern_type and p_value of every tested term.
        segments: Segments of `strategy.content_strategy`.
        segment_tests: Rows of `segment_tests.segment_tests`.
        pairs: Rows of `collinearity.collinear_pairs`.
        shares: Reviewers of each agent: rows of `reviewer_contradictions.reviewer_shares`.
        models: reviewer_id and style_preferences (JSON text) of every reviewer.
    """

    agents: Sequence[str]
    findings: pd.DataFrame
    spreads: pd.DataFrame
    patterns: pd.DataFrame
    term_tests: pd.DataFrame
    segments: pd.DataFrame
    segment_tests: pd.DataFrame
    pairs: pd.DataFrame
    shares: pd.DataFrame
    models: pd.DataFrame

    def family(self) -> JointFamily:
        """All candidates of each agent: every tested pair, contrast, threshold, rule, term and segment."""
        return JointFamily.of([*self._tests(), self.term_tests])

    def actionable_family(self) -> JointFamily:
        """The candidates without the words of comments, which cannot become a recommendation.

        What is certain in a family lowers the bar for the rest of it, and a hundred certain words of reviewers must not carry a
        doubtful threshold; so a recommendation has to pass both.
        """
        words = self.term_tests[self.term_tests["pattern_type"] != kinds.COMMENT_TERMS]
        return JointFamily.of([*self._tests(), words])

    def _tests(self) -> list[pd.DataFrame]:
        kind = self.patterns["pattern_type"]
        # A curve repeats its contrast: one test, not two.
        curves = (kind == kinds.QUALITY_THRESHOLD) & (self.patterns["unit"] != "approval")
        return [self.findings, self.patterns[~kind.isin(kinds.TERM_TYPES) & ~curves], self.segment_tests]


def supports(learned: Learned) -> pd.DataFrame:
    """Everything that may be recommended, with its joint q-value (the larger of both families) and strength, gain x confidence.

    Returns:
        agent_name, source (correlation, contrast, threshold, term, category), feature or term, aspect, decision_point, direction
        (+1 = more of it), gain, confidence, p_value, pattern_type and description (None for a category), n_contents,
        n_reviewers, outcome (of a category: score or approval), row (its place in findings, patterns or segment_tests), q_value,
        strength.
    """
    found = pd.concat([_correlations(learned.findings), *_patterns(learned.patterns), _categories(learned.segment_tests)])
    found = found.reset_index(drop=True)
    # Parquet and concatenation turn a missing name into NaN.
    found = found.assign(**{name: found[name].astype(object).where(found[name].notna(), None) for name in _TEXTS})
    q_value = np.fmax(learned.family().q_values(found), learned.actionable_family().q_values(found))
    strength = found["gain"].to_numpy(dtype=np.float64) * found["confidence"].to_numpy(dtype=np.float64)
    return found.assign(q_value=q_value, strength=np.nan_to_num(strength))


def _correlations(findings: pd.DataFrame) -> pd.DataFrame:
    tested = findings[findings["r_shrunk"].notna() & (findings["agent_name"] != FLEET)]
    own = tested[tested["published"].astype(bool)]
    direction = np.sign(own["r"].to_numpy(dtype=np.float64))
    return _supports(
        own,
        CORRELATION,
        direction=direction,
        gain=BETTER_HALF * _breadth(tested, own, direction),
        pattern_type=kinds.CORRELATION_PATTERN,
        description=own["feature"] + " | correlation | aspect=" + own["aspect"],
    )


def _breadth(tested: pd.DataFrame, own: pd.DataFrame, direction: Floats) -> Floats:
    """Root mean square over the scored aspects of the shrunken correlations; those of the other direction are taken off.

    sqrt(max(mean of r^2 with this direction - mean of r^2 against it, 0)): advice that helps one aspect as much as it harms
    another is worth nothing.
    """
    key = ["agent_name", "feature"]
    r = tested["r_shrunk"].to_numpy(dtype=np.float64)
    net = tested[key].assign(net=np.sign(r) * r * r).groupby(key, as_index=False)["net"].mean()
    mean = own[key].merge(net, on=key, how="left")["net"].to_numpy(dtype=np.float64)
    breadth: Floats = np.sqrt(np.maximum(direction * mean, 0.0))
    return breadth


def _patterns(patterns: pd.DataFrame) -> list[pd.DataFrame]:
    own = patterns[patterns["published"].astype(bool) & (patterns["agent_name"] != FLEET)]
    contrasts = own[own["pattern_type"].isin([kinds.SUCCESSFUL_DECISIONS, kinds.FAILURE_PATTERNS])]
    cuts = own[(own["pattern_type"] == kinds.QUALITY_THRESHOLD) & (own["unit"] == "approval")]
    # What a reviewer writes is the reviewer's word; what the agent thinks, and what is named as wrong, the agent can change.
    words = own[own["pattern_type"].isin([kinds.REASONING_TERMS, kinds.ISSUE_TERMS]) & (own["direction"] < 0)]
    return [
        _supports(contrasts, CONTRAST, gain=_gain_of_contrast(contrasts)),
        _supports(cuts, THRESHOLD),
        _supports(words, TERM),
    ]


def _gain_of_contrast(contrasts: pd.DataFrame) -> Floats:
    """The gain of the correlation that a standardised difference g between shares s and 1 - s amounts to."""
    signals = [json.loads(text) for text in contrasts["human_feedback_signals"]]
    approved, other = (np.array([one[name] for one in signals], dtype=np.float64) for name in ("n_approved", "n_other"))
    g, s = contrasts["effect"].to_numpy(dtype=np.float64), approved / (approved + other)
    gain: Floats = BETTER_HALF * np.abs(g) * np.sqrt(s * (1 - s) / (1 + g * g * s * (1 - s)))
    return gain


def _categories(tests: pd.DataFrame) -> pd.DataFrame:
    better = tests[tests["r"] > 0]
    share = (better["n"] / (better["n"] + better["n_others"])).to_numpy(dtype=np.float64)
    frame = better.assign(n_contents=better["n"] + better["n_others"])
    gain = better["r"].to_numpy(dtype=np.float64) * np.sqrt((1 - share) / share)
    return _supports(frame, CATEGORY, feature=better["family"], term=better["segment"], direction=1.0, gain=gain)


def _supports(rows: pd.DataFrame, source: str, **given: Any) -> pd.DataFrame:
    columns: Mapping[str, Any] = {"source": source, "row": rows.index.to_numpy()} | given
    made = {name: columns.get(name, rows.get(name)) for name in _COLUMNS}
    return pd.DataFrame(made, index=rows.index).astype(dict.fromkeys(_TEXTS, object))
