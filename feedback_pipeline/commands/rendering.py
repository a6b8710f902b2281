"""What the commands print: tables, plain sentences, progress. Rich text on a terminal, plain text elsewhere."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PIPE_WIDTH: Final = 200
WIDE: Final = 112
_STATUS_STYLE: Final = {"success": "green", "insufficient_data": "yellow", "error": "red"}
Document = Mapping[str, Any]


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def _interval(finding: Document) -> str:
    return "" if finding["ci_low"] is None else f"[{finding['ci_low']:.2f}, {finding['ci_high']:.2f}]"


def _probability(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


@dataclass(frozen=True)
class _Column:
    title: str
    text: Callable[[Document], str]
    justify: Literal["left", "right"] = "right"
    always: bool = True


_COLUMNS: Final = (
    _Column("feature", lambda finding: str(finding["feature"]), "left"),
    _Column("aspect", lambda finding: str(finding["aspect"]), "left"),
    _Column("r", lambda finding: _signed(finding["r"])),
    _Column("95 % interval", _interval),
    _Column("shrunk", lambda finding: _signed(finding["r_shrunk"]), always=False),
    _Column("q", lambda finding: _probability(finding["q_value"]), always=False),
    _Column("confidence", lambda finding: _probability(finding["confidence"]), always=False),
    _Column("outputs", lambda finding: f"{finding['n_contents']:,}"),
    _Column("reviewers", lambda finding: f"{finding['n_reviewers'] or 0:,}", always=False),
)


def console() -> Console:
    """Standard output; without a terminal as wide as the tables are."""
    return Console(highlight=False, soft_wrap=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def printable(text: object) -> str:
    """Text of the user's own, harmless to a terminal: what is not printable stands as its escape."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(text))


def print_findings(document: Document) -> None:
    """The findings of an agent or of the fleet: a table, then what they say in words."""
    out, findings = console(), document["findings"]
    name = "all agents together" if document["agent_name"] == "*" else document["agent_name"]
    out.print(
        f"[bold]{escape(printable(name))}[/]: {document['n_contents']:,} reviewed outputs, "
        f"{document['n_reviewers']:,} reviewers, {_window(document['window'])}"
    )
    if not findings:
        out.print(f"No finding is published. {_why_nothing(document)}")
        return
    out.print(_findings_table(findings, out.width))
    for finding in findings:
        if finding["published"]:
            out.print(Padding(Text(finding["sentence"]), (0, 0, 0, 2), expand=False))


def print_highlights(document: Document, count: int) -> None:
    """The strongest findings in words."""
    out, findings = console(), document["findings"]
    name = "All agents together" if document["agent_name"] == "*" else document["agent_name"]
    out.print(f"\n[bold]{escape(printable(name))}[/] ({document['n_contents']:,} outputs, {document['n_reviewers']:,} reviewers)")
    for finding in findings[:count]:
        out.print(Padding(Text(finding["sentence"]), (0, 0, 0, 2), expand=False))
    if not findings:
        out.print(f"  No finding is published. {_why_nothing(document)}")
    elif len(findings) > count:
        out.print(f"  [dim]and {len(findings) - count} more[/]")


def _findings_table(findings: Sequence[Document], width: int) -> Table:
    """A row for each finding; a narrow terminal gets the columns that say most."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = [column for column in _COLUMNS if width >= WIDE or column.always]
    withheld = not all(finding["published"] for finding in findings)
    for column in columns:
        table.add_column(column.title, justify=column.justify, no_wrap=True)
    if withheld:
        table.add_column("not published because")
    for finding in findings:
        cells = [column.text(finding) for column in columns] + ([finding["reason"] or ""] if withheld else [])
        table.add_row(*map(escape, cells), style=None if finding["published"] else "dim")
    return table


def _why_nothing(document: Document) -> str:
    part = document["parts"].get("correlations", {})
    reason = document.get("reason") or part.get("reason")
    listed = "every tested pair and its reason: add --all"
    return f"{reason}; {listed}" if reason else f"{listed[0].upper()}{listed[1:]}"


def print_status(document: Document) -> None:
    """Every agent with what was learned and what is pending, then the last learning run."""
    out, run = console(), document["last_run"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
        ("agent", "left"),
        ("status", "left"),
        ("outputs", "right"),
        ("findings", "right"),
        ("pending", "right"),
    ):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("remark")
    for agent in document["agents"]:
        status, correlations = agent["status"] or "new", agent["parts"].get("correlations", {})
        table.add_row(
            escape(printable(agent["agent_name"])),
            Text(status.replace("_", " "), style=_STATUS_STYLE.get(status, "")),
            f"{agent['n_contents']:,}",
            str(correlations.get("published", 0)),
            f"{agent['pending']:,}",
            escape(agent.get("reason") or correlations.get("reason") or ""),
        )
    if document["agents"]:
        out.print(table)
    if document.get("rejected"):
        refused = ", ".join(f"{reason} {count:,}" for reason, count in document["rejected"].items())
        out.print(f"Refused input: {refused} (table rejected_feedback).")
    if document.get("forgetting"):
        out.print(f"Not finished: {document['forgetting']:,} to be forgotten; `feedback-pipeline forget` goes on.")
    champion = document.get("champion")
    if champion:
        named = f"model {champion['model_version']} ({printable(champion['candidate'])})"
        out.print(Text(f"Outputs without a review are forecast by {named}, champion since {champion['since'][:10]}."))
    if document.get("trigger"):
        out.print(Text(_trigger_line(document["trigger"])))
    out.print(_run_line(run) if run else "Nothing has been learned yet: `feedback-pipeline learn --all`.")


def _trigger_line(trigger: Document) -> str:
    """Why a pass was last started by itself, or is not."""
    kind = str(trigger["kind"]).replace("_", " ")
    return f"New reviews, {kind} since {trigger['decided_at'][:16].replace('T', ' ')} UTC: {printable(trigger['reason'])}."


def _run_line(run: Document) -> str:
    return (
        f"Last learned {run['published_at'][:16].replace('T', ' ')} UTC from {run.get('sample_size', 0):,} reviews of "
        f"{run['n_contents']:,} outputs by {run['n_reviewers']:,} reviewers, {_window(run['window'])}: "
        f"{run.get('patterns_learned', 0):,} patterns, {run.get('recommendations', 0):,} recommendations."
    )


def _window(window: Document) -> str:
    if window["last"] is None:
        return "no reviews yet"
    return f"{window['first'] or 'the beginning'} to {window['last']}"


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows on a terminal that something is going on."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(f"{what} ..."):
        yield
