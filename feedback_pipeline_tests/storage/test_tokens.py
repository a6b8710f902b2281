import unicodedata
from itertools import groupby

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_pipeline.learning.terms import Presence
from feedback_pipeline.storage.tokens import Tokens

CHARACTERS = "aAbzZéÉßñÑ日本ЖжΣσ٣7_-'’.<>/& \t\n\x00\x07\x1f\u0301\u0308\u200b\u200f\u202e\u2066\ufeff🙂👩‍💻"


def words_of(text: str) -> list[str]:
    """The definition, character by character."""
    lowered = "".join(character.lower() for character in unicodedata.normalize("NFC", text))
    return ["".join(run) for letters, run in groupby(lowered, str.isalpha) if letters]


def presence_of(texts: list[str | None], *, blocks: int = 1, least: int = 1) -> Presence:
    tokens = Tokens()
    for part in np.array_split(np.arange(len(texts)), blocks):
        tokens.add(pa.array([texts[i] for i in part], pa.string()))
    return tokens.presence(np.arange(len(texts)), len(texts), least)


def terms_of(presence: Presence) -> list[set[str]]:
    matrix = presence.matrix
    return [
        set(presence.vocabulary[matrix.indices[low:high]])
        for low, high in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    ]


@settings(deadline=None, max_examples=200)
@given(texts=st.lists(st.text(alphabet=CHARACTERS, max_size=60), min_size=1, max_size=6), blocks=st.integers(1, 3))
def test_words_are_runs_of_letters(texts: list[str], blocks: int) -> None:
    presence = presence_of(list(texts), blocks=blocks)
    assert presence.length.tolist() == [len(words_of(text)) for text in texts]
    assert terms_of(presence) == [{word for word in words_of(text) if 3 <= len(word) <= 40} for text in texts]
    assert presence.vocabulary.tolist() == sorted(presence.vocabulary, key=str.encode)
    assert set(presence.matrix.data.tolist()) <= {1}


@pytest.mark.parametrize(
    ("text", "terms", "length"),
    [
        ("Cafe\u0301 and CAFÉ", {"café", "and"}, 3),
        ("it's well-known, 2nd", {"well", "known"}, 5),
        ("ab abc", {"abc"}, 2),
        ("x" * 40 + " " + "y" * 41, {"x" * 40}, 2),
        ("<script>alert('x')</script>", {"script", "alert"}, 4),
        ("good\u202edoog\u200fbad", {"good", "doog", "bad"}, 3),
        ("nul\x00led wor\x07ds", {"nul", "led", "wor"}, 4),
        ("q\u0303uo", set(), 2),  # the mark that joins no letter separates
        ("日本語の", {"日本語の"}, 1),
        ("", set(), 0),
        ("🙂 12 --", set(), 0),
        (None, set(), 0),
    ],
)
def test_what_separates(text: str | None, terms: set[str], length: int) -> None:
    presence = presence_of([text])
    assert (terms_of(presence), presence.length.tolist()) == ([terms], [length])


@pytest.mark.parametrize("uses", [2, 128, 256, 1_000])
def test_a_word_used_many_times_is_present_once(uses: int) -> None:
    """Also where the uses are more than the bytes that hold the presence can count."""
    presence = presence_of(["again " * uses + "once"])
    assert presence.matrix.toarray().tolist() == [[1, 1]]
    assert presence.length.tolist() == [uses + 1]


def test_a_document_of_several_texts_in_several_blocks() -> None:
    tokens = Tokens()
    tokens.add(pa.chunked_array([["first second"], ["second third"]]))
    tokens.add(pa.array(["first", None, "nobody"]))
    presence = tokens.presence(np.array([1, 0, 1, 0, -1]), 3)
    assert terms_of(presence) == [{"second", "third"}, {"first", "second"}, set()]
    assert presence.length.tolist() == [2, 3, 0]
    assert "nobody" not in presence.vocabulary


def test_rare_terms_are_left_out_by_documents_not_by_uses() -> None:
    presence = presence_of(["rare rare rare common", "common other"], least=2)
    assert presence.vocabulary.tolist() == ["common"]
    assert presence.length.tolist() == [4, 2]
    assert presence.matrix.toarray().tolist() == [[1], [1]]


def test_nothing_at_all() -> None:
    for tokens in (Tokens(), Tokens()):
        presence = tokens.presence(np.empty(0, dtype=np.intp), 0)
        assert presence.matrix.shape == (0, 0)
    tokens.add(pa.array([], pa.string()))
    assert tokens.presence(np.empty(0, dtype=np.intp), 2).length.tolist() == [0, 0]


def test_codes_depend_neither_on_order_nor_on_blocks() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]}x" for i in range(100)]
    texts: list[str | None] = [" ".join(rng.choice(words, 12)) for _ in range(200)]
    whole = presence_of(texts)
    order = rng.permutation(len(texts))
    mixed = presence_of([texts[i] for i in order], blocks=7)
    assert mixed.vocabulary.tolist() == whole.vocabulary.tolist()
    np.testing.assert_array_equal(mixed.matrix.toarray(), whole.matrix.toarray()[order])
