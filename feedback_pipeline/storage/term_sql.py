"""The queries that read texts for their words, each over all agents at once; the keys of the rows are in temporary tables."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from psycopg.sql import SQL, Composable, Identifier, Literal

from feedback_pipeline.storage.source_columns import SourceColumns

MAX_CHARACTERS: Final = 20_000
OUTPUTS, REVIEWS = "term_outputs", "term_reviews"
"""Temporary tables: code (of the panel), agent (its code), agent_name, key (execution or feedback id), place (in the order of
choice)."""
TEXTS: Final = pa.schema([("code", pa.int64()), ("total", pa.int64()), ("name", pa.string()), ("text", pa.large_string())])
_NAME_LIMIT: Final = 101  # one more than a name may have
_REVIEW, _RUN, _DECISION = "review_feedback", "agent_performance", "agent_decisions"
_TEXT_TYPES: Final = frozenset({"text", "character varying"})


@dataclass(frozen=True)
class TermQueries:
    """The queries over the staged keys; each gives code, rows of the agent that have a text, name (of a group), text.

    Attributes:
        columns: The source tables as they are.
        cap: Rows of each agent at most.
    """

    columns: SourceColumns
    cap: int

    def reasonings(self) -> Composable:
        """The reasonings of the outputs, a row for each decision that has one; the name is its decision point."""
        c = self.columns
        status, reasoning = c.text("p", _RUN, "status"), c.text("d", _DECISION, "reasoning")
        return SQL(
            "WITH attempts AS (SELECT s.code, s.agent, s.place, p.id AS key, {id} AS id, {status} = 'success' AS succeeded, "
            "row_number() OVER (PARTITION BY s.code ORDER BY coalesce({status} = 'success', false) DESC, "
            '{started} DESC NULLS LAST, {id} COLLATE "C" DESC) AS attempt '
            "FROM {staged} s JOIN agent_performance p ON {execution} AND {agent} = s.agent_name), "
            "runs AS MATERIALIZED (SELECT code, agent, place, key, id FROM attempts WHERE attempt = 1 AND succeeded), "
            "found AS (SELECT r.code, r.key, r.id, {ranked} FROM runs r "
            "WHERE EXISTS (SELECT FROM agent_decisions d WHERE {own} AND {reasoning} <> '')) "
            "SELECT r.code, r.total, left({point}, {name_limit}), left({reasoning}, {limit}) FROM found r "
            "JOIN agent_decisions d ON {own} WHERE r.rank <= {cap} AND {reasoning} <> ''"
        ).format(
            id=c.text("p", _RUN, "id"),
            status=status,
            started=c.raw("p", _RUN, "start_time"),
            staged=Identifier(OUTPUTS),
            execution=_equals_key(c, "p", _RUN, "execution_id"),
            agent=c.text("p", _RUN, "agent_name"),
            ranked=_ranked("r"),
            own=self._own_decisions(),
            reasoning=reasoning,
            point=c.text("d", _DECISION, "decision_point"),
            name_limit=Literal(_NAME_LIMIT),
            limit=Literal(MAX_CHARACTERS),
            cap=Literal(self.cap),
        )

    def comments(self) -> Composable:
        """The comments of the reviews; there is no name."""
        comment = self.columns.text("r", _REVIEW, "comments")
        return SQL("WITH {found} SELECT f.code, f.total, NULL, left({comment}, {limit}) FROM {chosen}").format(
            found=self._found(SQL("{} <> ''").format(comment)),
            comment=comment,
            limit=Literal(MAX_CHARACTERS),
            chosen=self._chosen(),
        )

    def issues(self) -> Composable:
        """The issues of the reviews as one text per aspect, which is the name; the text is NULL where there is only a score."""
        names = ("quality_scores", "feedback_categories")
        raw = [self.columns.json("r", _REVIEW, name) for name in names]
        quality, categories = (
            SQL("CASE WHEN jsonb_typeof({0}) = 'object' THEN {0} ELSE '{{}}' END").format(document) for document in raw
        )
        some = SQL(" OR ").join(SQL("(jsonb_typeof({0}) = 'object' AND {0} <> '{{}}')").format(document) for document in raw)
        listed = SQL("jsonb_typeof({0} -> 'issues') = 'array' AND {0} -> 'issues' <> '[]'")
        scored = SQL("jsonb_typeof({0}) = 'number' OR (jsonb_typeof({0}) = 'object' AND jsonb_typeof({0} -> 'score') = 'number')")
        return SQL(
            "WITH {found} SELECT f.code, f.total, left(e.name, {name_limit}), left(e.words, {limit}) FROM {chosen} "
            "CROSS JOIN LATERAL (SELECT {quality} AS q, {categories} AS c OFFSET 0) AS own "
            "CROSS JOIN LATERAL (SELECT k.name, (SELECT string_agg(issue #>> '{{}}', ' ') FROM jsonb_array_elements("
            "CASE WHEN {q_listed} THEN k.q -> 'issues' WHEN {c_listed} THEN k.c -> 'issues' ELSE '[]' END) AS issue "
            "WHERE jsonb_typeof(issue) = 'string') AS words, "
            "coalesce({q_scored}, false) OR coalesce({c_scored}, false) AS scored "
            "FROM (SELECT name, own.q -> name AS q, own.c -> name AS c FROM (SELECT jsonb_object_keys(own.q) AS name "
            "UNION SELECT jsonb_object_keys(own.c)) AS names) AS k) AS e WHERE e.scored OR e.words IS NOT NULL"
        ).format(
            found=self._found(some),
            name_limit=Literal(_NAME_LIMIT),
            limit=Literal(MAX_CHARACTERS),
            chosen=self._chosen(),
            quality=quality,
            categories=categories,
            q_listed=listed.format(SQL("k.q")),
            c_listed=listed.format(SQL("k.c")),
            q_scored=scored.format(SQL("k.q")),
            c_scored=scored.format(SQL("k.c")),
        )

    def _found(self, condition: Composable) -> Composable:
        """The staged reviews that have a text, in the order in which they are chosen."""
        return SQL(
            "found AS MATERIALIZED (SELECT s.code, s.key, {ranked} FROM {staged} s "
            "JOIN review_feedback r ON {joined} WHERE {some})"
        ).format(ranked=_ranked("s"), staged=Identifier(REVIEWS), joined=self._joined("s"), some=condition)

    def _chosen(self) -> Composable:
        return SQL("(SELECT * FROM found WHERE rank <= {cap}) AS f JOIN review_feedback r ON {joined}").format(
            cap=Literal(self.cap), joined=self._joined("f")
        )

    def _joined(self, alias: str) -> Composable:
        return _equals_key(self.columns, "r", _REVIEW, "id", alias)

    def _own_decisions(self) -> Composable:
        same = self.columns.type_of(_DECISION, "performance_id") == self.columns.type_of(_RUN, "id")
        return SQL("d.performance_id = r.key" if same else "d.performance_id::text = r.id")


def _ranked(alias: str) -> Composable:
    one = Identifier(alias)
    return SQL(
        "row_number() OVER (PARTITION BY {0}.agent ORDER BY {0}.place, {0}.code) AS rank, "
        "count(*) OVER (PARTITION BY {0}.agent) AS total"
    ).format(one)


def _equals_key(columns: SourceColumns, alias: str, table: str, column: str, staged: str = "s") -> Composable:
    """Equality with the staged key, which has the column's own type where an index on the column can then be used."""
    kind = columns.type_of(table, column)
    comparable = kind in _TEXT_TYPES or kind == columns.key(table, column).as_string(None)
    side = columns.raw(alias, table, column) if comparable else columns.text(alias, table, column)
    return SQL("{} = {}.key").format(side, Identifier(staged))
