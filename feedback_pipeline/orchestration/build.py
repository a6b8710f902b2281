"""Builds the definitions: the one place where assets, checks, jobs and resources meet."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from feedback_pipeline.orchestration.assets import GROUPS
from feedback_pipeline.orchestration.checks import checks
from feedback_pipeline.orchestration.daily_check import daily_check, schedules
from feedback_pipeline.orchestration.jobs import jobs
from feedback_pipeline.orchestration.late_pictures import LatePictures
from feedback_pipeline.orchestration.pattern_checks import checks as pattern_checks
from feedback_pipeline.orchestration.quality_checks import checks as quality_checks
from feedback_pipeline.orchestration.resources import (
    DatabaseResource,
    FeatureStoreResource,
    LearningLock,
    RunSign,
    TrackingResource,
)
from feedback_pipeline.orchestration.retention import old_runs
from feedback_pipeline.orchestration.reviewer_checks import reviewers_checks
from feedback_pipeline.orchestration.sensors import sensors


def build_defs(*, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Fresh definitions; opens no connection and reads no file.

    Args:
        resource_overrides: replaces resources by name: `database`, `feature_store`, `learning_lock`, `run_sign`, `tracking`.
    """
    given = dict(resource_overrides or {})
    database = given.get("database", DatabaseResource(url=dg.EnvVar("FEEDBACK_DATABASE_URL")))
    resources = {
        "database": database,
        "feature_store": FeatureStoreResource(),
        "late_pictures": LatePictures(),
        "learning_lock": LearningLock(database=database),
        "run_sign": RunSign(database=database),
        "tracking": TrackingResource(),
    }
    return dg.Definitions(
        assets=[asset for modules in GROUPS.values() for module in modules for asset in module.assets],
        asset_checks=[*checks, reviewers_checks, *pattern_checks, *quality_checks],
        jobs=[*jobs, daily_check],
        sensors=sensors,
        schedules=[*schedules, old_runs],
        resources=resources | given,
        executor=dg.in_process_executor,
    )
