import itertools

import pytest

from feedback_pipeline.commands import serving
from feedback_pipeline.errors import StoreUnavailable


def test_a_store_that_is_away_is_asked_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, away = 0.0, True
    calls: list[float] = []
    monkeypatch.setattr("feedback_pipeline.commands.serving.time.monotonic", lambda: now)

    def act() -> None:
        calls.append(now)
        if away:
            raise StoreUnavailable("the database is away; wait")

    tick = serving._every(5.0, act)
    while now < 300.0:
        away = now < 200.0
        tick()
        now += 1.0
    pauses = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert pauses[:5] == [10.0, 20.0, 40.0, 60.0, 60.0]
    assert pauses[-2:] == [5.0, 5.0]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "the database is away; wait; trying again in 10 s"
    assert len(said) == sum(call < 200.0 for call in calls)
