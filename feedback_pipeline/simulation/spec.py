"""What a simulated world is made of: its size, its switches and the constants of its model. No drawing happens here."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from feedback_pipeline.errors import UserError

ASPECTS = ("content_quality", "brand_alignment", "seo_effectiveness", "audience_targeting")
SLOPED = (
    "duration_ms",
    "input_tokens",
    "output_tokens",
    "cost",
    "confidence_score",
    "alternatives_count",
    "reasoning_length",
    "word_count",
    "readability",
    "keyword_density",
)
NULLS = ("queue_wait_ms", "cache_hit_share")
FEATURES = (*SLOPED, "min_confidence", "decision_count", *NULLS)
TONES = ("friendly", "formal", "playful", "expert", "inspiring")
CONTENT_TYPES = ("blog_post", "product_page", "newsletter", "press_release", "buying_guide")
CHANNELS = ("website", "email", "social", "print")
STAGES = ("quality_check", "brand_check", "seo_review")
SCORE_LOW, SCORE_HIGH = 1, 10

SLOPE_SD = 0.35
ACTIVE_SHARE = 0.5
BASE_SCORE = 6.0
AGENT_SD = 0.4
QUALITY_SD = 0.7
HALO_SD = 0.5
ASPECT_NOISE_SD = 0.7
SEVERITY_SD = 0.9
PERSONAL_SLOPE_SD = 0.3
TONE_TASTE_SD = 0.4
BEST_LENGTH_SD = 0.3
APPROVAL_BAR_SD = 0.7
ACTIVITY_SD = 0.6
LENGTH_CURVATURE = 1.1
"""Points lost per squared log unit away from the best length."""
STEP_AT, STEP_POINTS = 0.7, 0.4
INTERACTION_POINTS = 0.15
MISSING_SHARE = 0.03
DUPLICATE_SHARE = 0.02
CONFOUNDING = 3.0
"""How sharply strict reviewers are handed long texts (slope of the log odds of accepting one, per sd x sd)."""

TYPICAL_WORDS, WORDS_LOG_SD = 320, 0.45
FEWEST_WORDS, MOST_WORDS = 60, 2000
MOST_ALTERNATIVES = 15
TYPICAL_DENSITY, HIGHEST_DENSITY = 0.02, 0.06


@dataclass(frozen=True)
class WorldSpec:
    """Size, switches and seed of a world; equal specs give equal worlds, bit for bit.

    Attributes:
        agents: number of agents.
        executions: outputs of each agent.
        reviewers: size of the panel that reviews all agents.
        seed: of everything random.
        effects: features change the scores (slopes, step, interaction). False: a null world, every true correlation is 0.
        tastes: reviewers have personal slopes and like some tones better.
        best_length: every reviewer has a best text length of their own, around the typical one.
        reviews_per_content: an output gets 1 + Poisson(this) different reviewers, at most the whole panel.
        decisions_per_execution: an execution takes 1 + Poisson(this) decisions.
        confounded_assignment: strict reviewers get the long texts.
        drift: points that scores rise over the whole period.
        step: points that scores rise where the confidence is above .7, with planted effects.
        days: length of the period in days; every review lies in it.
        until: last UTC day of reviewed_at; it holds at least one review, unless all of them wait.
        waiting: newest outputs of each agent that nobody has reviewed yet.
    """

    agents: int = 60
    executions: int = 200
    reviewers: int = 40
    seed: int = 1
    effects: bool = True
    tastes: bool = True
    best_length: bool = True
    reviews_per_content: float = 1.0
    decisions_per_execution: float = 1.0
    confounded_assignment: bool = False
    drift: float = 0.0
    step: float = STEP_POINTS
    days: int = 90
    until: date = date(2026, 6, 30)
    waiting: int = 0

    def __post_init__(self) -> None:
        for name in ("agents", "executions", "reviewers", "days"):
            if getattr(self, name) < 1:
                raise UserError(f"a simulated world needs at least one of {name}, got {getattr(self, name)}: give 1 or more")
        for name in ("seed", "reviews_per_content", "decisions_per_execution", "waiting"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} of a simulated world cannot be negative, got {getattr(self, name)}: give 0 or more")

    def generator(self, purpose: str, *more: int) -> np.random.Generator:
        """An independent random stream for one purpose, so that drawing more of one thing never changes another."""
        return np.random.default_rng([self.seed, *purpose.encode(), *more])
