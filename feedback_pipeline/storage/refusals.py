"""What an extraction could not use, collected column by column until it goes to the ledger."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feedback_pipeline.storage.ledger import Reason

_SCHEMA: Final = pa.schema([(name, pa.string()) for name in ("source", "row_id", "reason", "detail")])


class Refusals:
    """Refused rows and refused scores of rows that are otherwise used."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []

    def add(self, source: str, row_ids: pa.Array, reason: Reason, detail: "str | pa.Array | None" = None) -> None:
        """Add rows of one source table that share a reason; `detail` is shared or one text per row."""
        size = len(row_ids)
        if not size:
            return
        details = detail if isinstance(detail, pa.Array | pa.ChunkedArray) else pa.repeat(pa.scalar(detail, pa.string()), size)
        constants = [pa.repeat(pa.scalar(str(value), pa.string()), size) for value in (source, reason)]
        self._tables.append(pa.table([constants[0], row_ids, constants[1], details], schema=_SCHEMA))

    def table(self) -> pa.Table:
        """Return all refusals: text columns source, row_id, reason, detail."""
        return pa.concat_tables([_SCHEMA.empty_table(), *self._tables])

    def by_reason(self) -> dict[str, int]:
        """Number of refusals by reason."""
        counted = self.table().group_by("reason").aggregate([([], "count_all")])
        return dict(sorted(zip(counted["reason"].to_pylist(), counted["count_all"].to_pylist(), strict=True)))


def where(mask: npt.NDArray[np.bool_]) -> pa.Array:
    """Positions at which a mask holds, for `take`."""
    return pa.array(np.flatnonzero(mask))


def inside_or_null(values: pa.Array, low: float, high: float) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Replace numbers outside low..high by null; also return where they stood."""
    outside = pc.fill_null(pc.or_(pc.less(values, low), pc.greater(values, high)), False)
    flags: npt.NDArray[np.bool_] = outside.to_numpy(zero_copy_only=False)
    return pc.if_else(outside, pa.scalar(None, pa.float64()), values), flags


def finite_or_null(values: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Replace NaN and infinity by null; also return where they stood."""
    flat = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    bad = pc.fill_null(pc.invert(pc.is_finite(flat)), False)
    flags: npt.NDArray[np.bool_] = bad.to_numpy(zero_copy_only=False)
    return pc.if_else(bad, pa.scalar(None, pa.float64()), flat), flags
