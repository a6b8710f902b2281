"""Names of agents and reviewers, and ids drawn from a seeded stream."""

from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa

_FIRST_AGENTS = (
    "drafter headline-writer seo-editor newsletter-bot product-describer copy-polisher press-writer blog-drafter "
    "guide-writer fact-weaver tone-keeper caption-writer landing-page-writer faq-composer recipe-writer travel-scribe"
)
_SUBJECTS = "garden kitchen outdoor travel finance wellness fashion tech home kids sports beauty"
_ROLES = "drafter editor storyteller newsletter copywriter"
_GIVEN = (
    "maria jonas aisha pedro lena tomasz ingrid samuel chiara yusuf hannah mateo priya oskar elif david nora karim julia "
    "anders sofia marek grace felix amara ruben klara vikram paula emil"
)
_FAMILY = (
    "keller brandt haddad almeida novak kowalski berg okafor romano demir weiss garcia sharma lindqvist aydin cohen dahl "
    "mansour fischer holm petrova zelenka murphy lang diallo visser horvat rao santos nyberg"
)
_AGENT_TYPES = ("writer", "editor", "marketing")
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_HEX_PLACES = np.array([i for i in range(36) if i not in (8, 13, 18, 23)])


def agent_names(count: int) -> list[str]:
    """``count`` distinct agent names; the first n are the same for every count >= n."""
    known = [*_FIRST_AGENTS.split(), *(f"{subject}-{role}" for role, subject in product(_ROLES.split(), _SUBJECTS.split()))]
    return [known[i % len(known)] + (f"-{i // len(known) + 1}" if i >= len(known) else "") for i in range(count)]


def agent_types(count: int) -> list[str]:
    """The type of each agent, by the names of :func:`agent_names`."""
    return [
        _AGENT_TYPES[1]
        if "editor" in name or "polisher" in name
        else _AGENT_TYPES[2 if "newsletter" in name or "press" in name else 0]
        for name in agent_names(count)
    ]


def reviewer_names(count: int) -> list[str]:
    """``count`` distinct reviewer ids like ``maria.keller``; the first n are the same for every count >= n."""
    given_names, families = _GIVEN.split(), _FAMILY.split()
    people = len(given_names) * len(families)
    names = []
    for i in range(count):
        lap, place = divmod(i, people)
        given, shift = place % len(given_names), place // len(given_names)
        names.append(f"{given_names[given]}.{families[(given + shift) % len(families)]}" + (f"{lap + 1}" if lap else ""))
    return names


def text_column(values: pa.Array) -> "pd.Series[str]":
    """An Arrow string array as a pandas string column, without touching the values."""
    return pd.Series(pd.array(values, dtype="str"))


def uuids(stream: np.random.Generator, count: int) -> "pd.Series[str]":
    """``count`` version 4 UUIDs as text, drawn from ``stream``."""
    raw = np.frombuffer(stream.bytes(16 * count), np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    text = np.full((count, 36), ord("-"), np.uint8)
    text[:, _HEX_PLACES[0::2]] = _HEX[raw >> 4]
    text[:, _HEX_PLACES[1::2]] = _HEX[raw & 0x0F]
    ends = pa.array(np.arange(0, 36 * (count + 1), 36, dtype=np.int64)).buffers()[1]
    return text_column(pa.Array.from_buffers(pa.large_string(), count, [None, ends, pa.py_buffer(text)]))
