"""A real API process, and a stand-in for the service where a test is about the client alone."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3

from feedback_pipeline.sdk import Bounds, ClientOptions
from feedback_pipeline.sdk.encoding import REVIEWS
from feedback_pipeline.sdk.transport import Acknowledgement, BatchTooLarge, Document, Fetched, ForecastQuery, Unacceptable
from feedback_pipeline.storage.database import Database

WITH_THE_API = [pytest.mark.slow, pytest.mark.xdist_group("sdk")]
PROMPT = ClientOptions(max_age_seconds=0.0, retry_seconds=0.0, outbox=Bounds(batch_seconds=0.0, sync=False))
"""Nothing is kept, waited for or flushed to a disk longer than needed."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Api:
    """The API as a process of its own, which can be killed and started again at the same address."""

    database: Database
    home: Path
    variables: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        own = {"FEEDBACK_DATABASE_URL": self.database.url, "FEEDBACK_API_PORT": str(self.port), "FEEDBACK_HOME": str(self.home)}
        command = [sys.executable, "-m", "feedback_pipeline.serving"]
        self.process = subprocess.Popen(command, env=os.environ | own | self.variables, stdout=subprocess.DEVNULL)

    def wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                urllib3.request("GET", f"{self.url}/health", retries=False, timeout=1.0)
            except urllib3.exceptions.HTTPError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the API did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_api(database: Database, home: Path, **variables: str) -> Iterator[Api]:
    api = Api(database, home, variables)
    api.start()
    try:
        api.wait()
        yield api
    finally:
        api.kill()


@dataclass
class StandIn:
    """A transport that keeps what it is sent, as the service would: once by id."""

    identity: str = "stand-in"
    received: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: list[tuple[str, int]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """Raised one after the other; a record is then neither known nor lost."""
    bad: frozenset[str] = frozenset()
    """Executions that spoil their whole batch."""
    refused: frozenset[str] = frozenset()
    """Executions that are refused alone."""
    early: frozenset[str] = frozenset()
    """Executions that are not known yet: reviews of them may come later."""
    most: int = 500
    """So many records are let pass at once."""
    too_large: frozenset[str] = frozenset()
    """Executions whose batch is not let pass."""

    def send(self, kind: str, items: Sequence[bytes]) -> Acknowledgement:
        self.batches.append((kind, len(items)))
        if self.failures:
            raise self.failures.pop(0)
        documents = [json.loads(item) for item in items]
        names = [each["execution_id"] for each in documents]
        if len(items) > self.most or self.too_large.intersection(names):
            raise BatchTooLarge("a proxy takes less")
        if self.bad.intersection(names):
            raise Unacceptable("it spoils the batch")
        refused = [(place, "no such thing") for place, name in enumerate(names) if name in self.refused]
        early, seen = set[int](), set[str]()
        for place, each in enumerate(documents):
            # As the service does: of the same item twice in a batch the first is refused, the second known.
            if kind == REVIEWS and each["execution_id"] in self.early and each["client_id"] not in seen:
                early.add(place)
                seen.add(each["client_id"])
        refused += [(place, "too early") for place in sorted(early)]
        fresh = 0
        for place, each in enumerate(documents):
            key = str(each.get("client_id") or each["application_id"])
            if place not in dict(refused) and key not in self.received and key not in seen:
                self.received[key], fresh = each, fresh + 1
        return Acknowledgement(fresh, len(items) - fresh - len(refused), refused, frozenset(early))

    @property
    def executions(self) -> list[str]:
        return [each["execution_id"] for each in self.received.values()]

    def improvements(self, agent_name: str, etag: str | None) -> Fetched:
        raise NotImplementedError

    def forecast(self, query: ForecastQuery) -> Document:
        raise NotImplementedError

    def learn(self, agent_name: str) -> Document:
        raise NotImplementedError

    def run(self, run_id: str) -> Document:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""
