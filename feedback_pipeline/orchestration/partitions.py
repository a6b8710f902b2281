"""The partitionings of the lineage: UTC days of `reviewed_at`, and agents."""

import re
from collections.abc import Iterable
from datetime import date
from urllib.parse import quote, unquote

import dagster as dg

from feedback_pipeline.settings import Settings

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
# A range of partitions is written with three dots; a percent sign before two digits would be read back as an encoded letter.
_NO_KEY = re.compile(r"\.\.\.|%(?=[0-9A-Fa-f]{2})|^\s+|\s+$")


def daily_partitions(first_day: date) -> dg.DailyPartitionsDefinition:
    """One partition for every UTC day from the first day to today, today included."""
    return dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), timezone="UTC", end_offset=1)


DAYS = daily_partitions(Settings().first_day)
AGENTS = dg.DynamicPartitionsDefinition(name="agents")


def range_tags(days: Iterable[date]) -> dict[str, str]:
    """Tags of one run over the range that covers the days; none when there are no days."""
    ordered = sorted(days)
    return {RANGE_START_TAG: ordered[0].isoformat(), RANGE_END_TAG: ordered[-1].isoformat()} if ordered else {}


def key_of_agent(agent_name: str) -> str:
    """The partition key of an agent: its name, in which what no key may hold is percent-encoded.

    Dagster refuses control characters and "..."; signs that are not seen, or turn text around, and spaces at either end would
    make keys that look alike. `agent_of_key` is the way back.
    """
    encoded = _NO_KEY.sub(lambda found: "".join(_percent(char) for char in found[0]), agent_name)
    return "".join(char if char.isprintable() else _percent(char) for char in encoded)


def agent_of_key(key: str) -> str:
    """The agent whose partition key this is."""
    return unquote(key)


def _percent(char: str) -> str:
    return "%2E" if char == "." else quote(char, safe="")


def add_agents(instance: dg.DagsterInstance, agent_names: Iterable[str]) -> list[str]:
    """Adds a partition for every agent that has none yet, in order of the alphabet; returns the keys added."""
    known = set(instance.get_dynamic_partitions(str(AGENTS.name)))
    new = sorted({key_of_agent(name) for name in agent_names} - known)
    if new:
        instance.add_dynamic_partitions(str(AGENTS.name), new)
    return new
