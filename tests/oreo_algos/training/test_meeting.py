"""Processes that are to meet and do not: a sentence after a time that can be set."""

import socket
import threading
from datetime import timedelta

import pytest
from torch import distributed as dist

from oreo_algos import ranks


@pytest.fixture
def port(monkeypatch) -> int:
    """A free port where two are to meet, of which this process is the first."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for name, value in {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OREO_JOIN_SECONDS", "1")
    return port


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_whose_partner_never_comes_says_so(rank, port, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(ranks.JoinError, match=rf"process {rank} of 2 .* within 1 seconds.*OREO_JOIN_SECONDS=N"):
        ranks.join()
    assert not dist.is_initialized() and ranks.current().size == 1 and ranks.speaks()


def test_a_process_whose_partner_dies_before_the_group_is_made_says_so(port):
    def come_and_go() -> None:
        dist.TCPStore("localhost", port, 2, is_master=False, timeout=timedelta(seconds=30))

    other = threading.Thread(target=come_and_go)
    other.start()
    with pytest.raises(ranks.JoinError, match="has ended"):
        ranks.join()
    other.join()
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("name", "value"),
    [("OREO_JOIN_SECONDS", "soon"), ("OREO_JOIN_SECONDS", "0"), ("OREO_JOIN_SECONDS", "nan"), ("MASTER_PORT", "x")],
)
def test_variables_that_are_no_numbers_are_named(name, value, port, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ranks.JoinError, match=f"{name}={value}: must be"):
        ranks.join()
