"""Rollouts in short talks: what was asked of the sampler, or a text in its place."""

from collections.abc import Callable, Iterator

import gymnasium as gym
import pytest
from short_talks import DIALOGUE_ENV, QUESTION_ENV, DialogueEnv, QuestionEnv

from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.generate import Sample
from oreo_agents.episodes.prompts import PromptFormat


@pytest.fixture(scope="module")
def short_talks() -> Iterator[None]:
    """Register the environments of `short_talks`."""
    gym.register(QUESTION_ENV, entry_point=QuestionEnv)
    gym.register(DIALOGUE_ENV, entry_point=DialogueEnv)
    yield
    for env_id in (QUESTION_ENV, DIALOGUE_ENV):
        del gym.registry[env_id]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], Sample]]:
    """Everything that `generate` was asked and answered."""
    calls: list[tuple[list[int], Sample]] = []
    original = sampler_module.generate

    def recording(policy, prompts, *rest, **options):
        samples = original(policy, prompts, *rest, **options)
        calls.extend(
            (list(p), Sample(list(s.tokens), list(s.logprobs), s.ended)) for p, s in zip(prompts, samples, strict=True)
        )
        return samples

    monkeypatch.setattr(sampler_module, "generate", recording)
    return calls


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the policy say given texts, turn by turn; a text that ends in "..." is cut off before its end."""

    def install(prompt_format: PromptFormat, *turns: str) -> None:
        waiting = list(turns)

        def say(policy, prompts, *rest, **options):
            samples = []
            for _ in prompts:
                text = waiting.pop(0)
                cut = text.endswith("...")
                tokens = prompt_format.encode(text.removesuffix("..."))
                tokens = tokens if cut else [*tokens, prompt_format.end_of_turn]
                samples.append(Sample(tokens, [-0.5 - i for i in range(len(tokens))], not cut))
            return samples

        monkeypatch.setattr(sampler_module, "generate", say)

    return install
