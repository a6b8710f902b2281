"""What a campaign counts as a failure, and what it kills."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feedback_pipeline.storage.embedded import EmbeddedPostgres
from reliability.campaign import Story
from reliability.processes_of import await_end, kill, postmaster, processes, server, start_twin
from reliability.service import Service, environment

KINDS = ("daemon killed", "disk filled")


def test_a_campaign_in_which_everything_recovers_has_no_failings() -> None:
    assert Story(KINDS, [("daemon killed", 9.0), ("disk filled", 4.0), ("daemon killed", 8.0)]).failings() == []


def test_a_fault_that_nothing_recovered_from_is_a_failing() -> None:
    story = Story(KINDS, [("daemon killed", 9.0), ("disk filled", 4.0), ("daemon killed", None)])
    assert story.failings() == ["daemon killed: no learning run begun after it within 120 s, 1 times"]


def test_a_kind_of_fault_that_hit_nothing_is_a_failing() -> None:
    assert Story(KINDS, [("disk filled", 4.0)]).failings() == ["daemon killed: found nothing to hit"]


def test_up_must_neither_end_by_itself_nor_leave_processes_behind() -> None:
    story = Story(KINDS, [("daemon killed", 9.0), ("disk filled", 4.0)], restarts=2, left_behind=1)
    assert story.failings() == [
        "`up` itself ended and was started again 2 times",
        "1 processes outlived the end of `up`",
    ]


def test_two_runs_for_one_attempt_are_a_failing() -> None:
    story = Story(KINDS, [("daemon killed", 9.0), ("disk filled", 4.0)], twice=1)
    assert story.failings() == ["1 attempts to learn the same changes have more than one run"]


@pytest.mark.slow
def test_a_twin_has_the_command_and_the_environment_of_the_other() -> None:
    code = "import os, sys; print('there', flush=True); sys.stdin.read(); sys.exit(os.environ['MARK'] != 'a=b')"
    command, pipe = [sys.executable, "-c", code, "an argument"], subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | {"MARK": "a=b"}, stdin=pipe, stdout=pipe) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"there\n"
        twin = start_twin(first.pid)
        assert twin is not None
        assert (twin.args, twin.wait(timeout=60)) == (command, 0)
    assert start_twin(first.pid) is None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_losing_power_takes_the_server_too_whoever_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr("reliability.service.COMMAND", "true")
    with EmbeddedPostgres(home).hold() as database, database.connect():
        before = set(server(home))
        assert set(postmaster(home)) < before
        # Of the installation, and nobody's child here.
        subprocess.run(["sh", "-c", "sleep 600 >/dev/null 2>&1 &"], env=environment(home), check=True)
        marked = set(processes(home))
        assert len(marked) == 1
        # Its supervisor, its own processes, one session at least: and this process, which holds it, is none of them.
        assert len(before) > 3
        assert os.getpid() not in before
        service = Service(home, environment(home))
        # Some end by themselves as soon as their parent is gone.
        assert 1 < service.kill_and_start_again() <= len(before) + 1
        service.stop()
        assert not (before | marked) & {*server(home), *processes(home)}
        EmbeddedPostgres(home).ensure_running()
    await_end(server(home))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_what_outlives_up_is_counted_and_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment(home))
    try:
        assert Service(home, environment(home)).stop() == 1
    finally:
        kill([left.pid])
        left.wait()
    assert Service(home, environment(home)).stop() == 0
