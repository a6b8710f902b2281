"""One Postgres database: connections in UTC, errors in one line that never hold the password, URLs for other libraries."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from feedback_pipeline.errors import StoreError, StoreUnavailable, UserError

Connection = psycopg.Connection[TupleRow]

_SCHEME = re.compile(r"^postgres(?:ql)?(?:\+psycopg2?)?://")
_SHAPE = "postgresql://user:password@host:port/name"
_STRAY_AT = re.compile(r"postgresql://[^?]*[@/][^?]*@")
_NO_HOST = re.compile(r"[^/@][^/]*@")
_PORTS = re.compile(r"[\d,]*")
_MAINTENANCE_DATABASES = ("postgres", "template1")
_CREATE_ATTEMPTS = 5
_OTHER_REMEDY = "check that the server runs and the URL is right"
# What libpq says -> what to do next; the first that matches.
_REMEDIES = (
    (re.compile(r"no password supplied|authentication failed"), "check the user name and the password"),
    (re.compile(r'database ".*" does not exist'), "create it with `feedback-pipeline migrate`, or correct the name in the URL"),
    (re.compile(r'role ".*" does not exist'), "correct the user name in the URL"),
    (re.compile(r"no pg_hba.conf entry"), "allow this user and address in the server's pg_hba.conf"),
    (re.compile(r"too many clients|remaining connection slots"), "wait until connections are free, or raise max_connections"),
    (re.compile(r"starting up|shutting down|in recovery"), "try again in a moment"),
)


@dataclass(frozen=True, repr=False)
class Database:
    """A database named by its URL; nothing is opened before `connect`.

    Args:
        url: `postgresql://user:password@host:port/name?options`, also `postgres://`, `postgresql+psycopg2://` and
            `postgresql:///name?host=/socket/dir`.

    Raises:
        UserError: The URL is not one, or names no database.
    """

    url: str

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError(f"the database URL names no database; write {_SHAPE}")

    def __repr__(self) -> str:
        return f"<{self.description}>"

    @cached_property
    def _parameters(self) -> dict[str, str]:
        url, found = _SCHEME.subn("postgresql://", self.url.strip())
        if not found:
            raise UserError(f"the database URL must start with postgresql://; write {_SHAPE}")
        try:
            parsed = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
        except psycopg.ProgrammingError:
            parsed = {}  # libpq quotes the part that it could not read, which may be a piece of the password
        # Read on, libpq would take the rest of a password with a bare @ or / for the host or the name, which messages show.
        if (
            not parsed
            or _STRAY_AT.match(url)
            or _NO_HOST.match(parsed.get("host", ""))
            or not _PORTS.fullmatch(parsed.get("port", ""))
        ):
            raise UserError(f"the database URL cannot be read; write {_SHAPE}, with @ : / ? # % of the password percent-encoded")
        return parsed

    @property
    def name(self) -> str:
        """Name of the database."""
        return self._parameters.get("dbname", "")

    @property
    def description(self) -> str:
        """`database 'x' on host 'y'`: what messages may show."""
        host = self._parameters.get("host") or self._parameters.get("hostaddr") or os.environ.get("PGHOST")
        port = self._parameters.get("port")
        where = f"host '{host}'" if host else "the local socket"
        return f"database '{self.name}' on {where}" + (f" port {port}" if port else "")

    def session(self, options: str = "") -> dict[str, str]:
        """What libpq opens a session with, for pools too; holds the password.

        Args:
            options: More options of the session, such as `-c statement_timeout=1000`.
        """
        parameters = {"connect_timeout": "10", "application_name": "feedback_pipeline"} | self._parameters
        parameters["options"] = f"{parameters.get('options', '')} {options} -c TimeZone=UTC".strip()
        return parameters | {"client_encoding": "UTF8"}

    def connect(self, *, autocommit: bool = False) -> Connection:
        """Open a connection whose session TimeZone is UTC; as a context manager it commits and closes.

        Raises:
            StoreUnavailable: The server or the database cannot be reached; one line, without the password.
        """
        try:
            return psycopg.connect("", autocommit=autocommit, **self.session())  # type: ignore[arg-type]
        except psycopg.OperationalError as error:
            message = self._unreachable(error)
        raise StoreUnavailable(message)

    def _unreachable(self, error: psycopg.OperationalError) -> str:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        fatal = [line for line in lines if "FATAL:" in line]
        reason = fatal[-1].split("FATAL:")[-1].strip() if fatal else " ".join(lines)
        password = self._parameters.get("password")
        if password:
            reason = reason.replace(password, "***")
        remedy = next((text for pattern, text in _REMEDIES if pattern.search(reason)), _OTHER_REMEDY)
        return f"cannot reach {self.description}: {reason}; {remedy}"

    @contextmanager
    def snapshot(self, same_as: Connection | None = None) -> Iterator[Connection]:
        """Connection inside one REPEATABLE READ, READ ONLY transaction whose snapshot is taken on entry.

        Args:
            same_as: A connection from `snapshot` whose snapshot this one shares, to read the same state side by side.
        """
        with self.connect() as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            if same_as is None:
                connection.execute("SELECT 1")
            else:
                exported = same_as.execute("SELECT pg_export_snapshot()").fetchone()
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(exported[0] if exported else "")))
            yield connection

    def sibling(self, name: str) -> "Database":
        """Another database of the same server, with the same user and options."""
        return Database(_url("postgresql", self._parameters | {"dbname": name}))

    def sqlalchemy_url(self, name: str | None = None) -> str:
        """URL for SQLAlchemy (`postgresql+psycopg2://`), of this database or of the sibling `name`; holds the password."""
        return _url("postgresql+psycopg2", self._parameters | {"dbname": name or self.name})

    def ensure_exists(self) -> bool:
        """Create the database where it is missing; True if it was created now.

        Raises:
            StoreUnavailable: The server cannot be reached.
            StoreError: The user may not create databases.
        """
        try:
            self.connect().close()
        except StoreUnavailable as unreachable:
            # The text of the refusal depends on the server's language; its catalogue does not.
            for maintenance in _MAINTENANCE_DATABASES:
                try:
                    connection = self.sibling(maintenance).connect(autocommit=True)
                except StoreUnavailable:
                    continue
                with connection:
                    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.name]).fetchone():
                        raise unreachable from None
                    return self._create(connection)
            raise unreachable from None
        return False

    def _create(self, connection: Connection) -> bool:
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name))
        for attempt in range(1, _CREATE_ATTEMPTS + 1):
            try:
                connection.execute(statement)
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return False  # another process was faster
            except psycopg.errors.ObjectInUse:
                if attempt == _CREATE_ATTEMPTS:
                    raise StoreError(
                        f"cannot create {self.description}: its template is in use; close the sessions on template1 and try again"
                    ) from None
                connection.execute("SELECT pg_sleep(0.5)")
            except psycopg.errors.InsufficientPrivilege:
                raise StoreError(
                    f"{self.description} does not exist and this user may not create it; "
                    f'have an administrator run: CREATE DATABASE "{self.name}"'
                ) from None
            else:
                break
        return True


@contextmanager
def read_at_one_moment(connection: Connection) -> Iterator[None]:
    """All queries of the block see what was committed before its first one, and write nothing.

    Args:
        connection: In autocommit mode, in which it is again after the block; of no use any more where the block raises.
    """
    connection.isolation_level, connection.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    with connection.transaction():
        yield
    connection.isolation_level, connection.read_only = None, None


def _url(scheme: str, parameters: dict[str, str]) -> str:
    """The parameters as a URL; a socket directory or a list of hosts goes to the query, where both libraries read it."""
    rest = {key: value for key, value in parameters.items() if key not in {"user", "password", "dbname"}}
    credentials = quote(parameters.get("user", ""), safe="")
    if "password" in parameters:
        credentials += ":" + quote(parameters["password"], safe="")
    host = ""
    if rest.get("host") and not set("/,@:") & set(rest["host"]):
        host = rest.pop("host") + (f":{rest.pop('port')}" if "port" in rest else "")
    query = urlencode(rest, safe="/", quote_via=quote)
    location = f"{credentials}@{host}" if credentials else host
    return f"{scheme}://{location}/{quote(parameters['dbname'], safe='')}" + (f"?{query}" if query else "")
