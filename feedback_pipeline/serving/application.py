"""The application: routes, errors, limits, the page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from feedback_pipeline.errors import FeedbackError
from feedback_pipeline.serving import (
    routes_feedback,
    routes_forget,
    routes_intake,
    routes_learned,
    routes_operation,
    routes_runs,
)
from feedback_pipeline.serving.access import Access
from feedback_pipeline.serving.analytics import FeedbackWeeks
from feedback_pipeline.serving.connections import Connections
from feedback_pipeline.serving.contract import describe
from feedback_pipeline.serving.dagster_runs import DagsterRuns
from feedback_pipeline.serving.forecasting import Forecaster
from feedback_pipeline.serving.forgetting import Forgetting
from feedback_pipeline.serving.improvements import ImprovementsCache
from feedback_pipeline.serving.limits import Limits
from feedback_pipeline.serving.observation import Metrics, Observation
from feedback_pipeline.serving.problems import answer
from feedback_pipeline.serving.service import Service
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.tracking import Tracking

ROUTERS: Final = tuple(
    module.router for module in (routes_learned, routes_feedback, routes_intake, routes_runs, routes_forget, routes_operation)
)
STATIC: Final = Path(__file__).parent / "static"
_ABOUT: Final = (
    "What agents are to do differently, learned from human reviews. Every answer carries its provenance; errors are problem "
    "details (RFC 9457). Scopes of tokens: read, write, admin."
)


class _Page(StaticFiles):
    """The files of the page: a browser asks whether they have changed, since those of a package are dated long ago."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        """As the framework's, to be checked again each time."""
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


def make_service(settings: Settings, database: Database, tracking: Tracking | None, dagster: str) -> Service:
    """The parts of one API process; opens nothing yet.

    Args:
        settings: Of the installation.
        database: Migrated.
        tracking: The MLflow store; None = there is none.
        dagster: Address of the Dagster web server.
    """
    connections, runs = Connections(database), DagsterRuns(dagster, settings.dagster_url)
    return Service(
        settings=settings,
        connections=connections,
        improvements=ImprovementsCache(connections),
        forecaster=Forecaster(connections, tracking),
        runs=runs,
        forgetting=Forgetting(database, settings, tracking, runs),
        metrics=Metrics(connections.counts),
        weeks=FeedbackWeeks(),
    )


def create_app(service: Service) -> FastAPI:
    """The ASGI application."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with service.running():
            yield

    app = FastAPI(
        title="feedback-pipeline",
        version=version("feedback-pipeline"),
        description=_ABOUT,
        lifespan=lifespan,
        # The pages of the framework load their scripts from another host.
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(Observation, metrics=service.metrics),
            Middleware(Access, tokens=service.settings.api_tokens),
            Middleware(Limits),
        ],
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    for kind in (FeedbackError, psycopg.Error, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)
    app.mount("/", _Page(directory=STATIC, html=True), name="page")
    describe(app)
    return app
