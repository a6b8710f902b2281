"""Serves an installation from one terminal: Dagster and its daemon, MLflow, the embedded server kept alive."""

import fcntl
import ipaddress
import json
import os
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

from feedback_pipeline.commands.ports import require_free
from feedback_pipeline.environment import LOOPBACK, Environment
from feedback_pipeline.errors import StoreUnavailable, UserError
from feedback_pipeline.processes import LONGEST_PAUSE_S, Children, Service, wait_for_stop
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.tracking_uris import TRACKING_VARIABLE

DEFINITIONS: Final = "feedback_pipeline.definitions"
ORIGINS_VARIABLE: Final = "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
EVERY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_PORT_OF_HTTP: Final = 80
# A network of documentation: the route that leads there is the one to everywhere.
_ELSEWHERE: Final = ("192.0.2.1", 9)
API_PATH: Final = "/api/v2/learning"
ANSWER_EVERY_S: Final = 1.0
DATABASE_EVERY_S: Final = 5.0
ORPHANS_EVERY_S: Final = 10.0


@contextmanager
def single_server(settings: Settings) -> Iterator[None]:
    """One `up` or `demo` for an installation.

    Raises:
        UserError: another one is running.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{settings.home} is being served from another terminal; stop that one with Ctrl-C first") from None
        yield


def serve(environment: Environment) -> None:
    """Runs the web UIs and the daemon until Ctrl-C or SIGTERM; ends them and everything they started.

    Raises:
        UserError: a port is taken.
        StoreError: a service has never stayed up and keeps ending.
    """
    settings = environment.settings
    require_free(settings.dagster_port, "FEEDBACK_DAGSTER_PORT")
    require_free(settings.api_port, "FEEDBACK_API_PORT", besides=[settings.dagster_port])
    if environment.serves_mlflow:
        require_free(settings.mlflow_port, "FEEDBACK_MLFLOW_PORT", besides=[settings.dagster_port, settings.api_port])
    environment.adopt()
    from feedback_pipeline.orchestration.orphans import watch_for_orphans

    dagster, mlflow = f"http://{_reached_at(settings.host)}:{settings.dagster_port}", environment.variables["FEEDBACK_MLFLOW_URL"]
    if not _on_loopback(settings.host):
        click.echo(
            f"FEEDBACK_HOST is {settings.host}: whoever reaches the ports can run and change everything here; "
            "let only a proxy that asks for a login reach them."
        )
        if environment.serves_mlflow:
            click.echo(f"MLflow answers to pages from {', '.join(_mlflow_origins(settings))}; {ORIGINS_VARIABLE} names more.")
    click.echo(f"Starting the Dagster UI on {dagster} ...")
    if mlflow and not environment.serves_mlflow:
        click.echo(f"The MLflow UI is at {mlflow}")
    with (
        tempfile.TemporaryDirectory(prefix="feedback-") as folder,
        watch_for_orphans(environment.database) as look,
        Children(_services(environment, Path(folder)), environment.of_children()) as children,
    ):
        ready = [_announce_when_ready("Dagster UI", dagster, "server_info", "   (Ctrl-C stops everything)")]
        ready.append(_announce_when_ready("Page, API", _address_of_api(settings), "health", f"   ({API_PATH})"))
        if environment.serves_mlflow:
            ready.append(_announce_when_ready("MLflow UI", mlflow, "health"))
        announcements = [_every(ANSWER_EVERY_S, announce) for announce in ready]
        wait_for_stop([children.watch, *announcements], beside=_maintenance(environment, look))
        click.echo("Stopping ...")


def _services(environment: Environment, folder: Path) -> list[Service]:
    """MLflow starts last and is not waited for: it takes half a minute, and nothing here needs its UI."""
    return [*_dagster_services(environment.settings, folder), _api_service(environment), *_mlflow_services(environment)]


def _api_service(environment: Environment) -> Service:
    """The HTTP API; it finds the ports in the environment."""
    settings = environment.settings
    variables = {
        "FEEDBACK_HOST": settings.host,
        "FEEDBACK_API_PORT": str(settings.api_port),
        "FEEDBACK_DAGSTER_PORT": str(settings.dagster_port),
        "FEEDBACK_DAGSTER_URL": settings.dagster_url or "",
        "FEEDBACK_API_TOKENS": json.dumps({name: token.model_dump() for name, token in settings.api_tokens.items()}),
        "PYTHONWARNINGS": "ignore",
    }
    command = (sys.executable, "-P", "-m", "feedback_pipeline.serving")
    return Service("api", command, variables=variables, essential=False)


def _address_of_api(settings: Settings) -> str:
    return f"http://{_reached_at(settings.host) if settings.api_tokens else LOOPBACK}:{settings.api_port}"


def _mlflow_services(environment: Environment) -> list[Service]:
    """The web UI of MLflow; its own middleware answers only to names of this machine, and to no other site's pages.

    Behind a proxy it is that site's page: MLflow reads ORIGINS_VARIABLE itself.
    """
    if not environment.serves_mlflow:
        return []
    settings = environment.settings
    server = ("mlflow", "server", "--host", settings.host, "--port", str(settings.mlflow_port), "--workers", "1")
    # Elsewhere than on loopback it answers to no name that it is not told of, and its pages may not even search for runs.
    elsewhere = ("--allowed-hosts", "*", "--cors-allowed-origins", ",".join(_mlflow_origins(settings)))
    names = () if _on_loopback(settings.host) else elsewhere
    quiet = ("--uvicorn-opts", "--log-level warning --timeout-graceful-shutdown 3")
    files = ("--artifacts-destination", environment.variables["FEEDBACK_MLFLOW_ARTIFACTS"])
    variables = {
        # Not an argument: other users of the machine can read those, and the URI may hold a password.
        "MLFLOW_BACKEND_STORE_URI": environment.variables[TRACKING_VARIABLE],
        "MLFLOW_REGISTRY_STORE_URI": environment.variables[TRACKING_VARIABLE],
        # Jobs judge language models; without them there is one process less.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # For the processes that it starts itself, what -P is for this one.
        "PYTHONSAFEPATH": "1",
        "PYTHONWARNINGS": "ignore",
    }
    python = (sys.executable, "-P", "-m")
    return [Service("mlflow", (*python, *server, *names, *files, *quiet), variables=variables, essential=False)]


def _mlflow_origins(settings: Settings) -> list[str]:
    """Where people open the UI of MLflow: under the names of this machine, and where its own variable says."""
    names = _own_names() if settings.host in EVERY_ADDRESS else {settings.host}
    port = "" if settings.mlflow_port == _PORT_OF_HTTP else f":{settings.mlflow_port}"
    own = {f"http://{f'[{name}]' if ':' in name else name}{port}" for name in names}
    told = os.environ.get(ORIGINS_VARIABLE, "").split(",")
    return sorted(own | {origin.strip() for origin in told if origin.strip()})


def _own_names() -> set[str]:
    """What others may call this machine: its names, their addresses, and the address that it reaches others from."""
    found = {socket.gethostname(), socket.getfqdn()}
    # A name without an address and a machine without a route add nothing.
    with suppress(OSError):
        found |= {str(address[4][0]) for address in socket.getaddrinfo(socket.gethostname(), None)}
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_ELSEWHERE)  # sends nothing
        found.add(str(probe.getsockname()[0]))
    return {name for name in found if name}


def _dagster_services(settings: Settings, folder: Path) -> list[Service]:
    """Web UI and daemon share one process that holds the code, behind a socket only this user can open.

    The location is called as `dagster dev` calls it in the checkout, so both see the same jobs and schedules.
    """
    socket_file, workspace = folder / "code.sock", folder / "workspace.yaml"
    location = {"grpc_server": {"socket": str(socket_file), "location_name": DEFINITIONS}}
    workspace.write_text(json.dumps({"load_from": [location]}))  # JSON is YAML
    code = (
        "feedback_pipeline.orchestration.code_server",
        "--socket",
        str(socket_file),
        "-m",
        DEFINITIONS,
        "--location-name",
        DEFINITIONS,
        "--empty-working-directory",
    )
    where = ("-h", settings.host, "-p", str(settings.dagster_port))
    web = ("dagster_webserver", *where, "--dagster-log-level", "warning", "--suppress-warnings")
    daemon = ("dagster._daemon", "run")
    quiet, found = ("--log-level", "warning"), ("-w", str(workspace))
    python = (sys.executable, "-P", "-m")  # a file in the current folder must not stand in for a library
    return [
        Service("dagster-code", (*python, *code, *quiet), ready=socket_file),
        Service("dagster-web", (*python, *web, *quiet, *found)),
        Service("dagster-daemon", (*python, *daemon, *quiet, *found)),
    ]


def _maintenance(environment: Environment, orphans: Callable[[], list[str]]) -> list[Callable[[], None]]:
    """What asks the stores, and waits as long as they take: the embedded server may recover for minutes."""

    def report_orphans() -> None:
        for run_id in orphans():
            click.echo(f"Run {run_id} had lost its process; it is marked as failed.")

    def keep_database() -> None:
        EmbeddedPostgres(environment.settings.home).ensure_running()

    embedded = environment.settings.database_url is None
    return [*([_every(DATABASE_EVERY_S, keep_database)] if embedded else []), _every(ORPHANS_EVERY_S, report_orphans)]


def _on_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reached_at(host: str) -> str:
    """Where this machine reaches what listens there: "every address" is no address."""
    return LOOPBACK if host in (*EVERY_ADDRESS, "localhost") else host


def _every(seconds: float, action: Callable[[], None]) -> Callable[[], None]:
    """Calls the action every so often; while a store is away, less and less often, and says so."""
    due, pause = time.monotonic(), seconds

    def tick() -> None:
        nonlocal due, pause
        if time.monotonic() < due:
            return
        try:
            action()
            pause = seconds
        except StoreUnavailable as error:
            pause = min(2 * pause, LONGEST_PAUSE_S)
            click.echo(f"{error}; trying again in {pause:g} s")
        due = time.monotonic() + pause

    return tick


def _announce_when_ready(name: str, url: str, page: str, more: str = "") -> Callable[[], None]:
    ready = False

    def tick() -> None:
        nonlocal ready
        if not ready and _answers(f"{url}/{page}"):
            ready = True
            click.echo(f"\n  {name:<10}  {click.style(url, bold=True)}{more}\n")

    return tick


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
