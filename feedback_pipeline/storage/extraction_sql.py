r"""The queries of the extraction, each over a set of days at once, and of outputs that are read for another reason.

Lists travel as one text with the separator 0x1F: Arrow splits a column of them in one step. A score or a feature that is not
a number travels as NaN.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import pyarrow as pa
from psycopg.sql import SQL, Composable, Identifier, Literal

from feedback_pipeline.learning.features import CATEGORIES, valid_range
from feedback_pipeline.storage.day_ranges import within
from feedback_pipeline.storage.source_columns import SourceColumns

SEPARATOR: Final = "\x1f"
_TEXT_LIMIT: Final = 65  # one more than a category may have
_NAME_LIMIT: Final = 101  # one more than the name of a decision point may have

REVIEWS: Final = pa.schema(
    [
        ("feedback_id", pa.string()),
        ("workflow_found", pa.bool_()),
        ("execution_id", pa.string()),
        ("content_id", pa.string()),
        ("reviewer_id", pa.string()),
        ("stage", pa.string()),
        ("decision", pa.string()),
        ("reviewed_at", pa.timestamp("us", tz="UTC")),
        ("is_training_data", pa.bool_()),
        ("feedback_confidence", pa.float64()),
        ("not_an_object", pa.string()),
        ("aspects", pa.string()),
        ("scores", pa.string()),
    ]
)
OUTPUTS: Final = pa.schema(
    [
        ("performance_id", pa.string()),
        ("agent_name", pa.string()),
        ("execution_id", pa.string()),
        ("agent_type", pa.string()),
        ("retry_count", pa.int32()),
        ("duration_ms", pa.float64()),
        ("input_tokens", pa.float64()),
        ("output_tokens", pa.float64()),
        ("cost", pa.float64()),
        ("custom_names", pa.string()),
        ("custom_values", pa.string()),
        ("decision_count", pa.float64()),
        ("confidence_score", pa.float64()),
        ("min_confidence", pa.float64()),
        ("unusable_confidences", pa.int64()),
        ("alternatives_count", pa.float64()),
        ("reasoning_length", pa.float64()),
        *((name, pa.string()) for name in CATEGORIES),
    ]
)
DECISION_POINTS: Final = pa.schema(
    [
        ("performance_id", pa.string()),
        ("decision_point", pa.string()),
        ("decision_count", pa.float64()),
        ("confidence_score", pa.float64()),
        ("min_confidence", pa.float64()),
        ("alternatives_count", pa.float64()),
        ("reasoning_length", pa.float64()),
    ]
)
TEXTS: Final = pa.schema([("performance_id", pa.string()), ("content", pa.large_string()), ("keywords", pa.large_string())])

_NOTHING: Final = SQL("")
_REVIEW: Final = "review_feedback"
_WORKFLOW: Final = "content_review_workflows"
_RUN: Final = "agent_performance"
_DECISION: Final = "agent_decisions"
# Equal numbers have exactly their own mean: the sum of three times .7 is not three times .7.
_MEANS: Final = SQL(
    "count(*) AS decision_count, CASE WHEN min(usable) = max(usable) THEN min(usable) "
    "ELSE sum(usable) / nullif(count(usable), 0) END AS confidence_score, min(usable) AS min_confidence, "
    "sum(alternatives)::float8 / nullif(count(alternatives), 0) AS alternatives_count, "
    "sum(reasoning)::float8 / nullif(count(reasoning), 0) AS reasoning_length"
)


@dataclass(frozen=True)
class OutputQueries(ABC):
    """The queries for the outputs of some executions: whichever they are, their features are computed by the same text.

    Attributes:
        columns: The source tables as they are.
    """

    columns: SourceColumns

    @abstractmethod
    def executions(self) -> Composable:
        """A query of one column: the executions, each once."""

    def wanted(self) -> Composable:
        """Which of their outputs: a condition on agent_name, execution_id and started of `ranked`; all unless overridden."""
        return SQL("true")

    def outputs(self, further: Composable = _NOTHING) -> Composable:
        """The last successful run of every agent in the executions; columns of `OUTPUTS`, then what `further` adds.

        Args:
            further: More columns of run p, each after a comma.
        """
        c = self.columns
        features = SQL("CASE WHEN jsonb_typeof({0} -> 'features') = 'object' THEN {0} -> 'features' ELSE '{{}}' END").format(
            c.json("p", _RUN, "metadata")
        )
        chosen = SQL("coalesce(d.{name}, p.metadata -> {key})")
        label = SQL("CASE jsonb_typeof({chosen}) WHEN 'string' THEN left({chosen} #>> '{{}}', {limit}) END")
        labels = SQL(", ").join(
            label.format(chosen=chosen.format(name=Identifier(name), key=Literal(name)), limit=Literal(_TEXT_LIMIT))
            for name in CATEGORIES
        )
        return SQL(
            "WITH {runs} SELECT p.id, p.agent_name, p.execution_id, p.agent_type, p.retry_count, p.duration, p.input_tokens, "
            "p.output_tokens, p.cost, f.names, f.values, d.decision_count, d.confidence_score, "
            "d.min_confidence, d.unusable_confidences, "
            "d.alternatives_count, d.reasoning_length, {labels}{further} FROM runs p LEFT JOIN LATERAL ("
            "SELECT string_agg(translate(key, {separator}, chr(127)), {separator}) AS names, "
            "string_agg(value #>> '{{}}', {separator}) AS values "
            "FROM jsonb_each({features}) WHERE jsonb_typeof(value) = 'number') AS f ON true "
            "LEFT JOIN LATERAL ({decisions}) AS d ON true"
        ).format(
            runs=self._runs(),
            labels=labels,
            further=further,
            separator=Literal(SEPARATOR),
            features=features,
            decisions=self._decisions(),
        )

    def texts(self) -> Composable:
        """The text of every output that has one, and its keywords; columns of `TEXTS`."""
        words = SQL(
            "CASE jsonb_typeof(ordered.document -> 'keywords') "
            "WHEN 'string' THEN translate(ordered.document ->> 'keywords', ',', {separator}) "
            "WHEN 'array' THEN (SELECT string_agg(word #>> '{{}}', {separator}) "
            "FROM jsonb_array_elements(ordered.document -> 'keywords') AS word WHERE jsonb_typeof(word) = 'string') END"
        ).format(separator=Literal(SEPARATOR))
        return SQL(
            "WITH {runs} SELECT p.id, content.value, keywords.value FROM runs p "
            "CROSS JOIN LATERAL ({content}) AS content LEFT JOIN LATERAL ({keywords}) AS keywords ON true"
        ).format(
            runs=self._runs(),
            content=self._last_decision("output_data", SQL("ordered.document ->> 'content'")),
            keywords=self._last_decision("input_data", words),
        )

    def _last_decision(self, column: str, value: Composable) -> Composable:
        """The value of the last decision of run p for which it is not NULL."""
        # Backwards, one at a time: each JSON document is unpacked once, and only while nothing is found.
        return SQL(
            "SELECT found.value FROM (SELECT {document} AS document FROM agent_decisions d WHERE {own} "
            "ORDER BY {newest} OFFSET 0) AS ordered "
            "CROSS JOIN LATERAL (SELECT {value} AS value OFFSET 0) AS found WHERE found.value IS NOT NULL LIMIT 1"
        ).format(
            document=self.columns.json("d", _DECISION, column),
            own=self._own_decisions(),
            newest=SQL("{} DESC NULLS LAST, d.id DESC").format(
                self.columns.raw("d", _DECISION, "created_at", "NULL::timestamptz")
            ),
            value=value,
        )

    def _runs(self) -> Composable:
        c = self.columns
        numbers = SQL(", ").join(
            SQL("{} AS {}").format(c.number("p", _RUN, name), Identifier(name))
            for name in ("duration", "input_tokens", "output_tokens", "cost")
        )
        return SQL(
            "chosen (execution_id) AS ({executions}), "
            "ranked AS (SELECT {id} AS id, p.id AS key, {agent} AS agent_name, {own_execution} AS execution_id, "
            "{agent_type} AS agent_type, {numbers}, {metadata} AS metadata, {status} = 'success' AS succeeded, "
            "{started} AS started, count(*) OVER attempts AS attempts, "
            "row_number() OVER (attempts ORDER BY coalesce({status} = 'success', false) DESC, "
            '{started} DESC NULLS LAST, {id} COLLATE "C" DESC) AS place '
            "FROM chosen JOIN agent_performance p ON p.execution_id = chosen.execution_id "
            "WINDOW attempts AS (PARTITION BY p.agent_name, p.execution_id)), "
            "runs AS (SELECT *, attempts - 1 AS retry_count FROM ranked WHERE place = 1 AND succeeded AND {wanted})"
        ).format(
            executions=self.executions(),
            wanted=self.wanted(),
            id=c.text("p", _RUN, "id"),
            agent=c.text("p", _RUN, "agent_name"),
            own_execution=c.text("p", _RUN, "execution_id"),
            agent_type=c.text("p", _RUN, "agent_type"),
            numbers=numbers,
            metadata=c.json("p", _RUN, "metadata"),
            status=c.text("p", _RUN, "status"),
            started=c.raw("p", _RUN, "start_time"),
        )

    def _decisions(self) -> Composable:
        """All decisions of run p as one row."""
        c = self.columns
        documents = [c.json("d", _DECISION, name) for name in ("input_data", "output_data")]
        labels = SQL(", ").join(
            SQL("coalesce(nullif({0} -> {2}, 'null'), nullif({1} -> {2}, 'null')) AS {3}").format(
                *documents, Literal(name), Identifier(name)
            )
            for name in CATEGORIES
        )
        chosen = SQL(", ").join(
            SQL("(array_agg({0}) FILTER (WHERE {0} IS NOT NULL))[count({0})] AS {0}").format(Identifier(name))
            for name in CATEGORIES
        )
        return SQL(
            "SELECT {means}, count(confidence) - count(usable) AS unusable_confidences, {chosen} FROM ("
            "SELECT {numbers}, {labels} FROM agent_decisions d WHERE {own} ORDER BY {oldest}) AS decisions"
        ).format(
            means=_MEANS,
            chosen=chosen,
            numbers=self._decision_numbers(),
            labels=labels,
            own=self._own_decisions(),
            oldest=self._oldest(),
        )

    def decision_points(self) -> Composable:
        """The decisions of every output, a row for each of its decision points; columns of `DECISION_POINTS`."""
        return SQL(
            "WITH {runs} SELECT p.id, d.point, d.decision_count, d.confidence_score, d.min_confidence, d.alternatives_count, "
            "d.reasoning_length FROM runs p CROSS JOIN LATERAL (SELECT point, {means} FROM ("
            "SELECT left({point}, {limit}) AS point, {numbers} FROM agent_decisions d WHERE {own} ORDER BY 1, {oldest}"
            ") AS decisions WHERE point IS NOT NULL GROUP BY point) AS d"
        ).format(
            runs=self._runs(),
            means=_MEANS,
            point=self.columns.text("d", _DECISION, "decision_point"),
            limit=Literal(_NAME_LIMIT),
            numbers=self._decision_numbers(),
            own=self._own_decisions(),
            oldest=self._oldest(),
        )

    def _decision_numbers(self) -> Composable:
        c = self.columns
        low, high = valid_range("confidence_score")
        return SQL(
            "{confidence} AS confidence, CASE WHEN {confidence} BETWEEN {low} AND {high} THEN {confidence} END AS usable, "
            "char_length({reasoning}) AS reasoning, "
            "CASE WHEN jsonb_typeof({alternatives}) = 'array' THEN jsonb_array_length({alternatives}) END AS alternatives"
        ).format(
            low=Literal(low),
            high=Literal(high),
            confidence=c.number("d", _DECISION, "confidence_score"),
            reasoning=c.text("d", _DECISION, "reasoning"),
            alternatives=c.json("d", _DECISION, "alternatives_considered"),
        )

    def _oldest(self) -> Composable:
        return SQL("{} NULLS FIRST, d.id").format(self.columns.raw("d", _DECISION, "created_at", "NULL::timestamptz"))

    def _own_decisions(self) -> Composable:
        same = self.columns.type_of(_DECISION, "performance_id") == self.columns.type_of(_RUN, "id")
        return SQL("d.performance_id = p.key" if same else "d.performance_id::text = p.id")


@dataclass(frozen=True)
class ExtractionQueries(OutputQueries):
    """The queries for one set of days.

    Attributes:
        columns: The source tables as they are.
        days: UTC days, ascending, at least one.
    """

    days: Sequence[date]

    def reviews(self) -> Composable:
        """Every review of the days, with its execution and its scores; columns of `REVIEWS`."""
        return reviews(self.columns, within(self.days))

    def executions(self) -> Composable:
        """The executions reviewed on the days."""
        return SQL(
            "SELECT DISTINCT {execution} FROM review_feedback r JOIN content_review_workflows w ON {joined} WHERE {days}"
        ).format(
            execution=self.columns.raw("w", _WORKFLOW, "workflow_execution_id"),
            joined=workflow_of_review(self.columns),
            days=within(self.days),
        )


def workflow_of_review(columns: SourceColumns) -> Composable:
    """The join of a review r with its workflow w."""
    return columns.equal(("w", _WORKFLOW, "id"), ("r", _REVIEW, "workflow_id"))


def reviews(c: SourceColumns, condition: Composable) -> Composable:
    """Every review r, of workflow w, that meets a condition, with its execution and its scores; columns of `REVIEWS`."""
    quality, categories = c.json("r", _REVIEW, "quality_scores"), c.json("r", _REVIEW, "feedback_categories")
    training = c.raw("r", _REVIEW, "is_training_data", "true")
    return SQL(
        "SELECT {id}, w.id IS NOT NULL, {execution}, coalesce({own_content}, {content}, {execution}), "
        "{reviewer}, {stage}, {decision}, r.reviewed_at::timestamptz, coalesce({training}, false), {confidence}, "
        "CASE WHEN jsonb_typeof({quality}) NOT IN ('object', 'null') THEN 'quality_scores' "
        "WHEN jsonb_typeof({categories}) NOT IN ('object', 'null') THEN 'feedback_categories' END, s.aspects, s.scores "
        "FROM review_feedback r LEFT JOIN content_review_workflows w ON {joined} LEFT JOIN LATERAL ("
        "SELECT string_agg(translate(key, {separator}, chr(127)), {separator}) AS aspects, "
        "string_agg(CASE jsonb_typeof(score) WHEN 'number' THEN score #>> '{{}}' ELSE 'NaN' END, {separator}) AS scores "
        "FROM jsonb_each(CASE WHEN jsonb_typeof({quality}) = 'object' AND {quality} <> '{{}}' THEN {quality} "
        "WHEN jsonb_typeof({categories}) = 'object' THEN {categories} ELSE '{{}}' END) AS entry (key, value) "
        "CROSS JOIN LATERAL (SELECT CASE jsonb_typeof(value) WHEN 'object' THEN value -> 'score' ELSE value END) AS f (score)"
        " WHERE jsonb_typeof(score) <> 'null') AS s ON true WHERE {condition}"
    ).format(
        id=c.text("r", _REVIEW, "id"),
        execution=c.text("w", _WORKFLOW, "workflow_execution_id"),
        own_content=c.text("r", _REVIEW, "content_id"),
        content=c.text("w", _WORKFLOW, "content_id"),
        reviewer=c.text("r", _REVIEW, "reviewer_id"),
        stage=c.text("r", _REVIEW, "stage"),
        decision=c.text("r", _REVIEW, "decision"),
        training=training,
        confidence=c.number("r", _REVIEW, "feedback_confidence"),
        quality=quality,
        categories=categories,
        separator=Literal(SEPARATOR),
        joined=workflow_of_review(c),
        condition=condition,
    )


def unusable_confidences(columns: SourceColumns, runs: Sequence[str]) -> Composable:
    """Decisions of some runs whose confidence is no share: id, and whether it is a finite number."""
    low, high = valid_range("confidence_score")
    return SQL(
        "SELECT {id}, {text} NOT IN ('NaN', 'Infinity', '-Infinity') FROM agent_decisions d "
        "WHERE {run} = ANY({runs}::{key}[]) AND NOT {confidence} BETWEEN {low} AND {high}"
    ).format(
        id=columns.text("d", _DECISION, "id"),
        text=columns.text("d", _DECISION, "confidence_score"),
        run=columns.raw("d", _DECISION, "performance_id"),
        runs=Literal(list(runs)),
        key=columns.key(_DECISION, "performance_id"),
        confidence=columns.number("d", _DECISION, "confidence_score"),
        low=Literal(low),
        high=Literal(high),
    )
