"""Files of trainings in a real MLflow store are taken out; versions, runs and their numbers stay."""

from pathlib import Path

import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_models import Record
from feedback_pipeline.storage.tracking_registry import CHAMPION
from feedback_pipeline_tests.storage.scoring_model import predictor
from feedback_pipeline_tests.storage.tracking_stores import MakeTracking, candidate, trained

pytestmark = pytest.mark.slow


def _files(tracking: Tracking) -> set[str]:
    with tracking._store.client("look") as client:
        experiment = client.get_experiment(tracking._store.experiment_id(client))
    root = Path(str(experiment.artifact_location).removeprefix("file://"))
    return {path.relative_to(root).parts[0 if path.relative_to(root).parts[0] != "models" else 1] for path in root.rglob("*.*")}


def test_trainings_lose_their_files_but_the_one_that_is_kept(make_tracking: MakeTracking) -> None:
    tracking = make_tracking("forget")
    first = trained(tracking, 5.0)
    tracking.models.set_alias(CHAMPION, first)
    # A training that died before its model was registered; one of another installation that shares this store.
    died = tracking.start_training("died", Record(), "ours")
    orphan = tracking.log_model(tracking.log_candidate(died, candidate("ridge", {"r2": 0.1})), predictor(1.0))
    foreign = tracking.start_training("foreign", Record(), "theirs")
    theirs = tracking.log_model(tracking.log_candidate(foreign, candidate("ridge", {"r2": 0.1})), predictor(2.0))
    second = trained(tracking, 6.0)
    kept = next(version.run_id for version in tracking.models.versions() if version.number == second)
    assert {orphan.model_id, orphan.run_id, theirs.model_id, kept} <= _files(tracking)

    for gone in ([first], []):  # again, as after an interruption
        assert tracking.remove_trainings([second, 99], "ours", "2026-11-26") == gone
    left = _files(tracking)
    assert {theirs.model_id, theirs.run_id, kept} <= left
    assert len(left) == 4  # and the model of the version that is kept
    newest, oldest = tracking.models.versions()
    assert (newest.number, newest.has_files, newest.aliases) == (second, True, ())
    assert (oldest.number, oldest.has_files, oldest.aliases, oldest.tags["forgotten"]) == (first, False, (), "2026-11-26")
    assert tracking.models.load(second).columns
    with pytest.raises(UserError, match="were removed"):
        tracking.models.load(first)
    with tracking._store.client("look") as client:
        assert client.get_run(oldest.run_id).data.metrics["r2"] == 0.5
    assert trained(tracking, 7.0) == second + 1


def test_a_version_that_nobody_has_written_down_goes_unless_another_installation_made_it(make_tracking: MakeTracking) -> None:
    tracking = make_tracking("forget")
    earlier, lost, foreign, kept = (trained(tracking, 5.0, installation) for installation in ("ours", "ours", "theirs", "ours"))
    assert tracking.remove_trainings([lost, kept], "ours", "2026-11-25") == [earlier]
    tracking.models.set_alias(CHAMPION, lost)
    assert tracking.remove_trainings([kept], "ours", "2026-11-26") == [lost]
    versions = {version.number: version for version in tracking.models.versions()}
    assert {number: version.tags.get("forgotten") for number, version in versions.items()} == {
        **{earlier: "2026-11-25", lost: "2026-11-26", foreign: None, kept: None}
    }
    assert {number for number, version in versions.items() if version.has_files} == {foreign, kept}
    assert tracking.models.get_alias(CHAMPION) is None
    assert _files(tracking) >= {versions[foreign].run_id, versions[kept].run_id}
    assert not _files(tracking) & {versions[earlier].run_id, versions[lost].run_id}
    for number in (foreign, kept):
        assert tracking.models.load(number).columns
