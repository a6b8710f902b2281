import json
import re

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.learning.text import Documents, text_features
from feedback_pipeline.simulation import phrases
from feedback_pipeline.simulation.articles import LEVELS, compose, endings_by_words
from feedback_pipeline.simulation.remarks import alternatives, reasonings, score_json
from feedback_pipeline.simulation.rows import Rows
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.migrations import migrate

TABLES = ("agent_performance", "agent_decisions", "content_review_workflows", "review_feedback")


def keyword_hits(text: str, topic: int) -> int:
    return sum(word in phrases.TOPICS[topic][1] for word in re.findall(r"[a-z]+", text.lower()))


def test_articles_have_exactly_the_wanted_words_and_keywords() -> None:
    random = np.random.default_rng(5)
    n = 1500
    words = np.concatenate([np.full(50, 60), np.full(50, 2000), random.integers(60, 900, n - 100)])
    hits = random.integers(0, np.floor(words * 0.06).astype(int) + 1)
    choices = pd.DataFrame(
        {
            "topic": random.integers(0, len(phrases.TOPICS), n),
            "title": random.integers(0, len(phrases.TITLES), n),
            "filler": random.integers(0, 2000, n),
            "keyword": random.integers(0, 2000, n),
        }
    )
    texts = compose(choices, words, hits, random.normal(10, 2.5, n))
    assert [len(text.split()) for text in texts] == words.tolist()
    assert [keyword_hits(text, topic) for text, topic in zip(texts, choices["topic"], strict=True)] == hits.tolist()
    assert not any("{" in text or "\n\n\n" in text or " \n" in text for text in texts)
    assert all(text.startswith("# ") for text in texts)


def documents(texts: list[str]) -> Documents:
    data = [text.encode() for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in data])])
    return Documents(np.frombuffer(b"".join(data), np.uint8), offsets, np.zeros(len(texts), bool))


def test_the_text_features_find_what_was_planted() -> None:
    world = simulate(WorldSpec(agents=2, executions=300))
    written = Rows(world).of_outputs(0, 600)["agent_decisions"]
    outputs = [
        (json.loads(output), json.loads(brief))
        for output, brief in zip(written["output_data"], written["input_data"], strict=True)
    ]
    texts, briefs = zip(*[(output["content"], brief) for output, brief in outputs if "content" in output], strict=True)
    keywords = documents(["\x1f".join(brief["keywords"]) for brief in briefs])
    measured = text_features(documents(list(texts)), keywords)
    np.testing.assert_array_equal(measured["word_count"], world.executions["word_count"])
    np.testing.assert_allclose(measured["keyword_density"], world.executions["keyword_density"])
    assert np.corrcoef(measured["readability"], world.executions["readability"])[0, 1] > 0.8
    assert measured["heading_count"].min() >= 1
    assert measured["link_count"].max() >= 1


def test_harder_reading_has_longer_words_and_sentences() -> None:
    choices = pd.DataFrame({"topic": [0] * LEVELS, "title": [0] * LEVELS, "filler": [10] * LEVELS, "keyword": [0] * LEVELS})
    texts = compose(choices, np.full(LEVELS, 1500), np.full(LEVELS, 5), np.array([5.0, 8.5, 10.0, 11.5, 15.0]))
    grade = [4.71 * sum(map(str.isalnum, text)) / len(text.split()) + 0.5 * len(text.split()) / text.count(".") for text in texts]
    assert grade == sorted(grade)
    assert grade[-1] - grade[0] > 5


def test_every_number_of_missing_words_has_an_ending() -> None:
    assert [len(text.split()) for text in endings_by_words()] == list(range(len(endings_by_words())))


def test_reasonings_have_exactly_the_wanted_characters() -> None:
    lengths = np.concatenate([np.arange(40, 1040), [20_000]])
    texts = reasonings(np.arange(lengths.size) % 1000, lengths)
    assert [len(text) for text in texts] == lengths.tolist()
    assert all(text.endswith(".") and "  " not in text for text in texts)


def test_alternatives_and_scores_are_json() -> None:
    counts = np.array([0, 1, 5, 15])
    assert [len(json.loads(text)) for text in alternatives(counts, np.array([0, 3, 14, 99]))] == counts.tolist()
    scores = np.array([[7, np.nan, 1, 10], [np.nan] * 4])
    assert [json.loads(text) for text in score_json(scores)] == [
        {"content_quality": {"score": 7}, "seo_effectiveness": {"score": 1}, "audience_targeting": {"score": 10}},
        {},
    ]


def read(database: Database, query: str) -> pd.DataFrame:
    with database.connect() as connection:
        cursor = connection.execute(query)
        return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description or ()])


@pytest.mark.slow
def test_the_database_holds_every_output(database: Database) -> None:
    world = simulate(WorldSpec(agents=3, executions=900, reviewers=12, seed=4))
    steps: list[tuple[int, int]] = []
    written = write_world(database, world, progress=lambda done, total: steps.append((done, total)))
    for table in TABLES:
        assert read(database, f"SELECT count(*) FROM {table}").iloc[0, 0] == written[table] > 0
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1] == len(world.executions) + len(world.reviews)

    outputs = read(
        database,
        """SELECT p.execution_id, agent_name, w.content_id::text, start_time AS started_at, duration AS duration_ms, input_tokens,
                  output_tokens, cost, (metadata->'features'->>'queue_wait_ms')::float8 AS queue_wait_ms,
                  avg(confidence_score) AS confidence_score, min(confidence_score) AS min_confidence, count(*) AS decision_count,
                  avg(jsonb_array_length(alternatives_considered))::float8 AS alternatives_count,
                  avg(length(reasoning))::float8 AS reasoning_length,
                  max(output_data->>'content') AS content, min(input_data->>'tone') AS tone,
                  (array_agg(input_data->'keywords'))[1] AS keywords
           FROM agent_performance p JOIN agent_decisions d ON d.performance_id = p.id
           JOIN content_review_workflows w ON w.workflow_execution_id = p.execution_id
           GROUP BY p.id, w.content_id""",
    ).set_index("execution_id")
    truth = world.executions.set_index("execution_id")
    outputs = outputs.loc[truth.index]
    assert [len(text.split()) for text in outputs["content"]] == truth["word_count"].tolist()
    density = [
        sum(word in keywords for word in re.findall(r"[a-z]+", text.lower())) / len(text.split())
        for text, keywords in zip(outputs["content"], outputs["keywords"], strict=True)
    ]
    np.testing.assert_allclose(density, truth["keyword_density"])
    for name in ("agent_name", "content_id", "tone"):
        assert outputs[name].tolist() == truth[name].tolist()
    assert (outputs["started_at"].array == truth["started_at"].array).all()
    numbers = ["duration_ms", "input_tokens", "output_tokens", "cost", "confidence_score", "min_confidence", "decision_count"]
    for name in [*numbers, "alternatives_count", "reasoning_length", "queue_wait_ms"]:
        np.testing.assert_allclose(outputs[name].astype(float), truth[name], rtol=1e-12, err_msg=name)


@pytest.mark.slow
def test_the_database_holds_every_review(database: Database) -> None:
    world = simulate(WorldSpec(agents=2, executions=300, reviewers=12, seed=4))
    write_world(database, world)
    reviews = read(
        database,
        """SELECT r.id::text AS feedback_id, workflow_execution_id AS execution_id, r.content_id::text, reviewer_id, stage,
                  decision::text, reviewed_at, quality_scores, is_training_data
           FROM review_feedback r JOIN content_review_workflows w ON w.id = r.workflow_id""",
    ).set_index("feedback_id")
    given = world.reviews.set_index("feedback_id")
    reviews = reviews.loc[given.index]
    for name in ("execution_id", "content_id", "reviewer_id", "stage", "decision"):
        assert reviews[name].tolist() == given[name].tolist()
    assert (reviews["reviewed_at"].array == given["reviewed_at"].array).all()
    score = [entry.get("brand_alignment", {}).get("score", np.nan) for entry in reviews["quality_scores"]]
    np.testing.assert_array_equal(score, given["brand_alignment"])
    assert reviews["is_training_data"].all()


@pytest.mark.slow
def test_the_same_seed_writes_identical_rows(database: Database, empty_database: Database) -> None:
    migrate(empty_database)
    spec = WorldSpec(agents=2, executions=1100, reviewers=5, seed=9)
    for target in (database, empty_database):
        write_world(target, simulate(spec))
    for table in TABLES:
        first, second = (
            read(target, f"SELECT t::text AS line FROM {table} t ORDER BY id") for target in (database, empty_database)
        )
        # A column with a default of now() would differ.
        pd.testing.assert_frame_equal(first, second)


@pytest.mark.slow
def test_a_second_world_joins_the_first_and_the_same_one_is_refused_whole(database: Database) -> None:
    first, second = (simulate(WorldSpec(agents=2, executions=20, seed=seed)) for seed in (1, 2))
    counts = [write_world(database, world)["review_feedback"] for world in (first, second)]
    with pytest.raises(UserError, match="--seed"):
        write_world(database, first)
    assert read(database, "SELECT count(*) FROM review_feedback").iloc[0, 0] == sum(counts)
