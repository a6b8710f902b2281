"""Asset checks of the quality predictor and its forecasts: all of them warn.

Belongs here: names and descriptions. Does not belong here: how a value is observed (quality_evidence).
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from feedback_pipeline.orchestration.assets.forecasts import QUALITY_FORECASTS, QUALITY_PREDICTOR
from feedback_pipeline.orchestration.checks import check_result
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.resources import DatabaseResource
from feedback_pipeline.settings import Settings

_PREDICTOR = {
    "champion_beats_baselines": "The champion forecasts later reviews better than the mean and than ridge regression.",
    "no_drift": "The champion's errors are what they were when it was chosen: neither EWMA nor CUSUM gives an alarm. "
    "Features that have shifted since (population stability index above .2) are named; they alone are no alarm.",
    "agents_have_reviews": "Every agent has enough reviewed outputs for a forecast to know it; others get that of the fleet.",
}
_COVERAGE = "forecasts_cover_reviews"


@dg.multi_asset_check(
    name="predictor_checks",
    specs=[dg.AssetCheckSpec(name, asset=QUALITY_PREDICTOR, description=text) for name, text in _PREDICTOR.items()],
)
def predictor_checks(context: dg.AssetCheckExecutionContext, database: DatabaseResource) -> Iterator[dg.AssetCheckResult]:
    """Looks at the champion and at what became of its forecasts."""
    from feedback_pipeline.learning_pass.champion_watch import drift_of
    from feedback_pipeline.orchestration.quality_evidence import beaten_by_baseline, drifted, thin_agents
    from feedback_pipeline.orchestration.quality_report import shifted_features
    from feedback_pipeline.storage.reading import read_status
    from feedback_pipeline.storage.reading_models import read_champion

    plain = database.open()
    with in_own_words():
        with plain.snapshot() as connection:
            champion = read_champion(connection)
            alarm = drift_of(connection, Settings(), champion, datetime.now(UTC))
        agents = read_status(plain)["agents"]
    found = {
        "champion_beats_baselines": beaten_by_baseline(champion),
        "no_drift": drifted(
            alarm, champion, shifted_features(context.instance.get_latest_materialization_event(QUALITY_PREDICTOR))
        ),
        "agents_have_reviews": thin_agents({agent["agent_name"]: agent["n_contents"] or 0 for agent in agents}),
    }
    yield from (check_result(QUALITY_PREDICTOR, name, evidence, warning=True) for name, evidence in found.items())


@dg.asset_check(
    asset=QUALITY_FORECASTS,
    name=_COVERAGE,
    description="Of the reviews given since, the stated nine in ten lie inside the interval of their forecast (.85 to .95).",
)
def forecasts_cover_reviews(database: DatabaseResource) -> dg.AssetCheckResult:
    """Holds the forecasts of the champions against the reviews that came after them."""
    from feedback_pipeline.learning_pass.champion_watch import champion_coverage, past_of_its_time
    from feedback_pipeline.orchestration.quality_evidence import coverage_off
    from feedback_pipeline.storage.reading_models import read_champion

    with in_own_words(), database.open().snapshot() as connection:
        past = past_of_its_time(connection, Settings(), read_champion(connection))
        evidence = coverage_off(*champion_coverage(past))
    return check_result(QUALITY_FORECASTS, _COVERAGE, evidence, warning=True)


checks = [predictor_checks, forecasts_cover_reviews]
