"""Counts over many texts at once, on their UTF-8 bytes: words, sentences, readability, headings, links, share of keywords.

Every byte is classified by table look-ups, the rare bytes beyond ASCII by their code points; positions are then counted per
document. No step loops over documents or words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.keywords import covered_words
from feedback_pipeline.learning.utf8 import Classes, Marks, Text, classify, count_per_document, word_bounds

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCK_BYTES: Final = 1 << 19
_CLOSERS_SKIPPED: Final = 4
_MAX_HEADING: Final = 6
_MAX_INDENT: Final = 3
_NEWLINE: Final = ord("\n")


@dataclass(frozen=True)
class Documents:
    """Texts laid end to end.

    Attributes:
        data: Valid UTF-8 (bytes,), uint8.
        offsets: Where each text begins, and the end of the last (N + 1,), int64, ascending.
        missing: Texts that do not exist (N,), bool; their bytes are ignored.
    """

    data: npt.NDArray[np.uint8]
    offsets: Ints
    missing: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.missing)


def text_features(texts: Documents, keywords: Documents | None = None) -> dict[str, Floats]:
    r"""Measure every text.

    - word_count: exactly `len(text.split())`.
    - sentence_count: words that end a sentence: their last character, closing quotes and brackets aside, is one of
      `. ! ? … 。 ！ ？`, or a blank line or the end of the text follows.
    - mean_sentence_length: words per sentence.
    - readability: automated readability index, 4.71 c / w + .5 w / s - 21.43 with c letters and digits, w words, s sentences
      (Senter and Smith 1967).
    - heading_count: lines that begin with 1 to 6 `#` and a space (at most 3 spaces before), and HTML tags h1 to h6.
    - link_count: Markdown links and images, HTML `a` tags with attributes, and bare http(s) addresses.
    - keyword_density: share (0..1) of the words that belong to an occurrence of a keyword; letter case and punctuation around
      words do not matter, several words must follow each other. NaN where there is no keyword.

    Args:
        texts: N texts.
        keywords: For each text its keywords, separated by the byte 0x1F; None = no text has any.

    Returns:
        Arrays (N,) by feature name. A missing text has NaN everywhere; a text without words has counts of 0 (headings and
        links as found) and NaN for what is undefined.
    """
    size = len(texts)
    result = {name: np.full(size, np.nan) for name in ("word_count", "sentence_count", "heading_count", "link_count")}
    characters, covered = np.zeros(size), np.full(size, np.nan)
    for part in _blocks(texts.offsets):
        text = Text(texts.data[texts.offsets[part.start] : texts.offsets[part.stop]], _local_offsets(texts.offsets, part))
        classes = classify(text.data)
        starts, ends = word_bounds(text, classes)
        result["word_count"][part] = count_per_document(starts, text.offsets)
        result["sentence_count"][part] = count_per_document(ends[_ends_sentence(text, classes, starts, ends)], text.offsets)
        characters[part] = count_per_document(np.flatnonzero(classes.letter_start), text.offsets)
        result["heading_count"][part] = count_per_document(_headings(text), text.offsets)
        result["link_count"][part] = count_per_document(_links(text, classes), text.offsets)
        if keywords is not None:
            own = Text(
                keywords.data[keywords.offsets[part.start] : keywords.offsets[part.stop]], _local_offsets(keywords.offsets, part)
            )
            covered[part] = covered_words(text, classes, starts, ends, own)
    words, sentences = result["word_count"], result["sentence_count"]
    with np.errstate(divide="ignore", invalid="ignore"):
        result["mean_sentence_length"] = words / sentences
        result["readability"] = 4.71 * (characters / words) + 0.5 * (words / sentences) - 21.43
        result["keyword_density"] = covered / words
    for values in result.values():
        values[texts.missing] = np.nan
    return result


def _blocks(offsets: Ints) -> Iterator[slice]:
    """Ranges of documents of about BLOCK_BYTES: what is computed per byte stays in the cache."""
    first, size = 0, len(offsets) - 1
    while first < size:
        last = int(np.searchsorted(offsets, offsets[first] + BLOCK_BYTES, side="right")) - 1
        stop = min(max(last, first + 1), size)
        yield slice(first, stop)
        first = stop


def _local_offsets(offsets: Ints, part: slice) -> Ints:
    own: Ints = offsets[part.start : part.stop + 1] - offsets[part.start]
    return own


def _ends_sentence(text: Text, classes: Classes, starts: Ints, ends: Ints) -> npt.NDArray[np.bool_]:
    """Which words end a sentence; `ends` are the positions of their last bytes."""
    marks = Marks(text.data, classes.wide)
    found = marks.terminates(ends)
    width = marks.closing_width(ends)
    quoted = np.flatnonzero(width)
    position, width = ends[quoted], width[quoted]
    for _ in range(_CLOSERS_SKIPPED):
        position = position - width
        kept = position >= starts[quoted]
        quoted, position = quoted[kept], position[kept]
        found[quoted] |= marks.terminates(position)
        width = marks.closing_width(position)
        quoted, position, width = quoted[width > 0], position[width > 0], width[width > 0]
    if len(ends):
        last_words = np.searchsorted(ends, text.offsets[1:]) - 1
        found[last_words[last_words >= 0]] = True
        next_word = np.searchsorted(starts, np.flatnonzero(text.data == _NEWLINE))
        before_blank_line = next_word[1:][next_word[1:] == next_word[:-1]] - 1
        found[before_blank_line[before_blank_line >= 0]] = True
    return found


def _headings(text: Text) -> Ints:
    """Positions of headings: Markdown lines of #, HTML h1 to h6."""
    data, at = text.data, text.byte
    hashes = np.flatnonzero(data == ord("#"))
    line = hashes - 1
    for _ in range(_MAX_INDENT):
        line = line - ((at(line) == ord(" ")) & ~text.begins(line + 1))
    first = hashes[text.begins(line + 1) | (at(line) == _NEWLINE)]
    after = first + 1
    for _ in range(_MAX_HEADING - 1):
        after = after + ((at(after) == ord("#")) & ~text.begins(after))
    markdown = first[text.begins(after) | np.isin(at(after), np.frombuffer(b" \t\r\n", dtype=np.uint8))]

    tags = np.flatnonzero(data == ord("<"))
    level, end = at(tags + 2), at(tags + 3)
    html = (at(tags + 1) | 32) == ord("h")
    html &= (level >= ord("1")) & (level <= ord("6")) & np.isin(end, np.frombuffer(b"> \t\r\n", dtype=np.uint8))
    return np.sort(np.concatenate([markdown, tags[html & text.same(tags, tags + 3)]]))


def _links(text: Text, classes: Classes) -> Ints:
    """Positions of Markdown links, HTML anchors and bare addresses."""
    data, at = text.data, text.byte
    brackets = np.flatnonzero(data == ord("]"))
    markdown = brackets[(at(brackets + 1) == ord("(")) & text.same(brackets, brackets + 1)]

    tags = np.flatnonzero(data == ord("<"))
    anchor = ((at(tags + 1) | 32) == ord("a")) & np.isin(at(tags + 2), np.frombuffer(b" \t\r\n", dtype=np.uint8))
    anchors = tags[anchor & text.same(tags, tags + 2)]

    colons = np.flatnonzero(data == ord(":"))
    colons = colons[(at(colons + 1) == ord("/")) & (at(colons + 2) == ord("/")) & text.same(colons, colons + 2)]
    scheme = colons - 4 - ((at(colons - 1) | 32) == ord("s"))
    named = np.ones(len(colons), dtype=bool)
    for index, letter in enumerate(b"http"):
        named &= (at(scheme + index) | 32) == letter
    scheme = scheme[named & text.same(scheme, colons)]
    before = at(scheme - 1)
    free = (
        text.begins(scheme)
        | (before == ord("<"))
        | ((before == ord("(")) & ((at(scheme - 2) != ord("]")) | text.begins(scheme - 1)))
    )
    free |= classes.space[np.maximum(scheme - 1, 0)]
    return np.sort(np.concatenate([markdown, anchors, scheme[free]]))
