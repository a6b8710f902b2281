"""What agents and reviewers send: executions, reviews, applications."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends

from feedback_pipeline.schemas.answers import Receipt
from feedback_pipeline.schemas.applications import ApplicationBatch
from feedback_pipeline.schemas.executions import ExecutionBatch
from feedback_pipeline.schemas.reviews import Review, ReviewBatch
from feedback_pipeline.serving.access import PREFIX, WRITE, Needs
from feedback_pipeline.serving.contract import ERRORS
from feedback_pipeline.serving.problems import NoneStored
from feedback_pipeline.serving.service import Document, Service, Serving
from feedback_pipeline.storage.applications import Application, insert_applications
from feedback_pipeline.storage.executions_intake import insert_executions
from feedback_pipeline.storage.intake import Intake
from feedback_pipeline.storage.reviews_intake import insert_reviews, may_pass

router = APIRouter(prefix=PREFIX, tags=["intake"], dependencies=[Depends(Needs(WRITE))], responses=ERRORS)


@router.post("/executions", responses={200: {"model": Receipt}}, response_model=None)
def executions(batch: ExecutionBatch, serving: Serving) -> Document:
    """Store executions, each whole or not at all; sent again they change nothing."""
    items = [one.model_dump(mode="json") for one in batch.executions]
    with serving.connections.writing() as connection:
        intake = insert_executions(connection, items)
    return _receipt(serving, intake, items)


@router.post("/reviews", responses={200: {"model": Receipt}}, response_model=None)
def reviews(sent: Annotated[ReviewBatch | Review, Body()], serving: Serving) -> Document:
    """Store one review or several; sent again they change nothing. Learning follows by itself once there are enough."""
    batch = sent.reviews if isinstance(sent, ReviewBatch) else [sent]
    items = [one.model_dump(mode="json") for one in batch]
    with serving.connections.writing() as connection:
        intake = insert_reviews(connection, items, serving.settings.score_bounds)
    return _receipt(serving, intake, items)


@router.post("/applications", responses={200: {"model": Receipt}}, response_model=None)
def applications(batch: ApplicationBatch, serving: Serving) -> Document:
    """Store which executions applied a recommendation and which were held out, before anyone knows how that went."""
    rows = [Application(**one.model_dump() | {"application_id": str(one.application_id)}) for one in batch.applications]
    with serving.connections.writing() as connection:
        stored = insert_applications(connection, rows)
    return _receipt(serving, Intake(stored, len(rows) - stored, []), [])


def _receipt(serving: Service, intake: Intake, items: Sequence[dict[str, Any]]) -> Document:
    """What became of a batch.

    Raises:
        NoneStored: all of it was refused.
    """
    refused = [
        {"place": place, "client_id": items[place]["client_id"], "reason": reason, "later": may_pass(reason)}
        for place, reason in intake.refused
    ]
    if refused and len(refused) == len(items):
        raise NoneStored("no item could be stored; `refused` says why, and `later` which may be later", refused)
    return {"stored": intake.stored, "known": intake.known, "refused": refused, "provenance": serving.provenance()}
