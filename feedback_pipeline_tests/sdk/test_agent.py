"""The mix-in around agents of every shape, and the two worked examples, against the real service."""

import asyncio
import importlib.util
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.schemas.improvements import Recommendation
from feedback_pipeline.sdk import (
    HANDLERS,
    AsyncLearningClient,
    LearningClient,
    LearningEnhancedAgent,
    Skip,
    current_recording,
    guidance,
)
from feedback_pipeline.sdk.agent import LearnedResult
from feedback_pipeline.sdk.handlers import Handler, Input
from feedback_pipeline.storage.database import Database
from feedback_pipeline_tests.sdk.service import PROMPT, WITH_THE_API, Api
from feedback_pipeline_tests.sdk.test_client import AGENT, rows

pytestmark = WITH_THE_API
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass
class Metadata:
    name: str


@dataclass
class Result:
    content: str
    metadata: dict[str, Any] | None = None


class Base:
    """An agent as the guide has it: named by its metadata, with a context beside the input."""

    def __init__(self, name: str = AGENT) -> None:
        self.metadata = Metadata(name)
        self.seen: list[Any] = []

    def execute(self, input_data: Any, context: str | None = None) -> Any:
        self.seen.append(input_data)
        recording = current_recording()
        if recording is not None:
            recording.decision("draft", confidence=0.5)
        return Result(f"Tea, {context}.")


class Enhanced(LearningEnhancedAgent, Base):
    def __init__(self, client: LearningClient | AsyncLearningClient, name: str = AGENT) -> None:
        super().__init__(name)
        self.learning_client = client


class Awaited(Enhanced):
    async def execute(self, input_data: Any, context: str | None = None) -> Any:
        await asyncio.sleep(0)
        return super().execute(input_data, context)


def check(agent: Enhanced, result: Result, name: str, published: Database) -> None:
    assert result.content == "Tea, now."
    assert result.metadata is not None
    account = result.metadata["learning_applied"]
    assert account["execution_id"] == name
    drawn = [*account["improvements_applied"], *account["held_out"]]
    assert {each["improvement_type"] for each in drawn} == {"set_threshold"}
    assert account["total_patterns_considered"] == 4
    assert not account["stale"]
    assert set(guidance(agent.seen[-1])) == ({"thresholds", "instructions"} if account["improvements_applied"] else set())
    agent_client = agent.learning_client
    (agent_client.sync if isinstance(agent_client, AsyncLearningClient) else agent_client).flush()
    stored = rows(
        published,
        "SELECT p.agent_name, p.status, d.decision_point, d.input_data, d.output_data FROM agent_performance p"
        " JOIN agent_decisions d ON d.performance_id = p.id WHERE p.execution_id = %s",
        name,
    )
    # The guidance is no part of the input that is recorded.
    assert stored == [(AGENT, "success", "draft", {"topic": "tea"}, {"content": "Tea, now."})]
    applied = rows(published, "SELECT pattern_id, applied FROM learning_applications WHERE execution_id = %s", name)
    expected = [(each["pattern_id"], each in account["improvements_applied"]) for each in drawn]
    assert sorted(applied) == sorted(expected)


def test_an_agent_executes_with_what_it_has_learned(client: LearningClient, published: Database) -> None:
    agent = Enhanced(client)
    assert agent.load_learned_improvements().agent_name == AGENT
    for _ in range(4):
        name = uuid.uuid4().hex
        check(agent, agent.execute_with_learning({"topic": "tea"}, "now", execution_id=name), name, published)


def test_an_awaited_agent_executes_with_what_it_has_learned(url: str, tmp_path: Path, published: Database) -> None:
    async def work() -> tuple[Awaited, Result, str]:
        async with AsyncLearningClient(url, spool=tmp_path, options=PROMPT) as client:
            agent, name = Awaited(client), uuid.uuid4().hex
            assert (await agent.load_learned_improvements()).agent_name == AGENT
            applied = await agent.apply_learned_improvements({"topic": "tea"})
            assert applied.learning_applied.execution_id
            result = await agent.execute_with_learning({"topic": "tea"}, context="now", execution_id=name)
            check(agent, result, name, published)
            return agent, result, name

    asyncio.run(work())


@pytest.mark.parametrize(
    ("returned", "output"),
    [("Tea.", {"content": "Tea."}), ({"content": "Tea.", "metadata": {"a": 1}}, {"content": "Tea."}), (None, None), (7, None)],
)
def test_what_agents_return_keeps_its_shape(client: LearningClient, published: Database, returned: Any, output: Any) -> None:
    class Plain(LearningEnhancedAgent):
        name = "plain"
        learning_client = client

        def execute(self, text: str) -> Any:
            return returned

    result = Plain().execute_with_learning("Write about tea.")
    if isinstance(returned, dict):
        assert {key: value for key, value in result.items() if key != "metadata"} == {"content": "Tea."}
        account, kept = result["metadata"]["learning_applied"], result["metadata"]["a"]
        assert (kept, returned["metadata"]) == (1, {"a": 1})
    else:
        assert isinstance(result, LearnedResult)
        assert result.output == returned
        account = result.metadata["learning_applied"]
    assert account["stale_reason"]  # nobody has learned from this agent
    client.flush()
    query = (
        "SELECT d.output_data FROM agent_performance p LEFT JOIN agent_decisions d ON d.performance_id = p.id"
        " WHERE p.execution_id = %s"
    )
    assert rows(published, query, account["execution_id"]) == [(output,)]


def test_handlers_and_forecasts_of_the_agent_are_used(client: LearningClient, published: Database) -> None:
    def configure(one: Recommendation, given: Input) -> Input | Skip:
        return {**given, "least": one.action["min"]}

    class Own(Enhanced):
        learning_handlers: Mapping[str, Handler] = {**HANDLERS, "set_threshold": configure}
        records_executions = False

        def predicted_quality(self, input_data: Any) -> float:
            return 0.25

    agent, names = Own(client), [uuid.uuid4().hex for _ in range(60)]
    for name in names:
        account = agent.execute_with_learning({"topic": "tea"}, execution_id=name).metadata["learning_applied"]
        assert ("least" in agent.seen[-1]) == bool(account["improvements_applied"])
    assert {"least" in each for each in agent.seen} == {True, False}
    client.flush()
    predicted = rows(
        published, "SELECT DISTINCT predicted_quality FROM learning_applications WHERE execution_id = ANY(%s)", names
    )
    assert predicted == [(0.25,)]
    assert rows(published, "SELECT FROM agent_performance WHERE execution_id = ANY(%s)", names) == []


def test_an_agent_that_fails_fails_as_before_and_is_recorded(client: LearningClient, published: Database) -> None:
    class Failing(Enhanced):
        def execute(self, input_data: Any, context: str | None = None) -> Any:
            raise LookupError("no model")

    name = uuid.uuid4().hex
    with pytest.raises(LookupError):
        Failing(client).execute_with_learning({}, execution_id=name)
    assert current_recording() is None
    client.flush()
    assert rows(published, "SELECT status FROM agent_performance WHERE execution_id = %s", name) == [("failed",)]


def test_what_is_missing_is_named(client: LearningClient) -> None:
    class Nameless(LearningEnhancedAgent):
        learning_client = client

        def execute(self, input_data: Any) -> Any:
            return input_data

    with pytest.raises(UserError, match="agent_name"):
        Nameless().execute_with_learning({})
    agent = Enhanced(client)
    del agent.learning_client
    with pytest.raises(UserError, match="learning_client"):
        agent.execute_with_learning({})


@pytest.fixture
def example(request: pytest.FixtureRequest, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A worked example as a module, with a service to talk to."""
    monkeypatch.setenv("FEEDBACK_API_URL", api.url)
    monkeypatch.setenv("FEEDBACK_SPOOL", str(tmp_path))
    spec = importlib.util.spec_from_file_location(request.param, EXAMPLES / f"{request.param}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[request.param] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[request.param]


@pytest.mark.parametrize("example", ["plain_agent", "langgraph_agent"], indirect=True)
def test_the_worked_examples_work(example: ModuleType, published: Database) -> None:
    made = example.main()
    result = asyncio.run(made) if asyncio.iscoroutine(made) else made
    account = result["metadata"]["learning_applied"]
    stored = rows(
        published,
        "SELECT p.status, d.output_data ->> 'content', d.confidence_score IS NOT NULL, count(r.id)"
        " FROM agent_performance p JOIN agent_decisions d ON d.performance_id = p.id"
        " JOIN content_review_workflows w ON w.workflow_execution_id = p.execution_id"
        " JOIN review_feedback r ON r.workflow_id = w.id WHERE p.execution_id = %s GROUP BY 1, 2, 3",
        account["execution_id"],
    )
    assert stored == [("success", result["content"], True, 1)]
