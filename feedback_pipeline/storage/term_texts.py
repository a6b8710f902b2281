"""Texts of outputs and reviews, streamed from Postgres and kept as words alone: reasonings, comments, issues.

Only rows of the panel are read, at most so many of each agent, chosen by a hash of their ids: the choice depends neither on the
order of rows nor on which other agents there are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.sql import SQL, Composable, Identifier
from pyarrow import csv

from feedback_pipeline.errors import StoreError
from feedback_pipeline.learning.features import is_aspect_name
from feedback_pipeline.learning.panel import Ints, Panel
from feedback_pipeline.learning.terms import MIN_WITH, TermDocuments, TermTexts
from feedback_pipeline.storage.copying import copy_blocks
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.day_assembly import usable_names
from feedback_pipeline.storage.source_columns import SourceColumns, source_columns
from feedback_pipeline.storage.term_sql import OUTPUTS, REVIEWS, TEXTS, TermQueries
from feedback_pipeline.storage.tokens import Tokens

Texts = npt.NDArray[np.object_]

MAX_DOCUMENTS: Final = 5_000


def read_term_texts(connection: Connection, panel: Panel, *, seed: int, cap: int = MAX_DOCUMENTS) -> TermTexts:
    """Read the words of the panel's outputs and reviews.

    An output's reasonings are those of its last successful run, as in the extraction. Issues are the strings under `issues` of an
    aspect in quality_scores or, where it has none there, in feedback_categories; a review with a score for an aspect and no issue
    is a document without words. Of every text the first 20,000 characters are read.

    Args:
        connection: A connection that may write: temporary tables take the keys. Its transaction, where it is in one, is used.
        panel: What is learned from; its rows are what the documents refer to.
        seed: Of the choice of rows.
        cap: Outputs with a reasoning, reviews with a comment, reviews with issues or scores that are read of each agent at most.

    Raises:
        StoreError: the connection is read only.
    """
    queries = TermQueries(source_columns(connection), cap)
    with connection.transaction(), _staged(connection, queries.columns, panel, seed):
        reasonings = _read(connection, queries.reasonings(), panel.output_agent, len(panel.agents))
        comments = _read(connection, queries.comments(), panel.review_agent, len(panel.agents))
        issues = _read(connection, queries.issues(), panel.review_agent, len(panel.agents))
    return TermTexts(reasonings.whole(), reasonings.by_name(_is_point), comments.whole(), issues.by_name(is_aspect_name))


@contextmanager
def _staged(connection: Connection, columns: SourceColumns, panel: Panel, seed: int) -> Iterator[None]:
    """The keys of the panel's outputs and reviews in temporary tables."""
    executions = panel.outputs["execution_id"].to_numpy(dtype=object)
    ids = panel.reviews["feedback_id"].to_numpy(dtype=object)
    named = panel.agents[panel.output_agent] + "\x1f" + executions
    execution, review = columns.key("agent_performance", "execution_id"), columns.key("review_feedback", "id")
    _stage(connection, OUTPUTS, execution, panel.agents, panel.output_agent, executions, _place(named, seed))
    _stage(connection, REVIEWS, review, panel.agents, panel.review_agent, ids, _place(ids, seed))
    yield
    connection.execute(SQL("DROP TABLE {}, {}").format(Identifier(OUTPUTS), Identifier(REVIEWS)))


def _stage(
    connection: Connection, table: str, kind: Composable, agents: Texts, agent: Ints, key: Texts, place: npt.NDArray[np.int64]
) -> None:
    create = SQL("CREATE TEMP TABLE {} (code int, agent int, agent_name text, key {}, place bigint) ON COMMIT DROP")
    try:
        connection.execute(create.format(Identifier(table), kind))
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise StoreError(
            "the keys of texts cannot be put into a read-only transaction; read texts in one that may write"
        ) from error
    columns = {"code": np.arange(len(key)), "agent": agent, "agent_name": agents[agent], "key": key, "place": place}
    sink = pa.BufferOutputStream()
    csv.write_csv(
        pa.table({name: pa.array(values) for name, values in columns.items()}), sink, csv.WriteOptions(include_header=False)
    )
    with connection.cursor() as cursor, cursor.copy(SQL("COPY {} FROM STDIN (FORMAT csv)").format(Identifier(table))) as copy:
        copy.write(memoryview(sink.getvalue()))
    # Without statistics the planner takes a few rows for many, or many for few.
    connection.execute(SQL("ANALYZE {}").format(Identifier(table)))


def _place(ids: Texts, seed: int) -> npt.NDArray[np.int64]:
    """A random number that belongs to each id and the seed."""
    hashed = pd.util.hash_array(ids, hash_key=f"{seed % 10**16:016d}", categorize=False)
    return (hashed >> np.uint64(1)).astype(np.int64)


@dataclass(frozen=True)
class _Source:
    """What was read of one source: for each text the panel's row, the code of its name (-1 = none), and its words.

    Attributes:
        row: (texts,); name: (texts,); names: Texts that the codes stand for.
        tokens: Words of the texts, in the same order.
        sampled_from: Rows of each agent that have a text (G,).
    """

    row: Ints
    name: Ints
    names: tuple[str, ...]
    tokens: Tokens
    sampled_from: Ints

    def whole(self) -> TermDocuments:
        """A document of each row."""
        return self._documents(np.zeros(len(self.row), dtype=np.intp), 1, ())

    def by_name(self, usable: Callable[[str], bool]) -> TermDocuments:
        """A document of each row and usable name."""
        kept = sorted((name, code) for code, name in enumerate(self.names) if usable(name))
        place = np.full(len(self.names) + 1, -1, dtype=np.intp)  # the last one is that of no name
        place[[code for _, code in kept]] = np.arange(len(kept))
        return self._documents(place[self.name], max(len(kept), 1), tuple(name for name, _ in kept))

    def _documents(self, group: Ints, width: int, groups: tuple[str, ...]) -> TermDocuments:
        key = np.where(group >= 0, self.row * width + group, -1)
        distinct = np.unique(key[key >= 0])
        document = np.where(key >= 0, np.searchsorted(distinct, key), -1)
        row, code = np.divmod(distinct, width)
        presence = self.tokens.presence(document, len(distinct), least=MIN_WITH)
        return TermDocuments(row, code if groups else np.full(len(row), -1), groups, presence, self.sampled_from)


def _read(connection: Connection, query: Composable, agent: Ints, n_agents: int) -> _Source:
    """Read a source; `agent` is that of each row of the panel."""
    tokens, total = Tokens(), np.zeros(n_agents, dtype=np.intp)
    rows: list[Ints] = []
    names: list[pa.DictionaryArray] = []
    for block in copy_blocks(connection, query, TEXTS):
        code = block["code"].to_numpy()
        total[agent[code]] = block["total"].to_numpy()
        rows.append(code.astype(np.intp))
        names.append(block["name"].combine_chunks().dictionary_encode())
        tokens.add(block["text"])
    named = pa.chunked_array(names).unify_dictionaries()
    codes = [pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False).astype(np.intp) for chunk in named.chunks]
    return _Source(np.concatenate(rows), np.concatenate(codes), tuple(named.chunk(0).dictionary.to_pylist()), tokens, total)


def _is_point(name: str) -> bool:
    """Whether the feature store has rows for a decision point of this name."""
    return bool(usable_names(pa.chunked_array([[name]]))[0].as_py())
