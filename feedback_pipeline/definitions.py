"""The definitions Dagster loads."""

from feedback_pipeline.orchestration.build import build_defs

defs = build_defs()
