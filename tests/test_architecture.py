"""docs/architecture.md in step with the code: its picture with the imports, its names with what there is."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
from test_imports import FLOORS, MODULES, ROOMS, room_of, tree_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"


def room_of_file(package: str, path: Path) -> str | None:
    """The room that a file lies in; None for the face of a package, which names what lies in all of them."""
    parts = path.relative_to(ROOMS[package]).parts
    return (None if path.name == "__init__.py" else "") if len(parts) == 1 else parts[0]


def stands_on(package: str, room: str) -> tuple[list[str], list[str]]:
    """The rooms of its own package and the other packages that a room imports from."""
    rooms, packages = set(), set()
    for other, path in MODULES:
        if other == package and room_of_file(package, path) == room:
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.ImportFrom) and (top := str(node.module).partition(".")[0]) in ROOMS:
                    names = [room_of(package, f"{node.module}.{alias.name}") for alias in node.names]
                    rooms.update(names if top == package else ())
                    packages.update({top} - {package})
    return [name for name in FLOORS[package] if name in rooms - {room}], sorted(packages)


def picture() -> str:
    """Rooms from top to bottom, each with what it stands on."""
    lines = []
    for package in ("oreo_agents", "oreo_algos", "oreo_envs"):
        for room in FLOORS[package]:
            rooms, packages = stands_on(package, room)
            below = " ".join([*(name or "itself" for name in rooms), *(f"[{name}]" for name in packages)])
            lines.append(f"{f'{package}/{room}' if room else package:<28}{below and '-> ' + below}".rstrip())
        lines.append("")
    return "\n".join(lines).rstrip()


def test_the_picture_is_what_the_imports_are():
    blocks = re.findall(r"```\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert picture() in blocks, f"put this into {PAGE.name}:\n{picture()}"


def test_every_room_is_in_the_table():
    text = PAGE.read_text(encoding="utf-8")
    rooms = [f"{package}/{room}" if room else package for package in FLOORS for room in FLOORS[package]]
    assert [room for room in rooms if f"| `{room}`" not in text and room != "oreo_agents"] == []


NAMES = sorted(set(re.findall(r"`(oreo_(?:envs|algos|agents)(?:\.\w+)+)`", PAGE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_page_are_there(name: str):
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return
    pytest.fail(f"no module of {name}")


def test_files_of_the_page_are_there():
    named = re.findall(r"`((?:\w+/)+[\w.]*)`", PAGE.read_text(encoding="utf-8"))
    found = [name for name in named if "NAME" in name or any((ROOT / up / name).exists() for up in (".", "agents"))]
    missing = sorted({*named} - {*found})
    assert len(named) > 20 and missing == []
