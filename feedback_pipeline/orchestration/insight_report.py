"""Metadata of the learning run: its counts, reviewers and findings as tables and pictures. Reviewers appear as R1, R2, ..."""

import math
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from feedback_pipeline.learning.features import FLEET, OVERALL
from feedback_pipeline.orchestration.columns import agreement_schema, components_schema, correlations_schema, severities_schema

if TYPE_CHECKING:
    import pandas as pd

    from feedback_pipeline.learning_pass.correlations import CorrelationOutcome
    from feedback_pipeline.learning_pass.publication import PublishedRun
    from feedback_pipeline.learning_pass.reviewers import PreferenceOutcome

MAX_ROWS: Final = 100
_LABELS: Final = {
    "n_reviews": "reviews",
    "n_contents": "outputs",
    "n_agents": "agents",
    "n_reviewers": "reviewers",
    "n_pairs": "pairs tested",
    "n_published": "findings published",
    "accuracy": "decisions foreseen by the preference models",
    "baseline": "decisions foreseen by the reviewers' own majorities",
    "n_test": "decisions held out",
    "window_first": "window from",
    "window_last": "window to",
}


def describe_preferences(outcome: "PreferenceOutcome") -> dict[str, Any]:
    """Counts of the window, how well decisions are foreseen, severities, agreement and who can be compared."""
    from feedback_pipeline.orchestration.reviewer_frames import numbered

    shown = numbered(outcome.frames)
    components = shown["components"].groupby("component", as_index=False).size().rename(columns={"size": "reviewers"})
    fleet = shown["agreement"][shown["agreement"]["agent_name"] == FLEET]
    tables = {
        "severities": (_severities(shown["severities"]), severities_schema()),
        "agreement": (fleet, agreement_schema()),
        "reviewers by component": (components, components_schema()),
    }
    return {
        **_facts(outcome.learning_run_id, outcome.facts),
        "dagster/row_count": len(shown["severities"]),
        "components": len(components),
        "second reviews that would connect them": len(shown["bridges"]),
        **{
            name: dg.MetadataValue.table(_records(frame.head(MAX_ROWS), schema), schema)
            for name, (frame, schema) in tables.items()
        },
        **{name: dg.MetadataValue.md(picture) for name, picture in _reviewer_pictures(shown).items()},
    }


def _severities(severities: "pd.DataFrame") -> "pd.DataFrame":
    """Overall first, then by aspect; the strictest first."""
    first = (severities["aspect"] != OVERALL).rename("later")
    ordered = severities.assign(later=first).sort_values(["later", "aspect", "severity", "reviewer"])
    return ordered.assign(reviewer="R" + ordered["reviewer"].astype(str))


def _reviewer_pictures(shown: "dict[str, pd.DataFrame]") -> dict[str, str]:
    from feedback_pipeline.orchestration import reviewer_pictures as pictures
    from feedback_pipeline.orchestration.agreement_picture import agreement_before_and_after
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.reviewer_frames import drifters, standards

    drawn = {
        "severity by reviewer": pictures.severity_caterpillar(shown["severities"]),
        "quality standards": pictures.quality_standards(standards(shown["models"])),
        "agreement before and after": agreement_before_and_after(shown["agreement"]),
    }
    changing = drifters(shown["models"])
    if changing:
        drawn["severity by month"] = pictures.severity_by_month(shown["months"], changing)
    return {name: markdown(png, name) for name, png in drawn.items()}


def describe_correlations(outcome: "CorrelationOutcome") -> dict[str, Any]:
    """Counts, the heat map, and the published findings with the strongest first."""
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.pictures import correlation_heat_map

    findings = outcome.findings
    published = findings[findings["published"]]
    strongest = published.loc[published["r_shrunk"].abs().sort_values(ascending=False, kind="stable").index]
    picture = markdown(correlation_heat_map(findings), "Agents by features, a panel for each aspect")
    return {
        **_facts(outcome.learning_run_id, outcome.facts),
        "dagster/row_count": len(findings),
        "heat map": dg.MetadataValue.md(picture),
        "findings": dg.MetadataValue.table(_records(strongest.head(MAX_ROWS), correlations_schema()), correlations_schema()),
    }


def describe_publication(outcome: "PublishedRun") -> dict[str, Any]:
    """Counts of what was published."""
    rows = outcome.facts["feedback_quality_correlations"]
    return {**_facts(outcome.learning_run_id, outcome.facts), "dagster/row_count": rows}


def _facts(learning_run_id: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Plain counts of the learning run; anything longer than a word belongs in a table."""
    plain = {
        _LABELS.get(key, key.replace("_", " ")): _plain(value)
        for key, value in facts.items()
        if isinstance(value, bool | int | float | str)
    }
    return {"learning run": learning_run_id, **plain}


def _records(frame: "pd.DataFrame", schema: dg.TableSchema) -> list[dg.TableRecord]:
    names = [column.name for column in schema.columns if column.name in frame.columns]
    rows = frame[names].to_dict("records")
    return [dg.TableRecord({str(name): _plain(value) for name, value in row.items()}) for row in rows]


def _plain(value: Any) -> str | int | float | bool | None:
    """A value that a metadata table can hold: Python numbers, NaN as nothing, three significant digits for the eye."""
    if value is None or isinstance(value, str):
        return value
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, bool | int):
        return number
    if isinstance(number, float):
        return None if math.isnan(number) else float(f"{number:.3g}")
    return str(number)
