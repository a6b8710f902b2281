"""Metadata of the quality predictor: the comparison, the history of champions, links to MLflow, and what is forecast."""

from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from feedback_pipeline.orchestration.learned_columns import CANDIDATES, FORECASTS, MODELS, STABILITY
from feedback_pipeline.orchestration.metadata import plain_facts, table

if TYPE_CHECKING:
    from feedback_pipeline.learning_pass.forecasts import ForecastOutcome
    from feedback_pipeline.learning_pass.predictor import PredictorOutcome
    from feedback_pipeline.storage.tracking import Tracking


_STABILITY_TABLE: Final = "population stability"


def describe_predictor(outcome: "PredictorOutcome", tracking: "Tracking", address: str) -> dict[str, Any]:
    """Why it trained, how the candidates compare, every version, and where MLflow shows them.

    Args:
        outcome: Of the step.
        tracking: The store it wrote to.
        address: Of MLflow's web UI; without one there are no links.
    """
    told = {
        **plain_facts(outcome.learning_run_id, outcome.facts),
        "dagster/row_count": len(outcome.history),
        "versions": table(outcome.history.astype({"trained_at": str, "champion_since": str, "champion_until": str}), MODELS),
    }
    if len(outcome.stability):
        told[_STABILITY_TABLE] = table(outcome.stability.sort_values("psi", ascending=False, kind="stable"), STABILITY)
    if len(outcome.candidates):
        told["candidates"] = table(outcome.candidates, CANDIDATES)
    return told | _links(outcome, tracking, address)


def shifted_features(event: dg.EventLogEntry | None) -> dict[str, float]:
    """Features of which new outputs differ from those before, with their index: what a materialization of the predictor says."""
    told = event.asset_materialization.metadata.get(_STABILITY_TABLE) if event and event.asset_materialization else None
    rows = [row.data for row in told.records] if isinstance(told, dg.TableMetadataValue) else []
    return {str(row["feature"]): float(row["psi"] or 0.0) for row in rows if row["warning"]}


def _links(outcome: "PredictorOutcome", tracking: "Tracking", address: str) -> dict[str, dg.UrlMetadataValue]:
    if not address:
        return {}
    links = {}
    if outcome.runs:
        parent, *candidates = outcome.runs
        links["training in MLflow"] = tracking.link(parent, address)
        links["candidates compared in MLflow"] = tracking.comparison_link(candidates, address)
    champion = outcome.facts["champion"]
    if champion is not None:
        links["champion in MLflow"] = tracking.models.version_link(champion, address)
    return {name: dg.MetadataValue.url(link) for name, link in links.items()}


def describe_forecasts(outcome: "ForecastOutcome") -> dict[str, Any]:
    """How many outputs were forecast, how many abstain, and the least likely approvals; no id of an output."""
    told = {name.replace("_", " "): value for name, value in outcome.facts.items() if value is not None}
    frame = outcome.forecasts
    told["dagster/row_count"] = outcome.facts["forecasts"]
    if outcome.facts["forecasts"]:
        told["least likely approvals"] = table(frame.sort_values(["p_approve", "agent_name"], kind="stable"), FORECASTS)
    return told
