import os
from pathlib import Path

import pytest

from feedback_pipeline.learning_pass.cores import usable_cores


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000\n", 4), ("150000 100000\n", 1), ("250000 100000\n", 2), ("50000 100000\n", 1), ("900000 100000\n", 4)],
)
def test_the_quota_of_the_container_counts(text: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2, 3})
    file = tmp_path / "cpu.max"
    file.write_text(text)
    assert usable_cores(file) == cores
    assert usable_cores(tmp_path / "absent") == 4
