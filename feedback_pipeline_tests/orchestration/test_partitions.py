from datetime import UTC, date, datetime

import dagster as dg
import pytest
from dagster._core.definitions.partitions.utils import raise_error_on_invalid_partition_key_substring
from hypothesis import given
from hypothesis import strategies as st

from feedback_pipeline.orchestration.checks import days_of
from feedback_pipeline.orchestration.partitions import (
    AGENTS,
    DAYS,
    add_agents,
    agent_of_key,
    daily_partitions,
    key_of_agent,
    range_tags,
)


def test_partitions_are_utc_days_up_to_today() -> None:
    keys = daily_partitions(date(2026, 1, 30)).get_partition_keys(current_time=datetime(2026, 2, 2, 0, 0, 1, tzinfo=UTC))
    assert keys == ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"]
    assert DAYS.get_first_partition_key() == "2020-01-01"


def test_a_range_covers_its_days() -> None:
    tags = range_tags([date(2026, 3, 5), date(2026, 3, 1)])
    assert days_of(tags, date(2030, 1, 1)) == (date(2026, 3, 1), date(2026, 3, 5))
    assert range_tags([]) == {}


def test_a_check_without_range_looks_at_its_day_or_the_last_week() -> None:
    assert days_of({"dagster/partition": "2026-03-01"}, date(2026, 6, 1)) == (date(2026, 3, 1), date(2026, 3, 1))
    assert days_of({}, date(2026, 6, 30)) == (date(2026, 6, 24), date(2026, 6, 30))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("drafter", "drafter"),
        ("Blog writer, v2 (50 %)", "Blog writer, v2 (50 %)"),
        ("評審", "評審"),
        ("a...b", "a%2E%2E%2Eb"),
        ("a\nb", "a%0Ab"),
        ("a%0Ab", "a%250Ab"),
        (" a ", "%20a%20"),
        ("a\u202eb", "a%E2%80%AEb"),
    ],
)
def test_an_agent_keeps_its_name_where_it_can(name: str, key: str) -> None:
    assert key_of_agent(name) == key
    assert agent_of_key(key) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100) | st.text("%.0aA\n \u202e", max_size=12))
def test_every_name_has_a_key_of_its_own(name: str) -> None:
    key = key_of_agent(name)
    assert agent_of_key(key) == name
    assert key.isprintable()
    assert key == key.strip()
    raise_error_on_invalid_partition_key_substring([key])


def test_agents_get_their_partition_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert add_agents(instance, ["writer", "a...b", "writer"]) == ["a%2E%2E%2Eb", "writer"]
        assert add_agents(instance, ["editor", "writer"]) == ["editor"]
        assert set(instance.get_dynamic_partitions(str(AGENTS.name))) == {"a%2E%2E%2Eb", "editor", "writer"}
        calls: list[object] = []
        monkeypatch.setattr(instance, "add_dynamic_partitions", lambda *arguments: calls.append(arguments))
        assert add_agents(instance, ["writer"]) == []
        assert not calls
