"""How many threads the trees may use: measured, because on a busy or small machine two are slower than one."""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

_ROWS: Final = 20_000
_COLUMNS: Final = 16
_TREES: Final = 10
_REPEATS: Final = 2
_WORTH: Final = 0.9


def fastest_threads(clock: Callable[[], float], counts: Iterable[int]) -> int:
    """The number of OpenMP threads that fits trees fastest: the smallest one that no other beats by a tenth.

    The waiting threads of scikit-learn's boosting spin; where another process holds a core, every tree waits for it. It takes
    about a second. What is fitted does not depend on the answer, only how soon.

    Args:
        clock: Seconds, as `time.perf_counter` gives them.
        counts: Numbers of threads to try; 1 when there are none.
    """
    stream = np.random.default_rng(0)
    x = stream.standard_normal((_ROWS, _COLUMNS)).astype(np.float32)
    y = x[:, 0] + stream.standard_normal(_ROWS)
    chosen, least = 1, np.inf
    for threads in sorted(set(counts)):
        seconds = min(_fit_seconds(clock, x, y, threads) for _ in range(_REPEATS))
        if seconds < _WORTH * least:
            chosen, least = threads, seconds
    return chosen


def _fit_seconds(clock: Callable[[], float], x: np.ndarray, y: np.ndarray, threads: int) -> float:
    with threadpool_limits(limits=threads, user_api="openmp"):
        start = clock()
        HistGradientBoostingRegressor(max_iter=_TREES, max_leaf_nodes=15, early_stopping=False).fit(x, y)
        return clock() - start
