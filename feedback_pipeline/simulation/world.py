"""Putting a world together: frames of executions and reviews, with the truth behind them."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.simulation import spec as model
from feedback_pipeline.simulation.judging import DECISIONS, assign_reviewers, decide, judge, personal_points
from feedback_pipeline.simulation.names import agent_names, reviewer_names, uuids
from feedback_pipeline.simulation.outputs import Outputs, draw_outputs
from feedback_pipeline.simulation.population import Agents, Floats, Ints, Reviewers, draw_agents, draw_reviewers
from feedback_pipeline.simulation.spec import WorldSpec

_DAY_SECONDS = 86_400
_TELEMETRY = ("input_tokens", "output_tokens", "cost")


@dataclass(frozen=True)
class World:
    """A simulated world.

    Attributes:
        spec: what it was made from.
        executions: agents x executions rows, one per output: agent_name, execution_id, content_id, started_at (UTC), the
            numeric features by their registry names (input_tokens, output_tokens and cost together missing in 3 % of the
            rows), two features that never matter (queue_wait_ms, cache_hit_share), tone, content_type, channel.
        reviews: one row per review in order of time, 2 % of them a second opinion of the same reviewer on the same output:
            feedback_id, execution_id, agent_name, content_id, reviewer_id, stage, decision, reviewed_at (UTC), one column per
            aspect with whole scores 1..10, NaN in 3 %. In expectation agents x executions x (1 + reviews_per_content) x 1.02.
        agents: planted parameters of the agents, in the order of ``agent_names``.
        reviewers: planted parameters of the panel, in the order of ``reviewer_names``.
        outputs: the outputs as drawn, in the order of ``executions``.
        review_output: row of ``executions`` of each review.
        review_reviewer: row of the panel of each review.
    """

    spec: WorldSpec
    executions: pd.DataFrame
    reviews: pd.DataFrame
    agents: Agents
    reviewers: Reviewers
    outputs: Outputs
    review_output: Ints
    review_reviewer: Ints


def simulate(spec: WorldSpec) -> World:
    """Draw the world of ``spec``; equal specs give equal frames, bit for bit."""
    agents, reviewers = draw_agents(spec), draw_reviewers(spec)
    outputs = draw_outputs(spec, agents, spec.generator("outputs"), each=spec.executions)
    output, reviewer = assign_reviewers(spec, outputs, reviewers, spec.generator("assignment"))
    stream = spec.generator("duplicates")
    again = np.flatnonzero(stream.random(output.size) < model.DUPLICATE_SHARE)
    started, reviewed = _times(spec, output, again, outputs.agent.size)
    output, reviewer = np.concatenate([output, output[again]]), np.concatenate([reviewer, reviewer[again]])
    order = np.argsort(reviewed, kind="stable")
    output, reviewer, reviewed = output[order], reviewer[order], reviewed[order]
    executions = _execution_frame(spec, outputs, started)
    given = ~_waiting(spec, outputs.agent, started)[output]
    output, reviewer, reviewed = output[given], reviewer[given], reviewed[given]
    reviews = _review_frame(spec, executions, outputs, reviewers, output, reviewer, reviewed)
    return World(spec, executions, reviews, agents, reviewers, outputs, output, reviewer)


def truth_about_reviewers(world: World) -> pd.DataFrame:
    """One row per reviewer: reviewer_id, stage, severity, best_words, approval_bar, activity, one column per slope and tone."""
    reviewers = world.reviewers
    facts = {
        "reviewer_id": reviewer_names(world.spec.reviewers),
        "stage": np.array(model.STAGES)[reviewers.stage],
        "severity": reviewers.severity,
        "best_words": model.TYPICAL_WORDS * np.exp(reviewers.best_length),
        "approval_bar": reviewers.bar,
        "activity": reviewers.activity,
    }
    slopes = {f"slope_{name}": reviewers.slopes[:, i] for i, name in enumerate(model.SLOPED)}
    tones = {f"tone_{name}": reviewers.tones[:, i] for i, name in enumerate(model.TONES)}
    return pd.DataFrame(facts | slopes | tones)


def _times(spec: WorldSpec, output: Ints, again: Ints, outputs: int) -> tuple[Ints, Ints]:
    """Seconds since the first midnight: start of each output; moment of each review, then of each second opinion."""
    stream = spec.generator("times")
    span = spec.days * _DAY_SECONDS
    longest = min(_DAY_SECONDS, span // 4)
    started = (stream.random(outputs) * (span - 2 * longest)).astype(np.int64)
    first = started[output] + 600 + (stream.random(output.size) ** 2 * (longest - 600)).astype(np.int64)
    second = first[again] + 60 + (stream.random(again.size) * (longest - 60)).astype(np.int64)
    reviewed = np.concatenate([first, second])
    shift = (spec.days - 1 - reviewed.max() // _DAY_SECONDS) * _DAY_SECONDS
    return started + shift, reviewed + shift


def _waiting(spec: WorldSpec, agent: Ints, started: Ints) -> npt.NDArray[np.bool_]:
    """Whether an output is among the newest of its agent that are still to be reviewed (N,)."""
    newest_first = np.lexsort((-started, agent))
    place = np.empty(agent.size, dtype=np.intp)
    place[newest_first] = np.arange(agent.size) - np.searchsorted(agent[newest_first], agent[newest_first])
    waiting: npt.NDArray[np.bool_] = place < spec.waiting
    return waiting


def _moments(spec: WorldSpec, seconds: Ints) -> pd.DatetimeIndex:
    midnight = np.datetime64(spec.until - timedelta(days=spec.days - 1), "s")
    return pd.DatetimeIndex((midnight + seconds.astype("timedelta64[s]")).astype("datetime64[us]"), tz="UTC")


def _coded(codes: Ints, names: list[str] | tuple[str, ...]) -> "pd.Series[str]":
    return pd.Series(pd.array(list(names), dtype="str").take(codes))


def _execution_frame(spec: WorldSpec, outputs: Outputs, started: Ints) -> pd.DataFrame:
    n = outputs.agent.size
    frame = pd.DataFrame(
        {
            "agent_name": _coded(outputs.agent, agent_names(spec.agents)),
            "execution_id": uuids(spec.generator("execution ids"), n),
            "content_id": uuids(spec.generator("content ids"), n),
            "started_at": _moments(spec, started),
            **outputs.features,
            "tone": _coded(outputs.tone, model.TONES),
            "content_type": _coded(outputs.content_type, model.CONTENT_TYPES),
            "channel": _coded(outputs.channel, model.CHANNELS),
        }
    )
    lost = spec.generator("lost telemetry").random(n) < model.MISSING_SHARE
    frame.loc[lost, list(_TELEMETRY)] = np.nan
    return frame


def _review_frame(
    spec: WorldSpec,
    executions: pd.DataFrame,
    outputs: Outputs,
    reviewers: Reviewers,
    output: Ints,
    reviewer: Ints,
    reviewed: Ints,
) -> pd.DataFrame:
    scores = _scores(spec, outputs, reviewers, output, reviewer, reviewed)
    decision = decide(scores, reviewers.bar[reviewer], spec.generator("decisions"))
    scores[spec.generator("missing scores").random(scores.shape) < model.MISSING_SHARE] = np.nan
    keys = executions[["execution_id", "agent_name", "content_id"]].take(output).reset_index(drop=True)
    return pd.DataFrame(
        {
            "feedback_id": uuids(spec.generator("feedback ids"), output.size),
            **{name: keys[name] for name in keys.columns},
            "reviewer_id": _coded(reviewer, reviewer_names(spec.reviewers)),
            "stage": _coded(reviewers.stage[reviewer], model.STAGES),
            "decision": _coded(decision, DECISIONS),
            "reviewed_at": _moments(spec, reviewed),
            **{aspect: scores[:, i] for i, aspect in enumerate(model.ASPECTS)},
        }
    )


def _scores(spec: WorldSpec, outputs: Outputs, reviewers: Reviewers, output: Ints, reviewer: Ints, reviewed: Ints) -> Floats:
    points = reviewers.severity[reviewer] + personal_points(outputs, reviewers, output, reviewer)
    points += spec.drift * (reviewed / (spec.days * _DAY_SECONDS) - 0.5)
    return judge(outputs.level[output] + points[:, None], spec.generator("judgements"))
