"""Learning passes: starting one, how far it has come, which there were."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from feedback_pipeline.errors import UserError
from feedback_pipeline.schemas.documents import Links, Runs
from feedback_pipeline.schemas.runs import LearningStarted, Run
from feedback_pipeline.serving.access import ADMIN, PREFIX, READ, WRITE, Needs
from feedback_pipeline.serving.contract import ERRORS, Agent, Identifier
from feedback_pipeline.serving.learning import start_learning
from feedback_pipeline.serving.pages import USUAL, Cursor, Limit, read_cursor, write_cursor
from feedback_pipeline.serving.service import Document, Serving
from feedback_pipeline.storage.reading_provenance import read_runs

router = APIRouter(prefix=PREFIX, tags=["runs"], responses=ERRORS)


@router.post(
    "/agents/{agent:path}/learn",
    status_code=202,
    responses={202: {"model": LearningStarted}},
    response_model=None,
    dependencies=[Depends(Needs(WRITE))],
)
def learn(
    agent: Agent,
    request: Request,
    serving: Serving,
    lookback_days: Annotated[
        int | None, Query(ge=1, le=36_500, description="sets the window of this and every later pass; takes the scope admin")
    ] = None,
) -> Document:
    """Start a learning pass, which learns of all agents; while one is under way it is that one."""
    if lookback_days is not None:
        Needs(ADMIN).check(request)
    started = start_learning(serving.connections, serving.runs, serving.settings, agent, lookback_days)
    return started | {"provenance": serving.provenance()}


@router.get("/links", responses={200: {"model": Links}}, response_model=None, dependencies=[Depends(Needs(READ))])
def links(serving: Serving) -> Document:
    """Where people find the web UIs of Dagster and MLflow."""
    found = {"dagster": serving.runs.shown, "mlflow": serving.settings.mlflow_url or None}
    return found | {"provenance": serving.provenance()}


@router.get("/runs", responses={200: {"model": Runs}}, response_model=None, dependencies=[Depends(Needs(READ))])
def runs(serving: Serving, limit: Limit = USUAL, cursor: Cursor = None) -> Document:
    """Learning runs that published something, newest first."""
    after = None if cursor is None else _after(cursor)
    document = serving.answer(lambda snapshot: {"runs": read_runs(snapshot.connection, limit + 1, after)}, published=True)
    part = document["runs"][:limit]
    more = len(document["runs"]) > limit
    last = (part[-1]["published_at"], part[-1]["learning_run_id"]) if more else ()
    return document | {"runs": part, "next": write_cursor(last) if more else None}


@router.get("/runs/{run_id}", responses={200: {"model": Run}}, response_model=None, dependencies=[Depends(Needs(READ))])
def run(run_id: Identifier, serving: Serving) -> Document:
    """How far a run has come."""
    return serving.runs.progress(run_id) | {"provenance": serving.provenance()}


def _after(cursor: str) -> tuple[datetime, str]:
    key = read_cursor(cursor)
    try:
        published_at, run_id = key
        return datetime.fromisoformat(published_at), str(run_id)
    except (TypeError, ValueError):
        raise UserError("the cursor is none of this list; begin without one") from None
