"""What docs/team.md says about backups, done as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg import sql

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import binaries

pytestmark = pytest.mark.slow

_PAGE = Path(__file__).parents[1] / "docs" / "team.md"


def _commands(folder: Path, name: str) -> list[str]:
    """The blocks of the section, with the folder of the backup and the names of the databases put in."""
    section = _PAGE.read_text().split("## Backup and restore\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .+\n)+", section, re.MULTILINE)
    databases = f"for name in {name} {name}_dagster {name}_mlflow;"
    return [block.replace("/backup", str(folder)).replace("for name in feedback dagster mlflow;", databases) for block in blocks]


def test_a_backup_is_restored(database: Database, postgres_server: Database, tmp_path: Path) -> None:
    kept, backup = tmp_path / ".feedback" / "store" / "day", tmp_path / "backup"
    for path in (kept, tmp_path / ".feedback" / "mlflow" / "artifacts", backup):
        path.mkdir(parents=True)
    (kept / "file").write_text("a day")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FEEDBACK_", "DAGSTER_", "MLFLOW_"))}
    search = os.pathsep.join([str(Path(sys.executable).parent), str(binaries()), clean["PATH"]])
    variables = clean | {"FEEDBACK_DATABASE_URL": database.url, "PATH": search}

    def shell(text: str) -> None:
        done = subprocess.run(["sh", "-ec", text], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr

    save, restore = _commands(backup, database.name)
    try:
        with database.connect() as connection:
            connection.execute("INSERT INTO agent_performance (agent_name, execution_id) VALUES ('kept', 'kept')")
        shell(save)
        with database.connect() as connection:
            connection.execute("UPDATE agent_performance SET agent_name = 'spoilt'")
        (kept / "file").unlink()
        shell(restore)
        with database.connect() as connection:
            assert connection.execute("SELECT agent_name FROM agent_performance").fetchall() == [("kept",)]
            granted = "SELECT has_table_privilege('feedback_reader', 'agent_recommendations', 'SELECT')"
            assert connection.execute(granted.encode()).fetchall() == [(True,)]
        assert (kept / "file").read_text() == "a day"
    finally:
        with postgres_server.connect(autocommit=True) as connection:
            for kind in ("dagster", "mlflow"):
                beside = sql.Identifier(f"{database.name}_{kind}")
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(beside))
