"""The service without its API: straight from and to the database, for agents that run beside it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg
from pydantic import BaseModel, ValidationError

from feedback_pipeline.errors import StoreUnavailable, UserError
from feedback_pipeline.sdk.encoding import APPLICATIONS, EXECUTIONS, MODELS, in_words
from feedback_pipeline.sdk.score_bounds import ScoreBounds, score_bounds
from feedback_pipeline.sdk.transport import Acknowledgement, Document, Fetched, ForecastQuery, ServiceAway, Unacceptable
from feedback_pipeline.storage.applications import Application, insert_applications
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.executions_intake import insert_executions
from feedback_pipeline.storage.intake import Intake
from feedback_pipeline.storage.reading_patterns import read_improvements
from feedback_pipeline.storage.reading_provenance import improvements_state, read_provenance
from feedback_pipeline.storage.reviews_intake import insert_reviews, may_pass

_NEEDS_THE_API: Final = "{} needs the API: pass the http:// address of the service instead of the database's"


class PostgresTransport:
    """Reads and writes the tables with the functions that the API itself uses.

    Args:
        url: postgresql:// URL; its user needs the roles feedback_reader and feedback_writer.
        bounds: A review with a score outside is refused, as by the API. None = of FEEDBACK_SCORE_BOUNDS, else 0 to 10.

    Raises:
        UserError: the URL or the bounds cannot be read.
    """

    def __init__(self, url: str, bounds: ScoreBounds | None = None) -> None:
        self._database, self._score_bounds = Database(url), score_bounds(bounds)

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
        fit, refused = _checked(kind, items)
        places, records = list(fit), list(fit.values())
        with _reachable():
            if kind == APPLICATIONS:
                taken = self._applications(records)
            else:
                documents = [record.model_dump(mode="json") for record in records]
                taken = (
                    insert_executions(self._database, documents)
                    if kind == EXECUTIONS
                    else insert_reviews(self._database, documents, self._score_bounds)
                )
        refused += [(places[place], reason) for place, reason in taken.refused]
        later = frozenset(places[place] for place, reason in taken.refused if may_pass(reason))
        return Acknowledgement(taken.stored, taken.known, sorted(refused), later)

    def _applications(self, records: Sequence[BaseModel]) -> Intake:
        given = [record.model_dump() for record in records]
        rows = [Application(**(each | {"application_id": str(each["application_id"])})) for each in given]
        try:
            stored = insert_applications(self._database, rows)
        except UserError as error:
            raise Unacceptable(str(error)) from None
        return Intake(stored, len(rows) - stored, [])

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


def _checked(kind: str, items: Sequence[bytes]) -> tuple[dict[int, BaseModel], list[tuple[int, str]]]:
    """By place, those of the records that are what the API asks for; and why the others are not."""
    fit, refused = dict[int, BaseModel](), []
    for place, item in enumerate(items):
        try:
            fit[place] = MODELS[kind].model_validate_json(item)
        except ValidationError as error:
            refused.append((place, in_words(error)))
    return fit, refused


@contextmanager
def _reachable() -> Iterator[None]:
    """A database that cannot be reached, or to which the connection broke, is a service that is away."""
    try:
        yield
    except StoreUnavailable as error:
        raise ServiceAway(str(error)) from None
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise ServiceAway(f"the connection to the database broke ({type(error).__name__}); it will be tried again") from None
