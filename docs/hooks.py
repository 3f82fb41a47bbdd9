"""What mkdocs has to be told about this repository: pages that lie outside `docs/`, and links among all of them.

Links are written as GitHub reads them, from file to file. Here a file of `docs/` lies at the top of the site, any other
one under its path in the repository; what a page links to is taken along, and a link to a folder is plain text.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/LOG.md", "benchmarks/README.md", "findings/README.md")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let pages of `docs/` that `nav` does not name stand at the end of "Subjects"."""
    named = set(re.findall(r"[\w/.-]+\.md", str(config.nav)))
    [subjects] = [part["Subjects"] for part in config.nav or [] if "Subjects" in part]
    subjects += sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in named)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside `docs/`, and whatever any page links to."""
    for name in PAGES:
        files.append(_file(name, config))
    asked = [page for page in files if page.is_documentation_page()]
    for page in asked:
        text = Path(page.abs_src_path or "").read_text(encoding="utf-8")
        for _, _, target in LINK.findall(text):
            name = _target(_home(page), target)
            if name is not None and (ROOT / name).is_file() and files.get_file_from_path(_place(name)) is None:
                files.append(_file(name, config))
                if name.endswith(".md"):
                    asked.append(files.get_file_from_path(_place(name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between files of the site."""

    def replace(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        name = _target(_home(page.file), target)
        if name is None:
            return found.group()
        if not (ROOT / name).exists():
            raise ValueError(f"{_home(page.file)}: {target} is not there")
        if (ROOT / name).is_dir():
            return text
        anchor = f"#{target.partition('#')[2]}" if "#" in target else ""
        place = posixpath.relpath(_place(name), posixpath.dirname(page.file.src_uri) or ".")
        return f"{mark}[{text}]({place}{anchor})"

    return "".join(
        part if part.startswith("```") else LINK.sub(replace, part)
        for part in re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    )


def _file(name: str, config: MkDocsConfig) -> File:
    return File.generated(config, _place(name), abs_src_path=str(ROOT / name))


def _home(file: Any) -> str:
    """Return where a page lies in the repository."""
    return Path(file.abs_src_path).resolve().relative_to(ROOT).as_posix()


def _place(name: str) -> str:
    """Return where a file of the repository lies in the site."""
    return name.removeprefix("docs/")


def _target(home: str, target: str) -> str | None:
    """Return what a link leads to, from the top of the repository; None: another site, or the page itself."""
    path = target.partition("#")[0]
    if not path or re.match(r"[a-z]+:", path):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), path))
