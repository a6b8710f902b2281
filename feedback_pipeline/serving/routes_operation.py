"""What those ask who run the service: does it live, can it work, how does it fare."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from feedback_pipeline.serving.access import METRICS, READ, Needs
from feedback_pipeline.serving.contract import ERRORS
from feedback_pipeline.serving.service import Serving

router = APIRouter(tags=["operation"])


@router.get("/health", responses={200: {"description": "The process answers"}})
async def health(serving: Serving) -> dict[str, str | bool]:
    """Whether the process lives, and whether requests need a token; it asks nobody else."""
    return {"status": "alive", "tokens": bool(serving.settings.api_tokens)}


@router.get("/ready", responses=ERRORS | {200: {"description": "Requests can be answered"}})
def ready(serving: Serving) -> dict[str, str]:
    """Whether the database answers."""
    serving.provenance()
    return {"status": "ready"}


@router.get(
    METRICS,
    responses=ERRORS | {200: {"description": "Metrics", "content": {"text/plain": {}}}},
    response_class=Response,
    dependencies=[Depends(Needs(READ))],
)
async def metrics(serving: Serving) -> Response:
    """Counts and times for Prometheus."""
    return Response(generate_latest(serving.metrics.registry), media_type=CONTENT_TYPE_LATEST)
