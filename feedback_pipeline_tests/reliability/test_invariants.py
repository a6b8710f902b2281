from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline_tests.passes import Pass
from reliability.invariants import Verdict, compare

pytestmark = pytest.mark.slow

WORLD = WorldSpec(agents=2, executions=12, reviewers=4, days=4, seed=3, until=date(2026, 6, 30))


def test_what_is_lost_doubled_or_mixed_is_counted(database: Database, tmp_path: Path) -> None:
    write_world(database, simulate(WORLD))
    learned = Pass(database, Pass.at(database, tmp_path).settings, datetime.now(UTC))
    learned.learn()
    assert compare(database, learned.settings) == Verdict(0, 0, 0)

    with database.connect() as connection:
        changed = connection.execute("UPDATE feedback_quality_correlations SET n_contents = n_contents + 1").rowcount
    # As it was, and as it should be.
    assert compare(database, learned.settings) == Verdict(0, 0, 2 * changed)

    with database.connect() as connection:
        connection.execute("DELETE FROM review_feedback WHERE id IN (SELECT id FROM review_feedback ORDER BY id LIMIT 1)")
        connection.execute("DELETE FROM feedback_changes")
    stale = compare(database, learned.settings)
    assert stale.doubled > 0

    learned.extract(list(learned.store.days()))
    learned.store.remove_day(max(learned.store.days()))
    assert compare(database, learned.settings).lost > 0
