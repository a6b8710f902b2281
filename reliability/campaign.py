"""A campaign of faults against the real processes of `feedback-pipeline up`.

    python -m reliability.campaign [--minutes 20] [--seed 1]

Writers insert, edit, back-date and delete reviews, some in transactions that stay open; readers poll what is published;
meanwhile processes are killed, a second daemon runs, the feature store's disk fills and connections break, in turn. At the end
it waits until everything is learned and compares the feature store and the published tables row by row with what a fresh
installation learns from the same database. The last line is `lost 0 doubled 0 mixed 0`: reviews missing from what was learned,
reviews in it too often, rows from two learning runs in one look or published otherwise than by the fresh one. Exit status 1 if
it is another, if a fault was not followed by a learning run begun after it, if a kind of fault found nothing to hit, if `up`
itself ended and nobody had killed it, if it left processes behind, or if two runs were made for the same attempt to learn the
same changes.

It ends when the time is over and every kind of fault has been injected.
"""

import argparse
import itertools
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from pydantic import SecretStr

from feedback_pipeline.errors import StoreError
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.pass_lock import pass_is_running
from reliability.faults import Disk, Faults
from reliability.invariants import Verdict, attempts_made_twice, compare
from reliability.processes_of import await_end, server
from reliability.readers import Reader
from reliability.service import Service, environment
from reliability.writers import Writer

_WRITERS: Final = 3
_LONGEST_HOLD_S: Final = 30.0
_FIRST_PASS_S: Final = 240.0
_RECOVERY_S: Final = 120.0
_QUIET_S: Final = 300.0
_POLL_S: Final = 0.5
_PORTS: Final = ("FEEDBACK_DAGSTER_PORT", "FEEDBACK_MLFLOW_PORT", "FEEDBACK_API_PORT")
# A review is enough, and nothing waits: as many passes as possible meet a fault.
_EAGER: Final = {
    "FEEDBACK_LEARN_THRESHOLD": "1",
    "FEEDBACK_QUIET_SECONDS": "1",
    "FEEDBACK_LONGEST_WAIT_SECONDS": "4",
    "FEEDBACK_RETRY_PAUSE_SECONDS": "2",
}


@dataclass
class Story:
    """What happened.

    Attributes:
        kinds: The faults there are.
        recoveries: By fault, in order: its name and the seconds to the publication of the first learning run that began after it
            (one that was under way proves nothing), None = there was none before the next fault.
        restarts: How often `up` had to be started again although nobody had killed it.
        left_behind: Processes that outlived the end of `up`.
        twice: Attempts to learn the same changes that more than one run was made for.
    """

    kinds: Collection[str]
    recoveries: list[tuple[str, float | None]] = field(default_factory=list)
    restarts: int = 0
    left_behind: int = 0
    twice: int = 0

    def failings(self) -> list[str]:
        """What should not have happened, whatever was learned in the end."""
        hit = Counter(name for name, _ in self.recoveries)
        dead = Counter(name for name, seconds in self.recoveries if seconds is None)
        found = [f"{name}: found nothing to hit" for name in self.kinds if not hit[name]]
        found += [f"{name}: no learning run begun after it within {_RECOVERY_S:g} s, {n} times" for name, n in dead.items()]
        if self.restarts:
            found.append(f"`up` itself ended and was started again {self.restarts} times")
        if self.left_behind:
            found.append(f"{self.left_behind} processes outlived the end of `up`")
        if self.twice:
            found.append(f"{self.twice} attempts to learn the same changes have more than one run")
        return found


def main() -> None:
    """Run a campaign and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="feedback-campaign-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        home.mkdir()
        disk = Disk(home / "store")
        print(f"The disk that fills is {disk.description}.", flush=True)
        try:
            verdict, failings = campaign(home, disk, options.minutes * 60.0, options.seed)
        finally:
            # It ends after its last holder; the folder under it is removed next.
            await_end(server(home))
            disk.release()
    for failing in failings:
        print(f"failed: {failing}")
    print(f"lost {verdict.lost} doubled {verdict.doubled} mixed {verdict.mixed}")
    sys.exit(int(bool(failings) or verdict != Verdict(0, 0, 0)))


def campaign(home: Path, disk: Disk, seconds: float, seed: int) -> tuple[Verdict, list[str]]:
    """Write, read and break things for some seconds, wait for quiet, compare; beside the verdict, all other failings."""
    variables = environment(home, **_ports(), **_EAGER)
    service = Service(home, variables)
    service.call("simulate", "--agents", "3", "--executions", "30", "--reviewers", "6", "--seed", str(seed))
    # A holder of its own keeps the server there while `up` is dead, as another program's database would be.
    with EmbeddedPostgres(home).hold() as held, service:
        database = held.sibling("feedback")
        _await_pass(database, _FIRST_PASS_S, after=0)
        stopping = threading.Event()
        hold = min(_LONGEST_HOLD_S, seconds / 8.0)
        writers = [Writer(database, seed * 1000 + number, hold, stopping) for number in range(_WRITERS)]
        done_reading = threading.Event()
        reader = Reader(database, done_reading)
        for thread in (*writers, reader):
            thread.start()
        story = _break_things(Faults(home, database, service, disk), service, reader, seconds, random.Random(seed))  # noqa: S311
        if not all(thread.is_alive() for thread in (*writers, reader)):
            raise SystemExit("a writer or the reader has failed; its traceback is above")
        stopping.set()
        for writer in writers:
            writer.join()
        quiet_after = _await_quiet(database, service, story)
        done_reading.set()
        reader.join()
        story.left_behind = service.stop()
        story.twice = attempts_made_twice(held.sibling("dagster"))
        settings = Settings(home=home, database_url=SecretStr(database.url), store_url=None)
        found = compare(database, settings)
    _tell(story, writers, reader, quiet_after)
    return Verdict(found.lost, found.doubled, found.mixed + reader.mixed + reader.vanished), story.failings()


def _break_things(faults: Faults, service: Service, reader: Reader, seconds: float, stream: random.Random) -> Story:
    """One fault after another, each once a pass that began after the last is published; every kind at least once."""
    end, kinds = time.monotonic() + seconds, faults.all()
    story = Story(tuple(kinds))
    for number, (name, inject) in enumerate(itertools.cycle(kinds.items())):
        time.sleep(stream.uniform(0.5, 4.0))
        if number >= len(kinds) and time.monotonic() >= end:
            return story
        hit = inject()
        if not hit:
            print(f"  {name}: nothing to hit", flush=True)
            continue
        took = _await_recovery(service, reader, story, time.time())
        story.recoveries.append((name, took))
        print(f"  {name}: {hit} hit, " + ("no recovery" if took is None else f"recovered after {took:.1f} s"), flush=True)
    return story


def _await_recovery(service: Service, reader: Reader, story: Story, fault: float) -> float | None:
    """Seconds from the fault to the publication of the first learning run that began after it; None = none came in time."""
    while time.time() - fault < _RECOVERY_S:
        story.restarts += service.keep_running()
        for began, seen in tuple(reader.published):
            if began > fault:
                return seen - fault
        time.sleep(_POLL_S)
    return None


def _published(database: Database) -> int | None:
    """How many learning runs there are; None while the server is away."""
    try:
        with database.connect() as connection:
            row = connection.execute("SELECT count(*) FROM learning_runs").fetchone()
    except (StoreError, psycopg.OperationalError):
        return None
    return int(row[0]) if row else None


def _await_pass(database: Database, patience: float, after: int) -> None:
    deadline = time.monotonic() + patience
    while (_published(database) or 0) <= after:
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing was learned within {patience:g} s; the log of `up` says why")
        time.sleep(_POLL_S)


def _await_quiet(database: Database, service: Service, story: Story) -> float:
    """Seconds until nothing is pending and nobody learns."""
    start = time.monotonic()
    while time.monotonic() - start < _QUIET_S:
        story.restarts += service.keep_running()
        try:
            with database.connect() as connection:
                row = connection.execute("SELECT count(*) FROM feedback_changes").fetchone()
            if row == (0,) and not pass_is_running(database):
                return time.monotonic() - start
        except (StoreError, psycopg.OperationalError):
            pass  # it is being started again
        time.sleep(_POLL_S)
    raise SystemExit(f"there are still changes to learn from after {_QUIET_S:g} s; the log of `up` says why")


def _tell(story: Story, writers: list[Writer], reader: Reader, quiet_after: float) -> None:
    counts = Counter(name for name, _ in story.recoveries)
    print("faults injected: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    took = [seconds for _, seconds in story.recoveries if seconds is not None]
    if took:
        print(
            f"recoveries: {len(took)} of {len(story.recoveries)}, to the first learning run begun after the fault: "
            f"median {statistics.median(took):.1f} s, longest {max(took):.1f} s"
        )
    done = sum((writer.done for writer in writers), Counter[str]())
    print("reviews: " + ", ".join(f"{kind} {n}" for kind, n in sorted(done.items())))
    print(f"learning runs {len(reader.published)}, looks at them {reader.looks}, quiet {quiet_after:.1f} s after the last write")


def _ports() -> dict[str, str]:
    """Free ones: all are held until all are found."""
    with ExitStack() as probes:
        found = [probes.enter_context(socket.socket()) for _ in _PORTS]
        for probe in found:
            probe.bind(("127.0.0.1", 0))
        return {name: str(probe.getsockname()[1]) for name, probe in zip(_PORTS, found, strict=True)}


if __name__ == "__main__":
    main()
