"""What `reviewers REVIEWER` prints: all that is known of one reviewer, in words."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from feedback_pipeline.commands.rendering import Document, console, printable
from feedback_pipeline.commands.reviewers_rendering import gives, more_or_less, percent
from feedback_pipeline.learning.features import OVERALL, label

_INDENT: Final = (0, 0, 0, 2)
_CENSORED: Final = {"all approved": "at most", "none approved": "at least"}


def print_reviewer(reviewer: Document) -> None:
    """The page of one reviewer: severity, standards, content, style, and how well their decisions are foreseen."""
    out = console()
    reviews = f"{reviewer['n_reviews']:,} review{'' if reviewer['n_reviews'] == 1 else 's'}"
    out.print(
        Text.assemble(
            (printable(reviewer["reviewer_id"]), "bold"),
            f" ({reviewer['label']}): {reviews}, version {reviewer['model_version']}",
        )
    )
    _print_severity(out, reviewer["severity"])
    _heading(out, "Standards, in points as this reviewer gives them")
    standards = {
        _name(aspect): _standard(reviewer["quality_standards"][aspect]) for aspect in _aspects(reviewer["quality_standards"])
    }
    if len(standards) > 1 and len(set(standards.values())) == 1:
        standards = {"every aspect": next(iter(standards.values()))}
    for name, standard in standards.items():
        _say(out, f"{name}: {standard}")
    _heading(out, "Content")
    for sentence in _content(reviewer["content_preferences"]):
        _say(out, sentence)
    _print_style(out, reviewer["style_preferences"])
    _heading(out, "Foreseen")
    _say(out, _foreseen(reviewer))


def _heading(out: Console, title: str) -> None:
    out.print(Text(f"\n{title}", style="bold"))


def _say(out: Console, sentence: str) -> None:
    out.print(Padding(Text(printable(sentence)), _INDENT, expand=False))


def _name(aspect: str) -> str:
    return "all aspects together" if aspect == OVERALL else aspect


def _aspects(documents: Mapping[str, Any]) -> list[str]:
    """Aspects by name, the overall score first."""
    return sorted(documents, key=lambda aspect: (aspect != OVERALL, aspect))


def _print_severity(out: Console, severity: Document) -> None:
    _heading(out, "Severity, in points ± standard error")
    values = {OVERALL: severity["overall"]} | severity["aspects"]
    for aspect in _aspects(values):
        value, reason = values[aspect], severity["reasons"].get(aspect)
        says = gives if aspect == OVERALL else more_or_less
        said = "unknown" if value is None else says(value, severity["se"].get(aspect))
        _say(out, f"{_name(aspect)}: {said}{f' ({reason})' if reason else ''}")
    if severity["overall"] is not None and not severity["comparable"]:
        _say(
            out,
            "Not comparable: too few shared outputs connect this reviewer with most others, so being mild and having good "
            "outputs look the same. `feedback-pipeline agreement` names second reviews that would help.",
        )
    if severity["months"]:
        _heading(out, "Severity by month, from shared outputs alone")
        out.print(Padding(_months(severity["months"]), _INDENT, expand=False))
        reasons = groupby(sorted(severity["months"], key=_reason), key=_reason)
        for reason, months in ((reason, list(months)) for reason, months in reasons if reason):
            _say(out, f"{', '.join(month['month'] for month in months)}: {reason}.")
    _say(out, _drift(severity["drift"]))


def _reason(document: Document) -> str:
    return document["reason"] or ""


def _months(months: list[Document]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (
        "month",
        "gives, in points\nv the average",
        "95 % interval\n(+ = more)",
        "outputs\nscored",
        "shared with\nothers",
    ):
        table.add_column(title, justify="left" if title == "month" else "right", no_wrap=True)
    for month in months:
        known = month["ci_low"] is not None
        interval = f"{month['ci_low']:+.2f} to {month['ci_high']:+.2f}" if known else ""
        counts = (f"{month['n_reviews']:,}", f"{month['n_shared']:,}")
        table.add_row(month["month"], more_or_less(month["severity"], month["se"]), interval, *counts)
    return table


def _drift(drift: Document) -> str:
    if drift["drifted"] is None:
        return f"Whether it drifts is unknown: {drift['reason']}."
    if drift["drifted"]:
        return (
            f"It drifts: it changes by {drift['spread']:.2f} points beyond chance within the window (q = {drift['q_value']:.3f})."
        )
    return f"No drift beyond chance within the window (q = {drift['q_value']:.2f})."


def _standard(standard: Document) -> str:
    if standard["s50"] is None:
        return f"no standard: {standard['reason']}"
    n = f"{standard['n']:,} decision{'' if standard['n'] == 1 else 's'}"
    if standard["censored"]:
        decided = standard["censored"].removesuffix(" approved")
        bound = _CENSORED[standard["censored"]]
        return f"of {n} {decided} approved; would approve half of the outputs at {standard['s50']:.1f} points {bound}"
    return (
        f"approves half of the outputs at {standard['s50']:.1f} points, four of five at {standard['s80']:.1f} "
        f"(± {standard['se']:.1f}, {n})"
    )


def _content(content: Document) -> list[str]:
    reasons, length, threshold = content["reasons"], content["content_length"], content["example_quality_threshold"]
    if length is None:
        lengths = f"length: no preference: {reasons['content_length']}"
    else:
        lengths = f"length: {length['min']:,.0f} to {length['max']:,.0f} words, best {length['best']:,.0f} ± {length['sd']:,.0f}"
    if threshold is None:
        example = f"fit as an example: unknown: {reasons['example_quality_threshold']}"
    else:
        example = f"fit as an example: outputs at {percent(threshold)} of the scale or above"
    return [_choice(content, "tone", "preferred_tone"), lengths, _choice(content, "structure", "structure_preference"), example]


def _choice(content: Document, what: str, key: str) -> str:
    if content[key] is None:
        return f"{what}: no preference: {content['reasons'][key]}"
    return f"{what}: likes {content[key]} best (probability {content[f'{key}_probability']:.2f})"


def _print_style(out: Console, style: Document) -> None:
    _heading(out, "Style")
    slopes = style["slopes"]
    if not slopes:
        _say(out, f"no preference of their own: {style['reason']}")
        return
    _say(out, f"In {style['unit']}:")
    for feature in sorted(slopes, key=lambda name: -abs(slopes[name]["difference"])):
        slope = slopes[feature]
        own = more_or_less(slope["difference"], slope["se"])
        _say(out, f"{label(feature)}: {own} (to everybody {slope['population']:+.2f}; probability {slope['probability']:.2f})")


def _foreseen(reviewer: Document) -> str:
    if reviewer["model_accuracy"] is None:
        return f"unknown: {reviewer['reason']}"
    model, guess, n = reviewer["model_accuracy"], reviewer["baseline_accuracy"], reviewer["n_test"]
    latest = "the latest decision" if n == 1 else f"the latest {n:,} decisions"
    against = "against" if model > guess else "no better than"
    return (
        f"A model of the earlier reviews foresees {percent(model)} of {latest}, "
        f"{against} {percent(guess)} by guessing this reviewer's own majority."
    )
