"""Two agents with everything a view can show, one of them and some people with names that are markup; and a browser."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from psycopg import sql

from feedback_pipeline.learning_pass.effectiveness import measure_effects
from feedback_pipeline.learning_pass.forecasts import forecast_unreviewed
from feedback_pipeline.learning_pass.predictor import train_if_due
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline_tests.passes import Pass
from feedback_pipeline_tests.serving.conftest import LearnedWorld, _draw_nothing, served
from feedback_pipeline_tests.test_effects_end_to_end import apply, recommendations

# One worker learns the world and looks at it; the others would each learn their own.
WHOLE_ROOM = [pytest.mark.slow, pytest.mark.xdist_group("page")]
HOSTILE_AGENT = '<img src=x onerror="window.hacked=1">'
HOSTILE_REVIEWER = "'; DROP TABLE review_feedback; --<script>window.hacked=1</script>"
HOSTILE_TEXT = '"><script>window.hacked=1</script><svg onload=window.hacked=1>'
_CHANGES = (
    ("UPDATE agent_performance SET agent_name = %s WHERE agent_name <> 'drafter'", HOSTILE_AGENT),
    (
        "UPDATE review_feedback SET reviewer_id = %s WHERE reviewer_id = (SELECT min(reviewer_id) FROM review_feedback)",
        HOSTILE_REVIEWER,
    ),
    ("UPDATE review_feedback SET comments = %s || comments", HOSTILE_TEXT),
    ("UPDATE agent_decisions SET reasoning = %s || reasoning", HOSTILE_TEXT),
    # A feature by the name of a tag, and one that is found: the number of words again.
    (
        "UPDATE agent_performance p SET metadata = jsonb_set(p.metadata, '{features}', coalesce(p.metadata -> 'features', '{}')"
        " || jsonb_build_object(%s::text, p.output_tokens))",
        "<b onmouseover=window.hacked=1>tokens",
    ),
)
# A step to be found: of half of the reviews, those of long outputs approve more often, whatever they score.
_STEP = """
    UPDATE review_feedback r SET decision = (CASE WHEN abs(hashtext(r.id::text)) % 100 < CASE WHEN p.output_tokens >= (
        SELECT percentile_cont(.5) WITHIN GROUP (ORDER BY output_tokens) FROM agent_performance
    ) THEN 85 ELSE 30 END THEN 'approve' ELSE 'reject' END)::review_decision
    FROM content_review_workflows w JOIN agent_performance p ON p.execution_id = w.workflow_execution_id
    WHERE w.id = r.workflow_id AND abs(hashtext(r.id::text || 'chosen')) % 2 = 0
"""
# People judge half of what was forecast, roughly as it was.
_LATER = """
    INSERT INTO review_feedback
        (workflow_id, content_id, reviewer_id, stage, decision, quality_scores, reviewed_at, is_training_data)
    SELECT w.id, w.content_id, 'anna', 'final_approval',
        (CASE WHEN f.p_approve > .3 + .004 * (abs(hashtext(f.execution_id || 'd')) %% 100)
            THEN 'approve' ELSE 'reject' END)::review_decision,
        jsonb_build_object('content_quality', round(least(10, greatest(0, f.score))::numeric, 1)), %s, true
    FROM quality_forecasts f JOIN content_review_workflows w ON w.workflow_execution_id = f.execution_id
    WHERE f.reviewer_id = '' AND abs(hashtext(f.execution_id)) %% 2 = 0
"""


@pytest.fixture(scope="package")
def rich_world(
    make_database: Callable[[str], Database],
    migrated_template: str,
    mlflow_template: str,
    postgres_server: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LearnedWorld]:
    folder, database = tmp_path_factory.mktemp("page"), make_database(migrated_template)
    beside = f"{database.name}_mlflow"
    with postgres_server.connect(autocommit=True) as connection:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(make.format(sql.Identifier(beside), sql.Identifier(mlflow_template)))
    yield _learned(database, Tracking(postgres_server.sibling(beside).sqlalchemy_url(), str(folder / "mlflow")), folder)
    for name in (database.name, beside):
        with postgres_server.connect(autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _learned(database: Database, tracking: Tracking, folder: Path) -> LearnedWorld:
    write_world(database, simulate(WorldSpec(agents=2, executions=400, reviewers=12, seed=2, days=20, waiting=60)))
    with database.connect() as connection:
        for query, value in _CHANGES:
            connection.execute(query.encode(), (value,))
        connection.execute(_STEP.encode())
    installation = Pass.at(database, folder)
    installation.learn()
    store, settings, now = installation.store, installation.settings, installation.now
    train_if_due(database, store, settings, tracking, _draw_nothing, now=now)
    forecast_unreviewed(database, store, settings, tracking, now=now)
    with database.connect() as connection:
        connection.execute(_LATER.encode(), (now + timedelta(days=1),))
    useful, harmful = list(recommendations(database).values())[:2]
    apply(database, useful, range(1000, 2000), {True: 0.8, False: 0.4})
    apply(database, harmful, range(400), {True: 0.2, False: 0.7})
    measure_effects(database, settings, now=now + timedelta(days=2))
    return LearnedWorld(database, settings, tracking)


@pytest.fixture(scope="package")
def page(rich_world: LearnedWorld) -> Iterator[str]:
    """Address of the page over the rich world."""
    with served(rich_world) as address:
        yield address


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium. Nothing else of this thread may need an event loop while it runs."""
    program = shutil.which("chromium")
    assert program, "these tests need Debian's package chromium; .ci/run installs it"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for the tests of a module."""
    with chromium() as running:
        yield running
