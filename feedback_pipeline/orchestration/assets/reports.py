"""Beside the flow: what is known of one agent, on one page of the web UI."""

from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.assets.publication import LEARNED_IMPROVEMENTS
from feedback_pipeline.orchestration.failures import only_stores_are_retried
from feedback_pipeline.orchestration.learned_columns import REPORT
from feedback_pipeline.orchestration.ownership import OWNERS
from feedback_pipeline.orchestration.partitions import AGENTS, agent_of_key
from feedback_pipeline.orchestration.resources import DatabaseResource

AGENT_REPORT: Final = dg.AssetKey("agent_report")


_SPEC = dg.AssetSpec(
    AGENT_REPORT,
    deps=[LEARNED_IMPROVEMENTS],
    group_name="reports",
    kinds={"postgres", "matplotlib"},
    owners=OWNERS,
    code_version="1",
    description="One agent on one page: its status with the reasons, recommendations with their evidence, correlations, "
    "thresholds, differences between approved and other outputs, words, segments and the next allocation. Materialize the "
    "partition of an agent and open `report`. It reads what is published and learns nothing; the partition of an agent appears "
    "with its first learning run. Its key is the name of the agent, percent-encoded where Dagster allows no such key.",
    metadata={"dagster/column_schema": REPORT},
)


# Several reports are one run: a run for each would cost seconds of start for a second of drawing.
@dg.multi_asset(name="agent_report", specs=[_SPEC], partitions_def=AGENTS, backfill_policy=dg.BackfillPolicy.single_run())
def agent_report(context: dg.AssetExecutionContext, database: DatabaseResource) -> None:
    """Draws the page of every agent of this run from what is published."""
    from feedback_pipeline.orchestration.agent_documents import read_agent
    from feedback_pipeline.orchestration.agent_metadata import describe_agent

    plain = database.open()
    for key in context.partition_keys:
        with only_stores_are_retried():
            page = describe_agent(read_agent(plain, agent_of_key(key)))
        context.add_asset_metadata(page, asset_key=AGENT_REPORT, partition_key=key)


assets = [agent_report]
