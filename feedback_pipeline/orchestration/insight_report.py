"""Metadata of the reviewers and the correlations: counts, tables and pictures. Reviewers appear as R1, R2, ..."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from feedback_pipeline.learning.features import FLEET, OVERALL
from feedback_pipeline.orchestration.learned_columns import AGREEMENT, COMPONENTS, CORRELATIONS, SEVERITIES
from feedback_pipeline.orchestration.metadata import plain_facts, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from feedback_pipeline.learning_pass.correlations import CorrelationOutcome
    from feedback_pipeline.learning_pass.reviewers import PreferenceOutcome


def describe_preferences(outcome: "PreferenceOutcome") -> dict[str, Any]:
    """Counts of the window, how well decisions are foreseen, severities, agreement and who can be compared; no picture."""
    from feedback_pipeline.orchestration.reviewer_frames import numbered

    shown = numbered(outcome.frames)
    components = shown["components"].groupby("component", as_index=False).size().rename(columns={"size": "reviewers"})
    fleet = shown["agreement"][shown["agreement"]["agent_name"] == FLEET]
    tables = {
        "severities": (_severities(shown["severities"]), SEVERITIES),
        "agreement": (fleet, AGREEMENT),
        "reviewers by component": (components, COMPONENTS),
    }
    return {
        **plain_facts(outcome.learning_run_id, outcome.facts),
        "dagster/row_count": len(shown["severities"]),
        "components": len(components),
        "second reviews that would connect them": len(shown["bridges"]),
        **{name: table(frame, schema) for name, (frame, schema) in tables.items()},
    }


def _severities(severities: "pd.DataFrame") -> "pd.DataFrame":
    """Overall first, then by aspect; the strictest first."""
    first = (severities["aspect"] != OVERALL).rename("later")
    ordered = severities.assign(later=first).sort_values(["later", "aspect", "severity", "reviewer"])
    return ordered.assign(reviewer="R" + ordered["reviewer"].astype(str))


def picture_preferences(frames: "Mapping[str, pd.DataFrame]") -> dict[str, Any]:
    """Severities, standards, agreement, and the months of those whose severity changes."""
    from feedback_pipeline.orchestration import reviewer_pictures as pictures
    from feedback_pipeline.orchestration.agreement_picture import agreement_before_and_after
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.reviewer_frames import drifters, numbered, standards

    shown = numbered(frames)
    drawn = {
        "severity by reviewer": pictures.severity_caterpillar(shown["severities"]),
        "quality standards": pictures.quality_standards(standards(shown["models"])),
        "agreement before and after": agreement_before_and_after(shown["agreement"]),
    }
    changing = drifters(shown["models"])
    if changing:
        drawn["severity by month"] = pictures.severity_by_month(shown["months"], changing)
    return {name: dg.MetadataValue.md(markdown(png, name)) for name, png in drawn.items()}


def picture_correlations(outcome: "CorrelationOutcome") -> dict[str, Any]:
    """The heat map."""
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.pictures import correlation_heat_map

    picture = markdown(correlation_heat_map(outcome.findings), "Agents by features, a panel for each aspect")
    return {"heat map": dg.MetadataValue.md(picture)}


def describe_correlations(outcome: "CorrelationOutcome") -> dict[str, Any]:
    """Counts, and the published findings with the strongest first."""
    findings = outcome.findings
    published = findings[findings["published"]]
    strongest = published.loc[published["r_shrunk"].abs().sort_values(ascending=False, kind="stable").index]
    return {
        **plain_facts(outcome.learning_run_id, outcome.facts),
        "dagster/row_count": len(findings),
        "findings": table(strongest, CORRELATIONS),
    }
