"""Commands that show what was learned: findings, status."""

import json
from collections.abc import Callable
from typing import Any, Final

import click

Document = dict[str, Any]

_FINDINGS: Final = ("agent_name", "status", "parts", "window", "n_contents", "n_reviewers", "learning_run_id")
_FINDING: Final = (
    *("feature", "aspect", "r", "r_pearson", "r_shrunk", "ci_low", "ci_high", "p_value", "q_value", "confidence"),
    *("n_contents", "n_reviewers", "scope", "method", "published", "reason"),
)
_FLEET_FINDING: Final = (*_FINDING, "r_within", "confounded_with_agent")
_AGENT: Final = ("agent_name", "status", "parts", "pending", "n_contents", "learning_run_id")


@click.command(short_help="Show what was learned of an agent or the fleet.")
@click.argument("agent", required=False)
@click.option("--fleet", is_flag=True, help="Over all outputs of all agents.")
@click.option("--all", "unpublished", is_flag=True, help="List every tested pair; unpublished ones with the reason.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def findings(agent: str | None, fleet: bool, unpublished: bool, as_json: bool) -> None:
    """Show what goes with better or worse scores of AGENT, or of the --fleet."""
    if (agent is None) == (not fleet):
        raise click.UsageError("name an agent, or give --fleet")
    from feedback_pipeline.commands.rendering import print_findings
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.learning.features import FLEET
    from feedback_pipeline.storage.reading import read_findings

    with readable_database(settings_from_environment()) as database:
        document = read_findings(database, agent or FLEET, unpublished=unpublished)
    if as_json:
        keys = _FLEET_FINDING if fleet else _FINDING
        rows = [{key: finding[key] for key in keys} for finding in document["findings"]]
        print_json({key: document[key] for key in _FINDINGS} | {"findings": rows})
    else:
        print_findings(document)


@click.command(short_help="Show all agents and the last learning run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show every agent with what was learned and what is pending, and the last learning run."""
    from feedback_pipeline.commands.rendering import print_status
    from feedback_pipeline.environment import readable_database, settings_from_environment
    from feedback_pipeline.storage.reading import read_status

    with readable_database(settings_from_environment()) as database:
        document = read_status(database)
    if as_json:
        agents = [{key: agent[key] for key in _AGENT} for agent in document["agents"]]
        print_json(document | {"agents": agents})
    else:
        print_status(document)


def print_json(document: object) -> None:
    """Print what a command returns as JSON; NaN is refused."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def print_result(document: Document, as_json: bool, print_words: Callable[[Document], None]) -> None:
    """Print what a command found: as JSON, or in words."""
    if as_json:
        print_json(document)
    else:
        print_words(document)
