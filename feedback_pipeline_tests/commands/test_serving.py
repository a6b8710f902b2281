import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from feedback_pipeline.commands import serving
from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline_tests.sleepers import SLEEPER, eventually, lives, pids

PATIENCE_S = 60
# The loop of `up` with one child, while its stores are away: HOME PORT CHILD FILE.
LOOP = """
import os, socket, sys
from pathlib import Path
from feedback_pipeline.commands import serving
from feedback_pipeline.environment import Environment
from feedback_pipeline.processes import Children, Service, wait_for_stop
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.embedded import EmbeddedPostgres

home, port, child, file = sys.argv[1:]

def look():
    with socket.create_connection(("127.0.0.1", int(port))) as silent:
        silent.recv(1)
    return []

with EmbeddedPostgres(Path(home), settings={"fsync": "off"}).hold() as database:
    environment = Environment(Settings(home=Path(home)), database, {}, False)
    with Children([Service("child", (sys.executable, "-c", child, file))], dict(os.environ)) as children:
        print("held", flush=True)
        sys.stdin.readline()
        wait_for_stop([children.watch], beside=serving._maintenance(environment, look))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_store_that_does_not_answer_holds_up_neither_children_nor_the_end(number: signal.Signals, tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "pids"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FEEDBACK_")}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [sys.executable, "-c", LOOP, str(home), str(silent.getsockname()[1]), SLEEPER, str(file)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables) as loop:
            assert loop.stdin is not None
            assert loop.stdout is not None
            assert loop.stdout.readline() == "held\n"
            state = json.loads((home / "postgres" / "state.json").read_text())
            # The embedded server is gone, and nobody starts it again or gives up: as in a recovery without end.
            os.kill(state["supervisor"], signal.SIGSTOP)
            try:
                os.kill(state["server"], signal.SIGKILL)
                eventually(lambda: pids(file), PATIENCE_S)
                loop.stdin.write("go on\n")
                loop.stdin.flush()
                silent.settimeout(PATIENCE_S)
                asking, _ = silent.accept()
                with asking:
                    os.kill(pids(file)[0], signal.SIGKILL)
                    eventually(lambda: len(pids(file)) == 2, PATIENCE_S)
                    loop.send_signal(number)
                    assert loop.wait(PATIENCE_S) == 0
            finally:
                loop.kill()
                os.kill(state["supervisor"], signal.SIGCONT)
            assert not any(map(lives, pids(file)))
    eventually(lambda: not lives(state["supervisor"]), PATIENCE_S)


def test_a_store_that_is_away_is_asked_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, away = 0.0, True
    calls: list[float] = []
    monkeypatch.setattr("feedback_pipeline.commands.serving.time.monotonic", lambda: now)

    def act() -> None:
        calls.append(now)
        if away:
            raise StoreUnavailable("the database is away; wait")

    tick = serving._every(5.0, act)
    while now < 300.0:
        away = now < 200.0
        tick()
        now += 1.0
    pauses = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert pauses[:5] == [10.0, 20.0, 40.0, 60.0, 60.0]
    assert pauses[-2:] == [5.0, 5.0]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "the database is away; wait; trying again in 10 s"
    assert len(said) == sum(call < 200.0 for call in calls)
