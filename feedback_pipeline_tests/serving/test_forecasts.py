"""Forecasts on demand: by the champion that is kept loaded, for given features and for people nobody asked about before."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from feedback_pipeline.schemas.forecasts import FeatureForecasts, Forecasts
from feedback_pipeline.serving import forecasting
from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld

pytestmark = WHOLE_ROOM


def _post(api: TestClient, **body: Any) -> dict[str, Any]:
    answer = api.post(f"{PREFIX}/forecasts", json=body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    FeatureForecasts.model_validate(document)
    return document


def test_features_are_forecast_as_the_output_they_are_those_of(api: TestClient, learned_world: LearnedWorld, agent: str) -> None:
    """What is said of an output is said of its features too."""
    stored = api.get(f"{PREFIX}/forecasts?agent={agent}").json()
    Forecasts.model_validate(stored)
    known = stored["forecasts"][0]
    from feedback_pipeline.storage.unreviewed import read_outputs_of

    row = read_outputs_of(learned_world.database, agent, known["execution_id"]).to_pandas().iloc[0]
    features = {name: value for name, value in row.items() if isinstance(value, (int, float, str)) and value == value}
    said = _post(api, agent_name=agent, features=features)
    numbers = ("score", "low", "high", "p_approve", "abstain", "model_version")
    assert [said["forecasts"][0][name] for name in numbers] == pytest.approx([known[name] for name in numbers])
    assert {"agent_name", "execution_id", "content_id"} <= set(said["ignored"])


def test_people_come_in_the_order_they_were_named_after_the_average(api: TestClient, agent: str) -> None:
    people = [row["reviewer_id"] for row in api.get(f"{PREFIX}/reviewers").json()["reviewers"]]
    said = _post(api, agent_name=agent, features={}, reviewers=[people[-1], people[0], people[-1]])
    assert [one["reviewer_id"] for one in said["forecasts"]] == [None, people[-1], people[0]]
    lenient, strict = said["forecasts"][1], said["forecasts"][2]
    assert lenient["score"] > strict["score"]


@pytest.mark.parametrize("features", [{"word_count": "many"}, {"tone": 3}, {"word_count": 10**400}, {"word_count": [1]}])
def test_features_of_another_type_are_named(api: TestClient, agent: str, features: dict[str, Any]) -> None:
    answer = api.post(f"{PREFIX}/forecasts", json={"agent_name": agent, "features": features})
    assert answer.status_code == 400
    assert next(iter(features)) in answer.json()["detail"]


def test_what_somebody_will_say_is_computed_when_first_asked_for_and_kept(
    api: TestClient, learned_world: LearnedWorld, agent: str
) -> None:
    execution = api.get(f"{PREFIX}/forecasts?agent={agent}").json()["forecasts"][0]["execution_id"]
    address = f"{PREFIX}/forecasts?agent={agent}&execution={execution}&reviewers=somebody&reviewers=else"
    said = api.get(address).json()
    assert {row["reviewer_id"] for row in said["forecasts"]} == {None, "somebody", "else"}
    assert said["reason"] is None
    kept = learned_world.rows("SELECT count(*) FROM quality_forecasts WHERE reviewer_id IN ('somebody', 'else')")
    assert kept == [(2,)]
    assert api.get(address).json() == said


def test_too_much_at_once_is_refused(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting, "MOST_ON_DEMAND", 3)
    answer = api.get(f"{PREFIX}/forecasts?reviewers=a&reviewers=b")
    assert (answer.status_code, "name an execution" in answer.json()["detail"]) == (400, True)


def test_the_champion_is_loaded_once_and_again_when_there_is_a_new_one(
    api: TestClient, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecaster = api.app.state.service.forecaster  # type: ignore[attr-defined]
    _post(api, agent_name=agent, features={})
    loaded = forecaster._loaded
    loads = []

    def load(*given: Any) -> Any:
        loads.append(given)
        return loaded

    monkeypatch.setattr(forecasting, "load_champion", load)
    _post(api, agent_name=agent, features={})
    assert (forecaster._loaded is loaded, loads) == (True, [])
    forecaster._loaded = replace(loaded, version=replace(loaded.version, number=loaded.version.number + 1))
    _post(api, agent_name=agent, features={})
    assert len(loads) == 1
