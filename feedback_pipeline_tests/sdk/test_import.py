"""What an agent pays for importing the SDK."""

import json
import subprocess
import sys

import pytest

HEAVY = {"dagster", "mlflow", "sklearn", "pandas", "numpy", "scipy", "pyarrow", "sqlalchemy", "fastapi", "click", "rich"}
NEEDED_LATER = {"psycopg", "urllib3"}


@pytest.mark.parametrize(
    ("statement", "needed"),
    [
        ("import feedback_pipeline.sdk", set()),
        ("from feedback_pipeline.sdk import LearningClient; LearningClient('http://127.0.0.1:1', spool={spool!r})", {"urllib3"}),
        ("from feedback_pipeline.sdk import LearningClient; LearningClient('postgresql:///x', spool={spool!r})", {"psycopg"}),
    ],
    ids=["import", "http", "postgres"],
)
def test_it_is_light(statement: str, needed: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    code = f"import sys, json\n{statement.format(spool=str(tmp_path_factory.mktemp('spool')))}\n"
    code += "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(done.stdout))
    assert not loaded & HEAVY
    assert loaded & NEEDED_LATER == needed
