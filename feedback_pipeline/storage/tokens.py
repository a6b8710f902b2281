r"""Texts as the words they use: which words a document has and how many, and nothing else of it.

A word is a maximal run of Unicode letters (`\p{L}`) after NFC and lower-casing; whatever is no letter separates words. A term is
a word of 3 to 40 letters. Stop words are terms like others: no list of them is right for every language, and the test finds by
itself that they do not go with good or bad judgements.
"""

import unicodedata
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from feedback_pipeline.learning.terms import Presence

SHORTEST: Final = 3
LONGEST: Final = 40
_NO_LETTER: Final = r"\P{L}+"
_NUL: Final = "\0"
_LOOKED_UP: Final = np.array(
    [*(ord(sign.lower() if sign.isalpha() else " ") for sign in map(chr, range(128))), *range(128, 256)], dtype=np.uint8
)


class Tokens:
    """Collects the words of texts block by block and forgets the texts, which are numbered in the order they come."""

    def __init__(self) -> None:
        self._length: list[npt.NDArray[np.int64]] = []
        self._owner: list[npt.NDArray[np.int32]] = []
        self._words: list[pa.DictionaryArray] = []
        self._n = 0

    def add(self, texts: pa.Array | pa.ChunkedArray) -> None:
        """Take the words of some strings; a null has none."""
        lists = pc.ascii_split_whitespace(_letters(texts))
        size = pc.list_value_length(lists).to_numpy()
        text = np.repeat(np.arange(len(lists)), size)
        words = lists.flatten().cast(pa.string()).dictionary_encode()
        code, letters = words.indices.to_numpy(), pc.utf8_length(words.dictionary).to_numpy()
        # Around spaces at either end there may be an empty piece, which is no word.
        self._length.append(np.bincount(text[letters[code] > 0], minlength=len(lists)))
        kept = (letters >= SHORTEST) & (letters <= LONGEST)
        place = (np.cumsum(kept) - 1).astype(np.int32)
        used = kept[code]
        # Once a text, block by block: long texts repeat themselves, and all texts together are many words.
        own = _ones(text[used], place[code[used]], (len(lists), int(kept.sum())))
        self._owner.append(np.repeat(np.arange(self._n, self._n + len(lists), dtype=np.int32), np.diff(own.indptr)))
        self._words.append(pa.DictionaryArray.from_arrays(own.indices, words.dictionary.filter(pa.array(kept))))
        self._n += len(lists)

    def presence(self, document: npt.NDArray[np.integer], n_documents: int, least: int = 1) -> Presence:
        """Which words the documents have; a document may have several texts.

        Args:
            document: Document of each text, 0..n_documents - 1, -1 = none.
            n_documents: Number of documents.
            least: Terms of fewer documents are left out.
        """
        if not self._n:
            none = sparse.csr_array(np.empty((n_documents, 0), dtype=np.int8))
            return Presence(none, np.empty(0, dtype=object), np.zeros(n_documents, dtype=np.int64))
        belongs = document >= 0
        length = np.bincount(document[belongs], np.concatenate(self._length)[belongs], n_documents).astype(np.int64)
        words = pa.chunked_array(self._words).unify_dictionaries()
        # Sorted by their bytes: codes must not depend on the order in which words were met.
        order = pc.array_sort_indices(words.chunk(0).dictionary)
        rank = np.empty(len(order), dtype=np.int32)
        rank[order.to_numpy()] = np.arange(len(order))
        code = rank[np.concatenate([chunk.indices.to_numpy() for chunk in words.chunks])]
        row = document[np.concatenate(self._owner)]
        # What is in too few texts is in too few documents.
        used = (row >= 0) & (np.bincount(code, minlength=len(order)) >= least)[code]
        matrix = _ones(row[used], code[used], (n_documents, len(order)))
        frequent = np.bincount(matrix.indices, minlength=len(order)) >= least
        vocabulary = words.chunk(0).dictionary.take(order).filter(pa.array(frequent))
        return Presence(_columns(matrix, frequent), vocabulary.to_numpy(zero_copy_only=False), length)


def _letters(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The texts in lower-case letters, everything else spaces; a null is empty."""
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    whole = pc.fill_null(whole.cast(pa.large_string()), "")
    wide = pc.invert(pc.string_is_ascii(whole))
    if pc.any(wide).as_py():
        lowered = pc.utf8_lower(_composed(whole.filter(wide)))
        whole = pc.replace_with_mask(whole, wide, pc.replace_substring_regex(lowered, _NO_LETTER, " "))
    _, offsets, data = whole.buffers()
    # Bytes of letters beyond ASCII stay; all that is ASCII is looked up.
    plain = _LOOKED_UP[np.frombuffer(data if data is not None else b"", dtype=np.uint8)]
    return pa.LargeStringArray.from_buffers(len(whole), offsets, pa.py_buffer(plain), None, 0, whole.offset)


def _composed(texts: pa.Array) -> pa.Array:
    """The texts in NFC. Arrow's own function only decomposes."""
    # Postgres holds no NUL; one that came from elsewhere separates words like any other sign.
    own = pc.replace_substring(texts, _NUL, " ").cast(pa.string())
    together = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(own)], pa.int32()), own), _NUL)[0].as_py()
    return pa.array(unicodedata.normalize("NFC", together).split(_NUL), pa.large_string())


def _ones(row: npt.NDArray[np.integer], column: npt.NDArray[np.integer], shape: tuple[int, int]) -> sparse.csr_array:
    """A matrix that has something in some cells; cells that are named several times may have any number there."""
    matrix = sparse.csr_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=shape)
    matrix.indices = matrix.indices.astype(np.int32, copy=False)
    return matrix


def _columns(matrix: sparse.csr_array, kept: npt.NDArray[np.bool_]) -> sparse.csr_array:
    """Ones where these columns of the matrix have something; its rows are sorted and stay so."""
    place = (np.cumsum(kept) - 1).astype(np.int32)
    used = kept[matrix.indices]
    starts = np.concatenate([[0], np.cumsum(used)])[matrix.indptr]
    ones = np.ones(int(used.sum()), dtype=np.int8)
    return sparse.csr_array((ones, place[matrix.indices[used]], starts), shape=(matrix.shape[0], int(kept.sum())))
