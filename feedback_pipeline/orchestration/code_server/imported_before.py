"""Imports what every pass imports at some step, once for all runs: the process that runs are forked from does nothing else.

It opens no connection and starts no thread of Python's; what a run changes, the next one does not see.
"""

import gc
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Final

from feedback_pipeline import learning_pass, orchestration

# What Dagster and our modules import only where they need it; each pass does.
_LATE: Final = (
    *("dagster_postgres", "dagster._core.instance.factory", "dagster._core.execution.plan.active", "dagster._grpc.impl"),
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "mlflow", "psycopg2.extras", "pyarrow.dataset"),
)


def _all_of(package: ModuleType) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]


for _name in (*_all_of(learning_pass), *_all_of(orchestration), *_LATE):
    import_module(_name)
# Runs share these objects for as long as none writes to them, and the collector would.
gc.collect()
gc.freeze()
