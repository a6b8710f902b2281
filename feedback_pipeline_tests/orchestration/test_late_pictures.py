"""Pictures wait for the publication where there is one."""

from typing import Any

import dagster as dg
import pytest

from feedback_pipeline.orchestration.late_pictures import PUBLICATION, LatePictures

pytestmark = [
    pytest.mark.slow,
    # Dagster reads its own deprecated attribute whenever it sets up a resource.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning"),
]
FINDINGS = dg.AssetKey("findings")


def _picture() -> dict[str, Any]:
    return {"picture": "drawn"}


@dg.asset(key=FINDINGS)
def findings(context: dg.AssetExecutionContext, late_pictures: LatePictures) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"found": 3} | late_pictures.now_or_later(context, FINDINGS, _picture))


@dg.asset(key=PUBLICATION, deps=[findings])
def published(context: dg.AssetExecutionContext, late_pictures: LatePictures) -> None:
    for seen in late_pictures.drawn():
        context.log_event(seen)


def _run(selection: list[dg.AssetsDefinition], *, held_back: bool = True) -> tuple[set[str], list[dg.AssetObservation]]:
    """Names of the metadata of findings as it was materialized, and what was observed."""
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"late_pictures": LatePictures(held_back=held_back)}
        result = dg.materialize([findings, published], selection=selection, resources=resources, instance=instance)
    (materialization,) = [event for event in result.get_asset_materialization_events() if event.asset_key == FINDINGS]
    observations = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    return set(materialization.materialization.metadata), observations


def test_a_run_that_publishes_draws_afterwards_and_once() -> None:
    for _ in range(2):
        shown, observed = _run([findings, published])
        assert shown == {"found"}
        assert [(seen.asset_key, seen.metadata["picture"].value) for seen in observed] == [(FINDINGS, "drawn")]


def test_a_run_that_publishes_nothing_draws_at_once() -> None:
    assert _run([findings]) == ({"found", "picture"}, [])


def test_drawing_within_the_step_can_be_asked_for() -> None:
    assert _run([findings, published], held_back=False) == ({"found", "picture"}, [])
