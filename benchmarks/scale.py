"""A million reviews by ten thousand reviewers: seconds and peak memory of the score model and of joint severity, from arrays.

    python -m benchmarks.scale [--reviews 1000000] [--reviewers 10000]

The outputs are those of the simulated world with every feature of the registry; the reviewers have severities, personal slopes,
tastes of tone and best lengths. Both estimates are held against what was planted.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.learn import Clock
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.reviewer_moments import RowDesign, moments_of
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import PersonalModel, ScoredRows, agent_levels, choose_slopes
from feedback_pipeline.learning.severity import estimate_severity
from feedback_pipeline.simulation import spec as model
from feedback_pipeline.simulation.judging import assign_reviewers, judge, personal_points
from feedback_pipeline.simulation.outputs import Outputs, draw_outputs
from feedback_pipeline.simulation.population import Reviewers, draw_agents, draw_reviewers
from feedback_pipeline.simulation.spec import WorldSpec

AGENTS, REVIEWS_AN_OUTPUT = 50, 2.5
STRUCTURES = ("list", "prose", "steps", "table")


@dataclass(frozen=True)
class Reviewed:
    """Outputs as a feature table (N rows), and M reviews of them as aligned arrays, sorted by output."""

    outputs: pd.DataFrame
    agent: Ints
    output: Ints
    reviewer: Ints
    score: Floats
    planted: Reviewers


def draw(reviews: int, reviewers: int) -> Reviewed:
    """About `reviews` reviews, 2.5 an output; the score is the mean of four aspects."""
    each = round(reviews / REVIEWS_AN_OUTPUT / AGENTS)
    spec = WorldSpec(agents=AGENTS, executions=each, reviewers=reviewers, reviews_per_content=REVIEWS_AN_OUTPUT - 1.0)
    agents, panel = draw_agents(spec), draw_reviewers(spec)
    outputs = draw_outputs(spec, agents, spec.generator("outputs"), each=each)
    output, reviewer = assign_reviewers(spec, outputs, panel, spec.generator("assignment"))
    points = panel.severity[reviewer] + personal_points(outputs, panel, output, reviewer)
    score = judge(outputs.level[output] + points[:, None], spec.generator("judging")).mean(axis=1)
    return Reviewed(feature_table(outputs, spec.generator("texts")), outputs.agent[output], output, reviewer, score, panel)


def feature_table(outputs: Outputs, stream: np.random.Generator) -> pd.DataFrame:
    """The features of the outputs, with those of their texts that the simulated world has none of (they matter to nobody)."""
    n = len(outputs.agent)
    frame = pd.DataFrame(outputs.features)
    frame.loc[stream.random(n) < model.MISSING_SHARE, ["input_tokens", "output_tokens", "cost"]] = np.nan
    frame["mean_sentence_length"] = stream.normal(17.0, 4.0, n)
    frame["heading_count"], frame["link_count"] = stream.poisson(3.0, n), stream.poisson(2.0, n)
    named = {"tone": model.TONES, "content_type": model.CONTENT_TYPES, "channel": model.CHANNELS}
    for name, levels in named.items():
        frame[name] = np.array(levels)[getattr(outputs, name)]
    frame["structure"] = np.array(STRUCTURES)[stream.integers(0, len(STRUCTURES), n)]
    return frame


def score_model(reviewed: Reviewed, encoding: Encoding, columns: npt.NDArray[np.floating]) -> tuple[Clock, PersonalModel]:
    """Fit the score model stage by stage, as `fit_score_model` does."""
    clock, n_reviewers = Clock(), len(reviewed.planted.severity)
    design = RowDesign(columns, reviewed.output, reviewed.reviewer, n_reviewers, encoding.personal)
    rows = ScoredRows(design, reviewed.agent, reviewed.score, AGENTS)
    level = clock.run("agents", lambda: agent_levels(rows.agent, reviewed.reviewer, rows.score, AGENTS, n_reviewers))
    moments = clock.run("moments", lambda: moments_of(design, rows.score - level[rows.agent]))
    fitted = clock.run("fit", lambda: choose_slopes(encoding, level, moments))
    return clock, fitted


def report_score_model(reviewed: Reviewed) -> None:
    """Print what the score model found, and what it cost."""
    encoding = Encoding.of(reviewed.outputs, list(reviewed.outputs.select_dtypes("number").columns))
    columns = encoding.encode(reviewed.outputs)
    clock, fitted = score_model(reviewed, encoding, columns)
    own, found = len(fitted.model.personal), fitted.model
    severity = np.corrcoef(found.effects[:, 0], reviewed.planted.severity)[0, 1]
    print(f"score model: {len(reviewed.score)} reviews, {len(found.rows)} reviewers, {columns.shape[1]} columns, {own} personal")
    switched = "on" if fitted.slopes else "off"
    print(f"  slopes {switched}, {found.steps} steps, severity correlates {severity:.3f} with the planted one")
    for stage, seconds in clock.seconds.items():
        print(f"  {stage:<8} {seconds:6.2f} s {clock.memory[stage]:6.0f} MB")
    print(f"  {'in all':<8} {clock.total:6.2f} s, peak memory of the process {clock.peak:.0f} MB")


def report_severity(reviewed: Reviewed) -> None:
    """Print what joint severity found, and what it cost."""
    clock, n_reviewers = Clock(), len(reviewed.planted.severity)
    severity = clock.run(
        "severity",
        lambda: estimate_severity(reviewed.agent, reviewed.output, reviewed.reviewer, reviewed.score, n_reviewers),
    )
    truth = np.corrcoef(severity.value, reviewed.planted.severity)[0, 1]
    print(f"joint severity: {len(reviewed.score)} reviews of {len(reviewed.outputs)} outputs, {n_reviewers} reviewers")
    print(f"  {severity.method}, correlates {truth:.3f} with the planted one")
    print(f"  {'in all':<8} {clock.total:6.2f} s, peak memory of the process {clock.peak:.0f} MB")


def main() -> None:
    """Draw the reviews and run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, default=1_000_000)
    parser.add_argument("--reviewers", type=int, default=10_000)
    options = parser.parse_args()
    reviewed = draw(options.reviews, options.reviewers)
    report_score_model(reviewed)
    report_severity(reviewed)


if __name__ == "__main__":
    main()
