"""Suggestions for names that do not exist."""

import pytest

from oreo_envs.checks import close_to, closest

NAMES = ["train/kl", "train/losses/value", "trainer.tracker", "trainer.bf16", "collect.samples", "sft.samples", "seed"]


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("zzz", []),
        ("train/zzz", []),
        ("trainer.zzz", []),
        ("vale", ["train/losses/value"]),
        ("trainer.traker", ["trainer.tracker"]),
        ("trainertracker", ["trainer.tracker"]),
        ("collect.sampels", ["collect.samples"]),
        ("colect.samples", ["collect.samples", "sft.samples"]),
        ("sede", ["seed"]),
        ("", []),
    ],
)
def test_the_last_part_of_a_name_has_to_be_close(word: str, near: list[str]):
    assert close_to(word, NAMES) == near
    assert closest(word, NAMES) == (f"; did you mean {near[0]!r}?" if near else "")
