"""What a load did, in numbers and in one line."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class TableReport:
    """What happened to the rows of one file.

    Attributes:
        table: the source table.
        noun: what its rows are called, in the plural.
        file: the file's name.
        rows: rows of the file = loaded + unchanged + updated + all rejected.
        loaded: rows the table did not have.
        unchanged: rows the table had just so.
        updated: rows the table had otherwise.
        rejected: refused rows by reason.
        rejected_scores: refused scores of rows that were taken, by reason.
        ignored_columns: columns of the file which the table does not have.
    """

    table: str
    noun: str
    file: str
    rows: int
    loaded: int
    unchanged: int
    updated: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    rejected_scores: Mapping[str, int] = field(default_factory=dict)
    ignored_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadReport:
    """What happened to the rows of a folder; `tables` in the order they were loaded, parents first."""

    tables: tuple[TableReport, ...]

    @property
    def loaded(self) -> int:
        """New rows."""
        return sum(table.loaded for table in self.tables)

    @property
    def unchanged(self) -> int:
        """Rows the database had just so."""
        return sum(table.unchanged for table in self.tables)

    @property
    def updated(self) -> int:
        """Rows the database had otherwise."""
        return sum(table.updated for table in self.tables)

    @property
    def rejected(self) -> dict[str, int]:
        """Refused rows by reason, the most frequent first."""
        return _total(table.rejected for table in self.tables)

    @property
    def rejected_scores(self) -> dict[str, int]:
        """Refused scores of rows that were taken, by reason, the most frequent first."""
        return _total(table.rejected_scores for table in self.tables)

    @property
    def ignored_columns(self) -> dict[str, tuple[str, ...]]:
        """File name -> columns the database has no place for."""
        return {table.file: table.ignored_columns for table in self.tables if table.ignored_columns}

    def line(self) -> str:
        """The load in one line: loaded, unchanged, updated, rejected by reason."""
        loaded = ", ".join(f"{table.loaded:,} {table.noun}" for table in reversed(self.tables))
        parts = [
            f"loaded {loaded}",
            f"{self.unchanged:,} unchanged",
            f"{self.updated:,} updated",
            _counted("rejected", self.rejected),
        ]
        if self.rejected_scores:
            parts.append(_counted("scores left out", self.rejected_scores))
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "tables": [asdict(table) for table in self.tables],
            "loaded": self.loaded,
            "unchanged": self.unchanged,
            "updated": self.updated,
            "rejected": self.rejected,
            "rejected_scores": self.rejected_scores,
        }


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def _counted(what: str, reasons: Mapping[str, int]) -> str:
    number = f"{what} {sum(reasons.values()):,}"
    return f"{number}: {', '.join(f'{reason} {count:,}' for reason, count in reasons.items())}" if reasons else number
