import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_pipeline.orchestration.plain_text import MAX_TEXT, escaped, markdown_table, one_line


@given(st.text())
def test_a_line_is_one_line_of_signs_that_are_seen(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert one_line(line) == line


@given(st.text())
def test_no_sign_of_an_escaped_text_is_markup(text: str) -> None:
    found = escaped(text)
    assert re.sub(r"\\[!-/:-@\[-`{-~]", "", found).isprintable() or "\u2060" in found
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", found)
    assert not re.search(r"[!-/:-@\[-`{-~\n]", bare)
    assert re.sub(r"\\(.)", r"\1", found).replace("\u2060", "") == (
        line if len(line := one_line(text)) <= MAX_TEXT else f"{line[: MAX_TEXT - 1]}…"
    )


@pytest.mark.parametrize("text", ["https://evil.example", "WWW.evil.example", "mailto:a@b.co", "a@b.co"])
def test_a_text_does_not_become_a_link(text: str) -> None:
    shown = escaped(text).replace("\\", "")
    assert not re.search(r"https?://|www\.|[\w.]@\w", shown, re.IGNORECASE)


def test_a_table_holds_any_text_in_one_row() -> None:
    lines = markdown_table(["a", "b"], [("x | y\n| z", 1234), (None, 0.123456), (float("nan"), True)]).splitlines()
    assert lines == ["| a | b |", "| --- | --- |", r"| x \| y \| z | 1,234 |", r"|  | 0\.123 |", "|  | True |"]
