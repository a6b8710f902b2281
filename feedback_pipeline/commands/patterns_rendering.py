"""What `patterns` and `improvements` print: what was found in words, kind by kind, and what to do about it."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from feedback_pipeline.commands.rendering import Document, console, printable
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.pattern_frame import (
    COMMENT_TERMS,
    CORRELATION_PATTERN,
    DECISION_RULE,
    FAILURE_PATTERNS,
    ISSUE_TERMS,
    QUALITY_THRESHOLD,
    REASONING_TERMS,
    SUCCESSFUL_DECISIONS,
)

MOST_OF_A_KIND: Final = 10
_INDENT: Final = (0, 0, 0, 2)
_HEADINGS: Final = {
    QUALITY_THRESHOLD: "Thresholds",
    DECISION_RULE: "Rules",
    SUCCESSFUL_DECISIONS: "What approved outputs have more of",
    FAILURE_PATTERNS: "What outputs that are not approved have more of",
    CORRELATION_PATTERN: "What goes with better or worse scores",
    REASONING_TERMS: "Words of the reasoning",
    COMMENT_TERMS: "Words of the comments",
    ISSUE_TERMS: "Words of the issues",
}
_APPLIED: Final = ("applied", "approved", "held out")
_UNCERTAIN: Final = "a pattern needs a test that holds against chance, and 20 outputs"


def print_patterns(document: Document) -> None:
    """The patterns in words, the surest of each kind first."""
    out, patterns = console(), document["patterns"]
    everybody = document["agent_name"] == FLEET
    name = "all agents together" if everybody else printable(document["agent_name"])
    out.print(Text.assemble((name, "bold"), f": {_counted(len(patterns), 'pattern')}"))
    _print_status(out, document)
    if not patterns:
        out.print(Text(f"No pattern is published: {_UNCERTAIN}."))
    kinds = [kind for kind in _HEADINGS if any(pattern["type"] == kind for pattern in patterns)]
    kinds += sorted({pattern["type"] for pattern in patterns} - set(kinds))
    for kind in kinds:
        of_kind = [pattern for pattern in patterns if pattern["type"] == kind]
        out.print(Text(f"\n{_HEADINGS.get(kind, printable(kind))} ({len(of_kind):,})", style="bold"))
        out.print(Padding(_table(of_kind[:MOST_OF_A_KIND]), _INDENT, expand=False))
        if len(of_kind) > MOST_OF_A_KIND:
            _say(out, f"and {len(of_kind) - MOST_OF_A_KIND:,} more; --json lists all")
    for part, said in _parts(document):
        out.print(Text(f"{part}: {said}."))


def _table(patterns: Sequence[Document]) -> Table:
    applied = any(pattern["applied_count"] for pattern in patterns)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("confidence", *(_APPLIED if applied else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("pattern", overflow="fold")
    for pattern in patterns:
        confidence = "" if pattern["confidence"] is None else f"{pattern['confidence']:.3f}"
        cells = [confidence, *(_applied(pattern) if applied else ()), pattern["sentence"] or pattern["description"] or ""]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _applied(pattern: Document) -> tuple[str, str, str]:
    """How often it was applied, and the share approved of those beside that of those held out; of one alone nothing follows."""
    if not pattern["applied_count"]:
        return "", "", ""
    with_it, without = (
        "" if rate is None else f"{100 * rate:.0f} %" for rate in (pattern["success_rate"], pattern["success_rate_held_out"])
    )
    return f"{pattern['applied_count']:,} times", with_it, without


def _parts(document: Document) -> list[tuple[str, str]]:
    """Parts of the agent's state in which nothing could be learned, with the reason."""
    return [
        (printable(name), printable(part["reason"]))
        for name, part in document["parts"].items()
        if isinstance(part, dict) and part.get("status") != "success" and part.get("reason")
    ]


def print_improvements(document: Document) -> None:
    """The recommendations in words with their evidence, then how much an agent can apply by itself."""
    out, recommendations = console(), document["recommendations"]
    heading = f": {_counted(len(recommendations), 'recommendation')}"
    out.print(Text.assemble((printable(document["agent_name"]), "bold"), heading))
    _print_status(out, document)
    if not recommendations and not document["reason"]:
        out.print(Text("Nothing is recommended: no candidate is both certain (q at most .05) and worth it."))
    for recommendation in recommendations:
        _print_recommendation(out, recommendation)
    name = printable(document["agent_name"])
    out.print(
        Text(
            f"{_counted(document['total_patterns'], 'pattern')} with a confidence above .5, "
            f"{document['high_confidence_patterns']:,} above .8: see `feedback-pipeline patterns {name}`."
        )
    )


def print_advice(document: Document, count: int) -> None:
    """What to do about it: the first recommendations in words."""
    out, recommendations = console(), document["recommendations"]
    if recommendations:
        out.print(Text("  what to do about it:"))
    for recommendation in recommendations[:count]:
        _say(out, recommendation["text"])


def _print_recommendation(out: Console, recommendation: Document) -> None:
    evidence = recommendation["evidence"]
    out.print(Text(f"{recommendation['rank']}. {printable(recommendation['text'])}"))
    q = "" if recommendation["q_value"] is None else f", q = {recommendation['q_value']:.2g}"
    sure = "" if recommendation["confidence"] is None else f", confidence {recommendation['confidence']:.3f}"
    window = evidence["window"]
    _say(
        out,
        f"{_counted(evidence['n_contents'], 'output')}, {_counted(evidence['n_reviewers'], 'reviewer')}, "
        f"{window['first'] or 'the beginning'} to {window['last']}; "
        f"{_counted(len(evidence['pattern_ids']), 'pattern')}{q}{sure}",
    )
    for conflict in recommendation["conflicts"]:
        _say(out, f"but: {conflict}")
    if recommendation["trial"]["n"]:
        _say(out, recommendation["trial"]["reason"])


def _print_status(out: Console, document: Document) -> None:
    if document["reason"]:
        out.print(Text(f"{printable(document['status']).replace('_', ' ').capitalize()}: {printable(document['reason'])}."))


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _say(out: Console, sentence: str) -> None:
    out.print(Padding(Text(printable(sentence)), _INDENT, expand=False))
