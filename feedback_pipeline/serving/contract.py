"""How the routes describe themselves in OpenAPI: errors on every one, the tokens, the parameters they share."""

from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Query
from fastapi.openapi.utils import get_openapi
from pydantic import AfterValidator

from feedback_pipeline.schemas.answers import Problem
from feedback_pipeline.schemas.texts import MAX_ID, MAX_NAME, storable
from feedback_pipeline.serving.access import METRICS, PREFIX
from feedback_pipeline.serving.problems import CONTENT_TYPE, PROBLEMS, STATUSES

Agent = Annotated[str, Path(min_length=1, max_length=MAX_NAME, description="name of an agent"), AfterValidator(storable)]
Identifier = Annotated[str, Path(min_length=1, max_length=MAX_ID), AfterValidator(storable)]
AgentFilter = Annotated[
    Annotated[str, AfterValidator(storable)] | None, Query(min_length=1, max_length=MAX_NAME, description="only of this agent")
]
_SCHEMA: Final = {"$ref": "#/components/schemas/Problem"}
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    kind.status: {"description": kind.title, "content": {CONTENT_TYPE: {"schema": _SCHEMA}}}
    for kind in [*STATUSES.values(), *PROBLEMS.values()]
}
"""What any route may answer instead."""


def describe(app: FastAPI) -> None:
    """Complete the OpenAPI description of the application with what its routes cannot say of themselves."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _described(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schemas = components.setdefault("schemas", {})
    described = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(described.pop("$defs", {}))
    schemas["Problem"] = described if "properties" in described else schemas["Problem"]
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            if path.startswith(PREFIX) or path == METRICS:
                operation["security"] = [{"token": []}]
    return schema
