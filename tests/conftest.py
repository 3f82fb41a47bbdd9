"""What every test leaves as it found it, and what the workers of one session share."""

import gc
import logging
import os
import pickle
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins

# A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes of tests fill the cores. Whatever starts from here has one thread, and the bits that one thread gives.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Have one worker more than cores: each waits now and then, for what it has started and for the disk."""
    return (yield) + ("PYTEST_XDIST_AUTO_NUM_WORKERS" not in os.environ)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Have no collector of garbage read anew, at each of its passes, what lives as long as this process.

    That is some million objects of torch and transformers, and every test.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_sessionfinish() -> None:
    """Let go of what was held: libraries look at the end for what is left of theirs."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have workers begin with the files that take long: one that is left for the end leaves the other cores idle."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow, all_of = Counter[Path](), Counter(item.path for item in items)
        slow.update(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: (-slow[item.path], -all_of[item.path]))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session that all workers see."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def once(shared_folder: Path) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a function that makes a folder in this session once, whichever worker asks first."""

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = shared_folder / name, shared_folder / f"{name}.made"
        with FileLock(shared_folder / f"{name}.lock"):
            if not made.exists():
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return get


@pytest.fixture(scope="session", autouse=True)
def files_of_settings_are_parsed_once() -> Iterator[None]:
    """Tests compose some hundred configurations, for each of which Hydra parses the same files anew."""
    Plugins.instance()  # makes the classes of sources, that of files once more where a module has imported it
    source = SourcesRegistry.instance().resolve("file")
    parse, kept = source.load_config, {}

    def load(self: Any, config_path: str) -> Any:
        file = Path(self.path, f"{config_path.removesuffix('.yaml')}.yaml")
        if not file.is_file():
            return parse(self, config_path)
        key = (self.provider, file, config_path, file.stat().st_mtime_ns, file.stat().st_size)
        if key not in kept:
            kept[key] = pickle.dumps(parse(self, config_path))
        return pickle.loads(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "load_config", load)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """No test cuts the power: what a killed process has written is there without ``fsync``, which takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A command run within a test sets the level of all logs, silences them, or writes them to a file.

    The next test counts what it hears, and a file that is left open fails whichever test comes when it is collected.
    """
    root = logging.getLogger()
    _hear_warnings(root)  # a fixture of a file or of the session may have run a command
    yield
    _hear_warnings(root)
    for handler in [*root.handlers]:
        if isinstance(handler, logging.FileHandler) and handler.baseFilename != os.path.abspath(os.devnull):
            root.removeHandler(handler)
            handler.close()
    for logger in root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


def _hear_warnings(root: logging.Logger) -> None:
    """Set what is heard; setting it anew would clear what every logger knows of its level."""
    if root.level != logging.WARNING:
        root.setLevel(logging.WARNING)
    if root.manager.disable != logging.NOTSET:
        logging.disable(logging.NOTSET)


@pytest.fixture
def signals_restored() -> Iterator[None]:
    """Once a signal has ended work, the next is left to the system, which would end the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
