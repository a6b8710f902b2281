"""Interchange files as batches of text: Parquet, CSV and JSON Lines, read in bounded memory.

A batch holds `ordinal` (the row's number in the file, from 1), `damage` and `damage_field` (the reason and the column of
what had to be set aside, null for a sound row) and text columns: the columns of the file, or `line` for JSON Lines,
which Postgres takes apart so that a broken line costs that line only.
"""

import gzip
import io
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feedback_pipeline.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import csv

EXTENSIONS = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
LINE = "line"
BATCH_BYTES = 8 << 20  # several are in flight: 1M reviews of 0.5 KB as CSV peak at 540 MB, at 670 MB with twice this
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Malformed:
    """A CSV record whose number of values is not that of the header."""

    ordinal: int
    expected: int
    found: int


@dataclass(frozen=True)
class Reading:
    """One file, opened.

    Attributes:
        columns: the columns of the file; None for JSON Lines, where every line may differ.
        rows: the number of rows, None where only reading tells.
        batches: yields the record batches, once.
        malformed: filled while the batches are read.
    """

    columns: tuple[str, ...] | None
    rows: int | None
    batches: "Callable[[], Iterator[pa.RecordBatch]]"
    malformed: list[Malformed] = field(default_factory=list)


def find_files(folder: Path, tables: Collection[str]) -> dict[str, Path]:
    """The interchange file of each table that has one in the folder.

    Raises:
        UserError: the folder is none or holds no such file, or a table has two.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the folder that holds the files to load")
    found: dict[str, Path] = {}
    for table in tables:
        paths = [path for extension in EXTENSIONS if (path := folder / f"{table}{extension}").is_file()]
        if len(paths) > 1:
            raise UserError(f"{folder} holds {' and '.join(path.name for path in paths)}; keep one file for each table")
        if paths:
            found[table] = paths[0]
    if not found:
        looked = ", ".join(tables)
        raise UserError(f"nothing to load in {folder}; looked for {looked}, each with one of the endings {' '.join(EXTENSIONS)}")
    return found


def open_file(path: Path, wanted: Collection[str]) -> Reading:
    """Open an interchange file; of its columns only the wanted ones are read.

    Raises:
        UserError: the file cannot be read as what its name says, or names a column twice.
    """
    opener = _open_parquet if path.suffix == ".parquet" else _open_csv if ".csv" in path.suffixes[-2:] else _open_lines
    reading = opener(path, wanted)
    names = reading.columns or ()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path.name} has the column {twice[0]} twice; keep one")
    return Reading(reading.columns, reading.rows, partial(_guarded, path, reading.batches), reading.malformed)


def _guarded(path: Path, batches: "Callable[[], Iterator[pa.RecordBatch]]") -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    try:
        yield from batches()
    except (pa.ArrowException, OSError, EOFError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "straddl" in reason:  # Arrow's word for a record that does not end within a block
        reason = f"it has a record longer than {BATCH_BYTES >> 20} MB, or a quote that is never closed"
    return UserError(f"{path.name} cannot be read: {reason}; write the file again, nothing was loaded")


def _batch(
    ordinals: "np.ndarray[tuple[int], np.dtype[np.int64]]", columns: "dict[str, pa.Array]", limit: int
) -> "pa.RecordBatch":
    import pyarrow as pa

    from feedback_pipeline.storage.interchange_text import as_text, stageable

    clean, reasons, fields = stageable({name: as_text(column) for name, column in columns.items()}, limit)
    return pa.record_batch({"ordinal": pa.array(ordinals), "damage": reasons, "damage_field": fields, **clean})


def _open_parquet(path: Path, wanted: Collection[str]) -> Reading:
    import pyarrow as pa
    from pyarrow import parquet

    from feedback_pipeline.storage.interchange_text import TEXT_LIMIT

    try:
        metadata = parquet.read_metadata(path)
        names = tuple(parquet.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    columns = [name for name in names if name in wanted]
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    row_bytes = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=1.0)
    size = int(min(BATCH_ROWS, max(1.0, BATCH_BYTES / max(row_bytes, 1.0))))

    def batches() -> "Iterator[pa.RecordBatch]":
        done = 0
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(size, columns=columns, use_threads=False):
                ordinals = np.arange(done + 1, done + 1 + batch.num_rows)
                done += batch.num_rows
                yield _batch(ordinals, dict(zip(batch.schema.names, batch.columns, strict=True)), TEXT_LIMIT)

    return Reading(names, metadata.num_rows, batches)


def _open_csv(path: Path, wanted: Collection[str]) -> Reading:
    import pyarrow as pa

    from feedback_pipeline.storage.interchange_text import TEXT_LIMIT

    malformed: list[Malformed] = []

    def skip(row: "csv.InvalidRow") -> str:
        malformed.append(Malformed(row.number - 1, row.expected_columns, row.actual_columns))  # the header is record 1
        return "skip"

    try:
        with _csv_reader(path, (), skip) as reader:
            names = tuple(reader.schema.names)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    columns = [name for name in names if name in wanted]

    def batches() -> "Iterator[pa.RecordBatch]":
        malformed.clear()  # opening the file has read its first block
        kept = 0
        with _csv_reader(path, columns, skip) as reader:
            for batch in reader:
                ordinals = _file_positions(np.arange(kept + 1, kept + 1 + batch.num_rows), malformed)
                kept += batch.num_rows
                yield _batch(ordinals, dict(zip(columns, batch.columns, strict=True)), TEXT_LIMIT)

    return Reading(names, None, batches, malformed)


def _csv_reader(path: Path, columns: Collection[str], skip: "Callable[[csv.InvalidRow], str]") -> "csv.CSVStreamingReader":
    """All values as bytes, empty = null; values may hold line breaks. Without columns: all of them, as the header names them."""
    import pyarrow as pa
    from pyarrow import csv

    return csv.open_csv(
        path,
        csv.ReadOptions(use_threads=False, block_size=BATCH_BYTES),
        csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(columns, pa.large_binary()),
            include_columns=list(columns),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _file_positions(
    kept: "np.ndarray[tuple[int], np.dtype[np.int64]]", malformed: list[Malformed]
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Positions in the file of the kept-th sound records: every malformed one before them counts."""
    skipped = np.array([row.ordinal for row in malformed], dtype=np.int64)
    return kept + np.searchsorted(skipped - np.arange(len(skipped)), kept, side="right")


def _open_lines(path: Path, _wanted: Collection[str]) -> Reading:
    def batches() -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa
        import pyarrow.compute as pc

        done = 0
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            for block in _whole_lines(stream):
                lines = pc.split_pattern(pa.array([block], pa.large_binary()), b"\n").values
                ordinals = np.arange(done + 1, done + 1 + len(lines))
                done += len(lines)
                filled = pc.match_substring_regex(lines, r"[^\s]")
                yield _batch(ordinals[filled.to_numpy(zero_copy_only=False)], {LINE: lines.filter(filled)}, BATCH_BYTES)

    return Reading(None, None, batches)


def _whole_lines(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """Blocks that end where a line ends; of a line longer than a block only enough is kept to see that it is too long."""
    carry = b"" if stream.read(3) == b"\xef\xbb\xbf" else _rewound(stream)
    while block := stream.read(BATCH_BYTES):
        head, line_end, tail = block.rpartition(b"\n")
        if line_end:
            yield carry + head
            carry = tail
        else:
            carry = (carry + block)[: BATCH_BYTES + 1]
    if carry:
        yield carry


def _rewound(stream: io.BufferedIOBase) -> bytes:
    stream.seek(0)
    return b""
