"""The command ``oreo new``: a package of one's own that works, to be changed.

Knows: the skeletons in ``skeletons``, how names are put in. Does not know: what they are about.
"""

import argparse
import keyword
import re
from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from oreo_agents.runs.choices import known
from oreo_algos.storage.atomic import replace_folder

KINDS = ("env", "algo", "search")


def main(arguments: Sequence[str]) -> None:
    """Write a package.

    Raises:
        ValueError: a name that cannot be one, or a folder that is there.
    """
    parser = argparse.ArgumentParser(
        prog="oreo new", description="Write a package with an environment, an algorithm or a search of your own."
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("name", metavar="NAME", help="such as letters, or my-letters")
    parser.add_argument("--out", type=Path, help="folder to write; default: NAME")
    given = parser.parse_args(arguments)
    folder = write(given.kind, given.name, given.out or Path(given.name))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    commands = readme.partition("```bash\n")[2].partition("```")[0]
    print(f"{folder} is written and works as it is. What comes next:\n\n  cd {folder}")
    print("".join(f"  {line}\n" for line in commands.splitlines()), end="")


def write(kind: str, name: str, folder: Path) -> Path:
    """Write the skeleton of a kind under a name; all of it or nothing.

    Args:
        kind: one of ``KINDS``.
        name: small letters, digits, - and _.
        folder: not there yet.

    Raises:
        ValueError: the name is taken, or no name; the folder is there.
    """
    package = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name) or keyword.iskeyword(package):
        raise ValueError(f"NAME {name!r}: give small letters and digits, with - or _ between them, such as my-{kind}")
    if name in known(kind):
        raise ValueError(f"NAME {name!r}: there is already {kind}={name}; choose another name")
    if find_spec(package) is not None:
        raise ValueError(f"NAME {name!r}: a Python module {package} is there already; choose another name")
    if folder.exists():
        raise ValueError(f"{folder} is there already; choose another folder with --out")
    words = re.split("[-_]", name)
    values = {
        "name": name,
        "package": package,
        "distribution": name.replace("_", "-"),
        "Name": "".join(word.capitalize() for word in words),
        "Title": " ".join(words).capitalize(),
    }
    source = Path(str(resources.files("oreo_agents"))) / "runs" / "skeletons" / kind
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replace_folder(folder) as temporary:
        for path in sorted(source.rglob("*.txt")):
            place = path.relative_to(source).as_posix().removesuffix(".txt")
            target = temporary / place.replace("PACKAGE", package).replace("NAME", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(Template(path.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
    return folder
