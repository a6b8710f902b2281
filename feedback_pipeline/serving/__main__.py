"""The API process: `python -m feedback_pipeline.serving`, as `up` starts it."""

import logging
import os
import resource
import sys
from typing import Final

import uvicorn

from feedback_pipeline.environment import settings_from_environment
from feedback_pipeline.errors import FeedbackError, UserError
from feedback_pipeline.serving.access import is_loopback
from feedback_pipeline.serving.application import create_app, make_service
from feedback_pipeline.serving.observation import LOG, JsonLines
from feedback_pipeline.serving.patience import PatientHttp
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_uris import TRACKING_VARIABLE

LOOPBACK: Final = "127.0.0.1"
MOST_CONNECTIONS: Final = 4000
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_SPARE_FILES: Final = 500


def main() -> None:
    """Serves until it is told to stop."""
    _log_json_lines()
    try:
        settings = settings_from_environment()
        config = configuration(settings)
    except FeedbackError as error:
        sys.exit(str(error))
    _allow_files(MOST_CONNECTIONS + _SPARE_FILES)
    uvicorn.Server(config).run()


def configuration(settings: Settings) -> uvicorn.Config:
    """How the server runs.

    Raises:
        UserError: no database is named.
    """
    if settings.database_url is None:
        raise UserError("the API needs FEEDBACK_DATABASE_URL; `feedback-pipeline up` sets it")
    uri = os.environ.get(TRACKING_VARIABLE, "")
    tracking = Tracking(uri, settings.mlflow_artifacts or "") if uri else None
    database = Database(settings.database_url.get_secret_value())
    near = LOOPBACK if settings.host in _EVERYWHERE else settings.host
    service = make_service(settings, database, tracking, f"http://{near}:{settings.dagster_port}")
    return uvicorn.Config(
        create_app(service),
        # Without tokens nobody but this machine is let in.
        host=settings.host if settings.api_tokens or is_loopback(settings.host) else LOOPBACK,
        port=settings.api_port,
        http=PatientHttp,
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=3,
    )


def _log_json_lines() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    LOG.setLevel(logging.WARNING)


def _allow_files(wanted: int) -> None:
    """As many open files as there may be clients, where the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


if __name__ == "__main__":
    main()
