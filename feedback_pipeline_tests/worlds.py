"""A simulated world as the learning code sees it, without a database in between."""

from dataclasses import dataclass

import pandas as pd

from feedback_pipeline.learning.adjustment import Adjustment, adjust
from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.subject import Subject
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
    features = world.executions[["agent_name", "execution_id", "content_id", *FEATURES]].assign(agent_type="writer")
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
