"""Imports go one way, and modules and functions stay of a size that can be read."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRIMITIVES = (
    "scoring", "_fast", "_ordered", "_similarity", "_sparse", "features", "consistency", "similarity", "histories",
    "losses", "graph", "neighbours", "content",
)  # fmt: skip
FACE = "isolator_jax"  # the public names of its __init__.py; it may import all
# From the ground up: a unit imports from its own layer and those before it.
LAYERS = (
    ("errors", "files", "memory", "precision", "processes"),
    ("checks",),
    (*PRIMITIVES, "strategies"),
    ("data", "backbones"),
    ("training", "evaluation"),
    ("devices",),
    ("reporting",),
    ("runs",),
    (FACE, "_public", "recommender"),
    ("experiments",),
)
HEIGHT = {unit: height for height, layer in enumerate(LAYERS) for unit in layer}
LONGEST_MODULE, LONGEST_FUNCTION = 350, 60
ALLOWED: dict[str, str] = {}  # a module, or module:function, that is longer: the reason, which BUILD_NOTES.md gives too
# Files, and file:function, that still break a rule; nothing stays here.
PENDING: set[str] = set()

FILES = sorted(path for folder in ("isolator_jax", "experiments") for path in (ROOT / folder).rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in FILES}


def module_of(name):
    """`isolator_jax/data/mmrec.py` is the module isolator_jax.data.mmrec, whose package is isolator_jax.data."""
    parts = name.removesuffix(".py").split("/")
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(name):
    """Modules of this project that a file imports anywhere in it, relative imports resolved."""
    package = name.split("/")[:-1]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            # `from isolator_jax import losses` imports a module, not a name of the face.
            for alias in node.names:
                path = "/".join([*module, alias.name])
                is_module = f"{path}.py" in TREES or f"{path}/__init__.py" in TREES
                yield ".".join([*module, alias.name] if is_module else module)


def unit_of(module):
    """The unit of design that a module belongs to; None outside the project."""
    parts = module.split(".")
    if parts[0] == "experiments":
        return "experiments"
    if parts[0] != "isolator_jax":
        return None
    return parts[1] if len(parts) > 1 else FACE


def edges():
    for name in TREES:
        if name != "isolator_jax/__init__.py":
            for module in imported(name):
                unit = unit_of(module)
                if unit is not None:
                    yield name, unit_of(".".join(module_of(name))), unit


def test_every_module_has_its_layer():
    units = {unit_of(".".join(module_of(name))) for name in TREES}
    assert units <= HEIGHT.keys(), f"name the layer of {sorted(units - HEIGHT.keys())} in LAYERS"


def test_imports_go_one_way():
    upwards = {
        f"{name} imports {to}" for name, unit, to in edges() if name not in PENDING and HEIGHT[to] > HEIGHT[unit]
    }
    assert not upwards


def test_units_of_a_layer_do_not_import_each_other_in_a_circle():
    graph = {}
    for name, unit, to in edges():
        if unit != to and name not in PENDING:
            graph.setdefault(unit, set()).add(to)
    TopologicalSorter(graph).prepare()


def test_errors_imports_nothing_and_commands_do_not_import_each_other():
    assert not [module for module in imported("isolator_jax/errors.py") if unit_of(module)]
    commands = {
        ".".join(module_of(name)) for name in TREES if name.startswith("experiments/") and name.count("/") == 1
    } - {"experiments"}
    assert not [
        f"{name} imports {module}"
        for name in TREES
        if name != "experiments/__main__.py"
        for module in imported(name)
        if module in commands
    ]


def length_without_docstring(function):
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    text = function.body[0]
    return lines - (text.end_lineno - text.lineno + 1)


@pytest.mark.parametrize("folder", ["isolator_jax", "experiments"])
def test_modules_and_functions_are_short(folder):
    names = [name for name in TREES if name.startswith(f"{folder}/")]
    modules = {name: len((ROOT / name).read_text().splitlines()) for name in names}
    functions = {
        f"{name}:{node.name}": length_without_docstring(node)
        for name in names
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    too_long = {name: lines for name, lines in modules.items() if lines > LONGEST_MODULE}
    too_long |= {name: lines for name, lines in functions.items() if lines > LONGEST_FUNCTION}
    assert not too_long.keys() - ALLOWED.keys() - PENDING, too_long
    assert not {name for name in ALLOWED if name.startswith(folder)} - too_long.keys(), "no longer needs to be allowed"


def test_what_is_allowed_to_be_long_has_its_reason_in_the_notes():
    notes = (ROOT / "BUILD_NOTES.md").read_text()
    assert all(name.split(":")[0] in notes for name in ALLOWED)


def test_nothing_is_pending():
    assert not PENDING
