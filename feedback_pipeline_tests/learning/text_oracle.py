"""The text features of one text in plain Python."""

import re

SPACES = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())
MARKS = "\"')]}*_’”»›）」』"
ENDS = ".!?…。！？"


def oracle_sentences(text: str) -> int:
    pieces = [(match.group(), match.end()) for match in re.finditer(rf"[^{re.escape(SPACES)}]+", text)]
    count = 0
    for index, (word, end) in enumerate(pieces):
        bare = word
        for _ in range(4):
            bare = bare[:-1] if bare and bare[-1] in MARKS else bare
        gap = text[end : end + re.match(rf"[{re.escape(SPACES)}]*", text[end:]).end()]  # type: ignore[union-attr]
        count += bool(bare and bare[-1] in ENDS) or index == len(pieces) - 1 or gap.count("\n") > 1
    return count


def lower(word: str) -> str:
    return "".join(c.lower() if len(c.lower().encode()) == len(c.encode()) else c for c in word)


def bare_words(text: str) -> list[str]:
    result = []
    for word in text.split():
        kept = [index for index, character in enumerate(word) if character.isalnum()]
        result.append(lower(word[kept[0] : kept[-1] + 1]) if kept else "")
    return result


def oracle_density(text: str, keywords: list[str]) -> float:
    words = bare_words(text)
    phrases = [
        phrase for phrase in ([w for w in bare_words(part) if w] for key in keywords for part in key.split("\x1f")) if phrase
    ]
    if not words or not phrases:
        return float("nan")
    covered = {i + k for p in phrases for i in range(len(words)) if words[i : i + len(p)] == p for k in range(len(p))}
    return len(covered) / len(words)


def text_oracle(text: str, keywords: list[str]) -> dict[str, float]:
    words, sentences = len(text.split()), oracle_sentences(text)
    characters = sum(character.isalnum() for character in text)
    headings = len(re.findall(r"(?:^|(?<=\n)) {0,3}#{1,6}(?=[ \t\r\n]|\Z)", text)) + len(
        re.findall(r"<[hH][1-6][> \t\r\n]", text)
    )
    links = text.count("](") + len(re.findall(r"<[aA][ \t\r\n]", text))
    for match in re.finditer(r"[hH][tT][tT][pP][sS]?://", text):
        before, earlier = text[: match.start()][-1:], text[: match.start()][-2:-1]
        links += before == "" or before.isspace() or before == "<" or (before == "(" and earlier != "]")
    nan = float("nan")
    return {
        "word_count": words,
        "sentence_count": sentences,
        "mean_sentence_length": words / sentences if sentences else nan,
        "readability": 4.71 * (characters / words) + 0.5 * (words / sentences) - 21.43 if words else nan,
        "heading_count": headings,
        "link_count": links,
        "keyword_density": oracle_density(text, keywords),
    }
