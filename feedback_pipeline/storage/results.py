"""Artifacts of the learning passes and the list of consumed changes, beside the days of the feature store."""

import io
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedback_pipeline.errors import StoreError, UserError
from feedback_pipeline.storage.files import Files

Ids = npt.NDArray[np.int64]

KEPT_RESULTS: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FACTS: Final = "facts.json"


class Results:
    """Artifacts by learning run and asset: some frames and a JSON document of facts; the newest 20 runs of an asset are kept."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def write(self, learning_run_id: str, asset: str, frames: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> None:
        """Write one artifact; it can be read once all of it is there.

        Raises:
            UserError: a name that cannot be a file name.
        """
        folder = f"{_checked(learning_run_id)}/{_checked(asset)}"
        for name, frame in frames.items():
            table = _as_table(frame)
            self._files.write(f"{folder}/{_checked(name)}.parquet", to_parquet(table, _repeated_texts(table)))
        document = {"frames": sorted(frames), "facts": dict(facts)}
        self._files.write(f"{folder}/{_FACTS}", json.dumps(document, sort_keys=True).encode())
        runs = [learning_run_id, *(run for run in self._runs(asset) if run != learning_run_id)]
        self._files.write(f"{asset}.json", json.dumps(runs[:KEPT_RESULTS]).encode())
        for old in runs[KEPT_RESULTS:]:
            self._files.remove(f"{old}/{asset}")
            if not self._files.names(old):
                self._files.remove(old)

    def read(self, learning_run_id: str, asset: str) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
        """Return the frames and the facts of one artifact.

        Raises:
            StoreError: there is no such artifact.
        """
        folder = f"{_checked(learning_run_id)}/{_checked(asset)}"
        try:
            document = json.loads(self._files.read(f"{folder}/{_FACTS}"))
            frames = {name: from_parquet(self._files.read(f"{folder}/{name}.parquet")).to_pandas() for name in document["frames"]}
        except FileNotFoundError as error:
            raise StoreError(f"no result of {asset} for learning run {learning_run_id}; materialize {asset} again") from error
        return frames, document["facts"]

    def latest(self, asset: str) -> str | None:
        """Return the learning run whose result of this asset was written last, None if there is none."""
        runs = self._runs(_checked(asset))
        return runs[0] if runs else None

    def clear(self) -> None:
        """Remove all artifacts, also those of runs that ended before they were listed."""
        for name in self._files.names():
            self._files.remove(name)

    def _runs(self, asset: str) -> list[str]:
        try:
            runs: list[str] = json.loads(self._files.read(f"{asset}.json"))
        except FileNotFoundError:
            return []
        return runs


class Consumed:
    """Ids of `feedback_changes` whose days have been extracted; the publish that learns them deletes them.

    Each extraction leaves one file, named by a token. A publisher reads the tokens before it reads the days, deletes exactly
    those ids in its transaction, and drops the tokens after the commit.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    def write(self, ids: Iterable[int] | Ids) -> str | None:
        """Add ids; returns the token of the new file, None when there is no id."""
        values = _distinct(np.fromiter(ids, dtype=np.int64) if not isinstance(ids, np.ndarray) else ids)
        if not len(values):
            return None
        token = uuid.uuid4().hex
        self._files.write(f"{token}.parquet", to_parquet(pa.table({"id": values})))
        return token

    def read(self) -> tuple[Ids, list[str]]:
        """Return all consumed ids, ascending, and the tokens they come from."""
        tokens = [name.removesuffix(".parquet") for name in self._files.names() if name.endswith(".parquet")]
        contents = self._files.read_many([f"{token}.parquet" for token in tokens])
        parts = [from_parquet(content)["id"].to_numpy() for content in contents if content is not None]
        return _distinct(np.concatenate([np.empty(0, dtype=np.int64), *parts])), tokens

    def drop(self, tokens: Iterable[str]) -> None:
        """Forget files whose ids have been deleted from the database."""
        for token in tokens:
            self._files.remove(f"{_checked(token)}.parquet")


def _distinct(ids: Ids) -> Ids:
    ordered = np.sort(ids)
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def _repeated_texts(table: pa.Table) -> list[str]:
    """Text columns whose first rows repeat themselves: a dictionary of ids or of scores costs time and saves nothing."""
    head = table.slice(0, 1000)
    texts = [field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    return [name for name in texts if pc.count_distinct(head[name]).as_py() <= len(head) // 2]


def _as_table(frame: pd.DataFrame) -> pa.Table:
    """The frame as a table; moments go through numpy, since pyarrow reads a zoned column by a way that pandas deprecates."""
    moments = frame.select_dtypes("datetimetz").columns
    plain = frame.assign(**{name: frame[name].dt.tz_convert(None) for name in moments})
    table = pa.Table.from_pandas(plain, preserve_index=False)
    for name in moments:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC")))
    return table


def to_parquet(table: pa.Table, dictionary: bool | list[str] = True) -> bytes:
    """Serialise a table as one row group."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy", use_dictionary=dictionary, row_group_size=max(table.num_rows, 1))
    return sink.getvalue()


def from_parquet(content: bytes, columns: list[str] | None = None) -> pa.Table:
    """Read a table back, or those of some columns that it has.

    Raises:
        StoreError: the content is not Parquet.
    """
    try:
        return pq.ParquetFile(pa.BufferReader(content)).read(columns, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(
            f"a file of the feature store is damaged ({error}); remove its day folder and extract the day again"
        ) from error


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise UserError(f"{name!r} cannot name a result; use letters, digits, '_', '-' and '.'")
    return name
