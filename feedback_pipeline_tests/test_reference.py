"""docs/reference.md says what the code does."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feedback_pipeline.commands import results
from feedback_pipeline.learning.auto_approval import ALPHAS
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.pattern_frame import CORRELATION_PATTERN, PATTERN_TYPES
from feedback_pipeline.learning.trial_states import STATES
from feedback_pipeline.settings import Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.past_forecasts import read_auto_approval
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import TRIAL_COLUMNS
from feedback_pipeline.storage.queue_draws import draw_queue
from feedback_pipeline.storage.reading import read_status
from feedback_pipeline.storage.reading_effects import read_effects
from feedback_pipeline.storage.reading_forecasts import LOWEST_APPROVAL, RANDOM, read_forecasts
from feedback_pipeline.storage.reading_patterns import read_improvements, read_patterns
from feedback_pipeline.storage.reading_reviewers import read_agreement, read_reviewers
from feedback_pipeline.storage.reading_strategy import read_strategy
from feedback_pipeline_tests.passes import Pass
from feedback_pipeline_tests.storage.forecasts import champion_says, forecast
from feedback_pipeline_tests.storage.publications import agent_names, publication

ROOT = Path(__file__).parents[1]


def variables(file: str) -> set[str]:
    return set(re.findall(r"^\| `(FEEDBACK_[A-Z_]+)` \|", (ROOT / file).read_text(), re.MULTILINE))


def test_every_variable_is_documented_and_exists() -> None:
    expected = {f"FEEDBACK_{name.upper()}" for name in Settings.model_fields}
    assert variables("docs/reference.md") == expected
    assert variables("README.md") < expected


def test_descriptions_are_those_of_the_settings() -> None:
    text = (ROOT / "docs/reference.md").read_text()
    for name, field in Settings.model_fields.items():
        assert field.description is not None
        row = next(line for line in text.splitlines() if line.startswith(f"| `FEEDBACK_{name.upper()}`"))
        assert field.description.replace("<home>", "FEEDBACK_HOME") in row


def section_of(heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    return (ROOT / "docs/reference.md").read_text().split(f"## {heading}")[1].split("\n## ")[0]


def keys_of(heading: str) -> list[str]:
    """First column of the tables under a heading."""
    return re.findall(r"^\| `(\w+)` \|", section_of(heading), re.MULTILINE)


def tables_of(heading: str) -> list[dict[str, str]]:
    """Each table under a heading, as {key: meaning}."""
    return [
        dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)) for table in section_of(heading).split("| key |")[1:]
    ]


def named(meaning: str) -> set[str]:
    """The keys in the first braces of a meaning."""
    found = re.search(r"\{([\w, ]+)\}", meaning)
    assert found, meaning
    return set(found.group(1).split(", "))


def test_json_of_findings_is_documented_key_by_key() -> None:
    expected = [*results._FINDINGS, "findings", *results._FLEET_FINDING]
    assert keys_of("`feedback-pipeline findings AGENT --json`") == expected


def test_json_of_status_is_documented_key_by_key() -> None:
    text = (ROOT / "docs/reference.md").read_text()
    assert keys_of("`feedback-pipeline status --json`") == ["agents", "last_run", "champion", "rejected", "forgetting", "trigger"]
    for key in results._AGENT:
        assert f"`{key}`" in text


@pytest.mark.slow
def test_json_of_patterns_improvements_and_strategy_is_documented_key_by_key(database: Database) -> None:
    run = publication(2)
    publish_run(database, run)
    (agent,) = agent_names(1)
    top, pattern = tables_of("`feedback-pipeline patterns AGENT --json`")
    for name in agent, FLEET:
        answer = read_patterns(database, name)
        assert list(answer) == list(top)
        assert {tuple(each) for each in answer["patterns"]} == {tuple(pattern)}
        assert {each["type"] for each in answer["patterns"]} <= set(re.findall(r"\w+_\w+", pattern["type"]))
    assert set(re.findall(r"\w+_\w+", pattern["type"])) == {CORRELATION_PATTERN, *PATTERN_TYPES}

    improvements = read_improvements(database, agent)
    top, pattern, recommendation = tables_of("`feedback-pipeline improvements AGENT --json`")
    assert list(improvements) == list(top)
    assert {tuple(each) for each in improvements["patterns"]} == {tuple(pattern)}
    assert {tuple(each) for each in improvements["recommendations"]} == {tuple(recommendation)}
    for each in improvements["recommendations"]:
        assert list(each["trial"]) == re.findall(r"\w+", recommendation["trial"].split("}")[0])
        assert set(each["expected_effect"]) == named(recommendation["expected_effect"])
        assert set(each["evidence"]) == named(recommendation["evidence"])
        assert set(each["evidence"]["window"]) == named(recommendation["evidence"].split("window ")[1])

    strategy = read_strategy(database, agent)
    top, segment = tables_of("`feedback-pipeline strategy AGENT --json`")
    assert list(strategy) == list(top)
    assert {tuple(each) for each in strategy["segments"]} == {tuple(segment)}
    rows = (row for rows in strategy["allocation"].values() for row in rows)
    assert_shown({frozenset(row) for row in rows}, top["allocation"].replace("{family: list of ", ""))
    last_run = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section_of("`feedback-pipeline status --json`"), re.MULTILINE))[
        "last_run"
    ]
    assert set(read_status(database)["last_run"]) == set(re.findall(r"`(\w+)`", last_run.split("}")[0]))


@pytest.mark.slow
def test_json_of_effectiveness_is_documented_key_by_key(database: Database) -> None:
    trials = pd.DataFrame([("p", 1, "agent_0000", {"text": "shorter", "target": {"max": 7}}, [])], columns=list(TRIAL_COLUMNS))
    publish_run(database, publication(1, trials=trials))
    answer = read_effects(database, "agent_0000")
    top, trial = tables_of("`feedback-pipeline effectiveness [AGENT] --json`")
    assert list(answer) == list(top)
    assert [list(each) for each in answer["trials"]] == [list(trial)]
    assert set(STATES) == set(re.findall(r"\w+", trial["state"])) - {"or"}


@pytest.mark.slow
def test_json_of_forecasts_queue_and_autoapproval_is_documented_key_by_key(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("INSERT INTO agent_performance (agent_name, execution_id) VALUES ('writer', 'e')")
        champion_says(connection, [forecast("e")])
    answer = read_forecasts(database)
    top, row = tables_of("`feedback-pipeline forecast [AGENT] --json`")
    assert list(answer) == list(top)
    assert [list(each) for each in answer["forecasts"]] == [list(row)]
    assert set(answer["champion"]) == named(top["champion"])
    status = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section_of("`feedback-pipeline status --json`"), re.MULTILINE))
    assert set(read_status(database)["champion"]) == named(status["champion"])

    answer = draw_queue(database, 1, 20, date(2026, 1, 5))
    top, row = tables_of("`feedback-pipeline queue [--limit N] --json`")
    assert list(answer) == list(top)
    assert [list(each) for each in answer["queue"]] == [list(row)]
    assert set(re.findall(r"`([\w ]+)`", row["why"])) == {LOWEST_APPROVAL, RANDOM}

    answer = read_auto_approval(database, Settings())
    top, row = tables_of("`feedback-pipeline autoapproval --json`")
    assert list(answer) == list(top)
    assert [list(each) for each in answer["risks"]] == [list(row)] * len(ALPHAS)
    assert [float(alpha) for alpha in re.findall(r"\.\d+", top["risks"])] == list(ALPHAS)


@pytest.fixture
def two_groups(database: Database, tmp_path: Path) -> Database:
    """What was learned of reviewers of whom one has shared no output with the others."""
    write_world(database, simulate(WorldSpec(agents=2, executions=60, reviewers=6, seed=1, days=10)))
    with database.connect() as connection:
        connection.execute(
            "UPDATE review_feedback SET reviewer_id = 'loner' WHERE id = (SELECT min(f.id::text)::uuid FROM review_feedback f"
            " WHERE (SELECT count(*) FROM review_feedback o WHERE o.workflow_id = f.workflow_id) = 1)"
        )
    Pass.at(database, tmp_path).learn()
    return database


@pytest.mark.slow
def test_json_of_reviewers_and_of_agreement_is_documented_key_by_key(two_groups: Database) -> None:
    found = read_reviewers(two_groups)
    reviewer, severity, content, style, standard = tables_of("`feedback-pipeline reviewers [REVIEWER] --json`")
    for one in found:
        assert list(one) == list(reviewer)
        assert list(one["severity"]) == list(severity)
        assert set(one["content_preferences"]) == set(content)
        assert set(one["style_preferences"]) == set(style)
        assert {frozenset(each) for each in one["quality_standards"].values()} == {frozenset(standard)}
        assert set(one["severity"]["drift"]) == named(severity["drift"])
        assert {frozenset(month) for month in one["severity"]["months"]} == {frozenset(named(severity["months"]))}
    assert_shown({frozenset(one["content_preferences"]["content_length"] or {}) for one in found}, content["content_length"])
    slopes = (slope for one in found for slope in one["style_preferences"]["slopes"].values())
    assert_shown({frozenset(slope) for slope in slopes}, style["slopes"].replace("{feature: ", ""))

    answer = read_agreement(two_groups)
    agreement, aspect = tables_of("`feedback-pipeline agreement [AGENT] --json`")
    assert list(answer) == list(agreement)
    assert {tuple(row) for row in answer["aspects"]} == {tuple(aspect)}
    assert_shown({frozenset(bridge) for bridge in answer["bridges"]}, agreement["bridges"])


def assert_shown(documents: set[frozenset[Any]], meaning: str) -> None:
    """At least one of the documents that may be empty is not, and it has the keys of the meaning."""
    assert documents - {frozenset()} == {frozenset(named(meaning))}
