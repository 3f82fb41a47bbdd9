"""Text that a tokenizer has no tokens for is told of."""

import logging

import pytest

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.texts import text_episode
from oreo_agents.networks.tiny import word_tokenizer
from oreo_agents.runs.encoding import encode_buffer
from oreo_algos import EpisodeBuffer


def buffer(*answers: str) -> EpisodeBuffer:
    asked = [{"role": "user", "content": "2 + 2?"}]
    return EpisodeBuffer(
        text_episode(asked, [answer], [1.0], task_id=f"sum/{i}", env_id="oreo/Chat-v0", info={})
        for i, answer in enumerate(answers)
    )


@pytest.mark.parametrize(("answers", "told"), [(("4", "2 + 2"), ""), (("4", "boiling", "4 zoom"), "2 of 3 episodes")])
def test_episodes_with_text_of_no_token_are_counted(answers, told: str, caplog: pytest.LogCaptureFixture):
    prompt_format = PromptFormat(word_tokenizer(["2", "4", "+", "?", "user", "assistant", ":"]))
    with caplog.at_level(logging.WARNING):
        encode_buffer(buffer(*answers), prompt_format)
    assert (told in caplog.text) if told else not caplog.records
    assert not told or "the first: task sum/1" in caplog.text
