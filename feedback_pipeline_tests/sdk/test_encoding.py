import json
import logging
import math
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from feedback_pipeline.errors import UserError
from feedback_pipeline.schemas.executions import Execution
from feedback_pipeline.sdk.encoding import EXECUTIONS, REVIEWS, encoded, exact

BASE: dict[str, Any] = {
    "client_id": uuid.UUID(int=1),
    "execution_id": "1",
    "agent_name": "a",
    "start_time": datetime(2026, 1, 1, tzinfo=UTC),
}


@dataclass
class Point:
    x: int


class Tone(Enum):
    WARM = "warm"


class Brief(BaseModel):
    topic: str


class Opaque:
    pass


def input_of(value: Any) -> Any:
    return json.loads(encoded(EXECUTIONS, BASE | {"input_data": {"it": value}}))["input_data"]["it"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        (date(2026, 1, 1), "2026-01-01"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (PurePosixPath("a/b"), "a/b"),
        (Decimal("0.25"), 0.25),
        (Tone.WARM, "warm"),
        (Point(1), {"x": 1}),
        (Brief(topic="tea"), {"topic": "tea"}),
        ({1}, [1]),
        ((1, 2), [1, 2]),
        (np.float64(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        ({1: "a", ("b", 2): "c"}, {"1": "a", "('b', 2)": "c"}),
        (math.nan, None),
        ([math.inf, {"a": -math.inf}], [None, {"a": None}]),
        (np.array([1.0, math.nan]), [1.0, None]),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("half \ud800 of it", "half \N{REPLACEMENT CHARACTER} of it"),
        ("\ud83d\ude00", "\N{GRINNING FACE}"),
        ("whole \N{GRINNING FACE}", "whole \N{GRINNING FACE}"),
        ({"a\0": 1}, {"a\N{REPLACEMENT CHARACTER}": 1}),
    ],
    ids=repr,
)
def test_what_agents_hold_becomes_what_the_service_stores(value: Any, expected: Any) -> None:
    assert input_of(value) == expected


def test_an_object_is_named_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert input_of([Opaque(), Opaque(), Opaque]) == ["<Opaque>", "<Opaque>", "<type>"]
        assert input_of(Opaque()) == "<Opaque>"
    assert [record.getMessage().count("Opaque") for record in caplog.records if "Opaque" in record.getMessage()] == [1]


def test_what_holds_itself_ends_somewhere() -> None:
    ring: dict[str, Any] = {}
    ring["it"] = ring
    with pytest.raises(UserError, match="nested deeper"):
        encoded(EXECUTIONS, BASE | {"input_data": ring})


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"agent_name": "*"}, "agent_name"),
        ({"cost": -1}, "cost"),
        ({"colour": "red"}, "colour"),
        ({"execution_id": ""}, "execution_id"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(UserError, match=name) as caught:
        encoded(EXECUTIONS, BASE | fields | {"error": "secret"})
    assert "secret" not in str(caught.value)
    assert "red" not in str(caught.value).replace("stored", "")


def test_what_a_person_said_is_not_repaired() -> None:
    with pytest.raises(UserError, match="not finite"):
        exact(REVIEWS, {"client_id": uuid.UUID(int=1), "execution_id": "1", "quality_scores": {"clarity": math.nan}})


def test_it_is_what_the_schema_reads() -> None:
    found = Execution.model_validate_json(encoded(EXECUTIONS, BASE | {"metadata": {"features": {"jokes": 2}}}))
    assert (found.client_id, found.start_time, found.metadata) == (
        BASE["client_id"],
        BASE["start_time"],
        {"features": {"jokes": 2}},
    )
