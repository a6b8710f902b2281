"""Makes this process the one that runs are forked from: it imports, once for all of them, what every pass imports at some step.

It opens no connection and starts no thread of Python's. It ends when the code server and the last run have ended, and takes the
runs with it where it is killed: the code server learns of their end through it alone, and would call a living one dead.
"""

import gc
import os
import pkgutil
import signal
import sys
from importlib import import_module
from types import ModuleType
from typing import Final

from feedback_pipeline import learning_pass, orchestration
from feedback_pipeline.storage.parent_death import tie_to_parent

# What Dagster and our modules import only where they need it; each pass does.
_LATE: Final = (
    *("dagster_postgres", "dagster._core.instance.factory", "dagster._core.execution.plan.active", "dagster._grpc.impl"),
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "mlflow", "psycopg2.extras", "pyarrow.dataset"),
)
_tie: Final = tie_to_parent(signal.SIGKILL)


def _all_of(package: ModuleType) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]


def _import(name: str) -> None:
    try:
        import_module(name)
    except Exception as error:  # noqa: BLE001 - whatever it is, a run that needs the module says it better
        print(f"{name} cannot be imported before the runs: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201


def _begin_run() -> None:
    """In a run that has just been forked."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _tie is not None:
        _tie()


for _name in ("feedback_pipeline.definitions", *_all_of(learning_pass), *_all_of(orchestration), *_LATE):
    _import(_name)
# Whoever stops everything asks the runs too, and the code server waits for their end.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.register_at_fork(after_in_child=_begin_run)
# Runs share these objects for as long as none writes to them, and the collector would.
gc.collect()
gc.freeze()
