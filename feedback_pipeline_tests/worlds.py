"""A simulated world as the learning code sees it, without a database in between."""

import json
from dataclasses import dataclass, replace

import pandas as pd

from feedback_pipeline.learning.adjustment import Adjustment, adjust
from feedback_pipeline.learning.collinearity import collinear_pairs
from feedback_pipeline.learning.features import DECISION_FEATURES, FLEET
from feedback_pipeline.learning.findings import find
from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.pattern_frame import DOCUMENTS
from feedback_pipeline.learning.patterns import find_patterns
from feedback_pipeline.learning.recommendation_supports import Learned as LearnedAdvice
from feedback_pipeline.learning.reviewer_contradictions import reviewer_shares
from feedback_pipeline.learning.segment_tests import segment_tests
from feedback_pipeline.learning.strategy import content_strategy
from feedback_pipeline.learning.subject import Subject, score_spreads
from feedback_pipeline.simulation.spec import ASPECTS, FEATURES, WorldSpec
from feedback_pipeline.simulation.world import World, simulate

BOUNDS = {"*": (0.0, 10.0)}


@dataclass(frozen=True)
class Learned:
    world: World
    panel: Panel
    adjustment: Adjustment
    subject: Subject


def panel_of(world: World) -> Panel:
    reviews = world.reviews.assign(is_training_data=True)
    columns = ["agent_name", "execution_id", "content_id", *FEATURES, "tone", "content_type", "channel"]
    features = world.executions[columns].assign(agent_type="writer", structure=None)
    return build_panel(reviews, reviews[list(ASPECTS)].to_numpy(dtype=float), ASPECTS, features)


def subject_of(panel: Panel, adjustment: Adjustment, features: tuple[str, ...] = FEATURES) -> Subject:
    return Subject.of(panel, adjustment.adjusted[:, : len(panel.aspects)], features, BOUNDS, seed=0)


def learn(spec: WorldSpec) -> Learned:
    world = simulate(spec)
    panel = panel_of(world)
    adjustment = adjust(panel, BOUNDS)
    return Learned(world, panel, adjustment, subject_of(panel, adjustment))


def with_truth(findings: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Findings of agents beside their true correlation `rho`."""
    own = findings[findings["agent_name"] != "*"]
    return own.merge(truth, on=["agent_name", "feature", "aspect"], how="left", validate="one_to_one")


def texts_of(frame: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """The frame with documents as JSON text, as the artifacts keep them."""
    texts = {name: [None if value is None else json.dumps(value) for value in frame[name]] for name in names}
    return frame.assign(**{name: pd.Series(values, dtype=object) for name, values in texts.items()})


def advice_of(learned: Learned, seed: int = 0) -> LearnedAdvice:
    """Everything that recommendations are made of, without texts and without reviewers' tastes."""
    panel = replace(learned.panel, scores=learned.adjustment.adjusted[:, : len(learned.panel.aspects)])
    findings = find(learned.subject)
    own = findings[findings["published"] & (findings["agent_name"] != FLEET)]
    strongest = own.loc[own["r_shrunk"].abs().sort_values(ascending=False, kind="stable").index]
    published = {str(name): tuple(rows["feature"].drop_duplicates()) for name, rows in strongest.groupby("agent_name")}
    points = pd.DataFrame(columns=["agent_name", "execution_id", "decision_point", *DECISION_FEATURES])
    patterns, _ = find_patterns(panel, points, BOUNDS, learned.subject.features, published, seed)
    return LearnedAdvice(
        agents=panel.agents.tolist(),
        findings=texts_of(findings, ("feature_range", "feedback_impact")),
        spreads=score_spreads(learned.subject),
        patterns=texts_of(patterns, DOCUMENTS),
        term_tests=pd.DataFrame({"agent_name": [], "pattern_type": [], "p_value": []}),
        segments=content_strategy(panel, BOUNDS, seed)[0],
        segment_tests=segment_tests(panel, BOUNDS, seed),
        pairs=collinear_pairs(panel, learned.subject.features),
        shares=reviewer_shares(panel),
        models=pd.DataFrame({"reviewer_id": panel.reviewers, "style_preferences": '{"slopes": {}}'}),
    )
