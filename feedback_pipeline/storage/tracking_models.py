"""What goes into MLflow and comes out of it, as plain typed values."""

import hashlib
import importlib.metadata
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

OUTPUTS: Final = ("score", "low", "high", "p_approve")
REVIEWER: Final = "reviewer_id"
# What a model needs to be loaded where this package is not installed.
CODE: Final = ("feedback_pipeline.errors", "feedback_pipeline.learning", "feedback_pipeline.storage.tracking_loader")
PACKAGES: Final = ("numpy", "pandas", "scikit-learn", "scipy", "threadpoolctl")
UNDEFINED_TAG: Final = "undefined"
_KEY_LENGTH: Final = 250
_PARAMETER_LENGTH: Final = 500
_DIGEST_LENGTH: Final = 36
_FORBIDDEN: Final = re.compile(r"[^\w.\- :]", re.ASCII)


@dataclass(frozen=True)
class TrainingData:
    """What a model was trained on; facts, never rows.

    Attributes:
        name: of the data set, such as `reviews`.
        digest: the same for the same rows, at most 36 characters.
        source: where it came from: learning_run_id, first and last day.
        columns: name to type.
        profile: counts: rows, outputs, reviewers.
    """

    name: str
    digest: str
    source: Mapping[str, object]
    columns: Mapping[str, str]
    profile: Mapping[str, object]

    def __post_init__(self) -> None:
        if len(self.digest) > _DIGEST_LENGTH:
            raise UserError(f"the digest of training data has at most {_DIGEST_LENGTH} characters, got {len(self.digest)}")


@dataclass(frozen=True)
class Record:
    """What is written to a run.

    Attributes:
        params: settings it was made with.
        metrics: numbers it is judged by; one that is NaN or infinite is not written but named in the tag `undefined`.
        tags: what it is looked for by.
        figures: file name to the bytes of a PNG, under `figures/`.
        tables: name to a small table, written as CSV under `tables/`.
        data: what it was trained on.
    """

    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, object] = field(default_factory=dict)
    figures: Mapping[str, bytes] = field(default_factory=dict)
    tables: Mapping[str, "pd.DataFrame"] = field(default_factory=dict)
    data: TrainingData | None = None


@dataclass(frozen=True)
class Candidate:
    """One model that competed: its name, what is known of it, how long its last fit took."""

    name: str
    record: Record
    fit_seconds: float


@dataclass(frozen=True)
class Predictor:
    """A fitted model to be logged.

    Attributes:
        model: picklable; `predict(frame)` gives a frame with the columns `outputs`. Its class lives in `code`.
        example: a few typical rows with every input column; holds no id of a reviewer or an output.
        numeric: input columns that are numbers; missing = NaN.
        text: input columns that are words; missing = None.
        outputs: names of the columns it answers with.
        code: modules and packages that are copied beside the model, with the packages they lie in.
        packages: distributions it needs, pinned to the versions that are installed.
    """

    model: Any
    example: "pd.DataFrame"
    numeric: Sequence[str]
    text: Sequence[str]
    outputs: Sequence[str] = OUTPUTS
    code: Sequence[str] = CODE
    packages: Sequence[str] = PACKAGES

    def requirements(self) -> list[str]:
        """`name==version` of what is installed here, MLflow among them."""
        return [f"{name}=={importlib.metadata.version(name)}" for name in ("mlflow", *self.packages)]


@dataclass(frozen=True)
class LoggedModel:
    """A model in the store that has not been registered yet."""

    model_id: str
    run_id: str
    uri: str


@dataclass(frozen=True)
class Version:
    """One version of the registered model.

    Attributes:
        number: counts up from 1.
        run_id: the run that made it.
        created_at: UTC.
        tags: as they were written.
        aliases: that name it now: champion, challenger.
        has_files: false once its files were removed to save space; what is known of it stays.
    """

    number: int
    run_id: str
    created_at: datetime
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    has_files: bool


@dataclass(frozen=True)
class LoadedModel:
    """A version that is ready to score.

    Attributes:
        version: which one.
        model: MLflow's pyfunc model.
    """

    version: Version
    model: Any

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns the model takes, in its own order."""
        return tuple(column.name for column in self.model.metadata.get_input_schema().inputs)

    @property
    def logged(self) -> Any:
        """The object that was logged; it has to offer `get_raw_model`."""
        return self.model.get_raw_model()

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Score rows; columns in any order, whole numbers and missing values as they come.

        Raises:
            UserError: a column that the model needs is not there.
        """
        inputs = self.model.metadata.get_input_schema().inputs
        missing = [column.name for column in inputs if column.required and column.name not in frame.columns]
        if missing:
            raise UserError(
                f"version {self.version.number} of the model needs {', '.join(missing)}; add what is missing to the rows"
            )
        numbers = [column.name for column in inputs if column.type.name == "double"]
        answer: pd.DataFrame = self.model.predict(frame.astype(dict.fromkeys(numbers, "float64")))
        return answer


def key(name: str) -> str:
    """A name of a metric, parameter or tag as MLflow accepts it; a name that had to be changed ends in a part of its hash."""
    parts = [_FORBIDDEN.sub("_", part) for part in name.split("/")]
    allowed = "/".join(part if part.strip(".") else "_" for part in parts)
    if allowed == name and len(name) <= _KEY_LENGTH:
        return name
    suffix = "-" + hashlib.sha256(name.encode()).hexdigest()[:6]
    return allowed[: _KEY_LENGTH - len(suffix)] + suffix


def defined(metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """The metrics that are numbers, and the names of those that are not."""
    numbers = {key(name): float(value) for name, value in metrics.items() if math.isfinite(value)}
    return numbers, [name for name, value in metrics.items() if not math.isfinite(value)]


def shortened(params: Mapping[str, object]) -> tuple[dict[str, str], dict[str, object]]:
    """Parameters as MLflow shows them, and those that were too long for it, in full."""
    written = {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in params.items()}
    long = {name: params[name] for name, text in written.items() if len(text) > _PARAMETER_LENGTH}
    shown = {
        key(name): f"{text[:_PARAMETER_LENGTH]} ... (whole in parameters.json)" for name, text in written.items() if name in long
    }
    return {key(name): text for name, text in written.items() if name not in long} | shown, long
