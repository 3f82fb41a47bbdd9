"""A game played over HTTP: the server says a turn at a time, the client keeps the environment."""

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import httpx2
import pytest
from conftest import Running

from oreo_agents.episodes.generate import Sampling
from oreo_agents.search import Admissible, Player
from oreo_agents.serving.answering import LocalEngine
from oreo_envs.base import Opening, Outcome, TextEnv

GAME = "oreo_test/Doors-v0"


class DoorsEnv(TextEnv):
    """Three doors in a row, each opened by another colour."""

    splits: ClassVar[tuple[str, ...]] = ("train",)
    COLOURS: ClassVar[tuple[str, ...]] = ("red", "green", "blue")

    def __init__(self, *, split: str = "train") -> None:
        """Play."""
        super().__init__(split=split, max_steps=3, max_chars=10_000)

    @property
    def num_tasks(self) -> int:
        return 2

    def _open(self, index: int) -> Opening:
        return Opening(f"doors/{index}", "go", ({"role": "user", "content": f"Door {index}?"},))

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _respond(self, action: str) -> Outcome:
        return Outcome(observation=f"{action}: and now?")

    def _info(self, extra: Any) -> dict[str, Any]:
        place = len(self._messages)
        return super()._info({"admissible_commands": [f"{c} {place}" for c in self.COLOURS], **extra})

    def action_text(self, command: str) -> str:
        """Say a command as it is."""
        return command


@pytest.fixture(autouse=True)
def game() -> Iterator[None]:
    gym.register(GAME, entry_point=DoorsEnv)
    yield
    del gym.registry[GAME]


def played(server: Running, search: str) -> list[dict[str, Any]]:
    """Play task 1 to its end and return the answers of the server."""
    env, answers = gym.make(GAME, disable_env_checker=True), []
    _, info = env.reset(options={"index": 1})
    while True:
        own = {"commands": list(info["admissible_commands"])} if search == "admissible" else {}
        body = {"messages": info["messages"], "max_tokens": 8, "seed": 0, "oreo": {"search": search, **own}}
        response = httpx2.post(f"{server.url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
        assert response.status_code == 200, response.text
        answers.append(response.json())
        _, _, terminated, truncated, info = env.step(answers[-1]["choices"][0]["message"]["content"])
        if terminated or truncated:
            return answers


def test_the_commands_of_each_turn_are_those_said_as_where_it_is_played_here(server: Running, engine: LocalEngine):
    said = [answer["choices"][0]["message"]["content"] for answer in played(server, "admissible")]
    assert len(said) == 3 and all(text.split()[0] in DoorsEnv.COLOURS for text in said)

    sampling = Sampling(max_new_tokens=8, batch_size=4)
    make = lambda: gym.make(GAME, disable_env_checker=True)  # noqa: E731
    [answer] = Admissible().answer(Player(make, engine.policy, engine.prompt_format, [1], sampling, seed=0))
    assert answer is not None
    assert said == [message["content"] for message in answer.episode.messages if message["role"] == "assistant"]


@pytest.mark.parametrize("search", ["greedy", "best_of_k_actions"])
def test_a_turn_is_searched_with_the_game_so_far(search: str, server: Running):
    answers = played(server, search)
    prompts = [answer["usage"]["prompt_tokens"] for answer in answers]
    assert len(answers) == 3 and prompts == sorted(set(prompts))
    for answer in answers:
        [chosen] = [candidate for candidate in answer["oreo"]["candidates"] if candidate["chosen"]]
        assert chosen["text"] == answer["choices"][0]["message"]["content"]
        assert search == "greedy" or chosen["value"] is not None
