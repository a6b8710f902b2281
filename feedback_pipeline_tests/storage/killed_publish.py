"""A process that publishes in forked children, each of which is killed one step later than the one before.

    python -m feedback_pipeline_tests.storage.killed_publish URL

A process of its own, with one thread, because only such a one may be forked. Prints one JSON line for each child that was killed,
the step after which it was, and waits for a line until the next; ends when a child has published everything.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import Publication
from feedback_pipeline_tests.storage.publications import publication

SIZES: dict[str, Any] = {
    "pairs": 4,
    "correlations": 2,
    "patterns": 3,
    "recommendations": 1,
    "segments": 2,
    "arms": 2,
    "reviewers": 2,
}
_STEPS = ((psycopg.Cursor, "execute"), (psycopg.Copy, "write"), (psycopg.Copy, "__exit__"), (psycopg.Connection, "commit"))


def run_to_publish() -> Publication:
    """The run whose publication is killed; it consumes the first three changes."""
    return publication(3, seed=2, tick=1, consumed=np.array([1, 2, 3]), **SIZES)


def _kill_at(step: int, report: int) -> None:
    """Let this process kill itself after so many statements, parts of a COPY and ends of a COPY, or just before the commit."""
    passed = 0

    def counted(owner: type, name: str) -> Callable[..., Any]:
        original = getattr(owner, name)

        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal passed
            done = None if name == "commit" else original(self, *arguments, **options)
            passed += 1
            if passed == step:
                statement = str(arguments[0])[:60] if name == "execute" else ""
                os.write(report, json.dumps(f"{name} {statement}").encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *arguments, **options) if name == "commit" else done

        return call

    for owner, name in _STEPS:
        setattr(owner, name, counted(owner, name))


def main() -> None:
    """Kill the publication at every step, then let it end."""
    database, run, step = Database(sys.argv[1]), run_to_publish(), 1
    report = sys.stdout.fileno()
    while True:
        child = os.fork()
        if child == 0:
            _kill_at(step, report)
            publish_run(database, run)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))
        os.write(report, b"\n")
        sys.stdin.readline()
        step += 1


if __name__ == "__main__":
    main()
