"""Errors out of code from outside: where they were, and their traceback, in this process and from another."""

import contextlib
import json
import logging
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from oreo_agents import own_code, plugins
from oreo_agents.own_code import OwnCodeError, explained, sent_home, told

MODULE = """\
class Mine:
    def losses(self, batch):
        return [batch.extra[name] for name in ("weight",)]

def own(work):
    return work()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that a user names."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "plugraising.py"
    path.write_text(MODULE, encoding="utf-8")
    plugins.import_named(str(path))
    yield path
    plugins.forget()
    sys.modules.pop("plugraising", None)


def raised(work) -> Exception:
    with pytest.raises(Exception) as found:
        work()
    return found.value


def test_class_method_file_and_line_are_named_and_the_traceback_is_kept(
    mine: Path, tmp_path: Path, capsys, monkeypatch
):
    from plugraising import Mine

    error = raised(lambda: Mine().losses(None))
    place = f"Mine.losses.<locals>.<listcomp> ({mine}, line 3) raised AttributeError: 'NoneType' object has no"
    assert str(explained(error)).startswith(place)

    with contextlib.closing(logging.FileHandler(tmp_path / "job.log")) as log:
        monkeypatch.setattr(logging.getLogger(), "handlers", [log])
        assert str(told(error)).endswith(f"its traceback is in {tmp_path / 'job.log'}")
    assert 'for name in ("weight",)' in (tmp_path / "job.log").read_text() and not capsys.readouterr().err


def test_without_a_log_the_traceback_is_shown(mine: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    import plugraising

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert str(told(raised(lambda: plugraising.own(lambda: 1 / 0)))).endswith("its traceback is above")
    assert capsys.readouterr().err.startswith("Traceback")


def test_errors_of_the_suite_are_none_of_ones_own(mine: Path):
    assert explained(raised(lambda: 1 / 0)) is told(raised(lambda: own_code.sent_home(lambda: {}["there"]))) is None


def test_another_process_says_where_it_was(mine: Path):
    with ProcessPoolExecutor(1, get_context("spawn"), plugins.import_named, (str(mine),)) as pool:
        import plugraising

        error = raised(lambda: pool.submit(sent_home, plugraising.own, json.loads).result())
    assert isinstance(error, OwnCodeError) and f"own ({mine}, line 6) raised TypeError" in str(explained(error))
    assert "plugraising.py" in str(error.__cause__)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
