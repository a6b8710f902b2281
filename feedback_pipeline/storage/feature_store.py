"""The feature store: days of extracted reviews and features in Parquet, results of the learning passes, consumed changes.

Layout under `<root>/<installation>/`:

    days/2026-02-01.json                                 the manifest of a day; a day exists when its manifest does
    days/2026-02-01/human_feedback-<hash>.parquet        data files, named by their content
    days/2026-02-01/feature_table-<hash>.parquet
    days/2026-02-01/decision_points-<hash>.parquet
    results/<learning run>/<asset>/...                   artifacts of the reduce
    consumed/<token>.parquet                             ids of changes whose days have been extracted
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feedback_pipeline.errors import StoreError
from feedback_pipeline.learning.features import CATEGORIES
from feedback_pipeline.storage.day_tables import (
    DECISION_POINTS,
    FEATURE_TABLE,
    HUMAN_FEEDBACK,
    OUTPUT_ORDER,
    REVIEW_ORDER,
    checked_decision_points,
    checked_outputs,
    checked_reviews,
    in_order,
)
from feedback_pipeline.storage.files import Files
from feedback_pipeline.storage.results import Consumed, Ids, Results, from_parquet, to_parquet

# Ids are nearly unique: a dictionary of them costs time and saves nothing.
_DICTIONARY: Final = (
    *("agent_name", "agent_type", "reviewer_id", "stage", "decision", "decision_point"),
    *("aspects.list.element", "scores.list.element"),
    *CATEGORIES,
)
_ATTEMPTS: Final = 5
_THREADS: Final = 4

Manifest = dict[str, Any]


class FeatureStore:
    """Days and results of one installation.

    Args:
        root: Folder or fsspec URL.
        installation: Id of the installation (table `installation`): two databases never share days.
        prove: Called before a result is written; raises where it must not be, as in a pass that has lost its lock.
    """

    def __init__(self, root: str, installation: str, prove: Callable[[], None] | None = None) -> None:
        self._prove = prove
        home = Files(root).under(installation)
        self._days = home.under("days")
        self._results = Results(home.under("results"))
        self._consumed = Consumed(home.under("consumed"))

    def write_day(
        self,
        day: date,
        human_feedback: pa.Table,
        feature_table: pa.Table,
        version: str,
        facts: Mapping[str, Any] | None = None,
        *,
        decision_points: pa.Table | None = None,
    ) -> None:
        """Replace a day, whole or not at all: data files first, then the manifest that names them, then the old files go.

        Args:
            day: UTC day of the reviews.
            human_feedback: Rows by `HUMAN_FEEDBACK`.
            feature_table: Rows by `FEATURE_TABLE` and custom features.
            version: What the rows depend on besides the database.
            facts: JSON values kept in the manifest under "facts".
            decision_points: Rows by `DECISION_POINTS`; None = none.

        Raises:
            StoreError: a column, a type or a key is not what the schema says; nothing is written.
        """
        points = DECISION_POINTS.empty_table() if decision_points is None else decision_points
        tables = {
            "human_feedback": checked_reviews(human_feedback),
            "feature_table": checked_outputs(feature_table),
            "decision_points": checked_decision_points(points),
        }
        manifest: Manifest = {"day": day.isoformat(), "version": version, "facts": dict(facts or {})}
        manifest["trainable_rows"] = int(pc.sum(tables["human_feedback"]["is_training_data"]).as_py() or 0)
        for name, table in tables.items():
            content = to_parquet(table, [column for column in _DICTIONARY if column.split(".")[0] in table.column_names])
            file = f"{day.isoformat()}/{name}-{hashlib.sha256(content).hexdigest()[:24]}.parquet"
            self._days.write(file, content)
            manifest[name] = {"file": file, "rows": table.num_rows, "columns": table.column_names}
        self._days.write(f"{day.isoformat()}.json", json.dumps(manifest, sort_keys=True).encode())
        current = {manifest[name]["file"].rsplit("/", 1)[-1] for name in tables}
        for leftover in set(self._days.names(day.isoformat())) - current:
            self._days.remove(f"{day.isoformat()}/{leftover}")

    def remove_day(self, day: date) -> None:
        """Remove a day; nothing happens if it is not there."""
        self._days.remove(f"{day.isoformat()}.json")
        self._days.remove(day.isoformat())

    def manifest(self, day: date) -> Manifest | None:
        """Return the manifest of a day, None if the day is not in the store."""
        try:
            content = self._days.read(f"{day.isoformat()}.json")
        except FileNotFoundError:
            return None
        return _parse_manifest(content)

    def days(self) -> dict[date, Manifest]:
        """Return the manifests of all days, in day order."""
        names = [name for name in self._days.names() if name.endswith(".json")]
        manifests = [_parse_manifest(content) for content in self._days.read_many(names) if content is not None]
        return {date.fromisoformat(manifest["day"]): manifest for manifest in manifests}

    def days_naming(self, named: Mapping[str, Collection[str]]) -> list[date]:
        """Return the days of which a data file, in use or left behind, names one of these values, in day order.

        A file that was not written to its end counts as naming them.

        Args:
            named: Values by column, such as reviewer_id, feedback_id, content_id and execution_id.
        """
        sought = {column: pa.array(sorted(values), pa.string()) for column, values in named.items() if values}
        folders = [name for name in self._days.names() if "." not in name]
        with ThreadPoolExecutor(_THREADS) as pool:
            naming = list(pool.map(lambda folder: self._names(folder, sought), folders))
        return [date.fromisoformat(folder) for folder, found in zip(folders, naming, strict=True) if found]

    def read_tables(self, first: date | None, last: date, *, ordered: bool = True) -> tuple[pa.Table, pa.Table]:
        """Return human_feedback and feature_table of the days first..last (both included; None = from the beginning).

        Rows are in canonical order, whatever the days were: reviews by agent_name, execution_id, reviewed_at, feedback_id;
        features by agent_name, execution_id and then day, so that the last row of an output is the newest. Columns are the
        union over the days. With ordered=False only the days are in order: for those who sort by their own keys.

        Raises:
            StoreError: a data file is missing or damaged.
        """
        reviews, outputs = self._read(("human_feedback", "feature_table"), first, last)
        feedback = pa.concat_tables([HUMAN_FEEDBACK.empty_table(), *reviews])
        features = _unified(outputs)
        if not ordered:
            return feedback.combine_chunks(), features.combine_chunks()
        return in_order(feedback, REVIEW_ORDER), in_order(features, OUTPUT_ORDER)

    def read_outputs(self, first: date | None, last: date) -> pa.Table:
        """Return feature_table of the days first..last with the days in order; see `read_tables`."""
        return _unified(self._read(("feature_table",), first, last)[0]).combine_chunks()

    def read_decision_points(self, first: date | None, last: date) -> pa.Table:
        """Return decision_points of the days first..last: of an output reviewed on several days the rows of the last one."""
        days = self._read(("decision_points",), first, last)[0]
        numbered = [table.append_column("day", pa.array(np.full(len(table), i))) for i, table in enumerate(days)]
        points = pa.concat_tables([DECISION_POINTS.empty_table().append_column("day", pa.array([], pa.int64())), *numbered])
        newest = points.group_by(list(OUTPUT_ORDER)).aggregate([("day", "max")])
        joined = points.join(newest, list(OUTPUT_ORDER))
        kept = joined.filter(pc.equal(joined["day"], joined["day_max"])).select(DECISION_POINTS.names)
        return in_order(kept, DECISION_POINTS.names[:3])

    def write_result(
        self, learning_run_id: str, asset: str, frames: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]
    ) -> None:
        """Write the artifact of a reduce asset; see `Results.write`.

        Raises:
            StoreError: what `prove` raises.
        """
        if self._prove is not None:
            self._prove()
        self._results.write(learning_run_id, asset, frames, facts)

    def read_result(self, learning_run_id: str, asset: str) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
        """Return frames and facts of an artifact; see `Results.read`."""
        return self._results.read(learning_run_id, asset)

    def clear_results(self) -> None:
        """Remove the artifacts of all learning runs; see `Results.clear`."""
        self._results.clear()

    def latest(self, asset: str) -> str | None:
        """Return the learning run whose result of this asset was written last, None if there is none."""
        return self._results.latest(asset)

    def write_consumed(self, ids: Iterable[int] | Ids) -> str | None:
        """Add ids of changes whose days are extracted; see `Consumed.write`."""
        return self._consumed.write(ids)

    def read_consumed(self) -> tuple[Ids, list[str]]:
        """Return the consumed ids, ascending, and their tokens; see `Consumed`."""
        return self._consumed.read()

    def drop_consumed(self, tokens: Iterable[str]) -> None:
        """Forget tokens whose ids have been deleted from the database."""
        self._consumed.drop(tokens)

    def _read(self, names: Sequence[str], first: date | None, last: date) -> list[list[pa.Table]]:
        """The tables of each name, day by day."""
        for _ in range(_ATTEMPTS):
            manifests = [manifest for day, manifest in self.days().items() if (first is None or day >= first) and day <= last]
            with ThreadPoolExecutor(_THREADS) as pool:
                # A day stored by an older version may lack a table; it is stale and waits to be read again.
                files = [[manifest[name]["file"] for manifest in manifests if name in manifest] for name in names]
                loaded = [list(pool.map(self._load, some)) for some in files]
            found = [[table for table in tables if table is not None] for tables in loaded]
            # A file that has been replaced since its manifest was read: look again.
            if [len(tables) for tables in found] == [len(some) for some in files]:
                return found
        raise StoreError(
            "the feature store names data files that do not exist; remove it and run `feedback-pipeline learn --all`"
        )

    def _names(self, folder: str, sought: Mapping[str, pa.Array]) -> bool:
        for file in self._days.names(folder):
            if not file.endswith(".parquet"):
                return True
            table = from_parquet(self._days.read(f"{folder}/{file}"), list(sought))
            if any(pc.any(pc.is_in(table[column], sought[column])).as_py() for column in table.column_names):
                return True
        return False

    def _load(self, file: str) -> pa.Table | None:
        try:
            return from_parquet(self._days.read(file))
        except FileNotFoundError:
            return None


def _unified(outputs: list[pa.Table]) -> pa.Table:
    """Feature tables of several days as one: the declared columns, then all custom features by name."""
    features = pa.concat_tables([FEATURE_TABLE.empty_table(), *outputs], promote_options="default")
    custom = sorted(set(features.column_names) - set(FEATURE_TABLE.names))
    return features.select([*FEATURE_TABLE.names, *custom])


def _parse_manifest(content: bytes) -> Manifest:
    try:
        manifest: Manifest = json.loads(content)
    except ValueError as error:
        raise StoreError(
            "a manifest of the feature store is damaged; remove the store and run `feedback-pipeline learn --all`"
        ) from error
    return manifest
