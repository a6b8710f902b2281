"""A simulated shop that works with the program: agents of a world that follow what they are told, and the people who review them.

The world says what each agent makes and what each person says of it. Following one recommendation of each agent then truly does
something: one makes people approve what they would not have, one makes them reject what they would have approved, one does
nothing; nor does anything else that is recommended. So what would have happened without learning is known of every output.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pandas as pd

from feedback_pipeline.schemas.improvements import Recommendation
from feedback_pipeline.sdk import LearningClient, LearningEnhancedAgent, current_recording, guidance
from feedback_pipeline.sdk.results import AppliedImprovement, LearningApplied
from feedback_pipeline.simulation.rows import Rows
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate

HELPS: Final = "helps"
USELESS: Final = "useless"
HARMS: Final = "harms"
SWAYED: Final = 0.6
"""Share of the outputs, drawn once, whose review a recommendation that does something can turn."""
_TURNED_TO: Final = {HELPS: "approve", HARMS: "reject"}
# A forecast is asked for each combination of categories: few, so that they are asked in seconds.
_BRIEF: Final = ("topic", "keywords", "tone")
_PEOPLE_AT_ONCE: Final = 4

Trial = tuple[str, int]
"""Id of a recommendation and number of its trial."""


@dataclass(frozen=True)
class Output:
    """What an agent will make, whatever it is told.

    Attributes:
        execution_id: Names it.
        agent_name: Who makes it.
        brief: What it is made from.
        document: What it is.
        decisions: On the way to it, as arguments of `Recording.decision`.
        performance: Its row of agent_performance.
        reviews: As arguments of `LearningClient.submit_review`, as people give them where nothing was learned; in order.
        swayed: Whether its review can be turned.
    """

    execution_id: str
    agent_name: str
    brief: dict[str, Any]
    document: dict[str, Any]
    decisions: list[dict[str, Any]]
    performance: Mapping[str, Any]
    reviews: list[dict[str, Any]]
    swayed: bool


def outputs_of(spec: WorldSpec) -> dict[str, list[Output]]:
    """The outputs of every agent of a world, by agent."""
    world = simulate(spec)
    rows, size = Rows(world), len(world.executions)
    frames = rows.of_outputs(0, size)
    decisions = _grouped(frames["agent_decisions"], "performance_id")
    reviews = _grouped(rows.of_reviews(0, len(world.reviews)), "workflow_id")
    swayed = spec.generator("swayed").random(size) < SWAYED
    found: dict[str, list[Output]] = defaultdict(list)
    records = zip(
        _records(frames["agent_performance"]), _records(frames["content_review_workflows"]), swayed.tolist(), strict=True
    )
    for performance, workflow, sways in records:
        own, name = decisions[performance["id"]], str(performance["agent_name"])
        found[name].append(
            Output(
                execution_id=performance["execution_id"],
                agent_name=name,
                brief={name: value for name, value in json.loads(own[-1]["input_data"]).items() if name in _BRIEF},
                document=json.loads(own[-1]["output_data"]),
                decisions=[_decision(row) for row in own],
                performance=performance,
                reviews=[_review(row) for row in reviews[workflow["id"]]],
                swayed=sways,
            )
        )
    return found


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    return ({str(name): value for name, value in row.items()} for row in frame.to_dict("records"))


def _grouped(frame: pd.DataFrame, key: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _records(frame):
        found[row[key]].append(row)
    return found


def _decision(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "point": row["decision_point"],
        "confidence": row["confidence_score"],
        "reasoning": row["reasoning"],
        "alternatives": json.loads(row["alternatives_considered"]),
    }


def _review(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "client_id": row["id"],
        **{name: row[name] for name in ("reviewer_id", "stage", "decision", "comments")},
        "quality_scores": json.loads(row["quality_scores"]),
    }


class Writer(LearningEnhancedAgent):
    """An agent: it makes the next output of the world and notes what it was told to do.

    Args:
        agent_name: Who it is.
        client: Its way to the service.
    """

    def __init__(self, agent_name: str, client: LearningClient) -> None:
        self.agent_name, self.learning_client = agent_name, client
        self.told: dict[str, set[str]] = {}

    def execute(self, brief: dict[str, Any], output: Output) -> dict[str, Any]:
        recording, performance = current_recording(), output.performance
        assert recording is not None
        for decision in output.decisions:
            recording.decision(**decision)
        if pd.notna(performance["cost"]):
            recording.tokens(input=int(performance["input_tokens"]), output=int(performance["output_tokens"]))
            recording.cost(float(performance["cost"]))
        recording.features(**json.loads(performance["metadata"])["features"])
        self.told[recording.execution_id] = set(guidance(brief).get("instructions", ()))
        return output.document


@dataclass
class Shop:
    """What the agents and the people have done; the books that the program's are held against.

    Attributes:
        roles: What following each agent's recommendation does, with that recommendation.
        assigned: By trial, each execution that was assigned and whether it applied the recommendation.
        given: Every decision that was handed in, by id of its review.
        approved: Whether each output was approved, by execution.
        would_be: The same where nothing had been learned.
    """

    roles: dict[str, tuple[str, Recommendation]] = field(default_factory=dict)
    assigned: dict[Trial, dict[str, bool]] = field(default_factory=lambda: defaultdict(dict))
    given: dict[str, str] = field(default_factory=dict)
    approved: dict[str, bool] = field(default_factory=dict)
    would_be: dict[str, bool] = field(default_factory=dict)
    _told: dict[str, set[str]] = field(default_factory=dict)

    def work(self, client: LearningClient, outputs: Iterable[Output]) -> None:
        """The agents make these outputs; when this returns the service has all of it."""
        writers: dict[str, Writer] = {}
        for output in outputs:
            writer = writers.setdefault(output.agent_name, Writer(output.agent_name, client))
            made = writer.execute_with_learning(output.brief, output, execution_id=output.execution_id)
            self._note(LearningApplied.model_validate(made["metadata"]["learning_applied"]), writer.told[output.execution_id])
        left = client.flush(60)
        assert (left.pending, left.refused) == (0, 0), left

    def _note(self, account: LearningApplied, told: set[str]) -> None:
        assert {one.description for one in account.improvements_applied} == told, "it is told what is applied, and nothing else"
        self._told[account.execution_id] = told
        for applied, chosen in ((True, account.improvements_applied), (False, account.held_out)):
            for one in chosen:
                self.assigned[_trial(one)][account.execution_id] = applied

    def review(self, client: LearningClient, outputs: Iterable[Output]) -> None:
        """People say what they think of these outputs, some at a time."""
        with ThreadPoolExecutor(_PEOPLE_AT_ONCE) as people:
            for _ in people.map(partial(self._review, client), outputs):
                pass  # what fails is raised here

    def _review(self, client: LearningClient, output: Output) -> None:
        last: dict[tuple[str, str], tuple[str, str]] = {}
        for review in output.reviews:
            decision = self._decided(output, review["decision"])
            receipt = client.submit_review(output.execution_id, **review | {"decision": decision})
            assert receipt.delivered, receipt.reason
            self.given[review["client_id"]] = decision
            last[review["reviewer_id"], review["stage"]] = (decision, review["decision"])
        self.approved[output.execution_id] = _approves(now for now, _ in last.values())
        self.would_be[output.execution_id] = _approves(before for _, before in last.values())

    def _decided(self, output: Output, decision: str) -> str:
        if output.agent_name not in self.roles or not output.swayed:
            return decision
        role, recommendation = self.roles[output.agent_name]
        return _TURNED_TO.get(role, decision) if recommendation.text in self._told[output.execution_id] else decision


def _trial(one: AppliedImprovement) -> Trial:
    return one.pattern_id, one.trial


def _approves(decisions: Iterable[str]) -> bool:
    """Of the latest decision of each person at each stage, more than half."""
    found = [decision == "approve" for decision in decisions]
    return 2 * sum(found) > len(found)
