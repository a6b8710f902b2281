"""Characters of UTF-8 texts as flags per byte: white space, letters and digits, ends of sentences, closing marks."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_TERMINATORS: Final = ".!?…。！？"
_CLOSERS: Final = "\"')]}*_’”»›）」』"
_IS_TERMINATOR: Final = np.array([code < 128 and chr(code) in _TERMINATORS for code in range(256)])
_IS_CLOSER: Final = np.array([code < 128 and chr(code) in _CLOSERS for code in range(256)])
_LEAD: Final = 0xC2  # smallest first byte of a character of several bytes


@dataclass(frozen=True)
class Text:
    """Documents laid end to end, beginning at 0: `data` (bytes,), `offsets` (documents + 1,)."""

    data: Bytes
    offsets: Ints

    def byte(self, position: Ints) -> Bytes:
        """Bytes at positions; 0 outside the data."""
        if not len(self.data):
            return np.zeros(len(position), dtype=np.uint8)
        inside = (position >= 0) & (position < len(self.data))
        return np.where(inside, self.data[np.clip(position, 0, len(self.data) - 1)], np.uint8(0))

    def begins(self, position: Ints) -> Flags:
        """Whether a document begins (or the last one ends) exactly at each position; also true before the first."""
        index = np.searchsorted(self.offsets, position)
        found: Flags = (position <= 0) | (self.offsets[np.minimum(index, len(self.offsets) - 1)] == position)
        return found

    def same(self, first: Ints, last: Ints) -> Flags:
        """Whether two positions lie in the same document."""
        low = np.searchsorted(self.offsets, first, side="right")
        found: Flags = (first >= 0) & (last < len(self.data)) & (low == np.searchsorted(self.offsets, last, side="right"))
        return found


@dataclass(frozen=True)
class Wide:
    """Characters beyond ASCII: where they begin, their code points, their lengths in bytes."""

    lead: Ints
    code: Ints
    width: Ints

    def among(self, characters: str) -> "Wide":
        """Return the ones that are among some characters."""
        kept = np.isin(self.code, [ord(character) for character in characters])
        return Wide(self.lead[kept], self.code[kept], self.width[kept])


@dataclass(frozen=True)
class Classes:
    """What the bytes of a text are.

    Attributes:
        space: Every byte of a white space character, as `str.isspace`.
        alnum: Every byte of a letter or digit, as `str.isalnum`.
        letter_start: The first byte of a letter or digit.
        wide: Characters beyond ASCII.
    """

    space: Flags
    alnum: Flags
    letter_start: Flags
    wide: Wide


class Marks:
    """Characters that end sentences and marks that may close after them, asked for at the last bytes of characters."""

    def __init__(self, data: Bytes, wide: Wide) -> None:
        self._data = data
        self._ends = _last_bytes(wide.among(_TERMINATORS))
        closing = wide.among(_CLOSERS)
        self._closing, self._width = _last_bytes(closing), closing.width

    def terminates(self, position: Ints) -> Flags:
        """Whether the character whose last byte is at each position ends a sentence."""
        found = _IS_TERMINATOR[self._data[position]]
        return found | np.isin(position, self._ends) if len(self._ends) else found

    def closing_width(self, position: Ints) -> Ints:
        """Length in bytes of the closing mark whose last byte is at each position, 0 where there is none."""
        width = _IS_CLOSER[self._data[position]].astype(np.int64)
        if len(self._closing):
            index = np.minimum(np.searchsorted(self._closing, position), len(self._closing) - 1)
            width = np.where(self._closing[index] == position, self._width[index], width)
        return width


def classify(data: Bytes) -> Classes:
    """Classify every byte of valid UTF-8."""
    # Unsigned differences wrap around: one comparison tests a range.
    space = (data - np.uint8(9) <= 4) | (data - np.uint8(28) <= 4)
    alnum = ((data | np.uint8(32)) - np.uint8(97) < 26) | (data - np.uint8(48) < 10)
    lead = np.flatnonzero(data >= _LEAD)
    code, width = _code_points(data, lead)
    letter_start = alnum
    if len(lead):
        distinct = np.flatnonzero(np.bincount(code))
        characters = [chr(each) for each in distinct]
        known = np.zeros((2, int(distinct[-1]) + 1), dtype=bool)
        known[0, distinct] = [character.isspace() for character in characters]
        known[1, distinct] = [character.isalnum() for character in characters]
        is_space, is_alnum = known[:, code]
        letter_start = alnum.copy()
        letter_start[lead[is_alnum]] = True
        for step in range(4):
            within = width > step
            space[lead[within & is_space] + step] = True
            alnum[lead[within & is_alnum] + step] = True
    return Classes(space, alnum, letter_start, Wide(lead, code, width))


def word_bounds(text: Text, classes: Classes) -> tuple[Ints, Ints]:
    """Positions of the first and of the last byte of every word (`str.split`), in order."""
    solid = ~classes.space
    starts, ends = solid.copy(), solid.copy()
    starts[1:] &= classes.space[:-1]
    ends[:-1] &= classes.space[1:]
    # A document may begin right after the last letter of the one before.
    inner = text.offsets[(text.offsets > 0) & (text.offsets < len(text.data))]
    starts[inner] = solid[inner]
    ends[inner - 1] = solid[inner - 1]
    return np.flatnonzero(starts), np.flatnonzero(ends)


def count_per_document(positions: Ints, offsets: Ints) -> Ints:
    """Number of the (ascending) positions that lie in each document."""
    return np.diff(np.searchsorted(positions, offsets))


def documents_of(positions: Ints, offsets: Ints) -> Ints:
    """Index of the document in which each of the (ascending) positions lies."""
    return np.repeat(np.arange(len(offsets) - 1), count_per_document(positions, offsets))


def _last_bytes(wide: Wide) -> Ints:
    return wide.lead + wide.width - 1


def _code_points(data: Bytes, lead: Ints) -> tuple[Ints, Ints]:
    """Code points and lengths of the characters that begin at `lead` (each of 2 to 4 bytes)."""
    first = data[lead]
    width = 2 + (first >= 0xE0).astype(np.int64) + (first >= 0xF0)
    code = (first & (0xFF >> (width + 1)).astype(np.uint8)).astype(np.int64)
    for step in range(1, 4):
        within = width > step
        code[within] = (code[within] << 6) | (data[lead[within] + step] & 0x3F)
    return code, width
