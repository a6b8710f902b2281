"""How honest forecasts are: intervals, P(approve), drift alarms, promotions, the review queue and auto-approval, over many seeds.

    OMP_NUM_THREADS=1 python -m benchmarks.forecasts [--seeds 200]

No model is fitted here: residuals, losses and calibrated forecasts are drawn. The world of the queue and of auto-approval has
55 % approvals and an AUC of .86; its log odds have a long tail of sure approvals (gamma). With normal log odds of the same two
numbers there are fewer sure ones, and not even the true P(approve) spares more than 18 % of reviews at 5 %.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from feedback_pipeline.learning.approval import fit_approval
from feedback_pipeline.learning.auto_approval import auto_approval, replay
from feedback_pipeline.learning.calibration import Platt, approval_probability, ece
from feedback_pipeline.learning.conformal import TARGET, coverage, forward_intervals, split_width
from feedback_pipeline.learning.population_stability import psi
from feedback_pipeline_tests.learning.test_auto_approval import MONDAY, WEEK, forecasts, over_weeks, true_error
from feedback_pipeline_tests.learning.test_calibration import forecast, judged
from feedback_pipeline_tests.learning.test_conformal import reviewed
from feedback_pipeline_tests.learning.test_promotion import promoted
from feedback_pipeline_tests.learning.test_quality_drift import false_alarms, followed, weeks_until_alarm
from feedback_pipeline_tests.learning.test_review_queue import rejects_found

_NORMAL_MEAN, _NORMAL_SD = 0.329, 1.974  # log odds with 55 % approvals and an AUC of .86


def intervals(seeds: int) -> None:
    """Coverage over the second half of the reviews: all, worst quartile of the forecast; width. Fixed: learned from the first."""
    columns = f"{'worst':>6} {'width':>6}"
    print(f"{'90 % intervals':>15} {'drift':>6} {'fixed split':>12} {columns} {'adaptive':>9} {columns}")
    for n in (500, 3_000, 20_000):
        for drift in (0.0, 1.5):
            found = []
            for seed in range(seeds if n < 10_000 else max(seeds // 10, 2)):
                prediction, residual, moment = reviewed(seed, n, drift)
                late = slice(n // 2, None)
                width = split_width(np.abs(residual[: n // 2]), TARGET)
                moving = forward_intervals(residual, moment)
                fixed = coverage((np.abs(residual[late]) <= width).astype(float), prediction[late])
                adaptive = coverage(moving.inside(residual)[late], prediction[late])
                widths = (2 * width, 2 * float(moving.width[late].mean()))
                found.append((fixed.overall, *fixed.quartiles, widths[0], adaptive.overall, *adaptive.quartiles, widths[1]))
            mean = np.mean(found, axis=0)
            one, two = (
                f"{part[0]:>{size}.3f} {part[1:5].min():>6.3f} {part[5]:>6.2f}" for part, size in ((mean[:6], 12), (mean[6:], 9))
            )
            print(f"{n:>15} {drift:>6} {one} {two}")


def calibration(seeds: int) -> None:
    """Calibration error on later decisions: distorted forecasts before and after, and the route through the standards."""
    print(f"\n{'ECE, decisions':>15} {'distorted':>10} {'Platt':>6} {'score route':>12} {'Platt':>6}")
    for n in (1_000, 5_000, 20_000):
        found = []
        for seed in range(max(seeds // (1 + n // 500), 4)):
            p, approved = forecast(seed, 2 * n, shift=0.6, spread=1.6)
            after = Platt.fit(p[:n], approved[:n]).probability(p[n:])
            expected, score, decided, reviewer = judged(seed, 2 * n)
            model = fit_approval(score[:n], decided[:n], reviewer[:n], 60)
            route = approval_probability(
                expected, 1.0, model.intercept[reviewer], model.slope, model.intercept_variance[reviewer]
            )
            fitted = Platt.fit(route[:n], decided[:n]).probability(route[n:])
            found.append(
                (ece(p[n:], approved[n:]), ece(after, approved[n:]), ece(route[n:], decided[n:]), ece(fitted, decided[n:]))
            )
        mean = np.mean(found, axis=0)
        print(f"{n:>15} {mean[0]:>10.3f} {mean[1]:>6.3f} {mean[2]:>12.3f} {mean[3]:>6.3f}")


def drift(seeds: int) -> None:
    """Alarms in 26 calm weeks of 50 reviews, and weeks until a shift is found."""
    print(f"\n{'false alarm, residuals of reference':>36} {'EWMA':>6} {'CUSUM':>6} {'either':>7}")
    for n_reference in (300, 4_000, 100_000):
        calm = false_alarms(5 * seeds if n_reference < 10_000 else seeds, n_reference)
        print(f"{n_reference:>36} {calm['ewma']:>6.3f} {calm['cusum']:>6.3f} {calm['either']:>7.3f}")
    for shift in (0.2, 0.3, 0.5):
        weeks = np.array([weeks_until_alarm(followed(seed, shift=shift)) for seed in range(seeds)])
        seen = np.isfinite(weeks)
        print(f"shift of {shift} sd: found after {weeks[seen].mean():.1f} weeks (mean), {seen.mean():.3f} within 26")
    rng = np.random.default_rng(0)
    print(f"{'PSI > .2, rows':>15} {'no change':>10} {'.3 sd':>6} {'.5 sd':>6} {'20 % missing':>13}")
    for n in (200, 1_000):
        rates = []
        for shift, missing in ((0.0, 0.0), (0.3, 0.0), (0.5, 0.0), (0.0, 0.2)):
            recent = rng.normal(shift, 1, (seeds, n))
            recent[:, : int(missing * n)] = np.nan
            rates.append(np.mean([psi(rng.normal(size=n), new) > 0.2 for new in recent]))
        print(f"{n:>15} {rates[0]:>10.3f} {rates[1]:>6.3f} {rates[2]:>6.3f} {rates[3]:>13.3f}")


def promotions(seeds: int) -> None:
    """How often a challenger is promoted, by its true gain; the second column has 1 + Poisson(4) reviews that err together."""
    print(f"\n{'promoted, contents':>19} {'equal':>6} {'equal, clustered':>17} {'gain 5 %':>9} {'gain 10 %':>10}")
    for contents in (200, 1_000, 5_000):
        rates = (
            promoted(5 * seeds, contents, 0.0),
            promoted(5 * seeds, contents, 0.0, 4.0, 0.6),
            *(promoted(seeds, contents, g) for g in (0.05, 0.1)),
        )
        print(f"{contents:>19} {rates[0]:>6.3f} {rates[1]:>17.3f} {rates[2]:>9.3f} {rates[3]:>10.3f}")


def queue(seeds: int) -> None:
    """Share of all rejects found in the first part of a queue of 4,000, lowest P(approve) first."""
    print(f"\n{'rejects found in':>17} {'rule alone':>11} {'30 % random':>12} {'random':>7}")
    for share in (0.2, 0.3, 0.5):
        found = [
            np.mean([rejects_found(seed, 4_000, share, part) for seed in range(max(seeds // 5, 2))]) for part in (0.0, 0.3, 1.0)
        ]
        print(f"{100 * share:>15.0f} % {found[0]:>11.3f} {found[1]:>12.3f} {found[2]:>7.3f}")


def _normal_forecasts(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(_NORMAL_MEAN, _NORMAL_SD, n))
    return p, (rng.random(n) < p).astype(float)


def thresholds(seeds: int) -> None:
    """Reviews spared (audits not counted) and share of auto-approved that a person would have rejected."""
    columns = f"{'spared':>7} {'error':>6} {'worst':>6}"
    print(f"\n{'auto-approval':>14} {'alpha':>6} {columns} {'<= alpha + .01':>15} {'off':>5} {'spared, normal log odds':>24}")
    future, _ = forecasts(10**6, 400_000)
    for n in (2_000, 10_000, 40_000):
        for alpha in (0.02, 0.05, 0.10):
            count = seeds if n < 40_000 else max(seeds // 2, 2)
            rules = [auto_approval(*forecasts(seed, n), alpha) for seed in range(count)]
            errors = np.array([true_error(rule, future) for rule in rules])
            on = ~np.isnan(errors)
            kept = np.mean(~(errors > alpha + 0.01))
            error, worst = (errors[on].mean(), errors[on].max()) if on.any() else (np.nan, np.nan)
            normal = np.mean([auto_approval(*_normal_forecasts(seed, n), alpha).spared for seed in range(max(count // 4, 2))])
            spared = np.mean([rule.spared for rule in rules])
            risk = f"{error:>6.3f} {worst:>6.3f} {kept:>15.3f} {1 - on.mean():>5.2f}"
            print(f"{n:>14} {alpha:>6} {spared:>7.3f} {risk} {normal:>24.3f}")


def audits(seeds: int) -> None:
    """The audit rule over 13 weeks: without drift, with log odds that fall by one, and with forecasts that break in week 8."""
    columns = f"{'spared':>7} {'error':>6} {'worst':>6} {'weeks on':>9}"
    print(f"\n{'audit rule':>11} {'alpha':>6} {'world':>8} {columns} {'on 2 weeks after the break':>27}")
    for n in (10_000, 40_000):
        for alpha in (0.05, 0.10):
            for world in ("calm", "falling", "broken"):
                found = [_replayed(seed, n, alpha, world) for seed in range(max(seeds // 10, 2))]
                spared, error, on, after = np.array(found).T
                wrong = error[~np.isnan(error)]
                mean, worst = (wrong.mean(), wrong.max()) if len(wrong) else (np.nan, np.nan)
                late = f"{after.mean():>27.3f}" if world == "broken" else f"{'':>27}"
                print(f"{n:>11} {alpha:>6} {world:>8} {spared.mean():>7.3f} {mean:>6.3f} {worst:>6.3f} {on.mean():>9.2f} {late}")


def _replayed(seed: int, n: int, alpha: float, world: str) -> Sequence[float]:
    p, approved = forecasts(seed, n)
    moment, rng = over_weeks(n, 13), np.random.default_rng(seed + 10**6)
    if world == "falling":
        approved = (rng.random(n) < expit(np.log(p / (1 - p)) - np.linspace(0, 1, n))).astype(float)
    if world == "broken":
        approved = np.where(moment >= MONDAY + 8 * WEEK, rng.random(n) < 0.5, approved).astype(float)
    found = replay(p, approved, moment, alpha, seed)
    on = found.weeks["threshold"].notna().to_numpy()
    return found.spared, found.rejected, float(on.mean()), float(on[10:].mean())


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    seeds = parser.parse_args().seeds
    for table in (intervals, calibration, drift, promotions, queue, thresholds, audits):
        table(seeds)


if __name__ == "__main__":
    main()
