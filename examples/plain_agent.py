"""A plain Python agent that applies what reviews have taught.

feedback-pipeline up            # in another terminal; or FEEDBACK_API_URL names a service
python examples/plain_agent.py
"""

from typing import Any

from feedback_pipeline.sdk import LearningClient, LearningEnhancedAgent, current_recording, guidance

SENTENCE = "Our new kettle boils a litre in two minutes."


class Writer:
    """An agent as it was before: it takes a brief and returns a text."""

    agent_name = "plain_writer"

    def execute(self, brief: dict[str, Any]) -> dict[str, Any]:
        """Write about the topic, as long and in the tone that was learned."""
        learned = guidance(brief)
        words = learned.get("ranges", {}).get("word_count", {}).get("min") or 40
        opening = "Dear friends," if brief.get("tone") == "warm" else "Dear customers,"
        sentences = max(int(words) // len(SENTENCE.split()), 1)
        recording = current_recording()
        if recording is not None:
            recording.decision("draft", confidence=0.8, reasoning=f"{sentences} sentences on {brief['topic']}")
            recording.tokens(input=120, output=12 * sentences)
            recording.cost(0.002)
        return {"content": " ".join([opening, *[SENTENCE] * sentences])}


class LearningWriter(LearningEnhancedAgent, Writer):
    """The same agent; the mix-in stands before its class."""

    def __init__(self, client: LearningClient) -> None:
        self.learning_client = client


def main() -> dict[str, Any]:
    """Write once, hand in a review of it, and return the result with the account of what was applied."""
    with LearningClient() as client:
        writer = LearningWriter(client)
        result: dict[str, Any] = writer.execute_with_learning({"topic": "kettles", "keywords": ["kettle"]})
        account = result["metadata"]["learning_applied"]
        client.submit_review(
            account["execution_id"],
            reviewer_id="ana",
            stage="quality_check",
            decision="approve",
            quality_scores={"content_quality": 8},
        )
    return result


if __name__ == "__main__":
    made = main()
    print(made["content"])
    for name in ("improvements_applied", "held_out", "skipped"):
        for each in made["metadata"]["learning_applied"][name]:
            print(f"{name}: {each.get('description') or each['reason']}")
