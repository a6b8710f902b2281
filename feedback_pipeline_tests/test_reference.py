"""docs/reference.md says what the code does."""

import re
from pathlib import Path

from feedback_pipeline.commands import results
from feedback_pipeline.settings import Settings

ROOT = Path(__file__).parents[1]


def variables(file: str) -> set[str]:
    return set(re.findall(r"^\| `(FEEDBACK_[A-Z_]+)` \|", (ROOT / file).read_text(), re.MULTILINE))


def test_every_variable_is_documented_and_exists() -> None:
    expected = {f"FEEDBACK_{name.upper()}" for name in Settings.model_fields}
    assert variables("docs/reference.md") == expected
    assert variables("README.md") == expected


def test_descriptions_are_those_of_the_settings() -> None:
    text = (ROOT / "docs/reference.md").read_text()
    for name, field in Settings.model_fields.items():
        assert field.description is not None
        row = next(line for line in text.splitlines() if line.startswith(f"| `FEEDBACK_{name.upper()}`"))
        assert field.description.replace("<home>", "FEEDBACK_HOME") in row


def keys_of(heading: str) -> list[str]:
    """First column of the tables under a heading, up to the next one of its level."""
    section = (ROOT / "docs/reference.md").read_text().split(f"## {heading}")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_json_of_findings_is_documented_key_by_key() -> None:
    expected = [*results._FINDINGS, "findings", *results._FLEET_FINDING]
    assert keys_of("`feedback-pipeline findings AGENT --json`") == expected


def test_json_of_status_is_documented_key_by_key() -> None:
    text = (ROOT / "docs/reference.md").read_text()
    assert keys_of("`feedback-pipeline status --json`") == ["agents", "last_run", "champion"]
    for key in results._AGENT:
        assert f"`{key}`" in text
