"""Simulated worlds as rows to forecast, beside what could be forecast at best."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.quality_models import CANDIDATES
from feedback_pipeline.learning.quality_models_base import QualityModel
from feedback_pipeline.learning.quality_rows import QualityRows, review_rows
from feedback_pipeline.simulation import spec as model
from feedback_pipeline.simulation.judging import personal_points
from feedback_pipeline.simulation.names import reviewer_names
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import World, simulate
from feedback_pipeline_tests.worlds import BOUNDS, panel_of

RANGE = BOUNDS["*"]


@dataclass(frozen=True)
class QualityWorld:
    """Rows and `oracle` (M,): agent levels, planted functions of the features, severities and tastes, all but hidden quality."""

    world: World
    rows: QualityRows
    oracle: Floats

    def model(self, name: str, seed: int = 0) -> QualityModel:
        return CANDIDATES[name](self.rows.features, RANGE, seed)


def quality_world(spec: WorldSpec) -> QualityWorld:
    world = simulate(spec)
    panel = panel_of(world)
    rows = review_rows(panel, BOUNDS)
    output = pd.Index(world.executions["execution_id"]).get_indexer(pd.Index(panel.outputs["execution_id"]))[rows.output]
    reviewer = pd.Index(reviewer_names(spec.reviewers), dtype=object).get_indexer(pd.Index(rows.X["reviewer_id"]))
    points = planted_level(world)[output] + world.reviewers.severity[reviewer]
    points += personal_points(world.outputs, world.reviewers, output, reviewer)
    return QualityWorld(world, rows, points)


def planted_level(world: World) -> Floats:
    """Mean over the aspects of what agent and features give each output (N,)."""
    spec, agents, outputs = world.spec, world.agents, world.outputs
    level: Floats = agents.level[outputs.agent] + np.einsum("nf,nf->n", outputs.z, agents.slopes.mean(axis=2)[outputs.agent])
    if spec.effects or spec.best_length:
        length = outputs.z[:, model.SLOPED.index("word_count")] * model.WORDS_LOG_SD
        level -= model.LENGTH_CURVATURE * (length**2 - model.WORDS_LOG_SD**2)
    if spec.effects:
        confidence, alternatives = (outputs.z[:, model.SLOPED.index(name)] for name in ("confidence_score", "alternatives_count"))
        level += spec.step * ((outputs.features["confidence_score"] > model.STEP_AT) - 0.5)
        level += model.INTERACTION_POINTS * confidence * alternatives
    return level


def r2(y: Floats, prediction: Floats, baseline: Floats) -> float:
    """Over the rows that were forecast."""
    rows = np.isfinite(baseline)
    return 1.0 - float(((y - prediction)[rows] ** 2).sum() / ((y - baseline)[rows] ** 2).sum())
