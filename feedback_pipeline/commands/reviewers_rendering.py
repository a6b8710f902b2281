"""What `reviewers` prints: a table of everybody, strictest first, and what it says in words."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Literal

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from feedback_pipeline.commands.rendering import WIDE, Document, console, printable
from feedback_pipeline.learning.features import OVERALL

MOST_ROWS: Final = 50
_ENDS: Final = 20  # strictest, and as many mildest, where there are more
_PRECISE: Final = 0.02


def more_or_less(value: float | None, se: float | None) -> str:
    """A difference from the average in words, as "0.33 ± 0.05 more"; empty where there is none."""
    if value is None:
        return ""
    digits = 3 if se is not None and 0.0 < se < _PRECISE else 2
    size = f"{abs(value):.{digits}f}"
    spread = f" ± {se:.{digits}f}" if se else ""
    if float(size) == 0.0:
        return f"as much{spread}"
    return f"{size}{spread} {'more' if value > 0 else 'less'}"


def gives(value: float, se: float | None) -> str:
    """What a severity means, as "gives 0.33 ± 0.05 points more than the average reviewer"."""
    words = more_or_less(value, se)
    if words.startswith("as much"):
        return f"gives as much as the average reviewer{words.removeprefix('as much')}"
    amount, _, direction = words.rpartition(" ")
    return f"gives {amount} points {direction} than the average reviewer"


def percent(share: float | None) -> str:
    """A share as "84 %"."""
    return "" if share is None else f"{100 * share:.0f} %"


def people(count: int) -> str:
    """A count of reviewers."""
    return f"{count:,} reviewer{'' if count == 1 else 's'}"


def _severity(reviewer: Document) -> str:
    return more_or_less(reviewer["severity"]["overall"], reviewer["severity"]["se"].get(OVERALL))


def _standard(reviewer: Document) -> str:
    standard = reviewer["quality_standards"].get(OVERALL) or {"s50": None}
    if standard["s50"] is None:
        return ""
    bound = {"all approved": "at most ", "none approved": "at least "}.get(standard["censored"], "")
    return f"{bound}{standard['s50']:.1f}"


def _tone(reviewer: Document) -> str:
    return printable(reviewer["content_preferences"]["preferred_tone"] or "")


def _length(reviewer: Document) -> str:
    length = reviewer["content_preferences"]["content_length"]
    return f"{length['min']:,.0f}-{length['max']:,.0f} ({length['best']:,.0f})" if length else ""


def _foreseen(reviewer: Document) -> str:
    if reviewer["model_accuracy"] is None:
        return ""
    return f"{100 * reviewer['model_accuracy']:.0f} v {percent(reviewer['baseline_accuracy'])} ({reviewer['n_test']:,})"


def _apart(reviewer: Document) -> bool:
    """Whether there is a severity that cannot be compared."""
    return reviewer["severity"]["overall"] is not None and not reviewer["severity"]["comparable"]


def _remark(reviewer: Document) -> str:
    flags = ("not comparable", _apart(reviewer)), ("drifts", reviewer["severity"]["drift"]["drifted"])
    return ", ".join(flag for flag, raised in flags if raised)


_Column = tuple[str, Callable[[Document], str], Literal["left", "right"], bool]
_COLUMNS: Final[tuple[_Column, ...]] = (  # title, cell, side, on a narrow terminal too
    ("label", lambda reviewer: str(reviewer["label"]), "left", False),
    ("reviews", lambda reviewer: f"{reviewer['n_reviews']:,}", "right", True),
    ("gives, in points\nv the average", _severity, "right", True),
    ("approves\nhalf at", _standard, "right", True),
    ("likes\ntone", _tone, "left", False),
    ("length in words\n(best)", _length, "right", False),
    ("foreseen v\nguessed (of)", _foreseen, "right", False),
)


def print_reviewers(reviewers: Sequence[Document]) -> None:
    """Every reviewer, strictest first; of many the strictest and the mildest."""
    out = console()
    if not reviewers:
        out.print("No review of the window names its reviewer: nothing can be said of any of them.")
        return
    heading = Text.assemble(
        (people(len(reviewers)), "bold"),
        ", strictest first; points more or less than the average reviewer gives, ± standard error.",
    )
    out.print(heading)
    out.print(_table(reviewers, out.width))
    for sentence in _sentences(reviewers, out):
        out.print(Text(sentence))


def print_reviewer_highlights(reviewers: Sequence[Document], agreement: Document) -> None:
    """Who is strictest, who is mildest, and how far they agree."""
    out = console()
    out.print(Text(f"\nReviewers ({len(reviewers):,})", style="bold"))
    said = _extremes(reviewers)
    for row in agreement["aspects"]:
        if row["aspect"] == OVERALL and row["alpha"] is not None:
            after = "" if row["alpha_adjusted"] is None else f", {row['alpha_adjusted']:.2f} once severity is taken out"
            said.append(f"Agreement on the overall score: Krippendorff's alpha {row['alpha']:.2f}{after} (1 perfect, 0 chance).")
    for sentence in said:
        out.print(Padding(Text(sentence), (0, 0, 0, 2), expand=False))


def _table(reviewers: Sequence[Document], width: int) -> Table:
    columns = [column for column in _COLUMNS if column[-1] or width >= WIDE]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("reviewer", overflow="fold")
    for title, _, justify, _ in columns:
        table.add_column(title, justify=justify, no_wrap=True)
    table.add_column("remark")
    for reviewer in _listed(reviewers):
        if reviewer is None:
            table.add_row("...")
            continue
        cells = (printable(reviewer["reviewer_id"]), *(cell(reviewer) for _, cell, _, _ in columns), _remark(reviewer))
        table.add_row(*map(Text, cells))
    return table


def _listed(reviewers: Sequence[Document]) -> list[Document | None]:
    """The rows of the table; None stands for those left out."""
    if len(reviewers) <= MOST_ROWS:
        return list(reviewers)
    compared = [reviewer for reviewer in reviewers if reviewer["severity"]["overall"] is not None]
    if len(compared) <= 2 * _ENDS:
        return [*reviewers[: 2 * _ENDS], None]
    return [*compared[:_ENDS], None, *compared[-_ENDS:]]


def _sentences(reviewers: Sequence[Document], out: Console) -> list[str]:
    said = []
    listed = sum(reviewer is not None for reviewer in _listed(reviewers))
    if listed < len(reviewers):
        said.append(
            f"{len(reviewers) - listed:,} more are not shown: `feedback-pipeline reviewers REVIEWER` shows one, --json lists all."
        )
    said += _extremes(reviewers)
    if out.width >= WIDE and any(reviewer["n_test"] for reviewer in reviewers):
        said.append(
            "Foreseen: share of the latest decisions that a model of the earlier ones gets right, v guessing the reviewer's own "
            "majority (of that many decisions)."
        )
    reasons = Counter(reviewer["severity"]["reasons"].get(OVERALL) for reviewer in reviewers)
    said += [f"Severity of {people(count)}: {reason}." for reason, count in reasons.items() if reason]
    apart = sum(map(_apart, reviewers))
    if apart:
        said.append(
            f"{people(apart)} cannot be compared: too few shared outputs connect them with most others, so a mild reviewer and "
            "good outputs look the same. `feedback-pipeline agreement` names second reviews that would help."
        )
    drifting = sum(bool(reviewer["severity"]["drift"]["drifted"]) for reviewer in reviewers)
    if drifting:
        changed = "changes its" if drifting == 1 else "change their"
        said.append(
            f"{people(drifting)} {changed} severity within the window; `feedback-pipeline reviewers REVIEWER` shows the months."
        )
    if out.width < WIDE:
        said.append("`feedback-pipeline reviewers REVIEWER` shows what one of them likes; a wider terminal shows it here.")
    return said


def _extremes(reviewers: Sequence[Document]) -> list[str]:
    compared = [reviewer for reviewer in reviewers if reviewer["severity"]["overall"] is not None]
    if not compared or compared[0]["severity"]["overall"] == compared[-1]["severity"]["overall"]:
        return []
    said = []
    for reviewer in (compared[0], compared[-1]):
        severity = reviewer["severity"]
        said.append(f"{printable(reviewer['reviewer_id'])} {gives(severity['overall'], severity['se'].get(OVERALL))}.")
    return said
