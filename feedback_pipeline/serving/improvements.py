"""What an agent can apply, as the bytes that are sent: read anew when anything changed that it is read from."""

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from feedback_pipeline.serving.connections import Connections
from feedback_pipeline.storage.reading_patterns import read_improvements
from feedback_pipeline.storage.reading_provenance import improvements_state, read_provenance

_MOST_KEPT: Final = 500


@dataclass(frozen=True)
class Sent:
    """An answer: its tag, and its bytes."""

    etag: str
    body: bytes


class ImprovementsCache:
    """The answers that were sent last, by agent.

    Args:
        connections: To the database.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._sent: OrderedDict[str, Sent] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, agent_name: str) -> Sent:
        """The answer of this moment.

        Raises:
            NothingLearned: there was no learning run yet.
            NotFound: the agent is not known.
            UserError: it is `*`.
            Overloaded: no connection was free in time.
        """
        with self._connections.snapshot(published=True) as snapshot:
            state = improvements_state(snapshot.connection, agent_name)
            etag = _tag(agent_name, state)
            kept = self._sent.get(agent_name)
            if kept is not None and kept.etag == etag:
                return kept
            document = read_improvements(snapshot, agent_name) | {"provenance": read_provenance(snapshot.connection)}
        sent = Sent(etag, json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
        with self._lock:
            self._sent[agent_name] = sent
            self._sent.move_to_end(agent_name)
            while len(self._sent) > _MOST_KEPT:
                self._sent.popitem(last=False)
        return sent


def _tag(agent_name: str, state: str) -> str:
    digest = hashlib.blake2b(json.dumps([agent_name, state]).encode(), digest_size=16).hexdigest()
    return f'"{digest}"'
