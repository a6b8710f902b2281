"""What `strategy` prints: how an agent does per segment, shrunken, and how its next outputs should be spread."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from feedback_pipeline.commands.rendering import WIDE, Document, console, printable

MOST_OF_A_FAMILY: Final = 12
_INDENT: Final = (0, 0, 0, 2)
_HOW_TO_READ: Final = (
    "Approval and score are drawn towards what the agent's other outputs say, the more the fewer outputs a segment has, so that "
    "a lucky handful is not taken for the best; with 90 % intervals."
)


def print_strategy(document: Document) -> None:
    """The segments of each family, highest shrunken approval first, then the next allocation."""
    out, segments = console(), document["segments"]
    out.print(Text.assemble((printable(document["agent_name"]), "bold"), ": content strategy"))
    if document["reason"]:
        out.print(Text(f"{printable(document['status']).replace('_', ' ').capitalize()}: {printable(document['reason'])}."))
    for family, rows in groupby(segments, itemgetter("family")):
        of_family = list(rows)
        out.print(Text(f"\n{_title(family)}", style="bold"))
        out.print(Padding(_segments_table(of_family[:MOST_OF_A_FAMILY], out.width), _INDENT, expand=False))
        if len(of_family) > MOST_OF_A_FAMILY:
            out.print(Padding(Text(f"and {len(of_family) - MOST_OF_A_FAMILY:,} more; --json lists all"), _INDENT, expand=False))
    if segments:
        out.print(Text(_HOW_TO_READ))
    _print_allocation(out, document["allocation"])


def _title(family: str) -> str:
    return printable(family).replace("_", " ").capitalize()


def _segments_table(segments: Sequence[Document], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("segment", overflow="fold")
    for title in ("approval", "90 % interval", "outputs", *(("score", "90 % interval", "scored") if width >= WIDE else ())):
        table.add_column(title, justify="right", no_wrap=True)
    for row in segments:
        cells = [
            _percent(row["approval"]),
            "" if row["approval_low"] is None else f"[{100 * row['approval_low']:.0f}, {100 * row['approval_high']:.0f}] %",
            f"{row['n']:,}",
        ]
        if width >= WIDE:
            interval = "" if row["score_low"] is None else f"[{row['score_low']:.2f}, {row['score_high']:.2f}]"
            cells += ["" if row["score"] is None else f"{row['score']:.2f}", interval, f"{row['n_scored']:,}"]
        table.add_row(*map(Text, (printable(row["segment"]), *cells)))
    return table


def _print_allocation(out: Console, allocation: Document) -> None:
    if not allocation:
        return
    out.print(Text("\nThe next outputs", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("by", "segment"):
        table.add_column(title, overflow="fold")
    for title in ("next outputs", "probability", "reviewed so far"):
        table.add_column(title, justify="right", no_wrap=True)
    for family, rows in allocation.items():
        for place, row in enumerate(rows[:MOST_OF_A_FAMILY]):
            named = "" if place else _title(family).lower(), printable(row["segment"])
            table.add_row(*map(Text, (*named, f"{row['outputs']:,}", f"{row['propensity']:.3f}", f"{row['n']:,}")))
    out.print(Padding(table, _INDENT, expand=False))
    out.print(
        Text("Drawn from the plain counts (Thompson sampling): few outputs leave much to learn, so a rare segment may get most.")
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
