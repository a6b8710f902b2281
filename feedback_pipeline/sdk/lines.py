"""Records as lines of the spool, and lines as batches of records."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from feedback_pipeline.errors import UserError
from feedback_pipeline.schemas.executions import MAX_BATCH
from feedback_pipeline.sdk.encoding import MODELS, REVIEWS, encoded

Finish = Callable[[], Mapping[str, Any]]
"""Makes the fields of a record, in the background."""

BATCH_BYTES: Final = 4 * 2**20
NO_RECORD: Final = ""
"""The kind of a line that is no record of this version."""

_LINE: Final = re.compile(rb'\{"(%s)":(\{.*\})\}' % "|".join(MODELS).encode(), re.DOTALL)


@dataclass(frozen=True)
class Unfit:
    """A record that can never be stored.

    Attributes:
        reason: Why.
        left: What can be shown of it.
    """

    reason: str
    left: str


def line_of(kind: str, finish: Finish) -> bytes | Unfit:
    """A record as a line; whatever the objects in it do, this returns."""
    fields: Mapping[str, Any] = {}
    try:
        fields = finish()
        return spooled(kind, encoded(kind, fields))
    except UserError as error:
        return Unfit(str(error), _shown(fields))
    except Exception as error:  # noqa: BLE001 - the record holds objects of the agent, whose methods may do anything
        return Unfit(f"it holds an object that fails ({type(error).__name__})", _shown(fields))


def _shown(fields: Mapping[str, Any]) -> str:
    try:
        return repr(dict(fields))
    except Exception:  # noqa: BLE001 - such an object may fail here too
        named = fields.get("execution_id")
        return named if isinstance(named, str) else "it cannot be shown"


def spooled(kind: str, raw: bytes) -> bytes:
    """One line of the spool: the record under its kind."""
    return b'{"%s":%s}' % (kind.encode(), raw)


def unspooled(line: bytes) -> tuple[str, bytes]:
    """The kind and the record of a line of the spool, which is not parsed for that; `NO_RECORD` and the line if it is none."""
    found = _LINE.fullmatch(line)
    return (found[1].decode(), found[2]) if found else (NO_RECORD, line)


def in_order(lines: Sequence[bytes]) -> list[bytes]:
    """Kind by kind, so that batches are full, each kind in the order given; reviews last, since they need their execution."""
    kinds = [unspooled(line)[0] for line in lines]
    places = sorted(range(len(lines)), key=lambda place: (kinds[place] == REVIEWS, kinds[place]))
    return [lines[place] for place in places]


def batches(lines: Sequence[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Records of one kind that follow each other, as many as the service takes at once."""
    kind, own, size = "", list[bytes](), 0
    for line in lines:
        its, raw = unspooled(line)
        if own and (its != kind or len(own) == MAX_BATCH or size + len(raw) > BATCH_BYTES):
            yield kind, own
            own, size = [], 0
        kind, size = its, size + len(raw) + 1
        own.append(raw)
    if own:
        yield kind, own
