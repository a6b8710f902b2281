"""What people said and will say: analytics, forecasts, the queue, what could be spared."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.schemas.documents import Analytics, AutoApproval, Drift, Outcomes, Queue
from feedback_pipeline.schemas.forecasts import FeatureForecastRequest, FeatureForecasts, Forecasts
from feedback_pipeline.schemas.texts import Name
from feedback_pipeline.serving.access import PREFIX, READ, Needs
from feedback_pipeline.serving.analytics import effects_so_far, with_applications
from feedback_pipeline.serving.contract import ERRORS, AgentFilter
from feedback_pipeline.serving.outcomes import read_drift, read_outcomes
from feedback_pipeline.serving.pages import USUAL, Cursor, Key, Limit, nulls_last, page
from feedback_pipeline.serving.service import Document, Serving
from feedback_pipeline.storage.past_forecasts import read_auto_approval
from feedback_pipeline.storage.queue_draws import draw_queue

router = APIRouter(prefix=PREFIX, tags=["feedback"], dependencies=[Depends(Needs(READ))], responses=ERRORS)


@router.get("/feedback/analytics", responses={200: {"model": Analytics}}, response_model=None)
def analytics(
    serving: Serving,
    agent: AgentFilter = None,
    weeks: Annotated[int, Query(ge=1, le=520, description="so many ISO weeks, the last one that of the newest review")] = 12,
    limit: Limit = USUAL,
    cursor: Cursor = None,
) -> Document:
    """Reviews, approvals, scores and learned effects per agent and ISO week."""
    store = open_store(serving.connections.pooled, serving.settings)
    rows = serving.weeks.read(store, serving.settings, weeks, datetime.now(UTC).date())
    part = page([row for row in rows if agent in (None, row["agent_name"])], _by_week, limit, cursor)
    return serving.answer(
        lambda snapshot: {
            "agent_name": agent,
            "effects": effects_so_far(snapshot, agent) if cursor is None else [],
            "weeks": with_applications(snapshot, part["items"]),
            "next": part["next"],
        }
    )


@router.get("/forecasts", responses={200: {"model": Forecasts}}, response_model=None)
def forecasts(
    serving: Serving,
    agent: AgentFilter = None,
    execution: Annotated[Name | None, Query(description="only of this execution")] = None,
    reviewers: Annotated[list[Name], Query(max_length=100, description="also what these people will say")] = [],  # noqa: B006
    limit: Limit = USUAL,
    cursor: Cursor = None,
) -> Document:
    """How outputs without a review will be judged, least likely approvals first.

    What a reviewer will say is forecast when it is first asked for, and kept.
    """
    document = serving.forecaster.of_outputs(agent, execution, reviewers)
    part = page(document["forecasts"], _by_approval, limit, cursor)
    return document | {"forecasts": part["items"], "next": part["next"], "provenance": serving.provenance()}


@router.post("/forecasts", responses={200: {"model": FeatureForecasts}}, response_model=None)
def forecast_of_features(wanted: FeatureForecastRequest, serving: Serving) -> Document:
    """How an output with given features would be judged; nothing is kept."""
    return serving.forecaster.of_features(wanted.agent_name, wanted.features, wanted.reviewers)


@router.get("/forecasts/outcomes", responses={200: {"model": Outcomes}}, response_model=None)
def outcomes(serving: Serving, agent: AgentFilter = None, limit: Limit = USUAL, cursor: Cursor = None) -> Document:
    """Forecasts beside what people then decided, the latest reviews first, and how well they were calibrated."""
    document = serving.answer(lambda snapshot: read_outcomes(snapshot, serving.settings, agent))
    part = page(document["outcomes"], _by_latest, limit, cursor)
    return document | {"outcomes": part["items"], "next": part["next"]}


@router.get("/drift", responses={200: {"model": Drift}}, response_model=None)
def drift(serving: Serving) -> Document:
    """Whether reviews come out otherwise than the champion forecasts, week by week."""
    return serving.answer(lambda snapshot: read_drift(snapshot, serving.settings))


@router.get("/queue", responses={200: {"model": Queue}}, response_model=None)
def queue(
    serving: Serving, limit: Annotated[int, Query(ge=1, le=1000, description="outputs that will be read")] = 20
) -> Document:
    """Which outputs to review first: the least likely approvals, and some drawn at random; what is shown is kept."""
    day = datetime.now(UTC).date()
    return serving.answer(lambda snapshot: draw_queue(snapshot, serving.settings.seed, limit, day))


@router.get("/autoapproval", responses={200: {"model": AutoApproval}}, response_model=None)
def autoapproval(serving: Serving) -> Document:
    """How many reviews could be spared at a stated risk, from past forecasts. It approves nothing."""
    return serving.answer(lambda snapshot: read_auto_approval(snapshot, serving.settings))


def _by_week(row: Document) -> Key:
    return (row["agent_name"], row["week"])


def _by_latest(row: Document) -> Key:
    return (-datetime.fromisoformat(row["reviewed_at"]).timestamp(), row["agent_name"], row["execution_id"])


def _by_approval(row: Document) -> Key:
    return (*nulls_last(row["p_approve"]), row["agent_name"], row["execution_id"], row["reviewer_id"] or "")
