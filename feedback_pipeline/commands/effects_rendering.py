"""What `effectiveness` prints: the trials, those with the most executions first."""

from typing import Final

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from feedback_pipeline.commands.rendering import Document, console, printable

_INDENT: Final = (0, 0, 0, 2)
_NOTHING: Final = "Nothing has been on trial: recommendations go on trial when they are published; run `feedback-pipeline learn`."


def print_effects(document: Document) -> None:
    """The trials as a table, each with its reason in words."""
    out, trials = console(), document["trials"]
    if not trials:
        out.print(Text(_NOTHING))
        return
    out.print(Text.assemble(("Does applying it help?", "bold"), f" {len(trials):,} trials"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("applied to", "approved", "held out", "uplift"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("trial", overflow="fold")
    for trial in sorted(trials, key=lambda one: (-one["n"], one["agent_name"], one["pattern_id"], -one["trial"])):
        cells = (_share(trial["p_on"]), _share(trial["success_rate"]), _share(trial["success_rate_held_out"]), _uplift(trial))
        table.add_row(*map(Text, cells), _words(trial, everybody=document["agent_name"] is None))
    out.print(Padding(table, _INDENT, expand=False))


def _words(trial: Document, *, everybody: bool) -> Text:
    who = f"{printable(trial['agent_name'])}: " if everybody else ""
    what = printable(trial["text"] or "a question to a reviewer")
    number = f" (trial {trial['trial']})" if trial["trial"] > 1 else ""
    waiting = f"; {trial['n_waiting']:,} wait for a decision" if trial["n_waiting"] else ""
    return Text(f"{who}{what}{number}\n{printable(trial['reason'])}{waiting}")


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _uplift(trial: Document) -> str:
    if trial["low"] is None:
        return ""
    return f"{100 * trial['uplift']:+.1f} [{100 * trial['low']:.1f}, {100 * trial['high']:.1f}]"
