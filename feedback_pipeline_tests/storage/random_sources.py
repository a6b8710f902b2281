"""Small databases full of trouble, and their extraction in plain Python."""

import json
import math
import random
import uuid
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from feedback_pipeline.learning.features import (
    CATEGORIES,
    NUMERIC_FEATURES,
    TEXT_FEATURES,
    is_aspect_name,
    is_custom_feature_name,
)
from feedback_pipeline.storage.database import Connection
from feedback_pipeline_tests.learning.text_oracle import text_oracle

Row = dict[str, Any]
Sources = dict[str, list[Row]]

TODAY, FIRST_DAY = date(2026, 2, 10), date(2026, 2, 1)
BOUNDS = {"*": (0.0, 10.0), "strict": (0.0, 5.0)}
JSON_COLUMNS = ("metadata", "input_data", "output_data", "alternatives_considered", "feedback_categories", "quality_scores")
NUMBERS = [None, 0.0, -3.5, 1.5, 2.5, math.nan, math.inf, -math.inf, 5e-324, 1e100, 1e101, 1e308]
DOCUMENTS = [
    None, "null", "[]", "{}", '"text"', "7",
    '{"content": "# Title\\n\\nOne two. Three, SEO!", "tone": "warm"}', '{"content": null}',
    '{"content": ""}', '{"content": "café \\u2003 naïve — “fin.”\\n\\n[a](b)", "channel": null}',
    '{"tone": 5, "structure": "list"}',
    '{"keywords": ["seo", "one two", "", 7], "tone": "dry", "content_type": "blog"}', '{"keywords": "fin, Title ,café"}',
    '{"keywords": {}, "channel": "' + "x" * 65 + '", "structure": "two\\nlines"}', '{"content": {"a": 1}, "content_type": ""}',
]  # fmt: skip
METADATA = [
    "{}", "[]", '{"features": {"emoji": 3, "ratio": 0.25, "note": "x", "word_count": 5, "bad name": 1, "none": null}}',
    '{"features": {"huge": -1e101, "large": -1e100}}',
    '{"features": {"emoji": 1e400, "tiny": 1e-400}, "tone": "fallback"}', '{"features": [1, 2]}',
    '{"channel": "mail", "features": 7}',
    '{"features": {"a\\u001fb": 1, "": 2, "ok": -4}}',
]  # fmt: skip
SCORES = [
    None, "null", "{}", "[]", "3", '"x"', '{"clarity": {"score": 7, "issues": ["tone"]}, "tone fit": {"score": 4.25}}',
    '{"clarity": 8}', '{"clarity": null, "strict": {"score": 6}}', '{"clarity": {"score": null}, "depth": {"issues": []}}',
    '{"clarity": {"score": "8"}, "strict": {"score": 5}}', '{"clarity": {"score": 10.5}, "depth": -0.5, "x": 0}',
    '{"overall": {"score": 5}, "a\\u001fb": 3, "": 4, "é": 2}', '{"clarity": [1], "depth": true, "x": {"score": 1e400}}',
    '{"clarity": {"score": 1e-400}, "depth": {"score": {}}}',
]  # fmt: skip


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


def identifier(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128)))


def performance(rng: random.Random) -> Row:
    return {
        "id": identifier(rng),
        "agent_name": rng.choice(["writer", "editor", "Übersetzer"]),
        "agent_type": rng.choice([None, "text", ""]),
        "execution_id": f"run-{rng.randrange(12)}",
        "start_time": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=rng.randrange(3)),
        "status": rng.choice(["success", "success", "success", "failed", "SUCCESS"]),
        "duration": rng.choice(NUMBERS),
        "input_tokens": rng.choice([None, 0, 12, 2**62]),
        "output_tokens": rng.choice([None, 34]),
        "cost": rng.choice(NUMBERS),
        "metadata": rng.choice(METADATA),
    }


def decision(rng: random.Random, sources: Sources) -> Row:
    owner = (
        rng.choice(sources["agent_performance"])["id"] if rng.random() < 0.9 and sources["agent_performance"] else identifier(rng)
    )
    return {
        "id": identifier(rng),
        "performance_id": owner,
        "decision_point": rng.choice([None, "draft", "draft", "Überarbeitung", "", "*", "a\tb", "y" * 150]),
        "input_data": rng.choice(DOCUMENTS),
        "output_data": rng.choice(DOCUMENTS),
        "reasoning": rng.choice([None, "", "because", "weil es 日本 ist"]),
        "confidence_score": rng.choice([None, 0.1, 0.2, 0.3, 0.7, 85.0, -0.1, math.nan, math.inf]),
        "alternatives_considered": rng.choice([None, "null", "[]", '["a", "b", 3]', '{"a": 1}', '"x"']),
        "created_at": rng.choice([None, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)]),
    }


def workflow(rng: random.Random) -> Row:
    return {
        "id": identifier(rng),
        "content_id": rng.choice([None, str(uuid.UUID(int=rng.randrange(3)))]),
        "workflow_execution_id": f"run-{rng.randrange(13)}",
    }


def review(rng: random.Random, sources: Sources) -> Row:
    known = rng.choice(sources["content_review_workflows"])["id"] if sources["content_review_workflows"] else identifier(rng)
    moment = datetime(2026, 1, 31, tzinfo=UTC) + timedelta(hours=rng.randrange(12 * 24), microseconds=rng.choice([0, 1, 120000]))
    return {
        "id": identifier(rng),
        "workflow_id": rng.choice([known] * 8 + [None, identifier(rng)]),
        "content_id": rng.choice([None, str(uuid.UUID(int=rng.randrange(3)))]),
        "reviewer_id": rng.choice([None, "", "ana", 'b,"o"\nb', "NULL", "\\N"]),
        "stage": rng.choice([None, "quality_check", "seo_review"]),
        "decision": rng.choice([None, "approve", "reject", "request_changes"]),
        "reviewed_at": rng.choice([moment] * 12 + [None]),
        "is_training_data": rng.choice([True, True, False, None]),
        "feedback_confidence": rng.choice([None, 0.0, 0.5, 1.0]),
        "feedback_categories": rng.choice(SCORES),
        "quality_scores": rng.choice(SCORES),
    }


def random_sources(rng: random.Random, size: int = 40) -> Sources:
    sources: Sources = {"agent_performance": [performance(rng) for _ in range(size)]}
    sources["agent_decisions"] = [decision(rng, sources) for _ in range(size * 2)]
    sources["content_review_workflows"] = [workflow(rng) for _ in range(size // 2)]
    sources["review_feedback"] = [review(rng, sources) for _ in range(size * 3)]
    return sources


def insert(conn: Connection, table: str, rows: Iterable[Row]) -> None:
    for row in rows:
        places = ", ".join("%s::jsonb" if name in JSON_COLUMNS else "%s" for name in row)
        conn.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", list(row.values()))


def insert_all(conn: Connection, sources: Sources) -> None:
    for table, rows in sources.items():
        insert(conn, table, rows)


def document(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def decision_numbers(own: list[Row]) -> Row:
    """What the decisions of an output, or of one of its decision points, say."""
    given = [each["confidence_score"] for each in own if each["confidence_score"] is not None]
    confidences = [confidence for confidence in given if 0 <= confidence <= 1]
    lists = [document(each["alternatives_considered"]) for each in own]
    return {
        "decision_count": float(len(own)),
        "confidence_score": mean(confidences),
        "min_confidence": min(confidences, default=None),
        "alternatives_count": mean([len(each) for each in lists if isinstance(each, list)]),
        "reasoning_length": mean([len(each["reasoning"]) for each in own if each["reasoning"] is not None]),
    }


class Oracle:
    """The extraction of the definitions, row by row."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.ledger: set[tuple[str, str, str]] = set()
        self.feedback: dict[date, list[Row]] = {}
        self.features: dict[date, list[Row]] = {}
        self.points: dict[date, list[Row]] = {}
        workflows = {row["id"]: row for row in sources["content_review_workflows"]}
        for row in sources["review_feedback"]:
            if row["reviewed_at"] is None or row["reviewed_at"].date() > TODAY:
                continue
            if row["reviewed_at"].date() < FIRST_DAY:
                self.refuse("review_feedback", row, "before the first day")
                continue
            self.add(row, workflows.get(row["workflow_id"]))
        for table in (self.feedback, self.features):
            for rows in table.values():
                rows.sort(key=lambda row: [str(row[k]).encode() for k in ("agent_name", "execution_id") if k in row]
                          + ([row["reviewed_at"], row["feedback_id"]] if "reviewed_at" in row else []))  # fmt: skip

        for day, rows in self.features.items():
            self.points[day] = [point for row in rows for point in self.decision_points(row)]

    def refuse(self, source: str, row: Row, reason: str) -> None:
        self.ledger.add((source, row["id"], reason))

    def add(self, row: Row, workflow: Row | None) -> None:
        day = row["reviewed_at"].date()
        rows, features = self.feedback.setdefault(day, []), self.features.setdefault(day, [])
        if workflow is None:
            self.refuse("review_feedback", row, "dangling key")
            return
        scores = self.scores(row)
        execution = workflow["workflow_execution_id"]
        content = row["content_id"] or workflow["content_id"] or execution
        outputs = self.outputs(execution)
        if not outputs:
            self.refuse("review_feedback", row, "no successful execution")
        for run, retries in outputs:
            rows.append(
                {
                    **{
                        "agent_name": run["agent_name"],
                        "execution_id": execution,
                        "content_id": content,
                        "feedback_id": row["id"],
                    },
                    **{name: row[name] for name in ("reviewer_id", "stage", "decision", "reviewed_at", "feedback_confidence")},
                    "is_training_data": bool(row["is_training_data"]),
                    "scores": scores,
                }
            )
            known = [each for each in features if (each["agent_name"], each["execution_id"]) == (run["agent_name"], execution)]
            if known:
                known[0]["content_id"] = min(known[0]["content_id"], content)
            else:
                features.append(self.output(run, retries) | {"content_id": content})

    def scores(self, row: Row) -> dict[str, float]:
        quality, categories = document(row["quality_scores"]), document(row["feedback_categories"])
        if any(value is not None and not isinstance(value, dict) for value in (quality, categories)):
            self.refuse("review_feedback", row, "scores not an object")
        chosen = quality if isinstance(quality, dict) and quality else categories
        result = {}
        for name, value in (chosen if isinstance(chosen, dict) else {}).items():
            score = value.get("score") if isinstance(value, dict) else value
            low, high = BOUNDS.get(name, BOUNDS["*"])
            if score is None:
                continue
            if not is_aspect_name(name):
                self.refuse("review_feedback", row, "unusable name")
            elif not is_number(score):
                self.refuse("review_feedback", row, "not a number")
            elif not low <= score <= high:
                self.refuse("review_feedback", row, "score out of bounds")
            else:
                result[name] = float(score)
        return result

    def outputs(self, execution: str) -> list[tuple[Row, int]]:
        found = []
        runs = [run for run in self.sources["agent_performance"] if run["execution_id"] == execution]
        for agent in sorted({run["agent_name"] for run in runs}):
            own = [run for run in runs if run["agent_name"] == agent]
            successful = [run for run in own if run["status"] == "success"]
            if successful:
                found.append((max(successful, key=lambda run: (run["start_time"], run["id"])), len(own) - 1))
        return found

    def output(self, run: Row, retries: int) -> Row:
        early = datetime(1, 1, 1, tzinfo=UTC)
        own = [row for row in self.sources["agent_decisions"] if row["performance_id"] == run["id"]]
        own.sort(key=lambda row: (row["created_at"] or early, row["id"]))
        row: Row = {
            "agent_name": run["agent_name"],
            "execution_id": run["execution_id"],
            "agent_type": run["agent_type"],
            "retry_count": retries,
        }
        for name, column in {
            "duration_ms": "duration",
            "cost": "cost",
            "input_tokens": "input_tokens",
            "output_tokens": "output_tokens",
        }.items():
            row[name] = finite(run[column])
            if row[name] is None and run[column] is not None:
                self.refuse("agent_performance", run, "not a finite number")
            elif row[name] is not None and not 0 <= row[name] <= 1e100:
                row[name] = None
                self.refuse("agent_performance", run, "number out of bounds")
        for each in own:
            if each["confidence_score"] is not None and not 0 <= each["confidence_score"] <= 1:
                reason = "number out of bounds" if math.isfinite(each["confidence_score"]) else "not a finite number"
                self.refuse("agent_decisions", each, reason)
        row |= decision_numbers(own)
        return row | self.categories(run, own) | self.texts(own) | self.custom(run)

    def decision_points(self, output: Row) -> list[Row]:
        """A row for each usable decision point of an output."""
        keys = {name: output[name] for name in ("agent_name", "execution_id")}
        run = next(run for run, _ in self.outputs(output["execution_id"]) if run["agent_name"] == output["agent_name"])
        own = [row for row in self.sources["agent_decisions"] if row["performance_id"] == run["id"]]
        points = []
        for point in sorted({row["decision_point"] for row in own if row["decision_point"] is not None}, key=str.encode):
            if point in ("", "*", "a\tb", "y" * 150):
                self.refuse("agent_performance", run, "unusable name")
            else:
                numbers = decision_numbers([row for row in own if row["decision_point"] == point])
                points.append(keys | {"decision_point": point} | numbers)
        return points

    def categories(self, run: Row, own: list[Row]) -> Row:
        metadata, row = document(run["metadata"]), {}
        for name in CATEGORIES:
            value = metadata.get(name) if isinstance(metadata, dict) else None
            for each in own:
                documents = [document(each["output_data"]), document(each["input_data"])]
                for found in [part.get(name) for part in documents if isinstance(part, dict)]:
                    value = value if found is None else found
            usable = isinstance(value, str) and 0 < len(value) <= 64 and "\n" not in value
            row[name] = value if usable else None
        return row

    def texts(self, own: list[Row]) -> Row:
        content, keywords = None, []
        for each in own:
            output, given = document(each["output_data"]), document(each["input_data"])
            if isinstance(output, dict) and output.get("content") is not None:
                content = output["content"] if isinstance(output["content"], str) else json.dumps(output["content"])
            words = given.get("keywords") if isinstance(given, dict) else None
            if isinstance(words, str):
                keywords = words.split(",")
            elif isinstance(words, list):
                keywords = [word for word in words if isinstance(word, str)] or keywords
        if content is None:
            return dict.fromkeys(TEXT_FEATURES)
        return {name: finite(value) for name, value in text_oracle(content, keywords).items()}

    def custom(self, run: Row) -> Row:
        metadata, row = document(run["metadata"]), {}
        given = metadata.get("features") if isinstance(metadata, dict) else None
        for name, value in (given if isinstance(given, dict) else {}).items():
            if not is_number(value):
                continue
            if not is_custom_feature_name(name):
                self.refuse("agent_performance", run, "unusable name")
            elif abs(value) > 1e100:
                self.refuse("agent_performance", run, "number out of bounds")
            else:
                row[name] = float(value)
        return row


def plain_feedback(rows: list[Row]) -> list[Row]:
    """Rows of the stored table with the scores as a dictionary."""
    result = []
    for row in rows:
        scores = dict(zip(row.pop("aspects"), row.pop("scores"), strict=True))
        result.append(row | {"scores": scores})
    return result


def plain_features(rows: list[Row]) -> list[Row]:
    """Rows of the stored table without the custom features that are missing."""
    fixed = {"agent_name", "execution_id", "content_id", "agent_type", "retry_count", *NUMERIC_FEATURES, *CATEGORIES}
    return [{name: value for name, value in row.items() if name in fixed or value is not None} for row in rows]
