"""What `agreement` prints: alpha per aspect, how to read it, who can be compared and what would connect the rest."""

from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from feedback_pipeline.commands.rendering import WIDE, Document, console, printable
from feedback_pipeline.commands.reviewers_rendering import people
from feedback_pipeline.learning.features import FLEET, OVERALL

_MOST_LINES: Final = 10
_MOST_NAMES: Final = 6
_INDENT: Final = (0, 0, 0, 2)
_HOW_TO_READ: Final = (
    "Alpha (Krippendorff) is 1 where reviewers agree perfectly and 0 where they agree no more than by chance; .8 is the usual "
    "mark for reliable scores, .667 for tentative conclusions."
)


def print_agreement(document: Document) -> None:
    """How far the reviewers agree, then between whom severity cannot be compared."""
    out = console()
    everybody = document["agent_name"] == FLEET
    name = "Agreement over all agents" if everybody else f"Agreement on {printable(document['agent_name'])}"
    out.print(Text(name, style="bold"))
    if document["aspects"]:
        out.print(_table(document["aspects"], out.width))
        out.print(Text(_HOW_TO_READ))
        _print_gain(out, document["aspects"])
    else:
        out.print(Text(f"Nothing to compare: {printable(document['reason'])}."))
    _print_groups(out, document)


def _alpha(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None else f"[{low:.2f}, {high:.2f}]"


def _table(aspects: list[Document], width: int) -> Table:
    wide = width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("aspect", overflow="fold")
    titles = [
        "alpha",
        "95 % interval",
        "without\nseverity",
        *(["95 % interval"] if wide else []),
        "outputs with\ntwo or more",
        "reviewers",
    ]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for row in aspects:
        after = [_alpha(row["alpha_adjusted"]), _interval(row["adjusted_ci_low"], row["adjusted_ci_high"])][: 1 + wide]
        cells = [row["aspect"], _alpha(row["alpha"]), _interval(row["ci_low"], row["ci_high"]), *after]
        table.add_row(*map(Text, [*cells, f"{row['n_outputs']:,}", f"{row['n_reviewers']:,}"]))
    return table


def _print_gain(out: Console, aspects: list[Document]) -> None:
    overall = next((row for row in aspects if row["aspect"] == OVERALL), None)
    if overall is not None and overall["alpha"] is not None and overall["alpha_adjusted"] is not None:
        out.print(
            Text(
                f"Taking each reviewer's severity out moves alpha of the overall score from {overall['alpha']:.2f} to "
                f"{overall['alpha_adjusted']:.2f}."
            )
        )
    reasons: dict[str, list[str]] = {}
    for row in aspects:
        for reason in dict.fromkeys((row["reason"], row["adjusted_reason"])):
            if reason:
                reasons.setdefault(reason, []).append(row["aspect"])
    for reason, names in reasons.items():
        out.print(Text(f"{', '.join(names)}: {reason}."))


def _print_groups(out: Console, document: Document) -> None:
    components, bridges = document["components"], document["bridges"]
    out.print(Text("\nWho can be compared", style="bold"))
    if not components:
        out.print(Text("Nobody: no known reviewer gave a score."))
        return
    if len(components) == 1:
        connected = (
            "It takes two to compare" if len(components[0]) == 1 else "Outputs reviewed by several people connect all of them"
        )
        out.print(Text(f"{people(len(components[0]))}. {connected}."))
        return
    out.print(
        Text(
            f"{len(components):,} groups of reviewers that share no output: between groups, severity cannot be told from "
            "better or worse outputs."
        )
    )
    for place, members in enumerate(components[:_MOST_LINES], 1):
        _say(out, f"group {place}, {people(len(members))}: {_names(members)}")
    _rest(out, len(components) - _MOST_LINES, "groups")
    out.print(Text("The fewest second reviews that would connect everybody, one each:"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("reviewer", "group", "agent", "execution to review"):
        table.add_column(title, justify="right" if title == "group" else "left", overflow="fold")
    for bridge in bridges[:_MOST_LINES]:
        output = (printable(bridge["agent_name"]), printable(bridge["execution_id"]))
        table.add_row(*map(Text, (printable(bridge["reviewer_id"]), str(bridge["component"] + 1), *output)))
    out.print(Padding(table, _INDENT, expand=False))
    _rest(out, len(bridges) - _MOST_LINES, "reviews")


def _names(members: list[str]) -> str:
    more = len(members) - _MOST_NAMES
    return ", ".join(members[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def _say(out: Console, sentence: str) -> None:
    out.print(Padding(Text(printable(sentence)), _INDENT, expand=False))


def _rest(out: Console, more: int, what: str) -> None:
    if more > 0:
        _say(out, f"and {more:,} more {what}; --json lists all")
