"""The loop closes, through the real processes: SDK -> API -> database -> sensor -> Dagster -> improvements -> SDK.

`benchmarks.shop_effects` has the same shop on the learning code alone: 400 seeds, effects of .10, thousands of executions each.
"""

import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import urllib3

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.schemas.improvements import Recommendation
from feedback_pipeline.sdk import Bounds, ClientOptions, LearningClient
from feedback_pipeline.sdk.http_transport import PREFIX
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline_tests.shop import HARMS, HELPS, USELESS, Output, Shop, Trial, outputs_of
from reliability.service import Service, environment

T = TypeVar("T")

# What following the best recommendation of each agent does.
ROLES: Final = (HARMS, USELESS, HELPS)
# Executions of each agent: before anything is learned, with everything on probation, and afterwards.
HISTORY: Final = 200
PROBATION: Final = {HELPS: 380, USELESS: 70, HARMS: 280}
AFTERWARDS: Final = {HELPS: 50, USELESS: 15, HARMS: 50}
# People without tastes of their own, so that few reviews teach enough.
WORLD: Final = WorldSpec(agents=3, executions=640, reviewers=20, seed=9, tastes=False, best_length=False, reviews_per_content=0.0)
# A pass starts soon, and not before all of a part has been handed in: a retired trial is not measured again.
EAGER: Final = {
    "FEEDBACK_LEARN_THRESHOLD": "1",
    "FEEDBACK_QUIET_SECONDS": "4",
    "FEEDBACK_LONGEST_WAIT_SECONDS": "120",
    "FEEDBACK_SENSOR_SECONDS": "5",
    "FEEDBACK_RETRY_PAUSE_SECONDS": "2",
    # Models are kept in MLflow all the same; its web UI has no part in this, and takes half a minute of a core to start.
    "FEEDBACK_MLFLOW_URL": "http://127.0.0.1:1",
}
# The first forecast waits until the model is loaded.
OPTIONS: Final = ClientOptions(timeout_seconds=60.0, outbox=Bounds(sync=False))
PATIENCE_S: Final = 240.0
POLL_S: Final = 0.25


@dataclass(frozen=True)
class Served:
    """One installation as `feedback-pipeline up` serves it."""

    home: Path
    url: str
    log: Path

    @contextmanager
    def client(self) -> Iterator[LearningClient]:
        """Of an agent that has just started: it keeps nothing from before."""
        spool = tempfile.mkdtemp(dir=self.home, prefix="spool-")
        with LearningClient(self.url, spool=spool, options=OPTIONS) as client:
            yield client

    def advice(self, agent: str) -> dict[str, Recommendation]:
        with self.client() as client:
            return {one.id: one for one in client.improvements(agent).recommendations}

    def ask(self, path: str) -> dict[str, Any]:
        answer = urllib3.request("GET", f"{self.url}{PREFIX}/{path}", retries=False, timeout=30.0)
        assert answer.status == 200, answer.data
        found: dict[str, Any] = answer.json()
        return found

    def eventually(self, look: Callable[[], T | None], what: str) -> T:
        """What is looked for, once it is there."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := look()) is None:
            log = self.log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, f"{what} within {PATIENCE_S:g} s; the end of the log of `up`:\n{log}"
            time.sleep(POLL_S)
        return found

    def await_ready(self) -> None:
        def ready() -> bool | None:
            try:
                return urllib3.request("GET", f"{self.url}/ready", retries=False, timeout=5.0).status == 200 or None
            except urllib3.exceptions.HTTPError:
                return None

        self.eventually(ready, "the API was not ready")

    def await_learned(self, client: LearningClient, after: str | None) -> str:
        """The next learning run after that one that leaves no review waiting, once its run in Dagster has ended well."""

        def learned() -> str | None:
            status = self.ask("agents")
            run = status["last_run"]
            if run is None or run["learning_run_id"] == after or any(agent["pending"] for agent in status["agents"]):
                return None
            try:
                state = client.run(run["dagster_run_id"]).status
            except StoreUnavailable:
                return None  # the web server of Dagster is still starting, or busy
            assert state in ("queued", "running", "done"), run
            return str(run["learning_run_id"]) if state == "done" else None

        return self.eventually(learned, "not everything that was handed in was learned, by itself,")


@contextmanager
def up(home: Path) -> Iterator[Served]:
    home.mkdir()
    names = ("FEEDBACK_API_PORT", "FEEDBACK_DAGSTER_PORT")
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in names]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = {name: str(probe.getsockname()[1]) for name, probe in zip(names, probes, strict=True)}
    with Service(home, environment(home, **ports, **EAGER)) as service:
        served = Served(home, f"http://127.0.0.1:{ports['FEEDBACK_API_PORT']}", service.log)
        served.await_ready()
        yield served


@dataclass(frozen=True)
class Parts:
    """The outputs in the order in which they are made."""

    history: list[Output]
    probation: list[Output]
    afterwards: list[Output]

    @classmethod
    def of(cls, outputs: dict[str, list[Output]], roles: dict[str, str]) -> "Parts":
        """Each agent makes so many as the role of its recommendation needs."""
        parts: tuple[list[Output], ...] = ([], [], [])
        for agent, own in outputs.items():
            ends = accumulate((HISTORY, PROBATION[roles[agent]], AFTERWARDS[roles[agent]]), initial=0)
            for part, (first, last) in zip(parts, pairwise(ends), strict=True):
                part.extend(own[first:last])
        return cls(*parts)

    @property
    def all(self) -> list[Output]:
        return [*self.history, *self.probation, *self.afterwards]


def on_trial(served: Served, agent: str) -> Recommendation:
    """The most certain recommendation that rests on scores: a cut in approval may move, and then another trial takes over."""
    found = served.advice(agent).values()
    assert {(one.trial.state, one.trial.p_on) for one in found} == {("probation", 0.5)}, found
    of_scores = [one for one in found if one.expected_effect and one.expected_effect["unit"] == "points"]
    return min(of_scores, key=lambda one: 1.0 if one.q_value is None else one.q_value)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ends the processes it finds in /proc")
def test_what_helps_is_kept_and_what_harms_is_taken_back(tmp_path: Path) -> None:
    outputs = outputs_of(WORLD)
    agents = dict(zip(ROLES, outputs, strict=True))
    parts = Parts.of(outputs, {agent: role for role, agent in agents.items()})
    shop = Shop()
    with up(tmp_path / "home") as served:
        run = through_the_loop(served, shop, parts.history, after=None)
        assert not shop.assigned
        cast = {role: on_trial(served, agent) for role, agent in agents.items()}
        shop.roles = {agents[role]: (role, one) for role, one in cast.items()}

        run = through_the_loop(served, shop, parts.probation, after=run)
        assert served.advice(agents[HELPS])[cast[HELPS].id].trial.p_on == 0.8
        assert cast[HARMS].id not in served.advice(agents[HARMS])

        through_the_loop(served, shop, parts.afterwards, after=run)
        assert cast[HELPS].id in served.advice(agents[HELPS])
        assert cast[HARMS].id not in served.advice(agents[HARMS])
        trials = {(one["pattern_id"], one["trial"]): one for one in served.ask("effectiveness?limit=1000")["trials"]}
        with EmbeddedPostgres(served.home).hold() as database:
            nothing_is_lost_or_doubled(database, shop, parts.all)
    effects_are_as_planted({role: trials[one.id, one.trial.trial] for role, one in cast.items()}, trials)
    books_agree(trials, shop, {one.id for one in cast.values()})
    last = [output.execution_id for output in parts.afterwards]
    # The same outputs before the same people, who were as easily swayed.
    assert sum(shop.approved[one] for one in last) > sum(shop.would_be[one] for one in last)


def through_the_loop(served: Served, shop: Shop, outputs: list[Output], after: str | None) -> str:
    """Agents work, people review, and the program learns from that by itself: nobody asks for it."""
    with served.client() as client:
        shop.work(client, outputs)
        shop.review(client, outputs)
        run = served.await_learned(client, after)
        assert client.outstanding.refused == 0
        return run


# True uplifts are -.40, 0 and +.33, since time is short here: +.10 takes some 640 executions in the median to be shown, and 3,000
# to be sure of. What is asserted of effects holds for 99.9 % of all salts: of 20,000 drawn at random, with the outputs of this
# world and `effectiveness.measure`, 7 decide otherwise, all of which keep what is useless.
def effects_are_as_planted(cast: dict[str, dict[str, Any]], trials: dict[Trial, dict[str, Any]]) -> None:
    assert (cast[HELPS]["state"], cast[HELPS]["p_on"]) == ("active", 0.8)
    assert cast[HELPS]["low"] > 0
    assert (cast[HARMS]["state"], cast[HARMS]["p_on"]) == ("retired", 0)
    assert cast[HARMS]["high"] < 0.02
    assert cast[USELESS]["n"] >= 60
    assert cast[USELESS]["state"] != "active"
    # Nor does anything else do anything that was recommended on the way.
    kept = [one["text"] for one in trials.values() if one["state"] == "active" and one is not cast[HELPS]]
    assert len(kept) <= 2, kept


def books_agree(trials: dict[Trial, dict[str, Any]], shop: Shop, cast: set[str]) -> None:
    """The program has measured what the agents recorded and the people decided, each execution once."""
    assert set(shop.assigned) <= set(trials)
    for key, one in trials.items():
        # What another target has overtaken is not measured any more.
        if one["state"] == "retired" and one["pattern_id"] not in cast:
            continue
        sides = {side: [shop.approved[name] for name, on in shop.assigned[key].items() if on == side] for side in (True, False)}
        assert (one["n_applied"], one["n_held_out"], one["n_waiting"]) == (len(sides[True]), len(sides[False]), 0), one
        for side, rate in ((True, one["success_rate"]), (False, one["success_rate_held_out"])):
            assert rate == (pytest.approx(sum(sides[side]) / len(sides[side])) if sides[side] else None)


def nothing_is_lost_or_doubled(database: Database, shop: Shop, outputs: list[Output]) -> None:
    """The rows are those that were sent, one by one."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        with database.connect() as connection:
            return sorted(connection.execute(query.encode()).fetchall())

    assert rows("SELECT agent_name, execution_id, status FROM agent_performance") == sorted(
        (output.agent_name, output.execution_id, "success") for output in outputs
    )
    assert rows("SELECT count(*) FROM agent_decisions") == [(sum(len(output.decisions) for output in outputs),)]
    assert rows("SELECT workflow_execution_id FROM content_review_workflows") == sorted((one.execution_id,) for one in outputs)
    assert rows("SELECT id::text, decision::text FROM review_feedback") == sorted(shop.given.items())
    assert rows("SELECT pattern_id, trial, execution_id, applied FROM learning_applications") == sorted(
        (*trial, execution, applied) for trial, own in shop.assigned.items() for execution, applied in own.items()
    )
    # The first pass has trained a model: every outcome was forecast before it was known.
    assert rows("SELECT count(*) FROM learning_applications WHERE predicted_quality IS NULL") == [(0,)]
    assert rows("SELECT count(*) FROM rejected_feedback") == [(0,)]
