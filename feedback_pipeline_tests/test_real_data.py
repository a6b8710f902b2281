"""Real reviews with known true values: from the interchange files to what is published."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.learning.correlations import correlate
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.panel import output_means
from feedback_pipeline.learning_pass.correlations import read_subject
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.interchange import load_folder
from feedback_pipeline.storage.reading import read_findings, read_status
from feedback_pipeline.storage.reading_reviewers import read_agreement, read_reviewers
from feedback_pipeline_tests.passes import Pass

pytestmark = pytest.mark.slow
Real = tuple[Pass, dict[str, Any]]


def learned(database: Database, folder: Path, data: Path, bounds: tuple[float, float]) -> Real:
    installation = Pass.at(database, folder, {"*": bounds})
    load_folder(database, data, installation.settings)
    installation.learn()
    return installation, json.loads((data / "truth.json").read_text())


@pytest.fixture
def summeval(database: Database, tmp_path: Path, shared_data: Path) -> Real:
    return learned(database, tmp_path, shared_data / "summeval_op", (1.0, 5.0))


@pytest.fixture
def wmt(database: Database, tmp_path: Path, shared_data: Path) -> Real:
    return learned(database, tmp_path, shared_data / "wmt_ted_ende", (-25.0, 0.0))


def artifact(installation: Pass, name: str) -> pd.DataFrame:
    run = installation.store.latest("preference_models")
    assert run is not None
    return installation.store.read_result(run, "preference_models")[0][name]


def test_summeval_plain_correlations_of_word_count_equal_the_truth(summeval: Real) -> None:
    installation, truth = summeval
    subject = read_subject(installation.store, installation.settings, only=["word_count"])
    reviews = artifact(installation, "reviews")
    raw = reviews[[f"score:{aspect}" for aspect in subject.aspects]].to_numpy(dtype=float)
    design = subject.design
    plain = replace(
        design,
        group=np.zeros_like(design.group),
        names=np.zeros(1, dtype=np.intp),
        scores=output_means(raw, design.review_output, len(design.group)),
        review_scores=raw,
    )
    found = correlate(plain)
    assert len(subject.aspects) == 7
    for k, aspect in enumerate(subject.aspects):
        expected = truth["aspects"][aspect]
        assert found.n[0, 0, k] == 416
        assert found.r[0, 0, k] == pytest.approx(expected["words_spearman"], abs=1e-6)
        assert found.r_pearson[0, 0, k] == pytest.approx(expected["words_pearson"], abs=1e-6)


def test_summeval_severities_and_agent_means(summeval: Real) -> None:
    installation, truth = summeval
    severities = artifact(installation, "severities")
    own = severities[severities["aspect"] != "overall"].groupby("reviewer_id")["severity"].mean()
    assert own.sort_values().index.tolist() == ["rater-1", "rater-2", "rater-3"]
    for reviewer, expected in {"rater-1": -0.367, "rater-2": 0.031, "rater-3": 0.335}.items():
        assert own[reviewer] == pytest.approx(expected, abs=0.05)
    assert severities["comparable"].all()
    reviews = artifact(installation, "reviews")
    for aspect, expected in truth["aspects"].items():
        # Everybody rated everything: severities sum to 0 and adjusted means are the plain means.
        means = reviews.groupby("agent_name")[f"adjusted:{aspect}"].mean()
        for agent, mean in expected["agent_means"].items():
            assert means[agent] == pytest.approx(mean, abs=1e-4)


def test_summeval_fleet_row_says_that_length_is_confounded_with_the_system(summeval: Real) -> None:
    document = read_findings(summeval[0].database, FLEET, unpublished=True)
    found = {(row["feature"], row["aspect"]): row for row in document["findings"]}
    length = found["word_count", "aspect_coverage"]
    assert length["published"]
    assert length["confounded_with_agent"]
    assert length["r"] == pytest.approx(0.83, abs=0.01)
    assert length["r_within"] == pytest.approx(0.40, abs=0.02)
    assert length["scope"] == "these reviewers"
    assert "confounded with the agent: +0.40 within agents" in length["sentence"]


def test_summeval_columns_nobody_recorded_are_no_data_not_zero(summeval: Real) -> None:
    document = read_findings(summeval[0].database, "gpt-4", unpublished=True)
    assert document["n_contents"] == 32
    assert document["n_reviewers"] == 3
    empty = [row for row in document["findings"] if row["feature"] in ("cost", "input_tokens", "confidence_score", "duration_ms")]
    assert len(empty) == 4 * 7
    for row in empty:
        assert row["reason"] == "no data"
        assert row["r"] is None
        assert row["p_value"] is None
        assert row["n_contents"] == 0


def test_wmt_mean_penalty_and_reviewers_that_cannot_be_compared(wmt: Real) -> None:
    installation, truth = wmt
    reviews = artifact(installation, "reviews")
    penalty = -reviews.groupby("agent_name")["score:mqm"].mean()
    assert penalty["Facebook-AI"] == pytest.approx(1.056, abs=0.01)
    assert penalty["Nemo"] == pytest.approx(2.141, abs=0.01)
    for agent, mean in truth["aspects"]["mqm"]["agent_means"].items():
        assert -penalty[agent] == pytest.approx(mean, abs=0.01)
    severities = artifact(installation, "severities")
    assert not severities["comparable"].any()
    assert set(severities["reason"]) == {"no output has two reviewers"}
    assert np.isfinite(severities["severity"]).all()
    state = read_findings(installation.database, "Nemo")
    assert state["parts"]["severity"]["comparable"] is False
    assert state["parts"]["severity"]["reason"] == "no output has two reviewers"


def test_wmt_null_columns_yield_no_data(wmt: Real) -> None:
    document = read_findings(wmt[0].database, "Nemo", unpublished=True)
    by_feature = {row["feature"]: row for row in document["findings"]}
    for feature in ("cost", "input_tokens", "output_tokens", "duration_ms", "confidence_score", "reasoning_length"):
        assert (by_feature[feature]["reason"], by_feature[feature]["r"]) == ("no data", None)
    assert by_feature["word_count"]["published"]
    assert by_feature["word_count"]["r"] < -0.15


def test_summeval_reviewers_as_they_are_read(summeval: Real) -> None:
    found = read_reviewers(summeval[0].database)
    assert [row["reviewer_id"] for row in found] == ["rater-1", "rater-2", "rater-3"]
    for row, expected in zip(found, (-0.367, 0.031, 0.335), strict=True):
        severity = row["severity"]
        assert np.mean(list(severity["aspects"].values())) == pytest.approx(expected, abs=0.05)
        assert severity["comparable"]
        assert all(0 < se < 0.1 for se in severity["se"].values())
        assert row["n_reviews"] == 416
        # Decisions of this set follow from the scores: approve from 4, so the standard is known.
        assert row["quality_standards"]["overall"]["s50"] == pytest.approx(4.0, abs=0.2)
        # Nobody recorded a tone or a structure.
        assert row["content_preferences"]["preferred_tone"] is None
        assert row["content_preferences"]["reasons"]["preferred_tone"] == "the outputs do not differ in tone"


def test_summeval_alpha_of_every_aspect_equals_the_truth(summeval: Real) -> None:
    installation, truth = summeval
    document = read_agreement(installation.database)
    found = {row["aspect"]: row for row in document["aspects"]}
    for aspect, expected in truth["aspects"].items():
        row = found[aspect]
        assert row["alpha"] == pytest.approx(expected["alpha_interval"], abs=1e-3)
        assert row["ci_low"] < row["alpha"] < row["ci_high"]
        assert row["alpha_adjusted"] > row["alpha"]
        assert (row["n_outputs"], row["n_reviewers"], row["reason"]) == (416, 3, None)
    assert found["overall"]["alpha"] == pytest.approx(truth["severity"]["overall_alpha_interval"], abs=1e-3)
    assert document["components"] == [["rater-1", "rater-2", "rater-3"]]
    assert document["bridges"] == []


def test_wmt_agreement_is_undefined_and_the_reviewers_are_apart(wmt: Real) -> None:
    document = read_agreement(wmt[0].database)
    assert {row["aspect"]: row["reason"] for row in document["aspects"]} == dict.fromkeys(
        ("mqm", "overall", "decision"), "undefined: no output has two reviewers"
    )
    assert all(row["alpha"] is None and row["n_outputs"] == 0 for row in document["aspects"])
    assert [len(component) for component in document["components"]] == [1, 1, 1, 1]
    assert len(document["bridges"]) == 3
    assert not any(row["severity"]["comparable"] for row in read_reviewers(wmt[0].database))


def test_status_and_errors_of_the_readers(summeval: Real) -> None:
    database = summeval[0].database
    status = read_status(database)
    assert len(status["agents"]) == 13
    assert {agent["status"] for agent in status["agents"]} == {"success"}
    assert {agent["pending"] for agent in status["agents"]} == {0}
    assert len({agent["learning_run_id"] for agent in status["agents"]}) == 1
    assert status["last_run"]["sample_size"] == 1248
    assert status["last_run"]["n_reviewers"] == 3
    with pytest.raises(UserError, match="known agents: Llama-2-13b-chat-hf"):
        read_findings(database, "nobody")


def test_nothing_learned_yet(database: Database) -> None:
    with pytest.raises(UserError, match="run `feedback-pipeline learn --all`"):
        read_findings(database, "anybody")
    assert read_status(database)["last_run"] is None


@pytest.fixture
def twin(make_database: Callable[[str], Database], migrated_template: str) -> Database:
    return make_database(migrated_template)


def test_row_order_and_days_per_run_change_no_published_number(
    summeval: Real, twin: Database, tmp_path: Path, shared_data: Path
) -> None:
    first, _ = summeval
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for file in (shared_data / "summeval_op").glob("*.parquet"):
        pd.read_parquet(file).sample(frac=1, random_state=3).to_parquet(shuffled / file.name)
    second = Pass.at(twin, tmp_path / "twin", {"*": (1.0, 5.0)})
    load_folder(twin, shuffled, second.settings)
    for day in reversed(second.pending()):
        second.extract([day])
    second.reduce()
    assert second.published() == first.published()


def test_learning_again_without_a_change_publishes_the_same_numbers(summeval: Real) -> None:
    installation, _ = summeval
    before = installation.published()
    assert installation.pending() == []
    assert installation.pending_changes() == 0
    installation.learn()
    assert installation.published() == before
