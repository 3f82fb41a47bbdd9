"""Forked commands are told apart from started ones by their cost alone."""

import os
import signal
from pathlib import Path

import pytest
from forked import OREO, Forked, run

CODE = """
import os, sys
from multiprocessing import parent_process
print(sys.argv, __name__, __file__, os.getcwd(), os.environ.get("SAID"), parent_process())
print("torch" in sys.modules, sys.path[0], file=sys.stderr)
sys.exit(3)
"""


def test_a_file_is_run_as_python_runs_it(tmp_path: Path):
    file = tmp_path / "sub" / "code.py"
    file.parent.mkdir()
    file.write_text(CODE)
    done = run([str(file), "a", "b"], tmp_path, os.environ | {"SAID": "x"})
    assert done.returncode == 3
    assert done.stdout == f"{[str(file), 'a', 'b']} __main__ {file} {tmp_path} x None\n"
    assert done.stderr == f"True {file.parent}\n"


def test_a_module_of_its_folder_is_found_and_no_test_is(tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "import importlib.util as u, sys\nprint(sys.argv[1:], u.find_spec('test_forked'))\n"
    )
    assert run(["-m", "mine", "x"], tmp_path).stdout == "['x'] None\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, -15)])
def test_it_can_be_killed(number: int, code: int, tmp_path: Path):
    (tmp_path / "mine.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(1000)\n")
    process = Forked(["mine.py"], tmp_path)
    while "begun\n" not in process.said()[0]:
        assert process.poll() is None
    os.kill(process.pid, number)
    assert process.wait() == code


def test_it_reads_what_it_is_given(tmp_path: Path):
    (tmp_path / "mine.py").write_text("print(input(), input())\n")
    assert run(["mine.py"], tmp_path, stdin="a\nb\n").stdout == "a b\n"


def test_the_command_says_what_it_says_elsewhere(tmp_path: Path):
    done = run([*OREO, "run", "collect.sampels=3"], tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("oreo: ") and "collect.samples" in done.stderr
    assert "Traceback" not in done.stderr
