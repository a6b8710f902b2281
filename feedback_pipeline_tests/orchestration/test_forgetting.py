"""Forgetting a reviewer end to end: no store holds a trace, and what is learned is as if they had never been."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from feedback_pipeline.commands.forgetting import installation_of
from feedback_pipeline.environment import Environment
from feedback_pipeline.errors import NotFound
from feedback_pipeline.learning_pass.forecasts import forecast_for_reviewers
from feedback_pipeline.learning_pass.forgetting import forget
from feedback_pipeline.orchestration.learning_run import run_learning
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import World, simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.installation import set_lookback
from feedback_pipeline.storage.reading_forecasts import read_forecasts
from feedback_pipeline.storage.reading_models import read_champion
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_registry import CHAMPION
from feedback_pipeline_tests.orchestration.conftest import UNTIL, pending
from feedback_pipeline_tests.passes import Pass
from feedback_pipeline_tests.traces import traces

pytestmark = [
    pytest.mark.slow,
    # Dagster reads its own deprecated attribute whenever it sets up a resource.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning"),
]
MARKED = "zoe.marked@example.org"
PHRASE = "quizzical marmalade zeppelin"
HALF = "quizzical"
# Without the reviewer these come out the same.
_ALIKE = {"reviewer_bridges"}


@pytest.fixture(scope="module")
def agency() -> World:
    """Two agents over six days; an output of each waits for a review."""
    return simulate(WorldSpec(agents=2, executions=70, reviewers=6, days=6, seed=11, until=UNTIL, waiting=1))


def _write(database: Database, agency: World, *, marked: bool) -> None:
    """The world with the busiest reviewer under a name and with words that can be looked for; or without them."""
    write_world(database, agency)
    busiest = agency.reviews["reviewer_id"].value_counts().index[0]
    with database.connect() as connection:
        set_lookback(connection, None)
        if marked:
            connection.execute(
                "UPDATE review_feedback SET reviewer_id = %s, comments = %s || coalesce(comments, '') WHERE reviewer_id = %s",
                (MARKED, f"{PHRASE} ", busiest),
            )
        else:
            connection.execute("DELETE FROM review_feedback WHERE reviewer_id = %s", (busiest,))


def _traces(environment: Environment) -> set[tuple[str, str]]:
    own = environment.database
    databases = [own, own.sibling(f"{own.name}_dagster"), own.sibling(f"{own.name}_mlflow")]
    return traces([MARKED, HALF], databases, [Path(environment.settings.home)])


def _champion(environment: Environment) -> Any:
    with environment.database.snapshot() as connection:
        return read_champion(connection)


def test_a_reviewer_is_forgotten_in_every_store(
    environment: Environment,
    instance: dg.DagsterInstance,
    agency: World,
    make_database: Callable[[str], Database],
    migrated_template: str,
    tmp_path: Path,
) -> None:
    _write(environment.database, agency, marked=True)
    days = pending(environment)
    # Two passes: results, models and patterns of the first are overtaken, and name the reviewer too.
    run_learning(days[:3])
    run_learning(days)
    tracking = Tracking(os.environ["MLFLOW_TRACKING_URI"], os.environ["FEEDBACK_MLFLOW_ARTIFACTS"])
    old = [version.number for version in tracking.models.versions()]
    waiting = read_forecasts(environment.database)["forecasts"][0]
    output = (waiting["agent_name"], waiting["execution_id"])
    forecast_for_reviewers(environment.database, tracking, {output: [MARKED]}, now=datetime.now(UTC))
    with environment.database.connect() as connection:  # a change that no pass has seen
        connection.execute(
            "UPDATE review_feedback SET reviewed_at = reviewed_at + interval '1 day' WHERE id IN"
            " (SELECT id FROM review_feedback WHERE reviewer_id = %s ORDER BY reviewed_at LIMIT 3)",
            (MARKED,),
        )
    _traces_everywhere(_traces(environment), environment)

    before = Pass(environment.database, environment.settings).published()

    receipt = forget(installation_of(environment), "reviewer", MARKED)

    assert _traces(environment) == set()
    assert receipt["state"] == "done"
    assert receipt["counts"]["review_feedback"] == agency.reviews["reviewer_id"].value_counts().iloc[0]
    assert {"human_preference_models", "quality_forecasts", "reviewer_severity_months"} <= set(receipt["counts"])
    run = instance.get_run_by_id(receipt["dagster_run_id"])
    assert run is not None
    assert run.status == dg.DagsterRunStatus.SUCCESS
    _a_new_champion(environment, tracking, receipt, old)
    with pytest.raises(NotFound, match=r"was forgotten on \d{4}-\d\d-\d\d"):
        forget(installation_of(environment), "reviewer", MARKED)

    never = Pass.at(make_database(migrated_template), tmp_path / "never")
    _write(never.database, agency, marked=False)
    never.learn()
    after, expected = Pass(environment.database, environment.settings).published(), never.published()
    assert after == expected
    assert not [table for table, rows in before.items() if rows and rows == after[table] and table not in _ALIKE]
    assert pending(environment) == []


def _traces_everywhere(found: set[tuple[str, str]], environment: Environment) -> None:
    """What is looked for is found at first where it can be: else nothing would be shown by finding nothing."""
    name = environment.database.name
    places = {where for word, where in found if word == MARKED}
    tables = ("review_feedback", "human_preference_models", "quality_forecasts", "reviewer_components")
    assert {f"{name}.{table}" for table in tables} <= places
    assert any(place.endswith("model.pkl") for place in places)
    assert {"human_feedback", "reviews", "models", "months"} <= {Path(place).stem.rsplit("-", 1)[0] for place in places}
    assert (HALF, f"{name}.review_feedback") in found


def _a_new_champion(environment: Environment, tracking: Tracking, receipt: dict[str, Any], old: list[int]) -> None:
    champion = _champion(environment)
    assert receipt["model_versions"] == sorted(old)
    assert receipt["champion"] == champion.model_version == max(old) + 1
    newest, *others = tracking.models.versions()
    assert (newest.number, newest.aliases) == (champion.model_version, (CHAMPION,))
    assert all(not version.has_files and version.tags["forgotten"] for version in others)
    assert tracking.models.load(CHAMPION).columns
    assert {row["model_version"] for row in read_forecasts(environment.database)["forecasts"]} == {champion.model_version}
