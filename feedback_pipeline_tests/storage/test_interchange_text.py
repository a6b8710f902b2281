"""Arrow columns as text: nested values as JSON against Python's json, bytes against Python's decoder."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_pipeline.storage.interchange_text import TEXT_LIMIT, as_text, stageable

STRUCT = pa.struct(
    [
        ("tone", pa.struct([("score", pa.float64()), ("issues", pa.list_(pa.string()))])),
        ('k"ey\\', pa.list_(pa.struct([("n", pa.int64())]))),
        ("yes", pa.bool_()),
    ]
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def documents() -> st.SearchStrategy[Any]:
    entry = st.none() | st.fixed_dictionaries(
        {"score": st.none() | NUMBERS, "issues": st.none() | st.lists(st.none() | TEXTS, max_size=3)}
    )
    numbers = st.none() | st.lists(st.none() | st.fixed_dictionaries({"n": st.integers(-(2**63), 2**63 - 1)}), max_size=3)
    return st.none() | st.fixed_dictionaries({"tone": entry, 'k"ey\\': numbers, "yes": st.none() | st.booleans()})


@given(st.lists(documents(), max_size=6), st.integers(0, 3))
def test_nested_values_become_the_json_of_their_python_value(rows: list[Any], skipped: int) -> None:
    column = pa.array(rows, STRUCT).slice(skipped)
    texts = as_text(column).to_pylist()
    assert [None if text is None else json.loads(text) for text in texts] == rows[skipped:]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([[("k", 1), ('"', 2)], None, []], pa.map_(pa.string(), pa.int64())), ['{"k":1,"\\"":2}', None, "{}"]),
        (pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), ["[1,2]", None]),
        (pa.array([["a"], None, []], pa.large_list(pa.string_view())), ['["a"]', None, "[]"]),
        (pa.array([UUID(int=5).bytes, None], pa.uuid()), [f"{5:032x}", None]),
        (pa.array([datetime(2024, 1, 1, 12, tzinfo=UTC)], pa.timestamp("ns", "Europe/Berlin")), ["2024-01-01 12:00:00.000000Z"]),
        (pa.array([1.0, 0.1, 1e300, math.nan, -math.inf]), ["1", "0.1", "1e+300", "nan", "-inf"]),
        (pa.array([Decimal("1.50"), None]), ["1.50", None]),
        (pa.array([True, None, False]), ["true", None, "false"]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
        (pa.array([{}, None], pa.struct([])), ["{}", None]),
        (pa.array([None, None], pa.null()), [None, None]),
        (pa.array([], pa.list_(pa.string())), []),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_type_has_a_text(column: pa.Array, expected: list[str | None]) -> None:
    assert as_text(column).cast(pa.large_string()).to_pylist() == expected
    padded = pa.concat_arrays([column, column]).slice(len(column))  # an array may begin anywhere in its buffers
    assert as_text(padded).cast(pa.large_string()).to_pylist() == expected


def decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.lists(st.none() | st.binary(max_size=6) | TEXTS.map(str.encode), max_size=8))
def test_what_is_no_text_is_set_aside(values: list[bytes | None]) -> None:
    clean, reasons, fields = stageable({"a": as_text(pa.array(values, pa.binary()))})
    sound = [value is not None and decodes(value) and b"\x00" not in value for value in values]
    assert clean["a"].to_pylist() == [
        value.decode() if ok and value is not None else None for ok, value in zip(sound, values, strict=True)
    ]
    offences = [value is not None and not ok for ok, value in zip(sound, values, strict=True)]
    assert [reason is not None for reason in reasons.to_pylist()] == offences
    assert [field == "a" for field in fields.to_pylist()] == offences


def test_the_first_offence_of_a_row_is_named() -> None:
    columns = {"a": ["x" * TEXT_LIMIT, "x" * (TEXT_LIMIT + 1), "fine"], "b": ["fine", "\x00", "\x00"]}
    clean, reasons, fields = stageable({name: as_text(pa.array(values)) for name, values in columns.items()})
    assert reasons.to_pylist() == [None, "text over 1 MB", "NUL character"]
    assert fields.to_pylist() == [None, "a", "b"]
    assert [column.null_count for column in clean.values()] == [1, 2]
