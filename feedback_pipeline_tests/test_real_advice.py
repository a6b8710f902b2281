"""What is advised on real reviews: nothing across agents, nothing where there is one class, words out of real issues."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.interchange import load_folder
from feedback_pipeline.storage.reading_patterns import read_improvements, read_patterns
from feedback_pipeline_tests.passes import Pass

pytestmark = pytest.mark.slow


def learned(database: Database, folder: Path, data: Path, bounds: tuple[float, float]) -> Pass:
    installation = Pass.at(database, folder, {"*": bounds})
    load_folder(database, data, installation.settings)
    installation.learn()
    return installation


@pytest.fixture
def summeval(database: Database, tmp_path: Path, shared_data: Path) -> Pass:
    return learned(database, tmp_path, shared_data / "summeval_op", (1.0, 5.0))


@pytest.fixture
def wmt(database: Database, tmp_path: Path, shared_data: Path) -> Pass:
    return learned(database, tmp_path, shared_data / "wmt_ted_ende", (-25.0, 0.0))


def patterns(installation: Pass, agent: str, *kinds: str) -> list[dict[str, Any]]:
    return [one for one in read_patterns(installation.database, agent)["patterns"] if one["type"] in kinds]


def test_summeval_an_agents_patterns_rest_on_its_own_outputs(summeval: Pass) -> None:
    with summeval.database.connect() as connection:
        rows = connection.execute(
            "SELECT sample_size FROM agent_learning_patterns WHERE agent_name <> '*' UNION"
            " SELECT (evidence ->> 'n_contents')::int FROM agent_recommendations"
        ).fetchall()
    assert max(size for (size,) in rows) <= 32
    found = patterns(summeval, "*", "successful_decisions")
    assert found
    assert {one["sample_size"] for one in found} == {416}


def test_summeval_the_fleet_says_that_length_and_system_are_confounded(summeval: Pass) -> None:
    by_feature = {one["input_features"]["feature"]: one for one in patterns(summeval, "*", "successful_decisions")}
    length = by_feature["word_count"]
    assert length["output_characteristics"]["confounded_with_agent"] is True
    assert length["output_characteristics"]["hedges_g"] > 2 * length["output_characteristics"]["effect_within"]
    assert "confounded with the agent" in length["sentence"]


@pytest.mark.parametrize(("agent", "reason"), [("gpt-4", "all approved"), ("plansum", "none approved")])
def test_summeval_one_class_for_decisions_while_scores_are_learned(summeval: Pass, agent: str, reason: str) -> None:
    found = read_patterns(summeval.database, agent)["parts"]
    assert (found["decisions"]["status"], found["decisions"]["reason"]) == ("one_class", reason)
    assert found["correlations"]["status"] == "success"
    assert not patterns(summeval, agent, "successful_decisions", "failure_patterns", "quality_threshold", "decision_rule")


def test_summeval_recommendations_are_of_length_and_say_whose_taste_it_may_be(summeval: Pass) -> None:
    """32 outputs an agent and three raters: little is advised, and it is what the published study found."""
    with summeval.database.connect() as connection:
        rows = connection.execute("SELECT feature, direction, text, q_value FROM agent_recommendations").fetchall()
    assert 3 <= len(rows) <= 15
    assert {(feature, direction) for feature, direction, _, _ in rows} <= {("word_count", "more"), ("sentence_count", "more")}
    assert all(text.endswith("may be the taste of these reviewers") for _, _, text, _ in rows)
    assert max(q for _, _, _, q in rows) <= 0.05


def test_summeval_has_no_texts_to_find_words_in(summeval: Pass) -> None:
    terms = read_patterns(summeval.database, "gpt-4")["parts"]["terms"]
    assert terms["status"] == "insufficient_data"
    assert (terms["comment"]["documents"], terms["reasoning"]["documents"]) == (0, 0)
    assert "300 needed" in terms["reason"]


def test_wmt_issue_terms_come_out_of_its_annotations(wmt: Pass) -> None:
    found = {
        (one["feedback_signals"]["feedback_category"], one["input_features"]["term"]): one
        for one in patterns(wmt, "*", "issue_terms")
    }
    for category in ("accuracy", "fluency", "style", "terminology"):
        assert found[category, "major"]["output_characteristics"]["points"] < -3
        assert found[category, "minor"]["output_characteristics"]["points"] > 3
    assert found["accuracy", "major"]["sample_size"] == 7406
    advice = read_improvements(wmt.database, "Nemo")["recommendations"]
    assert advice[0]["action"] == {
        "kind": "avoid_term",
        "term": "major",
        "in": "issues",
        "aspect": "accuracy",
        "decision_point": None,
    }
    assert all(np.isfinite(one["expected_effect"]["value"]) for one in advice)
