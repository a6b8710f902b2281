"""Which recommendations an execution follows: by lot, so that it can be measured whether following them helps."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from feedback_pipeline.errors import UserError
from feedback_pipeline.learning.holdout import assign
from feedback_pipeline.schemas.improvements import Recommendation
from feedback_pipeline.sdk.handlers import Handler, Input, Skip, guidance
from feedback_pipeline.sdk.results import AppliedImprovement, LearnedImprovements, LearningApplied, SkippedImprovement

_NAMESPACE: Final = uuid.UUID("5c0a8a3e-6b0e-5f0f-9a63-0d6c2b1f7e11")
TEXT: Final = "text"
"""Key of an input that is a text, while it is adapted."""


@dataclass(frozen=True)
class Choice:
    """What an execution does with each recommendation.

    Attributes:
        adapted: The input to execute with.
        applied: It follows these.
        held_out: It was kept from following these.
        skipped: These do not concern it.
    """

    adapted: Any
    applied: list[AppliedImprovement]
    held_out: list[AppliedImprovement]
    skipped: list[SkippedImprovement]

    def applications(
        self, agent_name: str, execution_id: str, predicted_quality: float | None, moment: datetime
    ) -> list[Mapping[str, Any]]:
        """The records of it, for `schemas.applications.Application`; the same execution makes the same ids."""
        return [
            {
                "application_id": uuid.uuid5(_NAMESPACE, f"{one.pattern_id}:{one.trial}:{execution_id}"),
                "pattern_id": one.pattern_id,
                "trial": one.trial,
                "agent_name": agent_name,
                "execution_id": execution_id,
                "applied": applied,
                "propensity": one.propensity,
                "predicted_quality": predicted_quality,
                "assigned_at": moment,
            }
            for applied, chosen in ((True, self.applied), (False, self.held_out))
            for one in chosen
        ]


def choose(recommendations: list[Recommendation], input_data: Any, execution_id: str, handlers: Mapping[str, Handler]) -> Choice:
    """Decide for each recommendation, best first, and adapt the input to those that are applied.

    Whether one fits is asked before it is drawn: an execution that could not follow it is in neither group.

    Args:
        recommendations: With their trials.
        input_data: A mapping, or a text, at whose end the instructions are written.
        execution_id: Decides the draw, with the salt of the trial.
        handlers: By kind of action.

    Raises:
        UserError: the input is neither.
    """
    adapted = _as_mapping(input_data)
    applied: list[AppliedImprovement] = []
    held_out: list[AppliedImprovement] = []
    skipped: list[SkippedImprovement] = []
    for one in recommendations:
        followed = _followed(one, adapted, handlers)
        if isinstance(followed, Skip):
            skipped.append(SkippedImprovement(pattern_id=one.id, improvement_type=_kind(one), reason=followed.reason))
        elif assign(one.trial.salt, one.id, execution_id, one.trial.p_on):
            applied.append(_improvement(one))
            adapted = followed
        else:
            held_out.append(_improvement(one))
    return Choice(_as_given(adapted, input_data), applied, held_out, skipped)


def account(
    choice: Choice, execution_id: str, improvements: LearnedImprovements | None, predicted: float | None, reason: str | None
) -> LearningApplied:
    """What the result of the execution says of it; without improvements, why there are none."""
    return LearningApplied(
        execution_id=execution_id,
        improvements_applied=choice.applied,
        held_out=choice.held_out,
        skipped=choice.skipped,
        total_patterns_considered=improvements.total_patterns if improvements else 0,
        high_confidence_patterns=improvements.high_confidence_patterns if improvements else 0,
        predicted_quality=predicted,
        learning_run_id=improvements.learning_run_id if improvements else None,
        stale=improvements is None or improvements.stale,
        stale_reason=improvements.stale_reason if improvements else reason,
        age_seconds=improvements.age_seconds if improvements else 0.0,
    )


def _followed(one: Recommendation, adapted: Input, handlers: Mapping[str, Handler]) -> Input | Skip:
    if not 0 < one.trial.p_on < 1:
        return Skip(one.trial.reason)
    handler = handlers.get(_kind(one))
    return Skip(f"no handler for actions of kind {_kind(one)!r}") if handler is None else handler(one, adapted)


def _kind(one: Recommendation) -> str:
    return str(one.action.get("kind", one.kind))


def _improvement(one: Recommendation) -> AppliedImprovement:
    return AppliedImprovement(
        pattern_id=one.id,
        trial=one.trial.trial,
        improvement_type=_kind(one),
        description=one.text,
        confidence=one.confidence,
        action=one.action,
        propensity=one.trial.p_on,
    )


def _as_mapping(input_data: Any) -> Input:
    if isinstance(input_data, str):
        return {TEXT: input_data}
    if isinstance(input_data, Mapping):
        return dict(input_data)
    raise UserError(
        f"what was learned is applied to a mapping or a text, not to a {type(input_data).__name__}; pass its fields as a mapping"
    )


def _as_given(adapted: Input, input_data: Any) -> Any:
    if not isinstance(input_data, str):
        return adapted
    instructions = guidance(adapted).get("instructions", [])
    return (
        "\n".join([input_data, "", "What reviews have taught:", *(f"- {text}" for text in instructions)])
        if instructions
        else input_data
    )
