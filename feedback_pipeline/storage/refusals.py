"""What an extraction could not use, collected column by column until it goes to the ledger."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feedback_pipeline.learning.features import LARGEST_NUMBER
from feedback_pipeline.storage.ledger import Reason

Concerned = tuple[str, pa.Array, str]
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


def usable_numbers(
    values: pa.ChunkedArray | pa.Array, limits: tuple[float, float], concerned: Concerned, refusals: Refusals, outside: Reason
) -> pa.Array:
    """Replace by null what is not finite or outside the limits, and refuse it.

    Args:
        values: Numbers (N,), null = missing.
        limits: The least and the greatest value that is used; none is used that is larger than LARGEST_NUMBER in size.
        concerned: Source table, ids of its rows (N,) and the name under which the numbers are refused.
        refusals: Receives what cannot be used.
        outside: Reason for finite numbers outside the limits.
    """
    flat = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    source, ids, name = concerned
    infinite = pc.fill_null(pc.invert(pc.is_finite(flat)), False)
    low, high = max(limits[0], -LARGEST_NUMBER), min(limits[1], LARGEST_NUMBER)
    beyond = pc.fill_null(pc.or_(pc.less(flat, low), pc.greater(flat, high)), False)
    refusals.add(source, ids.filter(infinite), Reason.NOT_A_FINITE_NUMBER, name)
    refusals.add(source, ids.filter(pc.and_not(beyond, infinite)), outside, name)
    return pc.if_else(pc.or_(infinite, beyond), pa.scalar(None, pa.float64()), flat)
