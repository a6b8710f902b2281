"""What the routes work with: one object for each process, made before the first request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from feedback_pipeline.serving.analytics import FeedbackWeeks
from feedback_pipeline.serving.connections import Connections, OneSnapshot
from feedback_pipeline.serving.dagster_runs import DagsterRuns
from feedback_pipeline.serving.forecasting import Forecaster
from feedback_pipeline.serving.forgetting import Forgetting
from feedback_pipeline.serving.improvements import ImprovementsCache
from feedback_pipeline.serving.observation import Metrics
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.reading_provenance import read_provenance

Document = dict[str, Any]


@dataclass(frozen=True)
class Service:
    """The parts of one API process.

    Attributes:
        settings: Of the installation.
        connections: To its database.
        improvements: What agents read again and again, ready to be sent.
        forecaster: The champion, loaded.
        runs: Of Dagster.
        forgetting: Under way, and what there was.
        metrics: Of this process.
        weeks: Of feedback, as they were read last.
    """

    settings: Settings
    connections: Connections
    improvements: ImprovementsCache
    forecaster: Forecaster
    runs: DagsterRuns
    forgetting: Forgetting
    metrics: Metrics
    weeks: FeedbackWeeks

    def answer(self, read: Callable[[OneSnapshot], Document], *, published: bool = False) -> Document:
        """A document with its provenance, both of one snapshot.

        Args:
            read: Reads the document.
            published: It reads only what is published.
        """
        with self.connections.snapshot(published=published) as snapshot:
            return read(snapshot) | {"provenance": read_provenance(snapshot.connection)}

    def provenance(self) -> Document:
        """The provenance alone."""
        return self.answer(lambda _: {})["provenance"]  # type: ignore[no-any-return]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Holds the connections open for the block; meanwhile loads the champion and goes on with what is to be forgotten."""
        self.connections.open()
        self.forecaster.load_soon()
        self.forgetting.resume()
        try:
            yield
        finally:
            self.forgetting.stop()
            self.connections.close()


def of_request(request: Request) -> Service:
    """The service that a request is to."""
    service: Service = request.app.state.service
    return service


async def _service(request: Request) -> Service:
    return of_request(request)


Serving = Annotated[Service, Depends(_service)]
