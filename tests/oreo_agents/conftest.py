"""One thread for all tests of this room, and checkpoints of tiny models on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import make_model, make_tokenizer

torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `gpu` where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return the folder of a tiny checkpoint of an architecture, model and tokenizer."""
    folders: dict[str, str] = {}

    def get(family: str) -> str:
        if family not in folders:
            folder: Path = tmp_path_factory.mktemp(family)
            make_model(family).save_pretrained(folder)
            make_tokenizer().save_pretrained(folder)
            folders[family] = str(folder)
        return folders[family]

    return get
