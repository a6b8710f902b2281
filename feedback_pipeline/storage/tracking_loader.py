"""Reads a logged model back: what MLflow calls, also where nothing else of this package is installed.

A copy of this module travels with each model, so it uses the standard library only.
"""

import pickle
from typing import Any


def _load_pyfunc(data_path: str) -> Any:
    """The object that was logged: `predict(frame)` gives a frame.

    A model is a pickle: reading it runs code, so load models only from a store you trust, as with every MLflow model.
    """
    with open(data_path, "rb") as file:  # noqa: PTH123
        return pickle.load(file)  # noqa: S301
