"""After the publication: whether applying what was recommended helps; what does not is taken back."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.assets.publication import LEARNED_IMPROVEMENTS
from feedback_pipeline.orchestration.failures import only_stores_are_retried
from feedback_pipeline.orchestration.learned_columns import EFFECTS
from feedback_pipeline.orchestration.ownership import OWNERS
from feedback_pipeline.orchestration.resources import DatabaseResource, LearningLock
from feedback_pipeline.settings import Settings

LEARNING_EFFECTIVENESS: Final = dg.AssetKey("learning_effectiveness")
HOLDOUT_RESPECTED: Final = "holdout_respected"


@dg.asset(
    key=LEARNING_EFFECTIVENESS,
    deps=[LEARNED_IMPROVEMENTS, "review_feedback", "content_review_workflows"],
    group_name="published",
    kinds={"postgres", "python"},
    owners=OWNERS,
    code_version="1",
    description="Whether applying a recommendation helps: uplift in approval between executions that applied it and a randomised "
    "holdout, watched continuously. Keeps what helps, retires what does not, and counts how often each pattern was applied and "
    "with what success.",
    metadata={"dagster/column_schema": EFFECTS, "dagster/table_name": "public.pattern_effects"},
    check_specs=[
        dg.AssetCheckSpec(
            HOLDOUT_RESPECTED,
            asset=LEARNING_EFFECTIVENESS,
            description="As many executions applied each pattern as should have, and those that should: else its effect is not "
            "that of a randomised comparison.",
        )
    ],
)
def learning_effectiveness(
    database: DatabaseResource,
    learning_lock: LearningLock,  # held, not called
) -> Iterator[dg.MaterializeResult[None]]:
    """Measures every open trial and decides its state."""
    from feedback_pipeline.learning_pass.effectiveness import measure_effects
    from feedback_pipeline.orchestration.checks import check_result
    from feedback_pipeline.orchestration.effect_report import describe_effects, holdout_evidence

    with only_stores_are_retried():
        outcome = measure_effects(database.open(), Settings(), now=datetime.now(UTC))
    check = check_result(LEARNING_EFFECTIVENESS, HOLDOUT_RESPECTED, holdout_evidence(outcome), warning=True)
    yield dg.MaterializeResult(metadata=describe_effects(outcome), check_results=[check])


assets = [learning_effectiveness]
