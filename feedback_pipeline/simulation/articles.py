"""Article texts of an exact number of words and keywords, cut from sentence streams that are built once."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from feedback_pipeline.simulation import phrases
from feedback_pipeline.simulation.outputs import Outputs
from feedback_pipeline.simulation.population import Floats, Ints
from feedback_pipeline.simulation.spec import MOST_WORDS

LEVELS = 5
"""Reading levels; the readability of an output decides from which level's stream its text is cut."""

_LEVEL_EDGES = (7.9, 9.3, 10.7, 12.1)
_SECOND_CLAUSE = (0.4, 0.45, 0.5, 0.55, 0.6)
_RICH_SHARE = (0.05, 0.2, 0.35, 0.55, 0.8)
_STARTS = 2000
_LONGEST_SENTENCE = 40
_PARAGRAPH = 5
_HEADING_EVERY, _LINK_EVERY = 14, 23


@dataclass(frozen=True)
class Stream:
    """Sentences in reading order with their separators, and the words before each of them."""

    sentences: list[str]
    words_before: Ints


def draw_choices(outputs: Outputs, stream: np.random.Generator) -> pd.DataFrame:
    """What each text is about and where it is cut from its streams: one row per output, columns topic, title, filler, keyword."""
    n = outputs.agent.size
    filler = stream.integers(0, _STARTS, n)
    filler += filler % _HEADING_EVERY == _HEADING_EVERY - 1  # no heading right below the title
    return pd.DataFrame(
        {
            "topic": stream.integers(0, len(phrases.TOPICS), n),
            "title": stream.integers(0, len(phrases.TITLES), n),
            "filler": filler,
            "keyword": stream.integers(0, _STARTS, n),
        }
    )


def title(topic: int, kind: int) -> str:
    """Title ``kind`` about ``topic``."""
    text = phrases.TITLES[kind].format(subject=phrases.TOPICS[topic][0])
    return text[0].upper() + text[1:]


def compose(choices: pd.DataFrame, words: Ints, keyword_hits: Ints, readability: Floats) -> list[str]:
    """Markdown articles with exactly ``words`` whitespace-separated words, ``keyword_hits`` of them keywords.

    Args:
        choices: rows of :func:`draw_choices`.
        words: length of each text, at least 60.
        keyword_hits: at most 6 % of the words.
        readability: the harder, the longer the sentences and words.
    """
    texts = np.empty(len(choices), dtype=object)
    level = np.searchsorted(_LEVEL_EDGES, readability)
    code = choices["topic"].to_numpy() * LEVELS + level
    for value in np.unique(code):
        rows = np.flatnonzero(code == value)
        topic, reading = divmod(int(value), LEVELS)
        texts[rows] = list(_articles(topic, filler_stream(topic, reading), choices.iloc[rows], words[rows], keyword_hits[rows]))
    return list(texts)


def _articles(topic: int, filler: Stream, choices: pd.DataFrame, words: Ints, hits: Ints) -> Iterator[str]:
    keywords, endings = keyword_stream(topic), endings_by_words()
    titles = [f"# {title(topic, kind)}\n\n" for kind in range(len(phrases.TITLES))]
    kind = choices["title"].to_numpy()
    key_start = choices["keyword"].to_numpy()
    start = choices["filler"].to_numpy()
    left = words - np.array([len(text.split()) for text in titles])[kind]
    left = left - keywords.words_before[key_start + hits] + keywords.words_before[key_start]
    # The last whole sentence that still fits; what is left after it is an ending of exactly that many words.
    stop = np.searchsorted(filler.words_before, filler.words_before[start] + left, side="right") - 1
    rest = left - filler.words_before[stop] + filler.words_before[start]
    rows = zip(kind.tolist(), key_start.tolist(), hits.tolist(), start.tolist(), stop.tolist(), rest.tolist(), strict=True)
    for which, key, count, first, last, missing in rows:
        parts = [titles[which]]
        step = (last - first) // (count + 1)
        for place in range(count):
            parts += filler.sentences[first + place * step : first + (place + 1) * step]
            parts.append(keywords.sentences[key + place])
        parts += filler.sentences[first + count * step : last]
        parts.append(endings[missing])
        # Headings bring their own blank lines.
        yield "".join(parts).rstrip().replace(" \n", "\n").replace("\n\n\n\n", "\n\n")


@lru_cache(maxsize=LEVELS * len(phrases.TOPICS))
def filler_stream(topic: int, level: int) -> Stream:
    """Sentences of one reading level (0 easy .. 4 hard) about ``topic`` without any keyword, with headings, links, paragraphs."""
    subject = phrases.TOPICS[topic][0]
    return _stream([sentence.replace(phrases.SUBJECT, subject) for sentence in _level_sentences(level)])


@lru_cache(maxsize=LEVELS)
def _level_sentences(level: int) -> list[str]:
    random = np.random.default_rng([level, *b"filler"])
    sentences = []
    for i in range(_STARTS):
        if i % _HEADING_EVERY == _HEADING_EVERY - 1:
            sentences.append(f"\n\n## {_pick(random, phrases.HEADINGS)}\n\n")
        elif i % _LINK_EVERY == _LINK_EVERY - 1:
            sentences.append(f"{_pick(random, phrases.LINKS)} ")
        else:
            text = _sentence(random, 1 + int(random.random() < _SECOND_CLAUSE[level]), _RICH_SHARE[level])
            sentences.append(text + ("\n\n" if i % _PARAGRAPH == 0 else " "))
    return sentences


@lru_cache(maxsize=len(phrases.TOPICS))
def keyword_stream(topic: int) -> Stream:
    """Sentences that hold exactly one keyword of ``topic`` each."""
    random = np.random.default_rng([topic, *b"keywords"])
    keywords = phrases.TOPICS[topic][1]
    return _stream(
        [_pick(random, phrases.KEYWORD_SENTENCES).format(keyword=_pick(random, keywords)) + " " for _ in range(_STARTS)]
    )


@lru_cache(maxsize=1)
def endings_by_words() -> list[str]:
    """The ending of a text by its number of words, from none at place 0."""
    random = np.random.default_rng([*b"endings"])
    found = {0: "", **{i + 1: text for i, text in enumerate(phrases.SHORT_ENDINGS)}}
    while len(found) <= _LONGEST_SENTENCE:
        text = " ".join(_sentence(random, 1 + i % 2, 0.3) for i in range(int(random.integers(1, 5))))
        if phrases.SUBJECT not in text and len(text.split()) <= _LONGEST_SENTENCE:
            found.setdefault(len(text.split()), text)
    return [found[words] for words in range(_LONGEST_SENTENCE + 1)]


def _stream(sentences: list[str]) -> Stream:
    # Long enough to cut the longest text from any start.
    longest = [*sentences, *sentences[:MOST_WORDS]]
    return Stream(longest, np.concatenate([[0], np.cumsum([len(text.split()) for text in longest])]))


def _pick(random: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(random.integers(len(options)))]


def _sentence(random: np.random.Generator, clauses: int, rich: float) -> str:
    said: list[str] = []
    while len(said) < clauses:
        clause = _pick(random, phrases.RICH_CLAUSES if random.random() < rich else phrases.PLAIN_CLAUSES)
        said += [clause] if clause not in said else []
    text = _pick(random, phrases.OPENERS) + f" {_pick(random, phrases.CONNECTORS)} ".join(said)
    return f"{text[0].upper()}{text[1:]}."
