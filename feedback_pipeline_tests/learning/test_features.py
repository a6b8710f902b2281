"""The feature registry."""

import re

import pytest

from feedback_pipeline.learning.features import (
    CATEGORIES,
    FEATURES,
    NUMERIC_FEATURES,
    OUTPUT_KEYS,
    TEXT_FEATURES,
    is_aspect_name,
    is_custom_feature_name,
    label,
    numeric_columns,
    unit,
)

GUIDE = ("duration_ms", "input_tokens", "output_tokens", "cost", "confidence_score", "alternatives_count", "reasoning_length")


def test_registry_holds_the_promised_features_once() -> None:
    names = [feature.name for feature in FEATURES]
    assert len(set(names)) == len(names)
    assert set(GUIDE) <= set(NUMERIC_FEATURES)
    assert CATEGORIES == ("content_type", "tone", "channel", "structure")
    assert set(TEXT_FEATURES) == {
        "word_count", "sentence_count", "mean_sentence_length", "readability", "heading_count", "link_count", "keyword_density",
    }  # fmt: skip
    assert not set(OUTPUT_KEYS) & set(names)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_feature_says_where_it_comes_from(feature: object) -> None:
    assert re.fullmatch(r"[a-z][a-z_]*", getattr(feature, "name"))  # noqa: B009
    assert getattr(feature, "source")  # noqa: B009
    assert getattr(feature, "label")  # noqa: B009


def test_label_and_unit_of_registered_and_custom_features() -> None:
    assert (label("duration_ms"), unit("duration_ms")) == ("longer runs", "ms")
    assert (label("emoji_count"), unit("emoji_count")) == ("more emoji count", "")


@pytest.mark.parametrize(("name", "usable"), [
    ("emoji_count", True), ("A1", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("1a", False), ("a b", False),
    ("a\n", False), ("é", False), ("word_count", False), ("tone", False), ("agent_name", False), ("retry_count", False),
])  # fmt: skip
def test_custom_feature_names(name: str, usable: bool) -> None:
    assert is_custom_feature_name(name) is usable


@pytest.mark.parametrize(("name", "usable"), [
    ("content_quality", True), ("SEO fit.v-2", True), ("overall", False), ("Overall", True), ("decision", False),
    ("a\n", False), ("", False), ("9lives", False), ("x" * 64, True), ("x" * 65, False), ("a\x1fb", False),
])  # fmt: skip
def test_aspect_names(name: str, usable: bool) -> None:
    assert is_aspect_name(name) is usable


def test_numeric_columns_are_in_one_order() -> None:
    columns = ["zeta", "tone", "cost", "agent_name", "alpha", "duration_ms", "retry_count"]
    assert numeric_columns(columns) == ["duration_ms", "cost", "alpha", "zeta"]
