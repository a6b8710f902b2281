"""Forgetting a reviewer, a review or a content."""

from uuid import UUID

from fastapi import APIRouter, Depends

from feedback_pipeline.schemas.documents import ForgetRequest, Forgotten
from feedback_pipeline.serving.access import ADMIN, PREFIX, Needs
from feedback_pipeline.serving.contract import ERRORS
from feedback_pipeline.serving.service import Document, Serving
from feedback_pipeline.storage.forget_receipts import read_receipt

router = APIRouter(prefix=PREFIX, tags=["forget"], dependencies=[Depends(Needs(ADMIN))], responses=ERRORS)


@router.post("/forget", status_code=202, responses={202: {"model": Forgotten}}, response_model=None)
def forget(wanted: ForgetRequest, serving: Serving) -> Document:
    """Delete rows for good; everything learned is learned again without them by a pass that follows."""
    receipt = serving.forgetting.begin(wanted.kind, wanted.id)
    return {"receipts": [receipt], "provenance": serving.provenance()}


@router.get("/forget/{receipt_id}", responses={200: {"model": Forgotten}}, response_model=None)
def forgotten(receipt_id: UUID, serving: Serving) -> Document:
    """How far a forgetting has come: deleted, withdrawn, relearned, retrained, swept, done."""
    receipt = read_receipt(serving.connections.pooled, str(receipt_id))
    return {"receipts": [receipt.document], "provenance": serving.provenance()}
