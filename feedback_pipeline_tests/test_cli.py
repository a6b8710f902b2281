import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from feedback_pipeline.cli import main
from feedback_pipeline.commands.ports import free_ports
from feedback_pipeline.settings import Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.pass_lock import learning_pass_lock
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline_tests.beside import drop_beside
from feedback_pipeline_tests.passes import Pass
from feedback_pipeline_tests.storage.forecasts import champion_says, forecast
from feedback_pipeline_tests.storage.publications import publication
from feedback_pipeline_tests.storage.scoring_model import rows
from feedback_pipeline_tests.storage.tracking_stores import trained

COMMAND = [str(Path(sys.executable).parent / "feedback-pipeline")]
COMMANDS = (
    *("demo", "migrate", "load", "simulate", "learn", "findings", "patterns", "improvements", "strategy"),
    *("effectiveness", "reviewers", "agreement", "forecast", "queue", "autoapproval", "status", "forget", "up", "run"),
)
FINDING = {
    *("feature", "aspect", "r", "r_pearson", "r_shrunk", "ci_low", "ci_high", "p_value", "q_value", "confidence"),
    *("n_contents", "n_reviewers", "scope", "method", "published", "reason"),
}
PATIENCE_S = 120
CONFIGURATION = ("FEEDBACK_", "DAGSTER_", "MLFLOW_")

Run = Callable[..., subprocess.CompletedProcess[str]]


def _variables(**variables: str) -> dict[str, str]:
    """This process's environment without what configures the pipeline, Dagster or MLflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURATION)}
    return kept | variables


def _call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=300, env=_variables(**variables))


@pytest.fixture
def installation(database: Database, postgres_server: Database, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables of an installation with a database of its own."""
    yield {"FEEDBACK_DATABASE_URL": database.url, "FEEDBACK_HOME": str(tmp_path / "home")}
    drop_beside(postgres_server, database)


@pytest.fixture
def run(installation: dict[str, str]) -> Run:
    """Calls the command line on that installation."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return _call(*arguments, **installation)

    return call


def _good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def _json(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(_good(done))


@dataclass(frozen=True)
class Said:
    status: object
    out: str
    err: str


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Calls the command line inside this process, for what ends before it does anything."""
    for name in [name for name in os.environ if name.startswith(CONFIGURATION)]:
        monkeypatch.delenv(name)

    def call(*arguments: str, **variables: str) -> Said:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            main(list(arguments), prog_name="feedback-pipeline")
        return Said(end.value.code, *capsys.readouterr())

    return call


def test_help_lists_the_commands_in_the_order_of_use() -> None:
    lines = _good(_call("--help")).split("Commands:")[1].splitlines()
    assert tuple(line.split()[0] for line in lines if line.strip()) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, say: Callable[..., Said]) -> None:
    said = say(command, "--help")
    assert said.status == 0
    assert f"{command} [OPTIONS]" in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("findings",),
        ("findings", "drafter", "--fleet"),
        ("patterns",),
        ("patterns", "drafter", "--fleet"),
        ("improvements",),
        ("improvements", "--fleet"),
        ("strategy",),
        ("forecast", "drafter", "editor"),
        ("queue", "--limit", "0"),
        ("autoapproval", "drafter"),
        ("learn", "--days", "2026-01-02..2026-01-01"),
        ("learn", "--days", "2026-01-02"),
        ("learn", "--days", "2026-02-30..2026-03-01"),
        ("learn", "--all", "--lookback", "5"),
        ("learn", "--lookback", "0"),
        ("simulate", "--agents", "0"),
        ("simulate", "--until", "yesterday"),
        ("load",),
        ("load", "no/such/folder"),
        ("run",),
    ],
)
def test_a_wrong_call_has_status_2(arguments: tuple[str, ...], say: Callable[..., Said]) -> None:
    said = say(*arguments)
    assert said.status == 2
    assert "Error: " in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FEEDBACK_DATABASE_URL": "postgresql://me:pass-word@127.0.0.1:1/none"}, ("none", "127.0.0.1")),
        ({"FEEDBACK_DATABASE_URL": "mysql://me:pass-word@host/none"}, ("postgresql://",)),
        ({"FEEDBACK_SCORE_BOUNDS": "{"}, ("FEEDBACK_SCORE_BOUNDS",)),
        ({"FEEDBACK_SCORE_BOUNDS": '{"*": [3, 1]}'}, ("FEEDBACK_SCORE_BOUNDS", "low < high")),
        ({"FEEDBACK_DAGSTER_PORT": "x"}, ("FEEDBACK_DAGSTER_PORT",)),
        ({"FEEDBACK_MLFLOW_PORT": "x"}, ("FEEDBACK_MLFLOW_PORT",)),
        ({"FEEDBACK_SEED": "-1"}, ("FEEDBACK_SEED",)),
    ],
)
def test_an_error_is_one_line_without_secrets(
    variables: dict[str, str], words: tuple[str, ...], say: Callable[..., Said]
) -> None:
    said = say("status", **variables)
    assert said.status == 1
    (line,) = said.err.splitlines()
    assert line.startswith("Error: ")
    assert all(word in line for word in words)
    assert "pass-word" not in line


def test_a_bug_keeps_its_traceback(say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_settings: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("feedback_pipeline.environment.readable_database", broken)
    with pytest.raises(ZeroDivisionError):
        say("status")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        *(("status",), ("status", "--json"), ("findings", "drafter"), ("findings", "--fleet"), ("reviewers",), ("agreement",)),
        *(("patterns", "drafter"), ("improvements", "drafter"), ("strategy", "drafter")),
        *(("forecast",), ("queue",), ("autoapproval",)),
    ],
)
def test_a_database_that_is_not_migrated_is_named(
    say: Callable[..., Said], empty_database: Database, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    said = say(*arguments, FEEDBACK_DATABASE_URL=empty_database.url, FEEDBACK_HOME=str(tmp_path))
    assert (said.status, said.out) == (1, "")
    (line,) = said.err.splitlines()
    assert "feedback-pipeline migrate" in line
    assert empty_database.name in line


@pytest.mark.slow
def test_a_statement_that_postgres_refuses_is_one_line(say: Callable[..., Said], database: Database, tmp_path: Path) -> None:
    with database.connect() as connection:
        connection.execute("ALTER TABLE learning_runs RENAME COLUMN published_at TO renamed")
    said = say("status", FEEDBACK_DATABASE_URL=database.url, FEEDBACK_HOME=str(tmp_path))
    assert said.status == 1
    (line,) = said.err.splitlines()
    assert "published_at" in line


@pytest.mark.slow
def test_from_nothing_to_findings(run: Run, tmp_path: Path) -> None:
    assert "nothing to do" in _good(run("migrate"))
    failed = run("findings", "drafter")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "feedback-pipeline learn" in failed.stderr
    empty = _json(run("status", "--json"))
    none: dict[str, Any] = {"last_run": None, "champion": None, "rejected": {}, "forgetting": 0, "trigger": None}
    assert empty == {"agents": []} | none

    wrote = _good(
        run("simulate", "--agents", "3", "--executions", "60", "--reviewers", "8", "--seed", "4", "--until", "2026-06-30")
    )
    assert "180 runs" in wrote
    again = run("simulate", "--agents", "3", "--executions", "60", "--reviewers", "8", "--seed", "4", "--until", "2026-06-30")
    assert again.returncode == 1
    assert "--seed" in again.stderr

    learned = run("learn", "--all")
    assert "Reading" in _good(learned)
    assert learned.stderr == ""
    status = _json(run("status", "--json"))
    assert set(status) == {"agents"} | set(none)
    assert set(status["agents"][0]) == {"agent_name", "status", "parts", "pending", "n_contents", "learning_run_id"}
    assert {agent["n_contents"] for agent in status["agents"]} == {60}
    assert {"sample_size", "patterns_learned", "correlations_found", "execution_time_seconds"} <= set(status["last_run"])

    agent = status["agents"][0]["agent_name"]
    document = _json(run("findings", agent, "--all", "--json"))
    keys = {"agent_name", "status", "parts", "window", "n_contents", "n_reviewers", "learning_run_id", "findings"}
    assert set(document) == keys
    assert document["learning_run_id"] == status["last_run"]["learning_run_id"]
    assert {frozenset(finding) for finding in document["findings"]} == {frozenset(FINDING)}
    assert all(finding["published"] or finding["reason"] for finding in document["findings"])
    published = _json(run("findings", agent, "--json"))["findings"]
    assert published == [finding for finding in document["findings"] if finding["published"]]
    fleet = _json(run("findings", "--fleet", "--all", "--json"))
    assert fleet["agent_name"] == "*"
    assert set(fleet["findings"][0]) == FINDING | {"r_within", "confounded_with_agent"}
    for arguments, outputs in (((agent,), 60), ((agent, "--all"), 60), (("--fleet",), 180)):
        assert f"{outputs} reviewed outputs" in _good(run("findings", *arguments))
    unknown = run("findings", "nobody")
    assert unknown.returncode == 1
    assert agent in unknown.stderr

    assert "No day has changed" in _good(run("learn", "--lookback", "10"))
    assert _json(run("status", "--json"))["last_run"]["window"]["lookback_days"] == 10


@pytest.mark.slow
def test_reviewers_and_agreement(say: Callable[..., Said], database: Database, tmp_path: Path) -> None:
    def call(*arguments: str) -> Said:
        return say(*arguments, FEEDBACK_DATABASE_URL=database.url, FEEDBACK_HOME=str(tmp_path))

    for arguments in ("reviewers",), ("reviewers", "ann"), ("agreement", "--json"):
        said = call(*arguments)
        assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
        assert "feedback-pipeline learn --all" in said.err
    write_world(database, simulate(WorldSpec(agents=2, executions=60, reviewers=6, seed=4, days=10)))
    Pass.at(database, tmp_path).learn()

    listed = json.loads(call("reviewers", "--json").out)
    assert len(listed) == 6
    strictest = listed[0]["reviewer_id"]
    assert json.loads(call("reviewers", strictest, "--json").out) == listed[:1]
    assert f"{strictest} gives" in call("reviewers").out
    page = call("reviewers", strictest)
    assert (page.status, page.err) == (0, "")
    assert "approves half of the outputs at" in page.out
    for arguments, known in (("reviewers", "nobody"), "feedback-pipeline reviewers"), (("agreement", "nobody"), "drafter"):
        said = call(*arguments)
        assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
        assert known in said.err

    documents = [json.loads(call("agreement", *agent, "--json").out) for agent in ((), ("drafter",))]
    assert [document["agent_name"] for document in documents] == ["*", "drafter"]
    assert {row["aspect"] for row in documents[0]["aspects"]} > {"overall", "decision"}
    assert "Agreement over all agents" in call("agreement").out
    assert "Agreement on drafter" in call("agreement", "drafter").out


@pytest.mark.slow
def test_patterns_improvements_and_strategy(say: Callable[..., Said], database: Database, tmp_path: Path) -> None:
    def call(*arguments: str) -> Said:
        return say(*arguments, FEEDBACK_DATABASE_URL=database.url, FEEDBACK_HOME=str(tmp_path))

    commands = ("patterns", "agent_0000"), ("improvements", "agent_0000"), ("strategy", "agent_0000"), ("patterns", "--fleet")
    for arguments in commands:
        said = call(*arguments)
        assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
        assert "feedback-pipeline learn" in said.err
    run = publication(2)
    publish_run(database, run)

    documents = [json.loads(call(*arguments, "--json").out) for arguments in commands]
    assert [document["agent_name"] for document in documents] == ["agent_0000"] * 3 + ["*"]
    assert {document["learning_run_id"] for document in documents} == {run.learning_run_id}
    assert [len(documents[0]["patterns"]), len(documents[1]["recommendations"]), len(documents[2]["segments"])] == [7, 2, 4]
    for arguments, expected in zip(
        commands, ("Thresholds (1)", "1. Ask for feature_00", "The next outputs", "all agents together"), strict=True
    ):
        said = call(*arguments)
        assert (said.status, said.err) == (0, "")
        assert expected in said.out
    said = call("effectiveness", "--json")
    assert (said.status, json.loads(said.out)["trials"]) == (0, [])
    assert "Nothing has been on trial" in call("effectiveness", "agent_0000").out
    refused: tuple[tuple[tuple[str, ...], str], ...] = (
        (("patterns", "nobody"), "agent_0001"),
        (("effectiveness", "nobody"), "agent_0001"),
        (("improvements", "nobody"), "agent_0001"),
        (("strategy", "nobody"), "agent_0001"),
        (("improvements", "*"), "patterns --fleet"),
        (("strategy", "*", "--json"), "name an agent"),
    )
    for wrong, known in refused:
        said = call(*wrong)
        assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
        assert known in said.err


@pytest.mark.slow
def test_forecast_queue_and_autoapproval(say: Callable[..., Said], database: Database, tmp_path: Path) -> None:
    def call(*arguments: str) -> Said:
        return say(*arguments, FEEDBACK_DATABASE_URL=database.url, FEEDBACK_HOME=str(tmp_path))

    commands = ("forecast",), ("queue",), ("autoapproval",)
    for arguments in commands:
        said = call(*arguments)
        assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
        assert "no champion yet" in said.err
        assert "feedback-pipeline learn --all" in said.err
    with database.connect() as connection:
        for name in ("e1", "e2", "e3"):
            connection.execute("INSERT INTO agent_performance (agent_name, execution_id) VALUES ('drafter', %s)", (name,))
        said_of = [forecast(name, "drafter", p_approve=0.5) for name in ("e1", "e2", "e3")]
        champion_says(connection, [*said_of, forecast("e1", "drafter", reviewer_id="ann", p_approve=0.25)])

    documents = [json.loads(call(*arguments, "--json").out) for arguments in commands]
    assert {document["champion"]["model_version"] for document in documents} == {1}
    assert [len(documents[0]["forecasts"]), len(documents[1]["queue"]), len(documents[2]["risks"])] == [3, 3, 3]
    assert len(json.loads(call("queue", "--limit", "2", "--json").out)["queue"]) == 2
    chosen = call("forecast", "drafter", "--execution", "e1", "--reviewer", "ann")
    assert (chosen.status, chosen.err) == (0, "")
    assert "ann" in chosen.out
    for arguments, expected in zip(commands, ("3 outputs without", "What to read first", "approves nothing"), strict=True):
        said = call(*arguments)
        assert (said.status, said.err) == (0, "")
        assert expected in said.out
    assert json.loads(call("status", "--json").out)["champion"] == documents[0]["champion"]
    for wrong in (("forecast", "nobody"), ("forecast", "--execution", "e4"), ("forecast", "nobody", "--execution", "e1")):
        said = call(*wrong)
        assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)


@pytest.mark.slow
def test_tables_of_an_older_version_are_migrated_first(say: Callable[..., Said], database: Database, tmp_path: Path) -> None:
    publish_run(database, publication(1))
    with database.connect() as connection:
        connection.execute("DROP TABLE agent_recommendations")
    said = say("improvements", "agent_0000", FEEDBACK_DATABASE_URL=database.url, FEEDBACK_HOME=str(tmp_path))
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert "feedback-pipeline migrate" in said.err


@pytest.mark.slow
def test_a_second_pass_waits_and_says_so(run: Run, database: Database, installation: dict[str, str]) -> None:
    _good(run("simulate", "--agents", "2", "--executions", "20", "--reviewers", "6", "--until", "2026-06-30"))
    with learning_pass_lock(database, lambda: None):
        waiting = subprocess.Popen(
            [*COMMAND, "learn", "--all"], stdout=subprocess.PIPE, text=True, env=_variables(**installation)
        )
        assert waiting.stdout is not None
        lines = [waiting.stdout.readline(), waiting.stdout.readline()]
        assert "Another learning pass is running" in lines[1]
        assert waiting.poll() is None
    rest, _ = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 0
    assert "Last learned" in rest


@pytest.mark.slow
def test_load_counts_and_is_repeatable(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "agent_performance.jsonl").write_text(
        json.dumps({"id": "00000000-0000-4000-8000-000000000001", "agent_name": "drafter", "execution_id": "e1"}) + "\n"
    )
    assert "loaded 1" in _good(run("load", str(folder))).splitlines()[-1]
    assert "1 unchanged" in _good(run("load", str(folder))).splitlines()[-1]
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    failed = run("load", str(nothing))
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)


@pytest.mark.slow
def test_the_demo_keeps_to_itself(tmp_path: Path) -> None:
    elsewhere = "postgresql://nobody@127.0.0.1:1/none"
    variables = {
        "FEEDBACK_DATABASE_URL": elsewhere,
        "DAGSTER_POSTGRES_URL": elsewhere,
        "MLFLOW_TRACKING_URI": elsewhere,
        "FEEDBACK_STORE_URL": str(tmp_path / "store"),
        "FEEDBACK_MLFLOW_ARTIFACTS": str(tmp_path / "files"),
    }
    done = _call("demo", "--once", **variables, FEEDBACK_HOME=str(tmp_path / "home"))
    assert "All agents together" in _good(done)
    assert "Agreement on the overall score" in done.stdout
    assert "recommendations." in done.stdout
    assert done.stderr == ""
    assert [folder.name for folder in tmp_path.iterdir()] == ["home"]
    assert [folder.name for folder in (tmp_path / "home").iterdir()] == ["demo"]


@pytest.mark.slow
def test_run_gives_the_environment_and_the_status(run: Run, database: Database) -> None:
    names = "FEEDBACK_DATABASE_URL", "PGDATABASE", "DAGSTER_HOME", "MLFLOW_TRACKING_URI"
    code = f"import os; print(*(os.environ[name] for name in {names!r})); raise SystemExit(5)"
    done = run("run", "--", "python", "-c", code)
    assert done.returncode == 5
    url, name, home, tracking = done.stdout.split()
    assert (url, name) == (database.url, database.name)
    assert tracking == database.sqlalchemy_url(f"{database.name}_mlflow")
    assert (Path(home) / "dagster.yaml").is_file()
    missing = run("run", "--", "no-such-command")
    assert missing.returncode == 1
    assert "no-such-command" in missing.stderr


@pytest.mark.slow
def test_dagster_finds_the_definitions(run: Run) -> None:
    checkout = Path(__file__).parents[1]
    done = run("run", "--", "dagster", "definitions", "validate", "-w", str(checkout / "workspace.yaml"))
    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


def _ports() -> dict[str, str]:
    return {f"FEEDBACK_{service}_PORT": str(_free_port()) for service in ("DAGSTER", "API", "MLFLOW")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _status(url: str, **headers: str) -> int:
    """HTTP status of a page, 0 where nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - loopback
        with opener.open(request, timeout=2) as response:
            return int(response.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except OSError:
        return 0


def _answers(url: str) -> bool:
    return _status(url) == 200


def _of_home(home: Path) -> list[str]:
    """Processes that were started with this FEEDBACK_HOME, and the server whose data lies there."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if str(home).encode() in text:
            found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def _eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_serves_and_leaves_nothing_behind(number: signal.Signals, tmp_path_factory: pytest.TempPathFactory) -> None:
    home, port, mlflow_port = tmp_path_factory.mktemp("up"), _free_port(), _free_port()
    ports = _ports() | {"FEEDBACK_DAGSTER_PORT": str(port), "FEEDBACK_MLFLOW_PORT": str(mlflow_port)}
    variables = _variables(FEEDBACK_HOME=str(home), **ports)
    with (home / "output").open("w") as output:
        server = subprocess.Popen([*COMMAND, "up"], stdout=output, stderr=output, env=variables)
    try:
        url = f"http://127.0.0.1:{port}"
        _eventually(lambda: _answers(f"{url}/server_info") or server.poll() is not None, "the web UI does not answer")
        assert server.poll() is None, (home / "output").read_text()
        second = _call("up", FEEDBACK_HOME=str(home), **ports)
        assert second.returncode == 1
        assert "Ctrl-C" in second.stderr
        if number == signal.SIGTERM:
            _eventually(lambda: f"MLflow UI   http://127.0.0.1:{mlflow_port}" in (home / "output").read_text(), "no MLflow UI")
            _use_mlflow(f"http://127.0.0.1:{mlflow_port}")
    finally:
        server.send_signal(number)
        status = server.wait(PATIENCE_S)
    assert status == 0, (home / "output").read_text()
    assert url in (home / "output").read_text()
    _eventually(lambda: not _of_home(home), f"still there: {_of_home(home)}")


def _use_mlflow(url: str) -> None:
    """Trains through the server: it takes models and files itself, and answers to this machine only."""
    tracking = Tracking(url)
    number = trained(tracking)
    tracking.models.set_alias("champion", number)
    assert list(tracking.models.load("champion").predict(rows())["score"]) == [6.0, 5.0]
    trained(tracking)
    tracking.models.set_alias("champion", None)
    assert tracking.models.remove_old_files(keep=1) == [number]
    assert [version.has_files for version in tracking.models.versions()] == [True, False]
    assert [_status(url), _status(url, Host="evil.example")] == [200, 403]


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["FEEDBACK_DAGSTER_PORT", "FEEDBACK_API_PORT", "FEEDBACK_MLFLOW_PORT"])
def test_up_names_the_port_that_is_taken(installation: dict[str, str], variable: str) -> None:
    ports = _ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports[variable] = str(taken.getsockname()[1])
        done = _call("up", **installation, **ports)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert ports[variable] in line
    assert variable in line


def test_the_demo_takes_the_next_ports_that_are_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = free_ports(Settings(dagster_port=port, mlflow_port=port))
    assert port < found.dagster_port < found.mlflow_port
