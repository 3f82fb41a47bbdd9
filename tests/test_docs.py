"""The documentation: built without a warning, with nothing from elsewhere, and in step with the code."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import unquote

import pytest

from oreo_algos.training import glossary

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))
WRITTEN = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md"), *PAGES]
WRITTEN += [ROOT / "benchmarks" / "LOG.md"]


def generator():
    """The module docs/generate.py."""
    spec = spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generator()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "settings.md" else ()) for name in GENERATE.PAGES]
)
def test_a_page_written_from_the_code_is_as_the_code_has_it(name: str):
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert written == "\n".join(GENERATE.PAGES[name]()).rstrip() + "\n", "run python docs/generate.py"


def test_every_setting_and_option_says_what_it_is():
    for name in ("settings.md", "environments.md", "episodes.md"):
        rows = re.findall(r"^\| .*`.*\|$", (DOCS / "reference" / name).read_text(encoding="utf-8"), re.MULTILINE)
        silent = [row for row in rows if not row.rstrip("|").rpartition(" | ")[2].strip()]
        assert len(rows) > 10 and silent == []


def outside_code(text: str) -> str:
    """A page without its blocks of code and its code within lines."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(path: Path) -> set[str]:
    """The anchors of a page as GitHub and mkdocs make them, for headings of letters, digits and plain marks."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(path: Path):
    links = re.findall(
        r"\]\(([^()\s]+)\)", outside_code(path.read_text(encoding="utf-8").replace("[`", "[").replace("`]", "]"))
    )
    for target in links:
        place, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (path.parent / unquote(place)).resolve() if place else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


class Page(HTMLParser):
    """What an HTML page loads, links to and can be linked at."""

    def __init__(self, path: Path) -> None:
        """Read a page."""
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag in ("script", "img", "iframe", "source") and "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preconnect", "icon"):
            self.loaded.append(given["href"])
        if tag == "a" and "href" in given:
            self.linked.append(given["href"])


@pytest.fixture(scope="module")
def site(once: Callable[..., Path]) -> dict[Path, Page]:
    """The built pages by file."""
    pytest.importorskip("mkdocstrings", reason="the extra [docs] is not installed")

    def build(folder: Path) -> None:
        command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
        environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr

    return {path: Page(path) for path in once("site", build).rglob("*.html")}


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(site: dict[Path, Page]):
    assert len(site) > 40
    for path, page in site.items():
        assert [source for source in page.loaded if "//" in source] == [], path.name


@pytest.mark.slow
def test_links_and_anchors_of_the_site_lead_somewhere(site: dict[Path, Page]):
    missing = []
    for path, page in site.items():
        for link in page.linked:
            place, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", link) or path.name == "404.html":
                continue
            found = (path.parent / place).resolve() if place else path
            if not found.exists() or (anchor and found in site and anchor not in site[found].ids | {"__top"}):
                missing.append(f"{path.name}: {link}")
    assert missing == []


@pytest.mark.slow
def test_every_public_name_has_its_place_in_the_reference(site: dict[Path, Page]):
    ids = {anchor for path, page in site.items() if path.parent.name == "api" for anchor in page.ids}
    for entries in GENERATE.API.values():
        for name in named(entries):
            assert name in ids


def named(entries: tuple[str, ...]) -> Iterator[str]:
    """Names that a page of the reference is for."""
    for entry in entries:
        module, _, names = entry.partition(":")
        found = import_module(module)
        yield from (f"{module}.{name}" for name in names.split() or found.__all__ if GENERATE.at_home(found, name))


def test_every_algorithm_has_a_page_with_its_five_metrics():
    names = {path.stem for path in (ROOT / "configs" / "algo").glob("*.yaml")}
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "algorithms").glob("*.md")}
    assert names == {*pages} - {"index"}
    for name in names:
        table = pages[name].partition("## Five metrics")[2].partition("\n## ")[0]
        assert len(re.findall(r"^\| `", table, re.MULTILINE)) == 5, name
        logged = {metric.name for metric in glossary.metrics()}
        assert {f"train/{metric}" for metric in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)} <= logged
        assert f"`algo={name}`" in pages[name] and f"({name}.md)" in pages["index"]


def test_every_heading_of_the_log_is_in_its_contents():
    text = (ROOT / "benchmarks" / "LOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    contents = re.findall(r"^- \[(.*)\]\(#(.*)\)$", text, re.MULTILINE)
    assert [title for title, _ in contents] == headings and len(headings) > 30


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110
