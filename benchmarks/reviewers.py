"""What the reviewer models find, over many seeds: later decisions foreseen, standards, tones and best lengths recovered.

    python -m benchmarks.reviewers [--seeds 6]

300 reviewers with the same number of earlier reviews, judged on their next 100 each. Scores and tastes are those of the simulated
world; decisions carry logistic noise of standard deviation 1: the best that features allow is right nearly four times in five.
"""

import argparse
import time
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from feedback_pipeline.learning.panel import Floats, Ints, Panel, group_sums
from feedback_pipeline.learning.preferences_foresight import Foresight, Reviews, fit_aspect, learn_foresight
from feedback_pipeline.learning.preferences_tastes import best_lengths
from feedback_pipeline.simulation import spec as model
from feedback_pipeline.simulation.judging import judge, personal_points
from feedback_pipeline.simulation.outputs import Outputs, draw_outputs
from feedback_pipeline.simulation.population import Agents, Reviewers, draw_agents, draw_reviewers
from feedback_pipeline.simulation.spec import WorldSpec

REVIEWERS, AGENTS, LATER = 300, 20, 100
EARLIER = (5, 10, 30, 100, 300)
NOISE = np.sqrt(3) / np.pi
LENGTH = model.SLOPED.index("word_count")

# Bars that were set, and values that one simulation of 300 reviewers gave, which must not be fallen short of.
LEAST_GAIN = {10: 0.04, 30: 0.06, 100: 0.09}
"""Least gain in accuracy over the reviewer's own majority."""
LEAST_SHARE = {5: 0.20, 10: 0.35, 30: 0.48, 100: 0.71, 300: 0.78}
"""Least share of what is possible beyond the reviewer's own majority."""
MOST_STANDARD_ERROR = {5: 0.40, 10: 0.38, 30: 0.26, 100: 0.15, 300: 0.09}
"""Most mean absolute error of a standard, points."""
SET_STANDARD_ERRORS = (30, 100)
LEAST_FOR_LOSS = 10
LEAST_TONES = {5: 0.30, 10: 0.32, 30: 0.52, 100: 0.59, 300: 0.74}
"""Least share of reviewers whose best tone, of five, is found."""
MOST_LENGTH_ERROR = {5: 0.20, 10: 0.19, 30: 0.14, 100: 0.10, 300: 0.08}
"""Most median relative error of the best length."""


@dataclass(frozen=True)
class World:
    """What was planted, and the reviews (M) in two parts."""

    agents: Agents
    reviewers: Reviewers
    outputs: Outputs
    earlier: Reviews
    later: Reviews


def draw(n: int, seed: int, *, length_slopes: bool = True) -> World:
    """Reviewers with `n` earlier reviews and 100 later ones each, on outputs drawn at random.

    Without `length_slopes` the planted best length is all that a reviewer's taste of length is made of.
    """
    spec = WorldSpec(agents=AGENTS, executions=REVIEWERS * (n + LATER) // (2 * AGENTS), reviewers=REVIEWERS, seed=seed)
    agents, reviewers = draw_agents(spec), draw_reviewers(spec)
    reviewers.slopes[:, LENGTH] *= length_slopes
    outputs = draw_outputs(spec, agents, spec.generator("outputs"), each=spec.executions)
    stream = spec.generator("known reviewers")
    reviewer = np.repeat(np.arange(REVIEWERS), n + LATER)
    output = np.concatenate([stream.choice(outputs.agent.size, n + LATER, replace=False) for _ in range(REVIEWERS)])
    points = reviewers.severity[reviewer] + personal_points(outputs, reviewers, output, reviewer)
    scores = judge(outputs.level[output] + points[:, None], stream)
    overall = scores.mean(axis=1)
    approved = overall - reviewers.bar[reviewer] + NOISE * stream.logistic(size=len(overall)) > 0
    day = np.tile(np.arange(n + LATER), REVIEWERS)
    reviews = Reviews.of(_panel(outputs, output, reviewer, scores, approved, day), overall)
    return World(agents, reviewers, outputs, reviews.only(day < n), reviews.only(day >= n))


def _panel(outputs: Outputs, output: Ints, reviewer: Ints, scores: Floats, approved: Floats, day: Ints) -> Panel:
    named = {"tone": model.TONES, "content_type": model.CONTENT_TYPES, "channel": model.CHANNELS}
    categories = {name: np.array(levels)[getattr(outputs, name)] for name, levels in named.items()}
    return Panel(
        agents=np.arange(AGENTS).astype(object),
        reviewers=np.arange(REVIEWERS).astype(object),
        aspects=model.ASPECTS,
        outputs=pd.DataFrame({**outputs.features, **categories}),
        output_agent=outputs.agent,
        output_content=np.arange(len(outputs.agent)),
        reviews=pd.DataFrame({"decision": np.where(approved, "approve", "reject"), "reviewed_at": day}),
        review_output=output,
        review_reviewer=reviewer,
        scores=scores,
    )


def right_and_loss(p: Floats, approved: Floats) -> tuple[float, float]:
    """Share of decisions foreseen, and log loss."""
    sure = np.clip(p, 1e-6, 1 - 1e-6)
    return float(((p > 0.5) == (approved > 0.5)).mean()), float(-np.log(np.where(approved > 0.5, sure, 1 - sure)).mean())


def possible(world: World) -> float:
    """Share foreseen by somebody who knows everything planted but the hidden quality of the outputs."""
    outputs, later = world.outputs, world.later
    length = outputs.z[:, LENGTH] * model.WORDS_LOG_SD
    confidence, alternatives = (outputs.z[:, model.SLOPED.index(name)] for name in ("confidence_score", "alternatives_count"))
    level = np.einsum("nf,nf->n", outputs.z, world.agents.slopes.mean(axis=2)[outputs.agent]) + world.agents.level[outputs.agent]
    level -= model.LENGTH_CURVATURE * (length**2 - model.WORDS_LOG_SD**2)
    level += model.STEP_POINTS * ((outputs.features["confidence_score"] > model.STEP_AT) - 0.5)
    level += model.INTERACTION_POINTS * confidence * alternatives
    points = level[later.output] + world.reviewers.severity[later.reviewer]
    points += personal_points(outputs, world.reviewers, later.output, later.reviewer)
    return float(((points > world.reviewers.bar[later.reviewer]) == (later.approved > 0.5)).mean())


def baselines(world: World) -> dict[str, tuple[float, float]]:
    """Share foreseen and log loss of what one would try first."""
    earlier, later = world.earlier, world.later
    count = np.bincount(earlier.reviewer, minlength=REVIEWERS)
    approvals = group_sums(earlier.reviewer, earlier.approved, REVIEWERS)
    share = approvals.sum() / count.sum()
    between = max(float(np.var(approvals / count)) - share * (1 - share) / count[0], 1e-3)
    strength = share * (1 - share) / between - 1
    rate = (approvals + max(strength, 0.1) * share) / (count + max(strength, 0.1))
    known, new = earlier.columns[earlier.output], later.columns[later.output]
    pooled = LogisticRegression(C=1.0, max_iter=300).fit(known, earlier.approved)
    found = {
        "own majority": approvals[later.reviewer] / count[later.reviewer],
        "own rate, shrunken": rate[later.reviewer],
        "one logistic for all": pooled.predict_proba(new)[:, 1],
        "a logistic for each": _separate(earlier, later),
        "boosting, with reviewer": _boosted(earlier, later, rate),
    }
    return {name: right_and_loss(p, later.approved) for name, p in found.items()}


def _boosted(earlier: Reviews, later: Reviews, rate: Floats) -> Floats:
    """Boosting on the features and the reviewer: who (two categories, as one may have 255 at most), rate and mean score."""
    mean = group_sums(earlier.reviewer, earlier.score, REVIEWERS) / np.bincount(earlier.reviewer)
    known, new = (
        np.column_stack([part.columns[part.output], rate[who], mean[who], who // 20, who % 20])
        for part, who in ((earlier, earlier.reviewer), (later, later.reviewer))
    )
    categories = [known.shape[1] - 2, known.shape[1] - 1]
    fit = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=15, categorical_features=categories, random_state=0
    ).fit(known, earlier.approved)
    p: Floats = fit.predict_proba(new)[:, 1]
    return p


def _separate(earlier: Reviews, later: Reviews) -> Floats:
    p = np.zeros(len(later.output))
    for reviewer in range(REVIEWERS):
        mine, next_ones = earlier.reviewer == reviewer, later.reviewer == reviewer
        approved = earlier.approved[mine]
        if approved.min() == approved.max():
            p[next_ones] = approved[0]
            continue
        fit = LogisticRegression(C=0.1, max_iter=100).fit(earlier.columns[earlier.output[mine]], approved)
        p[next_ones] = fit.predict_proba(later.columns[later.output[next_ones]])[:, 1]
    return p


def standard_error(world: World, foresight: Foresight) -> float:
    """Mean absolute error of the standards, points."""
    if foresight.approval is None:
        return np.nan
    return float(np.abs(foresight.approval.s50 - world.reviewers.bar).mean())


def tones_found(world: World, foresight: Foresight) -> float:
    """Share of reviewers whose best tone has the largest effect."""
    fitted, encoding = foresight.personal.model, foresight.personal.encoding
    levels = encoding.positions("level", "tone")
    own = [list(fitted.personal).index(i) for i in levels if i in fitted.personal]
    effect = fitted.population[levels] + (fitted.effects[:, own] if own else 0.0)
    names = np.array([encoding.columns[i].level for i in levels])
    truth = np.array(model.TONES)[world.reviewers.tones.argmax(axis=1)]
    return float((names[np.broadcast_to(effect, (REVIEWERS, len(levels))).argmax(axis=1)] == truth).mean())


def length_error(world: World, foresight: Foresight) -> float:
    """Median relative error of the best length; a reviewer's slope on the length moves the planted one."""
    slope = 2 * model.LENGTH_CURVATURE * world.reviewers.best_length
    slope += (world.reviewers.slopes[:, LENGTH] + world.agents.slopes[:, LENGTH].mean()) / model.WORDS_LOG_SD
    usual = np.quantile(np.log(world.outputs.features["word_count"] / model.TYPICAL_WORDS), [0.01, 0.99])
    best = model.TYPICAL_WORDS * np.exp(np.clip(slope / (2 * model.LENGTH_CURVATURE), *usual))
    return float(np.median(np.abs(best_lengths(foresight.personal) / best - 1)))


@dataclass
class Measured:
    """Values of one quantity, seed by seed, and what it is held against.

    Attributes:
        name: What it is.
        values: Seed by seed.
        bar: What it must reach; None where it is only shown.
        at_least: Or at most.
        simulated: The bar is itself the value of one simulation, as uncertain as one of ours.
    """

    name: str
    values: list[float]
    bar: float | None = None
    at_least: bool = True
    simulated: bool = False

    def line(self) -> str:
        """Mean, standard error, bar and verdict."""
        mean, spread = float(np.mean(self.values)), float(np.std(self.values, ddof=1))
        error = spread / np.sqrt(len(self.values))
        line = f"  {self.name:<46} {mean:7.3f} {error:7.4f}"
        if self.bar is None:
            return line
        margin = mean - self.bar if self.at_least else self.bar - mean
        close = margin >= -3 * np.hypot(error, spread * self.simulated)
        verdict = "pass" if margin >= 0 else "pass within 3 standard errors" if close else "FAIL"
        return f"{line} {'>=' if self.at_least else '<='} {self.bar:4.2f}  {verdict}"


def learned(world: World) -> tuple[Foresight, Floats]:
    """What the earlier reviews teach, and the probabilities of the later decisions."""
    foresight = learn_foresight(world.earlier, fit_aspect(world.earlier, world.earlier.score))
    p = None if foresight is None else foresight.probability(world.later)
    if foresight is None or p is None:
        raise RuntimeError("a simulated world always has scores and decisions")
    return foresight, p


def sweep(n: int, seeds: range) -> list[Measured]:
    """All bars at `n` earlier reviews a reviewer."""
    worlds = [draw(n, seed) for seed in seeds]
    found = [learned(world) for world in worlds]
    plain_lengths = [draw(n, seed, length_slopes=False) for seed in seeds]
    return [
        *foreseen(n, worlds, [p for _, p in found]),
        Measured(
            "standards: mean absolute error, points",
            [standard_error(world, foresight) for world, (foresight, _) in zip(worlds, found, strict=True)],
            MOST_STANDARD_ERROR[n],
            at_least=False,
            simulated=n not in SET_STANDARD_ERRORS,
        ),
        Measured(
            "best tone found",
            [tones_found(world, foresight) for world, (foresight, _) in zip(worlds, found, strict=True)],
            LEAST_TONES[n],
            simulated=True,
        ),
        Measured(
            "best length: median relative error",
            [length_error(world, learned(world)[0]) for world in plain_lengths],
            MOST_LENGTH_ERROR[n],
            at_least=False,
            simulated=True,
        ),
        Measured(
            "  where slopes on the length come on top",
            [length_error(world, foresight) for world, (foresight, _) in zip(worlds, found, strict=True)],
        ),
    ]


def foreseen(n: int, worlds: list[World], probabilities: list[Floats]) -> list[Measured]:
    """Accuracy and log loss, against what is possible and against what one would try first."""
    ours = [right_and_loss(p, world.later.approved) for p, world in zip(probabilities, worlds, strict=True)]
    plain = [baselines(world) for world in worlds]
    limits = [possible(world) for world in worlds]
    own = [each["own majority"][0] for each in plain]
    best = max(plain[0], key=lambda name: float(np.mean([each[name][0] for each in plain])))
    surest = min(plain[0], key=lambda name: float(np.mean([each[name][1] for each in plain])))
    right = [accuracy for accuracy, _ in ours]
    gain = [a - b for a, b in zip(right, own, strict=True)]
    share = [a / (limit - b) for a, b, limit in zip(gain, own, limits, strict=True)]
    surer = [a[1] - each[surest][1] for a, each in zip(ours, plain, strict=True)]
    return [
        Measured("foreseen", right),
        Measured("  possible at all", limits),
        *(Measured(f"  {name}", [each[name][0] for each in plain]) for name in plain[0]),
        Measured("gain over own majority", gain, LEAST_GAIN.get(n)),
        Measured("share of what is possible beyond it", share, LEAST_SHARE[n], simulated=True),
        Measured(f"lead over {best}", [a - each[best][0] for a, each in zip(right, plain, strict=True)], 0.0),
        Measured("log loss", [loss for _, loss in ours]),
        Measured(f"log loss less that of {surest}", surer, 0.0 if n >= LEAST_FOR_LOSS else None, at_least=False),
    ]


def main() -> None:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds: give 2 or more, one has no standard error")
    warnings.simplefilter("ignore")
    for n in EARLIER:
        start = time.perf_counter()
        with threadpool_limits(limits=1):
            lines = [measured.line() for measured in sweep(n, range(1, options.seeds + 1))]
        print(f"{n} earlier reviews a reviewer: {options.seeds} seeds, {time.perf_counter() - start:.0f} s")
        print(f"  {'':<46} {'mean':>7} {'error':>7}    bar")
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
