from datetime import UTC, datetime, timedelta

import pytest

from feedback_pipeline.learning.moments import escaped, in_words, since, told, until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_sentence_is_true_whenever_it_is_told() -> None:
    sentence = f"waits {since(NOW - timedelta(hours=2))}, starts in {until(NOW + timedelta(minutes=3))}"
    assert told(sentence, NOW) == "waits 2 h, starts in 3 min"
    assert told(sentence, NOW + timedelta(days=4)) == "waits 4 d, starts in 0 s"
    assert told(sentence, NOW - timedelta(days=4)) == "waits 0 s, starts in 4 d"


@pytest.mark.parametrize("name", ["plain", "{since yesterday}", "{{", "}{", "{until 2026-03-01T12:00:00+00:00}"])
def test_a_name_is_told_as_it_is(name: str) -> None:
    assert told(f"{escaped(name)}: 3", NOW) == f"{name}: 3"


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (86400 * 6.9, "6 d")]
)
def test_lengths_of_time_in_words(seconds: float, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words
