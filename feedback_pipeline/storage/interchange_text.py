"""Arrow columns as the text Postgres reads: numbers and times in full precision, nested values as JSON, bad bytes set aside.

Everything works on whole columns of a batch.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedback_pipeline.storage.ledger import Reason

TEXT_LIMIT = 1_048_576  # bytes of one value: "1 MB"
_TEXT = pa.large_string()
_BYTES = pa.large_binary()
_UUID_BYTES = 16
# Well-formed UTF-8 as a pattern over bytes; asked only when a batch holds something that is not.
_UTF8 = (
    r"^(?s:[\x00-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}|\xED[\x80-\x9F][\x80-\xBF]"
    r"|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}|\xF4[\x80-\x8F][\x80-\xBF]{2})*$"
)
_CONTROL = "[\x00-\x1f]"
_ESCAPES = {'"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def as_text(column: pa.Array) -> pa.Array:
    """A column of any type as large_string, or as large_binary where the bytes have not been checked to be UTF-8.

    Null stays null; NaN becomes "nan", so that whoever reads the text sees it; struct, list and map become JSON text;
    instants with a time zone are UTC; 16-byte values are uuids, written as 32 hexadecimal digits.
    """
    if pa.types.is_nested(column.type):
        return pc.if_else(column.is_valid(), _json(column), pa.scalar(None, _TEXT))
    column = _plain(column)
    kind = column.type
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == _UUID_BYTES:
        return _hexadecimal(column)
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    ):
        return column.cast(_BYTES)
    return column if kind == _BYTES else column.cast(_TEXT)


def stageable(columns: dict[str, pa.Array], limit: int = TEXT_LIMIT) -> tuple[dict[str, pa.Array], pa.Array, pa.Array]:
    """Set aside what Postgres cannot take or must not hold.

    Args:
        columns: columns as `as_text` returns them, of one length.
        limit: bytes a single value may have.

    Returns:
        The columns as large_string with the offending values null; per row the reason and the column of its first
        offence, both null for a row that is fine.
    """
    rows = len(next(iter(columns.values())))
    reasons = fields = pa.nulls(rows, pa.string())
    clean: dict[str, pa.Array] = {}
    for name, column in columns.items():
        text, reason = _checked(column, limit)
        clean[name] = text
        if reason.null_count < rows:
            first = pc.and_(reason.is_valid(), reasons.is_null())
            fields = pc.if_else(first, name, fields)
            reasons = pc.coalesce(reasons, reason)
    return clean, reasons, fields


def _checked(column: pa.Array, limit: int) -> tuple[pa.Array, pa.Array]:
    """The column as large_string, offending values null, and the reason of each offence."""
    reason = pa.nulls(len(column), pa.string())
    masks = [
        (pc.greater(pc.binary_length(column), limit), Reason.TEXT_OVER_1_MB),
        (pc.match_substring(column, "\x00"), Reason.NUL_CHARACTER),
    ]
    try:
        text = column.cast(_TEXT)
    except pa.ArrowInvalid:
        masks.append((pc.invert(pc.match_substring_regex(column, _UTF8)), Reason.INVALID_TEXT))
        text = None
    for mask, why in masks:
        if pc.any(mask).as_py():
            reason = pc.if_else(pc.and_(pc.fill_null(mask, False), reason.is_null()), str(why), reason)
    if reason.null_count < len(reason):
        kept = column if text is None else text
        text = pc.if_else(reason.is_valid(), pa.scalar(None, kept.type), kept).cast(_TEXT)
    return text, reason


def _plain(column: pa.Array) -> pa.Array:
    """Storage of extension types, values of dictionaries, offsets instead of views, UTC microseconds."""
    if isinstance(column.type, pa.BaseExtensionType):
        return _plain(column.storage)
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary_decode())
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", "UTC" if kind.tz else None), safe=False)
    if kind in (pa.string_view(), pa.binary_view()):
        return column.cast(_TEXT if kind == pa.string_view() else _BYTES)
    if pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        return column.cast(pa.list_(kind.value_type))
    if pa.types.is_map(kind):
        return column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    return column


def _hexadecimal(column: pa.Array) -> pa.Array:
    filled = pc.fill_null(column, b"\x00" * _UUID_BYTES)
    octets = np.frombuffer(filled.buffers()[1], dtype=np.uint8)[filled.offset * _UUID_BYTES :][: len(filled) * _UUID_BYTES]
    digits = np.frombuffer(octets.tobytes().hex().encode(), dtype=f"S{2 * _UUID_BYTES}")
    return pc.if_else(column.is_valid(), pa.array(digits, _BYTES), pa.scalar(None, _BYTES))


def _json(column: pa.Array) -> pa.Array:
    """The column as JSON text, null as the word null."""
    is_map = pa.types.is_map(column.type)
    column = _plain(column)
    kind = column.type
    if pa.types.is_struct(kind):
        names = [json.dumps(field.name) for field in kind]
        members = [_joined(name, _json(value), separator=":") for name, value in zip(names, column.flatten(), strict=True)]
        inner = _joined(*members, separator=",") if members else pc.fill_null(pa.nulls(len(column), _TEXT), "")
        rendered = _joined("{", inner, "}")
    elif pa.types.is_list(kind):
        rendered = _json_list(column, is_map=is_map)
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        rendered = column.cast(_TEXT)
    else:
        rendered = _quoted(as_text(column).cast(_TEXT))
    return pc.if_else(column.is_valid(), rendered, _text("null"))


def _json_list(column: pa.Array, *, is_map: bool) -> pa.Array:
    inner = column.flatten()
    if is_map:
        keys = _quoted(as_text(inner.field("key")).cast(_TEXT))
        items = _joined(keys, _json(inner.field("value")), separator=":")
    else:
        items = _json(inner)
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, items), _text(","))
    return _joined("{" if is_map else "[", joined, "}" if is_map else "]")


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, _TEXT)


def _joined(*parts: pa.Array | str, separator: str = "") -> pa.Array:
    return pc.binary_join_element_wise(*(_text(part) if isinstance(part, str) else part for part in parts), _text(separator))


def _quoted(text: pa.Array) -> pa.Array:
    """JSON string literals."""
    escaped = pc.replace_substring(text, "\\", "\\\\")
    for character, escape in _ESCAPES.items():
        escaped = pc.replace_substring(escaped, character, escape)
    if pc.any(pc.match_substring_regex(escaped, _CONTROL)).as_py():
        for code in range(0x20):
            escaped = pc.replace_substring(escaped, chr(code), f"\\u{code:04x}")
    return _joined('"', escaped, '"')
