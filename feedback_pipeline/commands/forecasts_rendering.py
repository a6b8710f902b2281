"""What `forecast`, `queue` and `autoapproval` print: what is expected, what to read first, what could be spared."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from feedback_pipeline.commands.rendering import WIDE, Document, console, printable

MOST_SHOWN: Final = 20
_INDENT: Final = (0, 0, 0, 2)
_APPROVES_NOTHING: Final = "This approves nothing: it says what would have come of it."


def print_forecasts(document: Document) -> None:
    """The forecasts, least likely approvals first; with the reason where a forecast is not to be relied on."""
    out, forecasts = console(), document["forecasts"]
    whose = "all agents" if document["agent_name"] is None else printable(document["agent_name"])
    where = "" if document["execution_id"] is None else f", execution {printable(document['execution_id'])}"
    outputs = len({(row["agent_name"], row["execution_id"]) for row in forecasts})
    out.print(Text.assemble((f"{whose}{where}", "bold"), f": {_counted(outputs, 'output')} without a review and with a forecast"))
    _print_champion(out, document["champion"])
    if forecasts:
        named = any(row["reviewer_id"] is not None for row in forecasts)
        out.print(Padding(_forecasts_table(forecasts[:MOST_SHOWN], out.width, named=named), _INDENT, expand=False))
        _more(out, len(forecasts) - MOST_SHOWN)
    if document["reason"]:
        out.print(Text(f"{_sentence(document['reason'])}"))


def _forecasts_table(forecasts: Sequence[Document], width: int, *, named: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("agent", "execution", *(("reviewer",) if named else ())):
        table.add_column(title, overflow="fold")
    for title in ("P(approve)", "score", "interval"):
        table.add_column(title, justify="right", no_wrap=True)
    remarks = any(row["reason"] for row in forecasts)
    if remarks:
        table.add_column("remark", overflow="fold", ratio=1 if width >= WIDE else None)
    for row in forecasts:
        who = "average" if row["reviewer_id"] is None else row["reviewer_id"]
        cells = [row["agent_name"], row["execution_id"], *([who] if named else []), *_numbers(row)]
        cells += [_remark(row)] if remarks else []
        table.add_row(*(Text(printable(cell)) for cell in cells), style="dim" if row["abstain"] else None)
    return table


def print_queue(document: Document) -> None:
    """The outputs in the order of reading, each with why it stands there."""
    out, rows = console(), document["queue"]
    out.print(
        Text.assemble(
            ("What to read first", "bold"), f": {len(rows):,} of {_counted(document['n_outputs'], 'output')} without a review"
        )
    )
    _print_champion(out, document["champion"])
    if not rows:
        out.print(Text(_sentence(document["reason"] or "nothing waits for a review")))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", justify="right", no_wrap=True)
    for title in ("agent", "execution"):
        table.add_column(title, overflow="fold")
    for title in ("P(approve)", "score", "interval"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("why", no_wrap=True)
    table.add_column("propensity", justify="right", no_wrap=True)
    for row in rows:
        cells = (f"{row['place']:,}", row["agent_name"], row["execution_id"], *_numbers(row), row["why"])
        table.add_row(*(Text(printable(cell)) for cell in (*cells, f"{row['propensity']:.3f}")))
    out.print(Padding(table, _INDENT, expand=False))
    out.print(
        Text(
            f"{_percent(document['random_share'])} of the places are drawn at random, whatever is expected of them: only so can "
            "it be measured how good the forecasts are. Propensity is the probability to be among these: weigh by its inverse."
        )
    )
    if document["draw_id"] is None:
        out.print(Text("This queue is kept nowhere: the user of the database may only read."))


def print_auto_approval(document: Document) -> None:
    """What would have come of approving the surest outputs unread, risk by risk, and the rule that has to go with it."""
    out = console()
    out.print(
        Text.assemble(
            ("If the surest outputs were approved unread", "bold"),
            f": {_counted(document['n_outputs'], 'output')} with a forecast and a later decision",
        )
    )
    _print_champion(out, document["champion"])
    if document["n_abstained"]:
        out.print(Text(f"{_counted(document['n_abstained'], 'forecast')} of them abstained and would always be read."))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("rejects allowed", "reviews spared", "rejected", "at most", "outputs"):
        table.add_column(title, justify="right", no_wrap=True)
    reasons = any(risk["reason"] for risk in document["risks"])
    if reasons:
        table.add_column("why none", overflow="fold")
    for risk in document["risks"]:
        numbers = (_percent(risk["spared"]), _percent(risk["rejected"], 1), _percent(risk["upper"], 1))
        cells = [_percent(risk["alpha"]), *numbers, f"{risk['n']:,}", *([risk["reason"] or ""] if reasons else [])]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    out.print(Padding(table, _INDENT, expand=False))
    out.print(
        Text(
            f"Rejected: share of the approved that a person would have rejected; at most: its {_percent(document['confidence'])} "
            "upper bound."
        )
    )
    out.print(Text(document["audit_rule"]))
    out.print(Text(_APPROVES_NOTHING))


def _print_champion(out: Console, champion: Document) -> None:
    named = f"model {champion['model_version']} ({printable(champion['candidate'])})"
    out.print(Text(f"By {named}, champion since {champion['since'][:10]}."))


def _numbers(row: Document) -> tuple[str, str, str]:
    """P(approve), score and interval."""
    interval = "" if row["low"] is None else f"[{row['low']:.1f}, {row['high']:.1f}]"
    return _percent(row["p_approve"]), "" if row["score"] is None else f"{row['score']:.2f}", interval


def _remark(row: Document) -> str:
    reason = row["reason"] or ""
    return f"abstains: {reason}" if row["abstain"] else reason


def _percent(share: float | None, digits: int = 0) -> str:
    return "" if share is None else f"{100 * share:.{digits}f} %"


def _more(out: Console, n: int) -> None:
    if n > 0:
        out.print(Padding(Text(f"and {n:,} more; --json lists all"), _INDENT, expand=False))


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _sentence(text: str) -> str:
    said = printable(text)
    return f"{said[:1].upper()}{said[1:]}."
