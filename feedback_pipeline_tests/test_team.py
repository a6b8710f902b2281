"""What docs/team.md says about proxies and backups, done as it stands there."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg import sql

from feedback_pipeline.commands import serving
from feedback_pipeline.commands.ports import free_ports
from feedback_pipeline.environment import prepared
from feedback_pipeline.processes import Children
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import binaries
from feedback_pipeline_tests.beside import drop_beside

pytestmark = pytest.mark.slow

_PAGE = Path(__file__).parents[1] / "docs" / "team.md"


@contextmanager
def _served_mlflow(database: Database, server: Database, template: str, home: Path) -> Iterator[str]:
    """The address of MLflow, started as `up` starts it."""
    beside = [sql.Identifier(f"{database.name}_{kind}") for kind in ("mlflow", "dagster")]
    with server.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(beside[0], sql.Identifier(template)))
    settings = free_ports(Settings(database_url=database.url, home=home, store_url=None))  # type: ignore[arg-type]
    address = f"http://127.0.0.1:{settings.mlflow_port}"
    try:
        with (
            prepared(settings, overridable=False) as environment,
            Children(serving._mlflow_services(environment), environment.of_children()),
        ):
            deadline = time.monotonic() + 60
            while not serving._answers(f"{address}/health"):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield address
    finally:
        with server.connect(autocommit=True) as connection:
            for name in beside:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def _search(address: str, headers: dict[str, str]) -> int:
    """The status of the search for runs that the UI sends."""
    url = f"{address}/ajax-api/2.0/mlflow/runs/search"
    body = json.dumps({"experiment_ids": ["0"]}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} | headers)  # noqa: S310 - of this machine
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_ui_of_mlflow_works_behind_the_proxy(
    database: Database, postgres_server: Database, mlflow_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the proxy only the headers that it is told to send are real: nothing here runs nginx."""
    section = _PAGE.read_text().split("## Who may see what\n")[1].split("\n## ")[0]
    variable = re.search(r"^    (MLFLOW_\w+)=(\S+) feedback-pipeline up$", section, re.MULTILINE)
    site = re.search(r"server_name (mlflow\S+);.*?^    }$", section, re.MULTILINE | re.DOTALL)
    assert variable is not None
    assert site is not None
    assert variable[2] == f"https://{site[1]}"
    monkeypatch.setenv(variable[1], variable[2])
    with _served_mlflow(database, postgres_server, mlflow_template, tmp_path / "home") as address:
        sent = dict(re.findall(r'proxy_set_header (\S+) "?(.*?)"?;', site[0]))
        sent = {name: value.replace("127.0.0.1:5000", address.removeprefix("http://")) for name, value in sent.items()}
        assert "Host" in sent
        assert _search(address, {"Origin": variable[2]} | sent) == 200
        assert _search(address, {"Origin": "https://elsewhere.example"} | sent) == 403
        assert _search(address, sent) == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.7.8", "fd00::7"])  # noqa: S104 - nothing binds to it
def test_the_ui_of_mlflow_works_on_other_addresses_than_loopback(
    host: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.server.security_utils import should_block_cors_request

    monkeypatch.setenv(serving.ORIGINS_VARIABLE, " http://models:5000,")
    settings = Settings(database_url=database.url, home=tmp_path, store_url=None, host=host)  # type: ignore[arg-type]
    with prepared(settings, overridable=False) as environment:
        command = serving._mlflow_services(environment)[0].command
    allowed = command[command.index("--cors-allowed-origins") + 1].split(",")
    name = {"0.0.0.0": socket.gethostname(), "fd00::7": "[fd00::7]"}.get(host, host)  # noqa: S104 - compared, not bound
    for origin in (f"http://{name}:5000", "http://models:5000"):
        assert not should_block_cors_request(origin, "POST", allowed)
    for origin in ("http://elsewhere.example:5000", f"http://{name}:5001", f"https://{name}:5000"):
        assert should_block_cors_request(origin, "POST", allowed)


def _commands(folder: Path, name: str) -> list[str]:
    """The blocks of the section, with the folder of the backup and the names of the databases put in."""
    section = _PAGE.read_text().split("## Backup and restore\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .+\n)+", section, re.MULTILINE)
    databases = f"for name in {name} {name}_dagster {name}_mlflow;"
    return [block.replace("/backup", str(folder)).replace("for name in feedback dagster mlflow;", databases) for block in blocks]


def test_a_backup_is_restored(database: Database, postgres_server: Database, tmp_path: Path) -> None:
    kept, backup = tmp_path / ".feedback" / "store" / "day", tmp_path / "backup"
    for path in (kept, tmp_path / ".feedback" / "mlflow" / "artifacts", backup):
        path.mkdir(parents=True)
    (kept / "file").write_text("a day")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FEEDBACK_", "DAGSTER_", "MLFLOW_"))}
    search = os.pathsep.join([str(Path(sys.executable).parent), str(binaries()), clean["PATH"]])
    variables = clean | {"FEEDBACK_DATABASE_URL": database.url, "PATH": search}

    def shell(text: str) -> None:
        done = subprocess.run(["sh", "-ec", text], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr

    save, restore = _commands(backup, database.name)
    try:
        with database.connect() as connection:
            connection.execute("INSERT INTO agent_performance (agent_name, execution_id) VALUES ('kept', 'kept')")
        shell(save)
        with database.connect() as connection:
            connection.execute("UPDATE agent_performance SET agent_name = 'spoilt'")
        (kept / "file").unlink()
        shell(restore)
        with database.connect() as connection:
            assert connection.execute("SELECT agent_name FROM agent_performance").fetchall() == [("kept",)]
            granted = "SELECT has_table_privilege('feedback_reader', 'agent_recommendations', 'SELECT')"
            assert connection.execute(granted.encode()).fetchall() == [(True,)]
        assert (kept / "file").read_text() == "a day"
    finally:
        drop_beside(postgres_server, database)
