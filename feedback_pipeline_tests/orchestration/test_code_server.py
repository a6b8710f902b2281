"""What runs are forked from: it has what a pass imports, and nothing that a fork would break."""

import json
import subprocess
import sys

import pytest

from feedback_pipeline.orchestration.code_server.__main__ import _IMPORTED_BEFORE

_STATE = """
import gc, importlib, json, os, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
sockets = [os.readlink(file) for file in files if os.path.islink(file) and "socket:" in os.readlink(file)]
print(json.dumps([threading.active_count(), sockets, gc.get_freeze_count() > 0, sorted(sys.modules)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux only")
def test_runs_are_forked_from_a_process_that_has_imported_everything_and_opened_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _STATE, *_IMPORTED_BEFORE], capture_output=True, text=True, check=True)
    threads, sockets, frozen, modules = json.loads(done.stdout)
    assert (threads, sockets, frozen) == (1, [], True)
    needed = {
        "pandas",
        "pyarrow.dataset",
        "scipy.stats",
        "matplotlib.figure",
        "mlflow",
        "psycopg",
        "psycopg2",
        "dagster_postgres",
    }
    assert needed | {"feedback_pipeline.learning.term_patterns"} <= set(modules)
    # It would have to be forked before it is used: its threads do not survive.
    assert not any(name.startswith(("grpc.", "lightgbm")) for name in modules)
