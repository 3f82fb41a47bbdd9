"""The three packages and their rooms: which may import what, what an import loads, that public names are explained."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"oreo_envs": ROOT / "oreo_envs", "oreo_algos": ROOT / "oreo_algos", "oreo_agents": ROOT / "agents/oreo_agents"}
FORBIDDEN = {
    "oreo_envs": {"torch", "transformers", "peft", "accelerate", "tokenizers", "hydra", "oreo_algos", "oreo_agents"},
    "oreo_algos": {"transformers", "peft", "tokenizers", "gymnasium", "sympy", "hydra", "oreo_envs", "oreo_agents"},
    "oreo_agents": {"sympy", "math_verify", "textworld"},
}
# Within a package: each room stands on those after it, and none looks up. "" is what lies beside the rooms.
FLOORS = {
    "oreo_envs": ["alfworld", "", "grading"],
    "oreo_algos": ["training", "algos", "storage", "losses", ""],
    "oreo_agents": [
        *(
            "runs",
            "serving",
            "value_quality",
            "reproduction",
            "evaluation",
            "search",
            "formats",
            "engines",
            "episodes",
            "networks",
            "",
        ),
    ],
}
MODULES = [(room, path) for room, folder in ROOMS.items() for path in sorted(folder.rglob("*.py"))]
NAMES = [f"{room}/{path.relative_to(ROOMS[room])}" for room, path in MODULES]


@cache
def tree_of(path: Path) -> ast.Module:
    """A module, parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the top-level packages that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module).partition(".")[0]


def test_there_are_modules_in_every_room():
    assert {room for room, _ in MODULES} == set(ROOMS)
    assert len(MODULES) > 40


@pytest.mark.parametrize(("room", "path"), MODULES, ids=NAMES)
def test_imports_keep_to_their_direction(room: str, path: Path):
    wrong = FORBIDDEN[room] & set(imported(tree_of(path)))
    assert not wrong, f"{path.name} must not import {', '.join(sorted(wrong))}"


def room_of(package: str, module: str) -> str:
    """Return the room that a module, named in full, lies in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS[package] else ""


def looks_up(package: str, room: str, tree: ast.AST) -> set[str]:
    """Return what a module of a room imports from rooms above it; names that only a type checker reads count too."""
    floors = FLOORS[package]
    named = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == package
        for alias in node.names
    }
    return {name for name in named if floors.index(room_of(package, name)) < floors.index(room)}


@pytest.mark.parametrize(("package", "path"), MODULES, ids=NAMES)
def test_no_room_looks_up(package: str, path: Path):
    relative = path.relative_to(ROOMS[package])
    if relative.name == "__init__.py" and len(relative.parts) == 1:
        return  # the face of a package names what lies in all of its rooms
    room = relative.parts[0] if len(relative.parts) > 1 else ""
    assert room in FLOORS[package], f"{room}: a new room has its place in FLOORS"
    assert not looks_up(package, room, tree_of(path))


def test_a_look_up_would_be_seen():
    source = "def f():\n    from oreo_agents.search import Greedy\n    from oreo_agents import progress\n"
    assert looks_up("oreo_agents", "networks", ast.parse(source)) == {"oreo_agents.search.Greedy"}
    assert not looks_up("oreo_agents", "runs", ast.parse(source))


def test_a_broken_direction_would_be_seen():
    source = "def f():\n    import torch.nn as nn\n    from oreo_algos.batch import Batch\n"
    assert FORBIDDEN["oreo_envs"] & set(imported(ast.parse(source))) == {"torch", "oreo_algos"}


def test_only_the_command_line_has_heard_of_hydra():
    found = [path for _, path in MODULES if {"hydra", "omegaconf"} & set(imported(tree_of(path)))]
    names = ["building", "choices", "cli", "composing", "hints", "jobs", "overrides", "run_folders", "sweeps"]
    assert sorted(found) == [ROOMS["oreo_agents"] / "runs" / f"{name}.py" for name in names]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert f"There, {', '.join(f'`{name}`' for name in names)} do." in " ".join(page.split())


def test_only_the_stock_engine_and_the_makers_import_textworld():
    for room, path in MODULES:
        packages = set(imported(tree_of(path)))
        assert path.name in ("textworld_engine.py", "textworld_maker.py") or not packages & {"textworld", "alfworld"}, (
            room,
            path.name,
        )


def loaded_after(statement: str) -> set[str]:
    code = f"import sys, json; {statement}; print(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout))


def test_importing_the_environments_loads_nothing_heavy():
    heavy = {"torch", "transformers", "sympy", "pyarrow", "math_verify", "huggingface_hub", "textworld"}
    loaded = loaded_after("import oreo_envs, gymnasium; gymnasium.make('oreo/Arithmetic-v0').reset(seed=0)")
    assert "oreo_envs" in loaded and not heavy & loaded


def test_the_face_of_the_agents_is_lazy_and_whole():
    assert not {"torch", "transformers", "gymnasium", "hydra"} & loaded_after("import oreo_agents; dir(oreo_agents)")
    import oreo_agents

    assert set(oreo_agents.__all__) <= set(dir(oreo_agents))
    with pytest.raises(ImportError, match="cannot import name 'CausalPolice'"):
        from oreo_agents import CausalPolice  # type: ignore[attr-defined]  # noqa: F401


def test_importing_the_algorithms_loads_no_model_family_and_no_environment():
    loaded = loaded_after("import oreo_algos, oreo_algos.losses")
    assert "torch" in loaded and not {"transformers", "peft", "oreo_envs", "gymnasium", "sympy"} & loaded


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("report", "nowhere"), ("report", "--help"), ("data", "stats", "nowhere"), ("show", "nowhere")],
    ids=" ".join,
)
def test_commands_that_only_read_start_without_torch(arguments: tuple[str, ...], tmp_path: Path):
    code = (
        "import sys, json\nfrom oreo_agents.runs.cli import main\n"
        f"sys.argv = ['oreo', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(); print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    loaded = set(json.loads(result.stdout.splitlines()[-1]))
    assert "oreo_agents" in loaded and not {"torch", "transformers", "peft", "matplotlib", "sympy"} & loaded


def public_names(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield modules, classes, functions and methods whose names do not begin with an underscore."""
    yield "module", tree
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for child in node.body:
                    overloaded = isinstance(child, ast.FunctionDef) and any(
                        isinstance(d, ast.Name) and d.id in ("overload", "setter") for d in child.decorator_list
                    )
                    if isinstance(child, ast.FunctionDef) and not child.name.startswith("_") and not overloaded:
                        yield f"{node.name}.{child.name}", child


@pytest.mark.parametrize(("room", "path"), MODULES, ids=NAMES)
def test_every_public_name_has_a_docstring(room: str, path: Path):
    tree = tree_of(path)
    missing = [name for name, node in public_names(tree) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert not missing


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_package_offers_what_it_says(room: str):
    package = __import__(room)
    for name in getattr(package, "__all__", ()):
        assert hasattr(package, name)
