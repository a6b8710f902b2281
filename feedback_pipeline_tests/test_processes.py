import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feedback_pipeline.errors import StoreError
from feedback_pipeline.processes import STARTS_ALLOWED, STOP_PATIENCE_S, Children, Service, run_in_foreground, wait_for_stop
from feedback_pipeline_tests.sleepers import SLEEPER, eventually, lives, pids

PARENT = (
    "import subprocess, sys, time, signal\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}, sys.argv[1]])\n"
    "time.sleep(600)\n"
)
# What it started lives on when it dies, as a run does when the code server that started it is killed.
STARTER = (
    "import os, subprocess, sys, time\n"
    f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}, sys.argv[1]])\n"
    "open(sys.argv[2], 'a').write(f'{os.getpid()}\\n')\n"
    "time.sleep(600)\n"
)
# Does not end when it is asked to, and asks its parent as Ctrl-C does.
STUBBORN = (
    "import os, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGINT))\n"
    "open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')\n"
    "while True: time.sleep(600)\n"
)


def _service(code: str, *arguments: str, name: str = "service") -> Service:
    return Service(name, (sys.executable, "-c", code, *arguments))


def test_lines_carry_the_name_of_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    printed: list[str] = []

    def seen() -> bool:
        printed.append(capsys.readouterr().out)
        return "hello from two" in "".join(printed)

    services = [_service("print('hello from one')", name="one"), _service("print('hello from two')", name="longer")]
    with Children(services, dict(os.environ)):
        eventually(seen)
    assert "longer | hello from two\n" in "".join(printed)


@pytest.mark.slow
def test_the_end_of_the_block_ends_the_children(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    with Children([_service(SLEEPER, str(file))], dict(os.environ)):
        eventually(lambda: pids(file))
    assert not any(map(lives, pids(file)))


@pytest.mark.slow
def test_a_child_that_ignores_the_signal_ends_with_its_own_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback_pipeline.processes.STOP_PATIENCE_S", 0.5)
    file = tmp_path / "pids"
    with Children([_service(PARENT, str(file))], dict(os.environ)):
        eventually(lambda: pids(file))
    eventually(lambda: not any(map(lives, pids(file))))


@pytest.mark.slow
def test_a_child_that_died_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback_pipeline.processes.FIRST_PAUSE_S", 0.0)
    file = tmp_path / "pids"
    with Children([_service(SLEEPER, str(file))], dict(os.environ)) as children:
        eventually(lambda: pids(file))
        os.kill(pids(file)[0], signal.SIGKILL)

        def started_again() -> bool:
            children.watch()
            return len(pids(file)) == 2

        eventually(started_again)
    assert not any(map(lives, pids(file)))


@pytest.mark.slow
def test_what_a_dead_child_had_started_goes_on_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback_pipeline.processes.FIRST_PAUSE_S", 0.0)
    started, leaders = tmp_path / "started", tmp_path / "leaders"
    with Children([_service(STARTER, str(started), str(leaders))], dict(os.environ)) as children:
        for life in (1, 2):
            eventually(lambda: len(pids(started)) == len(pids(leaders)) == life)  # noqa: B023 - called in the loop
            os.kill(pids(leaders)[-1], signal.SIGKILL)

            def started_again() -> bool:
                children.watch()
                return len(pids(leaders)) == life + 1  # noqa: B023 - called in the loop

            eventually(started_again)
        eventually(lambda: len(pids(started)) == 3)
        children.watch()
        assert list(map(lives, pids(started))) == [True] * 3
        # Nobody has seen yet that this one is dead.
        os.kill(pids(leaders)[-1], signal.SIGKILL)
        assert children._left == set(pids(leaders)[:-1])
    eventually(lambda: not any(map(lives, pids(started))))


@pytest.mark.slow
def test_a_group_that_is_empty_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be that of another process by the time of the end."""
    monkeypatch.setattr("feedback_pipeline.processes.FIRST_PAUSE_S", 0.0)
    started, leaders = tmp_path / "started", tmp_path / "leaders"
    with Children([_service(STARTER, str(started), str(leaders))], dict(os.environ)) as children:
        eventually(lambda: pids(started) and pids(leaders))

        def watched(left: set[int]) -> bool:
            children.watch()
            return children._left == left

        os.kill(pids(leaders)[0], signal.SIGKILL)
        eventually(lambda: watched({pids(leaders)[0]}))
        os.kill(pids(started)[0], signal.SIGKILL)
        eventually(lambda: watched(set()))


@pytest.mark.slow
def test_asking_twice_ends_a_stubborn_child_at_once(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    begun = time.monotonic()
    # What a shell starts in the background ignores Ctrl-C, and passes that on to these tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), Children([_service(STUBBORN, str(file))], dict(os.environ)):
        eventually(lambda: pids(file))
    eventually(lambda: not any(map(lives, pids(file))))
    signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun < STOP_PATIENCE_S


def test_a_child_has_variables_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import os; print(os.environ.get('MINE'), os.environ['OURS'])"
    services = [
        Service("one", (sys.executable, "-c", code), variables={"MINE": "1"}),
        Service("two", (sys.executable, "-c", code)),
    ]
    printed: list[str] = []

    def seen() -> bool:
        printed.append(capsys.readouterr().out)
        return "one | 1 2\n" in "".join(printed) and "two | None 2\n" in "".join(printed)

    with Children(services, os.environ | {"OURS": "2"}):
        eventually(seen)


@pytest.mark.slow
def test_a_child_that_the_others_can_do_without_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("feedback_pipeline.processes.FIRST_PAUSE_S", 0.0)
    file = tmp_path / "pids"
    broken = Service("broken", (sys.executable, "-c", "raise SystemExit(3)"), essential=False)
    printed: list[str] = []
    with Children([_service(SLEEPER, str(file)), broken], dict(os.environ)) as children:

        def given_up() -> bool:
            children.watch()
            printed.append(capsys.readouterr().out)
            return "goes on without it" in "".join(printed)

        eventually(given_up)
        children.watch()
        assert children._lives["broken"].short == STARTS_ALLOWED
        assert list(map(lives, pids(file))) == [True]


@pytest.mark.slow
def test_a_child_that_keeps_dying_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback_pipeline.processes.FIRST_PAUSE_S", 0.0)
    with Children([_service("raise SystemExit(3)", name="broken")], dict(os.environ)) as children:

        def watch_forever() -> bool:
            children.watch()
            return False

        with pytest.raises(StoreError, match="broken keeps ending"):
            eventually(watch_forever)
        assert children._lives["broken"].short == STARTS_ALLOWED


@pytest.mark.slow
def test_the_pause_grows_and_a_child_that_once_stayed_up_is_never_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("feedback_pipeline.processes.STEADY_AFTER_S", 0.0)
    with Children([_service("raise SystemExit(3)", name="frail")], dict(os.environ)) as children:
        eventually(lambda: children._running["frail"].poll() is not None)
        children.watch()
        monkeypatch.setattr("feedback_pipeline.processes.STEADY_AFTER_S", 600.0)
        for _ in range(2 * STARTS_ALLOWED):
            children._due["frail"] = 0.0
            children.watch()
            eventually(lambda: children._running["frail"].poll() is not None)
            children.watch()
    pauses = [line.split(" in ")[1] for line in capsys.readouterr().out.splitlines() if "starting it again" in line]
    assert pauses[:8] == ["1 s", "1 s", "2 s", "4 s", "8 s", "16 s", "32 s", "60 s"]
    assert pauses[-1] == "60 s"


@pytest.mark.skipif(sys.platform != "linux", reason="the signal at the parent's death is Linux's")
@pytest.mark.parametrize("handler", ["SIG_DFL", "SIG_IGN"])
def test_children_do_not_outlive_a_killed_parent(tmp_path: Path, handler: str) -> None:
    file = tmp_path / "pids"
    code = (
        "import os, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, signal.{handler})\n"
        "from feedback_pipeline.processes import Children, Service\n"
        f"service = Service('s', (sys.executable, '-c', {SLEEPER!r}, sys.argv[1]))\n"
        "with Children([service], dict(os.environ)):\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(file)])
    eventually(lambda: pids(file))
    parent.kill()
    parent.wait()
    eventually(lambda: not any(map(lives, pids(file))))


def test_what_is_called_beside_the_others_ends_the_wait_when_it_fails() -> None:
    called: list[str] = []

    def fail() -> None:
        called.append("beside")
        raise StoreError("the store holds something unexpected")

    with pytest.raises(StoreError, match="something unexpected"):
        wait_for_stop([lambda: called.append("tick")], beside=[fail])
    assert called.count("beside") == 1


@pytest.mark.parametrize(
    ("code", "status"), [("pass", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_status_of_a_foreground_command(code: str, status: int) -> None:
    assert run_in_foreground([sys.executable, "-c", code], dict(os.environ)) == status


def test_a_foreground_command_gets_the_variables() -> None:
    code = "import os; raise SystemExit(int(os.environ['ANSWER']))"
    assert run_in_foreground([sys.executable, "-c", code], os.environ | {"ANSWER": "42"}) == 42
