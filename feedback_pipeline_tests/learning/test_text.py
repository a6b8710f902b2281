"""Text features against a plain Python reading of the same definitions."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_pipeline.learning import text as module
from feedback_pipeline.learning.features import TEXT_FEATURES
from feedback_pipeline.learning.text import Documents, text_features
from feedback_pipeline_tests.learning.text_oracle import ENDS, MARKS, SPACES, text_oracle


def documents(texts: list[str | None]) -> Documents:
    encoded = [b"" if text is None else text.encode() for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in encoded])]).astype(np.int64)
    return Documents(
        np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets, np.array([text is None for text in texts], dtype=bool)
    )


def measure(texts: list[str | None], keywords: list[list[str]] | None = None) -> dict[str, list[float]]:
    joined = None if keywords is None else documents(["\x1f".join(each) for each in keywords])
    return {name: values.tolist() for name, values in text_features(documents(texts), joined).items()}


pieces = st.one_of(
    st.sampled_from(
        [
            *SPACES,
            *MARKS,
            *ENDS,
            "\n\n",
            "# ",
            "## Title\n",
            "\n###### x",
            "#######",
            "<h2>",
            "<H7 ",
            "</h2>",
            "](",
            "[a](http://x)",
        ]
    ),
    st.sampled_from(
        ["http://a.b", "HTTPS://c", "(https://d)", "](https://e)", "<a href='x'>", "<abbr>", "<A\n", "://", "s://", "ftp://x"]
    ),
    st.sampled_from(
        [
            "content",
            "Content,",
            "marketing",
            "“MARKETING”",
            "É",
            "é!",
            "Straße",
            "İ",
            "日本",
            "😀",
            "x" * 9,
            "y" * 17,
            "-",
            "(seo)",
            "...",
            "!" * 9,
        ]
    ),
    st.text(max_size=6),
    st.text(alphabet=string.printable, max_size=6),
)
texts = st.lists(pieces, max_size=14).map("".join).map(lambda text: text.encode("utf-8", "ignore").decode())
phrase = st.lists(
    st.sampled_from(["content", "MARKETING", "seo", "é", "İ", "straße", "x" * 9, "Y" * 17, "日本", "-", "!!", "x"]), max_size=3
).map(" ".join)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(texts, st.lists(phrase, max_size=4)), max_size=6), st.sampled_from([1, 16, 1 << 20]))
def test_every_feature_equals_the_plain_reading(pairs: list[tuple[str, list[str]]], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)
        measured = measure([text for text, _ in pairs], [keys for _, keys in pairs])
    for index, (text, keys) in enumerate(pairs):
        expected = text_oracle(text, keys)
        assert set(expected) == set(TEXT_FEATURES) == set(measured)
        for name, value in expected.items():
            assert measured[name][index] == pytest.approx(value, rel=1e-12, nan_ok=True), (name, text, keys)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=8))
def test_word_count_is_str_split(texts: list[str]) -> None:
    assert measure(list(texts))["word_count"] == [len(text.split()) for text in texts]


def test_every_unicode_space_separates_words() -> None:
    assert measure([f"a{space}b" for space in SPACES])["word_count"] == [2.0] * len(SPACES)


def test_missing_and_empty_texts() -> None:
    measured = measure([None, "", " \n", "one"], [["a"], ["a"], ["a"], []])
    assert np.isnan([values[0] for values in measured.values()]).all()
    for index in (1, 2):
        assert [measured[name][index] for name in ("word_count", "sentence_count", "heading_count", "link_count")] == [0.0] * 4
        assert np.isnan([measured[name][index] for name in ("mean_sentence_length", "readability", "keyword_density")]).all()
    assert measured["keyword_density"][3] != measured["keyword_density"][3]


def test_no_texts_at_all() -> None:
    assert all(len(values) == 0 for values in measure([], []).values())


def test_hand_worked_article() -> None:
    text = (
        "# Spring sale\n\nOur content marketing team says: \"Buy now!\" See [the guide](https://x.org/a) or https://y.org.\n\n"
        "<h2>Why?</h2> Content-marketing is not content, marketing! <a href=\"z\">Here</a>"
    )  # fmt: skip
    measured = {name: values[0] for name, values in measure([text], [["Content Marketing", "sale"]]).items()}
    assert measured["word_count"] == 23
    assert measured["heading_count"] == 2
    assert measured["link_count"] == 3
    # Headings end at the blank line; then Buy now!" | y.org. | marketing! | the end.
    assert measured["sentence_count"] == 5
    # sale, content marketing, content, marketing! : 5 of 23 words; Content-marketing is another word.
    assert measured["keyword_density"] == pytest.approx(5 / 23)


def test_a_word_of_a_million_marks_is_trimmed_quickly() -> None:
    text = "!" * 1_000_000 + "seo" + "?" * 1_000_000
    assert measure([text], [["SEO"]])["keyword_density"] == [1.0]
