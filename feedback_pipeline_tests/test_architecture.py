import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "feedback_pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("pandas", "pyarrow", "scipy", "sklearn", "mlflow", "matplotlib", "statsmodels")
# threadpoolctl: how many threads the algebra of numpy and scipy may use.
LEARNING_MAY = {"numpy", "pandas", "scipy", "sklearn", "threadpoolctl"}
# Which part of the package may be imported from which, besides itself.
ROOMS = {
    "errors": set(),
    "settings": set(),
    "learning": {"errors"},
    "simulation": {"errors", "learning", "storage"},
    "storage": {"errors", "settings", "learning"},
    "learning_pass": {"errors", "settings", "learning", "storage"},
    "orchestration": {"errors", "settings", "learning", "storage", "learning_pass"},
    "definitions": {"orchestration"},
    "environment": {"errors", "settings", "storage"},
    "processes": {"errors"},
    "schemas": set(),
    "sdk": {"errors", "learning", "schemas", "storage"},
    "serving": {"errors", "settings", "learning", "storage", "learning_pass", "environment", "schemas"},
    "commands": {
        "errors",
        "settings",
        "learning",
        "storage",
        "learning_pass",
        "simulation",
        "orchestration",
        "environment",
        "processes",
    },
    "cli": {"errors", "commands"},
}


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" if module == "feedback_pipeline" else module for alias in node.names)


def _at_import(tree: ast.Module) -> Iterator[str]:
    """What importing the module imports: not function bodies, not what only a type checker reads."""
    for node in tree.body:
        if isinstance(node, (ast.Import | ast.ImportFrom, ast.Try)):
            yield from _imports(node)


def _room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_point_downwards(path: Path) -> None:
    own = _name(path)
    if own == "feedback_pipeline.__init__":
        return
    imported = {name for name in _imports(_tree(path)) if name.startswith("feedback_pipeline.")}
    forbidden = {name for name in imported if _room(name) not in ROOMS[_room(own)] | {_room(own)}}
    assert not forbidden


def test_every_room_has_its_rule() -> None:
    assert {_room(_name(path)) for path in MODULES} - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("path", [path for path in MODULES if "learning" in path.parts], ids=_name)
def test_learning_is_pure(path: Path) -> None:
    names = {name.split(".")[0] for name in _imports(_tree(path))}
    assert names - LEARNING_MAY - {"feedback_pipeline"} <= sys.stdlib_module_names
    assert not names & {"os", "time", "psycopg", "subprocess", "socket", "urllib", "pathlib"}, "the outside belongs in storage"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_only_orchestration_knows_dagster(path: Path) -> None:
    names = {name.split(".")[0] for name in _imports(_tree(path))}
    if _room(_name(path)) not in {"orchestration", "definitions"}:
        assert not any(name.startswith("dagster") for name in names)


@pytest.mark.parametrize("path", [p for p in MODULES if _room(_name(p)) in {"orchestration", "definitions", "cli"}], ids=_name)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    names = {name.split(".")[0] for name in _at_import(_tree(path))}
    assert not names & set(HEAVY)


@pytest.mark.parametrize("path", [path for path in MODULES if _room(_name(path)) == "schemas"], ids=_name)
def test_what_the_api_and_its_clients_share_needs_pydantic_alone(path: Path) -> None:
    names = {name.split(".")[0] for name in _imports(_tree(path))}
    assert names - {"pydantic", "feedback_pipeline"} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=_name)
def test_packages_hold_a_docstring_and_nothing_else(path: Path) -> None:
    body = _tree(path).body
    # The exceptions: the registry of groups, and the few names that agents import.
    registry = path.parent.name in {"assets", "sdk"}
    assert isinstance(body[0], ast.Expr)
    assert registry or len(body) == 1


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 360
    assert path.stem not in {"utils", "helpers", "common", "misc"}


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys, json\n{statement}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


def test_definitions_load_nothing_heavy() -> None:
    loaded = _loaded_by("import feedback_pipeline.definitions")
    assert "dagster" in loaded
    assert not loaded & {*HEAVY, "numpy", "psycopg", "psycopg2"}


def test_definitions_open_nothing() -> None:
    """Importing them opens no socket and no file but modules; files of the standard library's own start-up aside."""
    watch = """
import dagster
seen = []
def hook(event, arguments):
    if event in ("socket.connect", "subprocess.Popen", "os.system"):
        seen.append(event)
    if event == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so")) and isinstance(arguments[0], str):
        seen.append(f"open {arguments[0]}")
sys.addaudithook(hook)
import feedback_pipeline.definitions
assert not seen, seen
"""
    _loaded_by(watch)


def test_the_command_line_starts_light() -> None:
    loaded = _loaded_by("import feedback_pipeline.cli")
    assert not loaded & {*HEAVY, "dagster", "numpy", "psycopg", "rich", "pydantic"}


def test_the_shape_of_the_database_is_not_read_at_import() -> None:
    """Definitions load with a database URL that leads nowhere."""
    code = "import feedback_pipeline.definitions"
    variables = {"FEEDBACK_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=variables)
