"""What tests write to MLflow stores. Its tables take seconds to make: a session shares it, tests use names of their own."""

import struct
import zlib
from collections.abc import Callable, Mapping

from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_models import Candidate, Record, TrainingData
from feedback_pipeline_tests.storage.scoring_model import predictor, rows

MakeTracking = Callable[[str], Tracking]
DATA = TrainingData(
    name="reviews",
    digest="0123456789abcdef",
    source={"learning_run_id": "run-1", "first": "2026-01-01", "last": "2026-01-31"},
    columns={"word_count": "double", "tone": "string"},
    profile={"rows": 500, "outputs": 120, "reviewers": 7},
)


def pixel() -> bytes:
    """A PNG of one black pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def candidate(name: str, metrics: Mapping[str, float]) -> Candidate:
    record = Record(
        params={"candidate": name, "features": ["word_count", "tone"]},
        metrics=metrics,
        tags={"window": "30 days"},
        figures={"forward.png": pixel()},
        tables={"agents": rows()[["agent_name", "word_count"]]},
        data=DATA,
    )
    return Candidate(name, record, fit_seconds=1.5)


def trained(tracking: Tracking, base: float = 5.0, installation: str = "") -> int:
    """A training with one candidate, registered; the number of its version."""
    parent = tracking.start_training("training", Record(), installation)
    run_id = tracking.log_candidate(parent, candidate("ridge", {"r2": 0.5}))
    number = tracking.models.register(tracking.log_model(run_id, predictor(base)), {"gain": 0.07})
    tracking.finish(parent)
    return number
