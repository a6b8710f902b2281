"""The folders that are handed to MLflow: pictures and tables of a run, a model with the code it needs."""

import importlib.util
import json
import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.tracking_models import REVIEWER, Predictor, Record

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_LOADER = "feedback_pipeline.storage.tracking_loader"


def write_record(record: Record, long_params: Mapping[str, object], folder: Path) -> bool:
    """Write figures, tables and what was too long for a parameter; whether there was anything."""
    for name, content in record.figures.items():
        _place(folder / "figures" / name).write_bytes(content)
    for name, table in record.tables.items():
        table.to_csv(_place(folder / "tables" / f"{name}.csv"), index=False)
    if long_params:
        (folder / "parameters.json").write_text(json.dumps(long_params, indent=1, default=str))
    return any(folder.iterdir())


def write_model(predictor: Predictor, folder: Path) -> Path:
    """Write the model as MLflow reads it and return its folder.

    Raises:
        StoreError: it does not answer with the columns it declares.
    """
    import mlflow.pyfunc

    answer = predictor.model.predict(predictor.example)
    if list(answer.columns) != list(predictor.outputs):
        raise StoreError(f"the model answers {list(answer.columns)} instead of {list(predictor.outputs)}; correct its predict()")
    pickled, target = folder / "model.pkl", folder / "model"
    pickled.write_bytes(pickle.dumps(predictor.model, protocol=5))
    mlflow.pyfunc.save_model(
        path=str(target),
        loader_module=_LOADER,
        data_path=str(pickled),
        code_paths=[str(path) for path in _staged_code(predictor.code, folder / "code")],
        signature=_signature(predictor),
        input_example=predictor.example,
        pip_requirements=predictor.requirements(),
        uv_project_path=str(folder),  # the project of the folder this happens to run in is not the model's
    )
    return target


def _place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _signature(predictor: Predictor) -> "ModelSignature":
    """Declared, not inferred: an example in which a column is all missing says nothing of its type."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    numbers = [ColSpec(DataType.double, name) for name in predictor.numeric]
    words = [ColSpec(DataType.string, name, required=name != REVIEWER) for name in predictor.text]
    return ModelSignature(Schema([*numbers, *words]), Schema([ColSpec(DataType.double, name) for name in predictor.outputs]))


def _staged_code(modules: Sequence[str], folder: Path) -> list[Path]:
    """Copy modules and whole packages, with the `__init__` of every package above them; the top folders and files."""
    for name in modules:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            _copy_module(".".join(parts[:depth]), folder, whole=False)
        _copy_module(name, folder, whole=True)
    return sorted(folder.iterdir())


def _copy_module(name: str, folder: Path, *, whole: bool) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise StoreError(f"module {name} of the model is not installed; install the package again")
    source, target = Path(spec.origin), folder.joinpath(*name.split("."))
    if spec.submodule_search_locations is None:
        shutil.copyfile(source, _place(target.with_suffix(".py")))
    elif whole:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(source.parent, target, ignore=ignored, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, _place(target / "__init__.py"))
