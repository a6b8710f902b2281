"""Metadata of the learning run: its counts, its findings as a table, the heat map. Reviewers appear as R1, R2, ..."""

import math
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from feedback_pipeline.orchestration.columns import correlations_schema, severities_schema

if TYPE_CHECKING:
    import pandas as pd

    from feedback_pipeline.learning_pass import CorrelationOutcome, PublishedRun, SeverityOutcome

MAX_ROWS: Final = 100
_LABELS: Final = {
    "n_reviews": "reviews",
    "n_contents": "outputs",
    "n_agents": "agents",
    "n_reviewers": "reviewers",
    "n_pairs": "pairs tested",
    "n_published": "findings published",
    "window_first": "window from",
    "window_last": "window to",
}


def describe_severities(outcome: "SeverityOutcome") -> dict[str, Any]:
    """Counts of the window and the severities of all reviewers under pseudonyms."""
    frame = outcome.severities
    people = {person: f"R{number}" for number, person in enumerate(sorted(frame["reviewer_id"].unique()), start=1)}
    ranked = frame.assign(reviewer=frame["reviewer_id"].map(people)).sort_values(["aspect", "severity"], kind="stable")
    return {
        **_facts(outcome.learning_run_id, outcome.facts),
        "dagster/row_count": len(frame),
        "severities": dg.MetadataValue.table(_records(ranked.head(MAX_ROWS), severities_schema()), severities_schema()),
    }


def describe_correlations(outcome: "CorrelationOutcome") -> dict[str, Any]:
    """Counts, the heat map, and the published findings with the strongest first."""
    from feedback_pipeline.orchestration.pictures import correlation_heat_map, markdown

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
        _LABELS.get(key, key.replace("_", " ")): value
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
