"""The service without its API: straight from and to the database, for agents that run beside it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import psycopg

from feedback_pipeline.errors import StoreUnavailable, UserError
from feedback_pipeline.sdk.encoding import APPLICATIONS, EXECUTIONS
from feedback_pipeline.sdk.transport import Acknowledgement, Document, Fetched, ForecastQuery, ServiceAway, Unacceptable
from feedback_pipeline.storage.applications import Application, insert_applications
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.executions_intake import insert_executions
from feedback_pipeline.storage.intake import Intake
from feedback_pipeline.storage.reading_patterns import read_improvements
from feedback_pipeline.storage.reading_provenance import improvements_state, read_provenance
from feedback_pipeline.storage.reviews_intake import insert_reviews

_NEEDS_THE_API: Final = "{} needs the API: pass the http:// address of the service instead of the database's"


class PostgresTransport:
    """Reads and writes the tables with the functions that the API itself uses.

    Args:
        url: postgresql:// URL; its user needs the roles feedback_reader and feedback_writer.

    Raises:
        UserError: the URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    @property
    def identity(self) -> str:
        """Name of the database and host."""
        return self._database.description

    def improvements(self, agent_name: str, etag: str | None) -> Fetched:
        """The improvements of an agent, unless nothing has changed since the tag."""
        with _reachable(), self._database.connect() as connection:
            state = f"{agent_name}/{improvements_state(connection, agent_name)}"
            if state == etag:
                return Fetched(None, etag)
            provenance = read_provenance(connection)
            # The tag was read first: what changes in between is fetched again, never missed.
            return Fetched(read_improvements(self._database, agent_name) | {"provenance": provenance}, state)

    def forecast(self, query: ForecastQuery) -> Document:
        """What the champion has said of an execution.

        Raises:
            UserError: features are asked about, which takes the model itself.
        """
        if query.execution_id is None:
            raise UserError(_NEEDS_THE_API.format("a forecast from features"))
        # Here, because it brings pandas along.
        from feedback_pipeline.storage.reading_forecasts import read_forecasts

        with _reachable(), self._database.connect() as connection:
            found = read_forecasts(self._database, query.agent_name, query.execution_id, query.reviewers)
            return found | {"provenance": read_provenance(connection)}

    def send(self, kind: str, items: Sequence[bytes]) -> Acknowledgement:
        """Store a batch of JSON records of one kind.

        Raises:
            Unacceptable: the batch will never be stored as a whole; nothing of it was.
        """
        documents = [json.loads(item) for item in items]
        with _reachable():
            if kind == APPLICATIONS:
                return self._applications(documents)
            insert = insert_executions if kind == EXECUTIONS else insert_reviews
            taken: Intake = insert(self._database, documents)
        return Acknowledgement(taken.stored, taken.known, taken.refused)

    def _applications(self, documents: Sequence[dict[str, Any]]) -> Acknowledgement:
        rows = [Application(**(each | {"assigned_at": datetime.fromisoformat(each["assigned_at"])})) for each in documents]
        try:
            stored = insert_applications(self._database, rows)
        except UserError as error:
            raise Unacceptable(str(error)) from None
        return Acknowledgement(stored, len(rows) - stored)

    def learn(self, agent_name: str) -> Document:
        """Not possible without the API, which starts the run.

        Raises:
            UserError: always.
        """
        raise UserError(
            _NEEDS_THE_API.format(f"learning for {agent_name!r} on demand") + "; new reviews are learned by themselves"
        )

    def run(self, run_id: str) -> Document:
        """Not possible without the API, which knows the runs.

        Raises:
            UserError: always.
        """
        raise UserError(_NEEDS_THE_API.format(f"looking at run {run_id!r}"))

    def close(self) -> None:
        """Nothing is kept open."""


@contextmanager
def _reachable() -> Iterator[None]:
    """A database that cannot be reached, or to which the connection broke, is a service that is away."""
    try:
        yield
    except StoreUnavailable as error:
        raise ServiceAway(str(error)) from None
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise ServiceAway(f"the connection to the database broke ({type(error).__name__}); it will be tried again") from None
