"""The environment commands and their children run in: a migrated database, a Dagster home, the variables that name both."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError
from pydantic_settings import SettingsError

from feedback_pipeline.errors import StoreError, UserError
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres, binaries
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.tracking_uris import TRACKING_VARIABLE, serves_itself, tracking_uri, web_address

LOOPBACK = "127.0.0.1"
DAGSTER_URL_VARIABLE = "DAGSTER_POSTGRES_URL"
# Variables that hold JSON, and how they are written.
_JSON = {
    "FEEDBACK_SCORE_BOUNDS": '{"*": [0, 10]}',
    "FEEDBACK_LEARN_THRESHOLDS": '{"drafter": 10}',
    "FEEDBACK_API_TOKENS": '{"drafter": {"scope": "write", "sha256": "..."}}',
}
# What libpq reads, so that `run -- psql` opens this database.
_LIBPQ = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}


@dataclass(frozen=True)
class Environment:
    """A prepared installation: its database, and the variables every child process gets.

    Attributes:
        settings: of the installation.
        database: migrated.
        variables: what children read.
        serves_mlflow: whether the UI of MLflow is this installation's to serve, not somebody else's.
    """

    settings: Settings
    database: Database
    variables: dict[str, str]
    serves_mlflow: bool = False

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance: its configuration and the logs of the steps."""
        return self.settings.home / "dagster"

    def of_children(self) -> dict[str, str]:
        """The environment of a child process: this process's own, with the variables of the installation."""
        # The commands installed beside this interpreter are found without activating its environment.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return os.environ | self.variables | {"PATH": path}

    def of_tools(self) -> dict[str, str]:
        """The environment of any command: that of the children, and the database for the tools of PostgreSQL.

        The embedded server brings its own tools: pg_dump refuses a server that is newer than itself.
        """
        parsed, variables = conninfo_to_dict(self.database.url), self.of_children()
        if self.settings.database_url is None:
            own, _, others = variables["PATH"].partition(os.pathsep)
            variables |= {"PATH": os.pathsep.join([own, str(binaries()), others])}
        return variables | {variable: str(parsed[key]) for key, variable in _LIBPQ.items() if parsed.get(key)}

    def adopt(self) -> None:
        """Sets the variables in this process, for a Dagster instance that runs in it."""
        os.environ.update(self.variables)


def settings_from_environment() -> Settings:
    """The settings.

    Raises:
        UserError: a FEEDBACK_ variable cannot be used; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(f"FEEDBACK_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors(include_input=False))
        raise UserError(f"{wrong}; correct the variable or unset it") from None
    except SettingsError as error:
        # The message of the library names the field and, unlike its cause, not the value.
        name = re.search(r'field "(\w+)"', str(error))
        variable = f"FEEDBACK_{name[1].upper()}" if name else "a FEEDBACK_ variable"
        raise UserError(f"{variable} is not JSON; write it as '{_JSON.get(variable, '{}')}' or unset it") from None


@contextmanager
def open_database(settings: Settings, *, migrated: bool = True) -> Iterator[Database]:
    """Yields the database of the installation; starts or joins the embedded server when no URL is set.

    Args:
        settings: names the database, or the home of the embedded server.
        migrated: bring the tables up to date first.

    Raises:
        StoreUnavailable: the database server cannot be reached or started.
    """
    if settings.database_url is not None:
        database = Database(settings.database_url.get_secret_value())
        if migrated:
            migrate(database)
        yield database
        return
    with EmbeddedPostgres(settings.home).hold() as database:
        if migrated:
            migrate(database)
        yield database


@contextmanager
def readable_database(settings: Settings) -> Iterator[Database]:
    """Yields the database for a command that only reads: a database of the user's own is left as it is.

    Raises:
        StoreUnavailable: the database server cannot be reached or started.
        StoreError: the database has not been migrated.
    """
    with open_database(settings, migrated=settings.database_url is None) as database:
        with database.connect() as connection:
            found = connection.execute("SELECT to_regclass('learning_runs')").fetchone()
        if found == (None,):
            raise StoreError(f"{database.description} has no tables of this pipeline; run `feedback-pipeline migrate`")
        yield database


@contextmanager
def prepared(settings: Settings, *, overridable: bool = True) -> Iterator[Environment]:
    """Yields the environment of a command that runs Dagster: database migrated, databases of Dagster and MLflow made.

    MLflow fills its database itself when it is first used.

    Args:
        settings: of the installation.
        overridable: DAGSTER_POSTGRES_URL and MLFLOW_TRACKING_URI, where they are set, name the stores of Dagster and MLflow.

    Raises:
        UserError: MLFLOW_TRACKING_URI cannot be used.
        StoreUnavailable: the database server cannot be reached or started.
        StoreError: a database does not exist and may not be created.
    """
    with open_database(settings) as database:
        home = settings.home / "dagster"
        chosen = os.environ.get(DAGSTER_URL_VARIABLE) if overridable else None
        tracking = _Tracking.of(settings, database, os.environ.get(TRACKING_VARIABLE, "") if overridable else "")
        dagster_url = chosen or _existing(_sibling(settings, database, "dagster"))
        _write_dagster_home(home)
        variables = _variables(settings, database, home, dagster_url) | tracking.variables()
        yield Environment(settings, database, variables, tracking.served)


@dataclass(frozen=True)
class _Tracking:
    """Where MLflow keeps its runs (`uri`) and files, where its UI answers, whether that UI is to be served from here."""

    uri: str
    artifacts: str
    address: str
    served: bool

    @classmethod
    def of(cls, settings: Settings, database: Database, chosen: str) -> "_Tracking":
        """The store that was chosen, else a database beside the others, which is made here."""
        own = _sibling(settings, database, "mlflow")
        uri = tracking_uri(chosen) if chosen.strip() else _existing(own)
        served_here = f"http://{LOOPBACK}:{settings.mlflow_port}"
        # Children of children find here what their parent wrote: that is no UI of somebody else.
        elsewhere = settings.mlflow_url if settings.mlflow_url != served_here else ""
        decided_there = serves_itself(uri)
        artifacts = settings.mlflow_artifacts or ("" if decided_there else str(settings.home / "mlflow" / "artifacts"))
        address = elsewhere or (web_address(uri) or "" if decided_there else served_here)
        return cls(uri, artifacts, address, served=not decided_there and not elsewhere)

    def variables(self) -> dict[str, str]:
        """What MLflow and this package read in children."""
        chatter = {"MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
        # MLflow's own patience with a server that is away is four minutes.
        patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
        return {name: os.environ.get(name, value) for name, value in (chatter | patience).items()} | {
            TRACKING_VARIABLE: self.uri,
            "FEEDBACK_MLFLOW_ARTIFACTS": self.artifacts,
            "FEEDBACK_MLFLOW_URL": self.address,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }


def _sibling(settings: Settings, database: Database, purpose: str) -> Database:
    return database.sibling(purpose if settings.database_url is None else f"{database.name}_{purpose}")


def _existing(database: Database) -> str:
    database.ensure_exists()
    return database.sqlalchemy_url()


def _write_dagster_home(home: Path) -> None:
    (home / ".nux").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_dagster_yaml(), home / "dagster.yaml")
    # The web UI opens with the work, not with an invitation to a newsletter.
    (home / ".nux" / "nux.yaml").write_text("seen: 1\n")


def _dagster_yaml() -> Path:
    """dagster.yaml of the installed wheel, or of the checkout this package runs from."""
    packaged = files("feedback_pipeline") / "_resources" / "dagster.yaml"
    return Path(str(packaged)) if packaged.is_file() else Path(__file__).parent.parent / "dagster.yaml"


def _triggers(settings: Settings) -> dict[str, str]:
    """What the sensors and the schedule of the daemon read."""
    webhook = settings.alert_webhook
    return {
        "FEEDBACK_LEARN_THRESHOLD": str(settings.learn_threshold),
        "FEEDBACK_LEARN_THRESHOLDS": json.dumps(settings.learn_thresholds),
        "FEEDBACK_LEARN_AGE_DAYS": str(settings.learn_age_days),
        "FEEDBACK_QUIET_SECONDS": str(settings.quiet_seconds),
        "FEEDBACK_LONGEST_WAIT_SECONDS": str(settings.longest_wait_seconds),
        "FEEDBACK_RETRY_PAUSE_SECONDS": str(settings.retry_pause_seconds),
        "FEEDBACK_SENSOR_SECONDS": str(settings.sensor_seconds),
        "FEEDBACK_DAILY_HOUR": str(settings.daily_hour),
        "FEEDBACK_ALERT_WEBHOOK": "" if webhook is None else webhook.get_secret_value(),
    }


def _variables(settings: Settings, database: Database, dagster_home: Path, dagster_url: str) -> dict[str, str]:
    return {
        "FEEDBACK_DATABASE_URL": database.url,
        "FEEDBACK_HOME": str(settings.home),
        "FEEDBACK_STORE_URL": settings.store,
        "FEEDBACK_FIRST_DAY": settings.first_day.isoformat(),
        "FEEDBACK_SCORE_BOUNDS": json.dumps(settings.score_bounds),
        "FEEDBACK_SEED": str(settings.seed),
        **_triggers(settings),
        "DAGSTER_HOME": str(dagster_home),
        DAGSTER_URL_VARIABLE: dagster_url,
        # Dagster takes the times that a server writes, which have no zone, to be in UTC.
        "PGTZ": "UTC",
        # A server that does not answer keeps its sensors waiting for so long at most.
        "PGCONNECT_TIMEOUT": os.environ.get("PGCONNECT_TIMEOUT", "10"),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        # Events of a range of days are written in batches: one statement instead of one for each day.
        "DAGSTER_EVENT_BATCH_SIZE": os.environ.get("DAGSTER_EVENT_BATCH_SIZE", "500"),
        "MPLBACKEND": "Agg",
        "GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "ERROR"),
    }
