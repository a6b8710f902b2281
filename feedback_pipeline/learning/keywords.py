"""Which words of many texts belong to an occurrence of one of their own keywords, by 64-bit hashes of the words."""

from typing import Final

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.utf8 import Bytes, Classes, Flags, Ints, Text, classify, documents_of, word_bounds

Hashes = npt.NDArray[np.uint64]

SEPARATOR: Final = 0x1F
_CHUNK: Final = 8
_TRIM_STEPS: Final = 4
_BUCKETS: Final = 1 << 12
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)
_HALF: Final = np.uint64(32)
_MASKS: Final = np.array([(1 << (8 * count)) - 1 for count in range(_CHUNK + 1)], dtype=np.uint64)


def covered_words(text: Text, classes: Classes, starts: Ints, ends: Ints, keywords: Text) -> npt.NDArray[np.float64]:
    """Count for each document the words that belong to an occurrence of a keyword; NaN where it has no keyword.

    Args:
        text: The documents.
        classes: Their bytes classified.
        starts: First byte of each word.
        ends: Last byte of each word.
        keywords: For each document its keywords, separated by the byte 0x1F.
    """
    phrases = _Phrases(keywords)
    result = np.full(len(text.offsets) - 1, np.nan)
    result[phrases.documents] = 0.0
    mine = ~np.isnan(result)
    document = documents_of(starts, text.offsets)
    if not mine.all():
        words = np.flatnonzero(mine[document])
        starts, ends, document = starts[words], ends[words], document[words]
    if not len(starts):
        return result
    hashed = _hash_likely(text, classes, starts, ends, document, phrases)
    covered = np.zeros(len(starts), dtype=bool)
    for length in phrases.lengths:
        candidates = np.flatnonzero(hashed[: len(hashed) - length + 1])
        candidates = candidates[document[candidates + length - 1] == document[candidates]]
        key = _seed(document[candidates])
        for step in range(length):
            key = _combine(key, hashed[candidates + step])
        found = candidates[_contains(phrases.keys(length), key)]
        for step in range(length):
            covered[found + step] = True
    result[mine] = np.bincount(document[covered], minlength=len(result))[mine]
    return result


class _Phrases:
    """The keywords of all documents as hashes of word sequences, by number of words."""

    def __init__(self, keywords: Text) -> None:
        classes = classify(keywords.data)
        starts, ends = word_bounds(keywords, classes)
        document = documents_of(starts, keywords.offsets)
        phrase = np.searchsorted(np.flatnonzero(keywords.data == SEPARATOR), starts)
        first, stop = _trim(classes.alnum, starts, ends)
        kept = stop > first
        first, stop, document, phrase = first[kept], stop[kept], document[kept], phrase[kept]
        lowered = _lowered(keywords.data, classes)
        hashed = _hash(lowered, first, stop)
        begins = np.ones(len(first), dtype=bool)
        begins[1:] = (phrase[1:] != phrase[:-1]) | (document[1:] != document[:-1])
        self._begin = np.flatnonzero(begins)
        self._length = np.diff(np.append(self._begin, len(first)))
        self._document, self._hashed = document, hashed
        self.documents = np.unique(document)
        self.lengths = [int(length) for length in np.unique(self._length)]
        self.likely: Flags = np.zeros((len(keywords.offsets) - 1) * _BUCKETS, dtype=bool)
        self.likely[_bucket(lowered, first, stop, document)] = True

    def keys(self, length: int) -> Hashes:
        """Sorted hashes of (document, words) of the keywords of so many words."""
        begin = self._begin[self._length == length]
        key = _seed(self._document[begin])
        for step in range(length):
            key = _combine(key, self._hashed[begin + step])
        return np.unique(key)


def _hash_likely(text: Text, classes: Classes, starts: Ints, ends: Ints, document: Ints, phrases: _Phrases) -> Hashes:
    """Hashes of the words that look like a keyword of their document by length and first byte; 0 for all others."""
    lowered = _lowered(text.data, classes)
    first, stop = _trim(classes.alnum, starts, ends)
    likely = np.flatnonzero(phrases.likely[_bucket(lowered, first, stop, document)] & (stop > first))
    hashed = np.zeros(len(starts), dtype=np.uint64)
    hashed[likely] = _hash(lowered, first[likely], stop[likely])
    return hashed


def _bucket(lowered: Bytes, first: Ints, stop: Ints, document: Ints) -> Ints:
    bucket: Ints = document * _BUCKETS + ((stop - first) & 63) * 64 + (lowered[first] & 63)
    return bucket


def _lowered(data: Bytes, classes: Classes) -> Bytes:
    """Lower case, character by character, where it keeps the length in bytes; 8 zero bytes follow for loads past the end."""
    result = np.zeros(len(data) + _CHUNK, dtype=np.uint8)
    np.add(data, (data - np.uint8(65) < 26) * np.uint8(32), out=result[: len(data)])
    wide = classes.wide
    if len(wide.code):
        distinct = [chr(code) for code in np.flatnonzero(np.bincount(wide.code))]
        changed = [each for each in distinct if each.lower() != each and len(each.lower().encode()) == len(each.encode())]
        for character in changed:
            at = wide.lead[wide.code == ord(character)]
            for step, byte in enumerate(character.lower().encode()):
                result[at + step] = byte
    return result


def _trim(alnum: Flags, starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """First byte and end (exclusive) of words without what is neither letter nor digit at both ends; possibly empty."""
    first, last = starts.copy(), ends.copy()
    rest = np.flatnonzero(~alnum[first])
    for _ in range(_TRIM_STEPS):
        first[rest] += 1
        rest = rest[first[rest] <= last[rest]]
        rest = rest[~alnum[first[rest]]]
    tail = np.flatnonzero(~alnum[last])
    for _ in range(_TRIM_STEPS):
        last[tail] -= 1
        tail = tail[last[tail] >= first[tail]]
        tail = tail[~alnum[last[tail]]]
    if len(rest) or len(tail):
        letters = np.flatnonzero(alnum)
        first[rest] = np.append(letters, len(alnum))[np.searchsorted(letters, first[rest])]
        last[tail] = np.append(-1, letters)[np.searchsorted(letters, last[tail], side="right")]
    empty = first > last
    first[empty] = starts[empty]
    return first, np.where(empty, first, last + 1)


def _hash(lowered: Bytes, first: Ints, stop: Ints) -> Hashes:
    """Hash words by loads of 8 bytes."""
    size = stop - first
    loads = np.ndarray((len(lowered) - _CHUNK + 1,), dtype="<u8", buffer=lowered, strides=(1,))
    result = _mix(size.astype(np.uint64) + _ODD)
    part, offset = np.arange(len(first)), 0
    while len(part):
        result[part] = _combine(result[part], loads[first[part] + offset] & _MASKS[np.minimum(size[part] - offset, _CHUNK)])
        offset += _CHUNK
        part = part[size[part] > offset]
    return result | np.uint64(1)


def _mix(value: Hashes) -> Hashes:
    value = (value ^ (value >> _HALF)) * _MIX
    value = (value ^ (value >> _HALF)) * _MIX
    return value ^ (value >> _HALF)


def _combine(key: Hashes, value: Hashes) -> Hashes:
    return _mix(key * _ODD + value)


def _seed(document: Ints) -> Hashes:
    return _mix(document.astype(np.uint64) + np.uint64(1))


def _contains(wanted: Hashes, key: Hashes) -> Flags:
    index = np.minimum(np.searchsorted(wanted, key), len(wanted) - 1)
    found: Flags = wanted[index] == key
    return found
