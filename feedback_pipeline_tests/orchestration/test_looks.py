import dagster as dg

from feedback_pipeline.definitions import defs
from feedback_pipeline.orchestration.looks import looks_every
from feedback_pipeline.settings import Settings

_ROUND_S = 5  # of the daemon of Dagster


def test_a_round_that_comes_a_moment_early_is_not_left_out() -> None:
    assert [looks_every(seconds) for seconds in (1, 5, 10, 300)] == [1, 4, 9, 299]


def test_every_sensor_looks_in_each_of_its_rounds() -> None:
    intervals = {
        sensor.name: sensor.minimum_interval_seconds for sensor in defs.sensors or [] if isinstance(sensor, dg.SensorDefinition)
    }
    assert intervals["new_feedback_sensor"] == Settings().sensor_seconds - 1
    assert len(intervals) == 5
    assert not [name for name, seconds in intervals.items() if seconds is None or seconds % _ROUND_S == 0]
