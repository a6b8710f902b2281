import json

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.bulk import stable_id
from feedback_pipeline.storage.copy_fields import (
    copy_fields,
    fields,
    json_numbers,
    json_objects,
    json_texts,
    stable_ids,
    text_fields,
)
from feedback_pipeline.storage.database import Database

HOSTILE = ["", "\\N", "\\.", "a\tb", "line\nbreak\r\n\\.\n", "\\\\t", '"q",', "ü\u202e😀", "{}", "%s %d", " "]


def test_ids_of_columns_are_those_of_single_rows() -> None:
    parts = [["pattern"] * len(HOSTILE), HOSTILE, HOSTILE[::-1]]
    assert list(stable_ids(*parts)) == [stable_id(*row).hex for row in zip(*parts, strict=True)]
    assert list(stable_ids([], [])) == []


@pytest.mark.slow
def test_every_value_arrives_as_it_was(database: Database) -> None:
    n = 2000
    texts = [HOSTILE[i % len(HOSTILE)] if i % 7 else None for i in range(n)]
    numbers = [[0.1, -0.0, 1e300, 5e-324, 1 / 3, np.nan, np.inf, -np.inf][i % 8] for i in range(n)]
    flags = [[True, False, None][i % 3] for i in range(n)]
    columns = {
        "place": fields(pd.Series(range(n))),
        "plain": fields(pd.Series(texts, dtype="str")),
        "mixed": fields(pd.Series(texts, dtype=object)),
        "number": fields(pd.Series(numbers)),
        "flag": fields(pd.Series(flags, dtype=object)),
        "document": json_objects(
            {'a "%s" key': json_texts(pd.Series(texts, dtype="str")), "number": json_numbers(pd.Series(numbers))}
        ),
        "fixed": text_fields(["same\t"] * n),
    }
    with database.connect() as connection:
        connection.execute(
            "CREATE TEMP TABLE copied (place int, plain text, mixed text, number float8, flag bool, document jsonb, fixed text)"
        )
        copy_fields(connection, "copied", columns, n)
        rows = connection.execute(
            """SELECT place, plain, mixed, number, flag, fixed, document ->> 'a "%s" key', (document ->> 'number')::float8
            FROM copied ORDER BY place"""
        ).fetchall()
    known = [number if np.isfinite(number) else None for number in numbers]
    assert rows == [(i, texts[i], texts[i], known[i], flags[i], "same\t", texts[i], known[i]) for i in range(n)]
    assert [json.dumps(row[3]) for row in rows] == [json.dumps(number) for number in known]  # -0.0 stays -0.0


def test_a_text_that_postgres_cannot_store_is_refused_in_words() -> None:
    with pytest.raises(StoreError, match="NUL"):
        list(text_fields(["fine", "not\0fine"]))


@pytest.mark.slow
def test_columns_of_different_lengths_are_refused(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TEMP TABLE copied (a int, b int)")
        with pytest.raises(ValueError, match="shorter"):
            copy_fields(connection, "copied", {"a": ["1", "2"], "b": ["1"]}, 2)
