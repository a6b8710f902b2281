"""The rows of the four source tables for a slice of a world, built column by column."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from feedback_pipeline.simulation import phrases
from feedback_pipeline.simulation.articles import compose, draw_choices, title
from feedback_pipeline.simulation.judging import DECISIONS
from feedback_pipeline.simulation.names import agent_types, uuids
from feedback_pipeline.simulation.population import Ints
from feedback_pipeline.simulation.remarks import STARTS, alternatives, comments, issue_json, reasonings, score_json, suggestions
from feedback_pipeline.simulation.spec import ASPECTS, CHANNELS, CONTENT_TYPES, NULLS, TONES
from feedback_pipeline.simulation.world import World

_MODELS = ("writer-large", "writer-small")
_POINTS = ("draft", "plan", "revise")
_BEFORE_LAST = tuple(
    json.dumps(output)
    for output in (
        {"outline": ["Opening", "Main points", "Call to action"], "sections": 3},
        {"summary": "First version with all main points, wording still rough."},
        {"changes": ["tightened the opening", "moved details down"]},
    )
)


class Rows:
    """Rows of a world, one slice at a time; only ids and codes are kept for the whole world.

    Args:
        world: the simulated world.
    """

    def __init__(self, world: World) -> None:
        spec, outputs = world.spec, world.outputs
        self._world = world
        self._performance_ids = uuids(spec.generator("performance ids"), len(world.executions))
        self._workflow_ids = uuids(spec.generator("workflow ids"), len(world.executions))
        self._decision_ids = uuids(spec.generator("decision ids"), int(outputs.decisions.start[-1]))
        self._reasoning_starts = spec.generator("reasonings").integers(0, STARTS, len(self._decision_ids))
        self._choices = draw_choices(outputs, spec.generator("articles"))
        self._types = pd.array(agent_types(spec.agents), dtype="str")
        stream = spec.generator("remarks")
        self._picks = stream.integers(0, 1 << 20, len(world.reviews))
        self._sureness = np.round(stream.uniform(0.5, 1, len(world.reviews)), 2)

    def of_outputs(self, first: int, last: int) -> dict[str, pd.DataFrame]:
        """Rows of outputs ``first`` to before ``last``: a frame for each of the three tables about executions."""
        executions = self._world.executions.iloc[first:last]
        ended = executions["started_at"] + _milliseconds(executions["duration_ms"].to_numpy())
        performance = pd.DataFrame(
            {
                "id": self._performance_ids[first:last],
                "agent_name": executions["agent_name"],
                "agent_type": self._types.take(self._world.outputs.agent[first:last]),
                "execution_id": executions["execution_id"],
                "start_time": executions["started_at"],
                "end_time": ended,
                "duration": executions["duration_ms"],
                "status": "success",
                "input_tokens": executions["input_tokens"].astype("Int64"),
                "output_tokens": executions["output_tokens"].astype("Int64"),
                "cost": executions["cost"],
                "metadata": self._metadata(first, last),
            }
        )
        workflows = pd.DataFrame(
            {
                "id": self._workflow_ids[first:last],
                "content_id": executions["content_id"],
                "workflow_execution_id": executions["execution_id"],
                "created_at": ended,
            }
        )
        return {
            "agent_performance": performance,
            "agent_decisions": self._decisions(first, last),
            "content_review_workflows": workflows,
        }

    def of_reviews(self, first: int, last: int) -> pd.DataFrame:
        """Rows of review_feedback for reviews ``first`` to before ``last``."""
        reviews = self._world.reviews.iloc[first:last]
        scores = reviews[list(ASPECTS)].to_numpy()
        # Which aspects a comment is about; a missing score is neither the best nor the worst.
        best = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
        worst = np.where(np.isnan(scores), np.inf, scores).argmin(axis=1)
        decision = pd.Categorical(reviews["decision"], categories=list(DECISIONS)).codes.astype(np.int64)
        pick = self._picks[first:last]
        return pd.DataFrame(
            {
                "id": reviews["feedback_id"].array,
                "workflow_id": self._workflow_ids.array.take(self._world.review_output[first:last]),
                "content_id": reviews["content_id"].array,
                "reviewer_id": reviews["reviewer_id"].array,
                "stage": reviews["stage"].array,
                "decision": reviews["decision"].array,
                "comments": comments(decision, best, worst, pick),
                "reviewed_at": reviews["reviewed_at"].array,
                "feedback_categories": issue_json(decision, worst, pick),
                "quality_scores": score_json(scores),
                "improvement_suggestions": suggestions(decision, worst, pick),
                "feedback_confidence": self._sureness[first:last],
            }
        )

    def _metadata(self, first: int, last: int) -> list[str]:
        columns = [self._world.executions[name].iloc[first:last].tolist() for name in NULLS]
        models = [_MODELS[code % len(_MODELS)] for code in self._world.outputs.agent[first:last].tolist()]
        return [
            json.dumps({"model": model, "features": dict(zip(NULLS, values, strict=True))})
            for model, *values in zip(models, *columns, strict=True)
        ]

    def _decisions(self, first: int, last: int) -> pd.DataFrame:
        decisions = self._world.outputs.decisions
        begin, end = int(decisions.start[first]), int(decisions.start[last])
        count = np.diff(decisions.start[first : last + 1])
        output = np.repeat(np.arange(last - first), count)
        step = np.arange(begin, end) - np.repeat(decisions.start[first:last], count)
        is_last = step == np.repeat(count, count) - 1
        # One decision is a draft; two are plan and draft; every further one revises.
        point = np.where(np.repeat(count, count) == 1, 0, np.where(step == 0, 1, np.where(step == 1, 0, 2)))
        executions = self._world.executions.iloc[first:last]
        duration = executions["duration_ms"].to_numpy()[output]
        created = executions["started_at"].array.take(output) + _milliseconds(duration * (step + 1) / np.repeat(count, count))
        results = np.array(_BEFORE_LAST, dtype=object)[np.array([1, 0, 2])[point]]
        results[is_last] = self._articles(first, last)
        starts = self._reasoning_starts[begin:end]
        return pd.DataFrame(
            {
                "id": self._decision_ids.array[begin:end],
                "performance_id": self._performance_ids.array.take(output + first),
                "decision_point": pd.array(_POINTS, dtype="str").take(point),
                "input_data": self._briefs(first, last)[output],
                "output_data": results,
                "reasoning": reasonings(starts, decisions.reasoning_length[begin:end]),
                "confidence_score": decisions.confidence[begin:end],
                "alternatives_considered": alternatives(decisions.alternatives[begin:end], starts),
                "created_at": created,
            }
        )

    def _articles(self, first: int, last: int) -> list[str]:
        outputs, choices = self._world.outputs, self._choices.iloc[first:last]
        words = outputs.features["word_count"][first:last].astype(np.int64)
        texts = compose(choices, words, outputs.keyword_hits[first:last], outputs.features["readability"][first:last])
        titles = [title(topic, kind) for topic, kind in choices[["topic", "title"]].to_numpy().tolist()]
        return [json.dumps({"title": name, "content": text}) for name, text in zip(titles, texts, strict=True)]

    def _briefs(self, first: int, last: int) -> "np.ndarray[tuple[int], np.dtype[np.object_]]":
        outputs = self._world.outputs
        parts = np.column_stack(
            [self._choices["topic"], outputs.tone, outputs.content_type, outputs.channel],
        )[first:last]
        distinct, place = np.unique(parts, axis=0, return_inverse=True)
        return np.array([_brief(row) for row in distinct.tolist()], dtype=object)[place]


def _brief(codes: Sequence[int]) -> str:
    topic, tone, content_type, channel = codes
    subject, keywords = phrases.TOPICS[topic]
    kind = CONTENT_TYPES[content_type].replace("_", " ")
    return json.dumps(
        {
            "topic": subject,
            "brief": f"Write a {kind} about {subject} for the {CHANNELS[channel]} channel, in a tone that is {TONES[tone]}.",
            "tone": TONES[tone],
            "content_type": CONTENT_TYPES[content_type],
            "channel": CHANNELS[channel],
            "keywords": list(keywords),
        }
    )


def _milliseconds(values: "Ints | np.ndarray[tuple[int], np.dtype[np.float64]]") -> pd.TimedeltaIndex:
    return pd.TimedeltaIndex(np.rint(values * 1000).astype("timedelta64[us]"))
