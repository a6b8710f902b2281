"""A LangGraph graph that applies what reviews have taught: the mix-in around its `ainvoke`. No model and no network is needed.

python -m pip install langgraph
python examples/langgraph_agent.py
"""

import asyncio
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from feedback_pipeline.sdk import AsyncLearningClient, LearningEnhancedAgent, current_recording


class State(TypedDict, total=False):
    """What the nodes hand on; `learning` is the guidance, and `tone` may be set by it."""

    topic: str
    tone: str
    learning: dict[str, Any]
    outline: list[str]
    content: str


def outline(state: State) -> State:
    """Decide on the parts; where a model would be asked, the instructions would stand in its prompt."""
    parts = ["what it is", "what it costs", *state.get("learning", {}).get("instructions", [])]
    recording = current_recording()
    if recording is not None:
        recording.decision("outline", confidence=0.7, reasoning=f"{len(parts)} parts", alternatives=["one long text"])
    return {"outline": parts}


def draft(state: State) -> State:
    """Write the parts."""
    return {"content": " ".join(f"On {state['topic']}: {part}." for part in state["outline"])}


def build_graph() -> Any:
    """The graph, as it was before."""
    graph = StateGraph(State)
    graph.add_node("make_outline", outline)
    graph.add_node("make_draft", draft)
    graph.add_edge(START, "make_outline")
    graph.add_edge("make_outline", "make_draft")
    graph.add_edge("make_draft", END)
    return graph.compile()


class GraphWriter(LearningEnhancedAgent):
    """The graph as an agent with `execute`."""

    agent_name = "graph_writer"

    def __init__(self, client: AsyncLearningClient) -> None:
        self.learning_client = client
        self.graph = build_graph()

    async def execute(self, brief: dict[str, Any]) -> dict[str, Any]:
        """Run the graph."""
        state: dict[str, Any] = await self.graph.ainvoke(brief)
        return state

    def describe_result(self, result: Any) -> dict[str, Any]:
        """The text alone is the output; the rest of the state is how it came about."""
        return {"content": result["content"]}


async def main() -> dict[str, Any]:
    """Run the graph once, hand in a review, and return the state with the account of what was applied."""
    async with AsyncLearningClient() as client:
        result: dict[str, Any] = await GraphWriter(client).execute_with_learning({"topic": "kettles"})
        account = result["metadata"]["learning_applied"]
        await client.submit_review(account["execution_id"], reviewer_id="ben", decision="request_changes", comments="shorter")
    return result


if __name__ == "__main__":
    print(asyncio.run(main())["content"])
