"""What the OpenAPI description says is what is answered: generated requests find no answer that it does not know."""

import re
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode, checks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok

from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.serving.problems import PROBLEMS, STATUSES
from feedback_pipeline_tests.serving.conftest import WHOLE_ROOM, LearnedWorld
from feedback_pipeline_tests.serving.test_access import bearer, routes_with_scopes, tokens

pytestmark = WHOLE_ROOM

EXAMPLES = 12
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]


UNBOUNDED = {("POST", f"{PREFIX}/agents/{{agent}}/learn"), ("POST", f"{PREFIX}/forget"), ("GET", f"{PREFIX}/runs/{{run_id}}")}
"""They change the world of the other tests, or ask a Dagster that is not there: a documented 503, which looks like a failure."""


def test_no_answer_is_undocumented(learned_world: LearnedWorld, agent: str) -> None:
    with learned_world.client(tokens()) as client:
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app, config=SchemathesisConfig())
        operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
        assert len(operations) >= 24
        for operation in operations:
            if (operation.method.upper(), operation.path) not in UNBOUNDED:
                _hold_against_its_description(operation, agent)


def _hold_against_its_description(operation: APIOperation[Any, Any, Any, Any], agent: str) -> None:
    right, wrong = (operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE))

    @given(case=right | wrong, known=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def hold(case: Case[Any], known: bool) -> None:
        if known and "agent" in case.path_parameters:
            case.path_parameters["agent"] = agent
        case.call_and_validate(headers=bearer("admin"), checks=CHECKS)

    hold()


def test_every_route_and_every_kind_of_problem_stands_in_the_reference() -> None:
    section = (Path(__file__).parents[2] / "docs/reference.md").read_text().split("## HTTP API")[1].split("\n## ")[0]
    routes = set(re.findall(r"^\| (\w+) \| `(/[^`]*)` \| (\w+) \|", section, re.MULTILINE))
    told = {(method, re.sub(r"{[^}]*}", "x", PREFIX + path), scope) for method, path, scope in routes}
    assert told == {one for one in routes_with_scopes() if one[1].startswith(PREFIX)}
    kinds = {(name, int(status)) for name, status in re.findall(r"^\| ([\w-]+) \| (\d+) \|", section, re.MULTILINE)}
    assert kinds == {(kind.name, kind.status) for kind in [*PROBLEMS.values(), *STATUSES.values()]}
