"""The environment ``oreo/TextWorld-v0``.

Knows: episodes: which game, what the player reads and may write, rewards, ends, ``info``.
Does not know: how games are made and played (``textworld_maker``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from oreo_envs.answers import index_after
from oreo_envs.base import Opening, Outcome, Scalar, Solution, TextEnv, Turn
from oreo_envs.checks import choose, positive
from oreo_envs.prompts import prompt_template
from oreo_envs.splits import SPLITS
from oreo_envs.textworld_maker import DEFAULTS, MadeGame, Play, made_game, settings_of

# Seeds of a split begin at a multiple of this, so that no seed is in two.
_SEEDS = 1 << 24
# What makers hold out for each split, beside the seeds.
_HELD_OUT: dict[str, dict[str, dict[str, Any]]] = {
    "tw-cooking": {"train": {"split": "train"}, "dev": {"split": "valid"}, "test": {"split": "test"}},
    "tw-simple": {"test": {"test": True}},
}

NOT_ADMISSIBLE = "That is not possible now."
"""The answer to what is no admissible command."""


class TextWorldEnv(TextEnv):
    """``oreo/TextWorld-v0``: text games by TextWorld's own makers.

    Action: one command, one of ``info["admissible_commands"]``, such as "go north", "open chest drawer", "take old key
        from chest drawer", "look", "inventory". Letter case, spaces, a ``>`` before and a full stop after it do not
        count; a command inside a thought (``<think>``) is not obeyed.
    Observation: the game's answer; at reset the objective and the room. What is not admissible changes nothing in the
        game and answers "That is not possible now.", but is an action.
    Start: ``options={"index": i}``, ``{"task_id": ...}``, or drawn from the seed.
    Reward: 1.0 on the action that wins the game, else 0.0; the game's own points are not paid.
    Episode end: terminated when the game is won or lost; truncated at ``max_steps`` actions, or when actions and
        observations exceed ``max_chars`` characters.
    Info: ``messages`` (the opening is the user's, a command the assistant's, an answer the user's),
        ``task_id, index, split, step, success, answer`` (always None), ``admissible_commands`` (sorted),
        ``task_type`` (the maker), ``invalid_action``, ``command_executed`` (None at the start and after an invalid
        action).
    Source and version: Côté et al. 2018 (arXiv:1806.11532), the makers of TextWorld 1.7; v0. A task id holds a
        fingerprint of the settings. Games are made when they are first played, a second or two and 400 kB each, and
        kept in the cache (``$OREO_CACHE``).
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __init__(
        self,
        *,
        split: str = "train",
        maker: str = "tw-simple",
        settings: Mapping[str, Any] | None = None,
        num_games: int = 1000,
        prompt: str | None = None,
        max_steps: int | None = 50,
        max_chars: int = 200_000,
        **shared: Any,
    ) -> None:
        """Say which games.

        Args:
            split: "train", "dev" or "test": other seeds; with "tw-cooking" also other foods and preparations, and with
                "tw-simple" other foods in "test", as their makers hold them out.
            maker: "tw-simple", "tw-coin_collector", "tw-treasure_hunter" or "tw-cooking".
            settings: the maker's difficulty, such as ``{"level": 5}``; what is missing is in
                ``textworld_maker.DEFAULTS``.
            num_games: how many games the split has; they are made as they are needed.
            prompt: a template of ``oreo_envs.prompts``; "question": the bare opening, None: asks for one command.
            max_steps: actions before truncation; None: no limit.
            max_chars: characters of actions and observations before truncation.
            shared: what all environments take, see ``TextEnv``.

        Raises:
            ValueError: an unknown maker, setting or value.
        """
        super().__init__(split=split, max_steps=max_steps, max_chars=max_chars, **shared)
        self._template = prompt_template("textworld" if prompt is None else prompt)
        if positive("num_games", num_games) > _SEEDS:
            raise ValueError(f"num_games must be at most {_SEEDS}, got {num_games}")
        self.maker, self._num_games = choose("maker", maker, DEFAULTS), num_games
        held_out = _HELD_OUT.get(maker, {}).get(split, {})
        self.settings = settings_of(maker, {} if settings is None else settings, held_out)
        self._play: Play | None = None
        self._play_index = -1

    @property
    def num_tasks(self) -> int:
        """Number of games in the split."""
        return self._num_games

    def action_text(self, command: str, reason: str = "") -> str:
        """Return the action that gives ``command``."""
        return command

    def game(self, index: int) -> MadeGame:
        """Game ``index`` of this split, made if it is not there yet."""
        return made_game(self.maker, self.settings, self.splits.index(self.split) * _SEEDS + index)

    def _begin(self, index: int) -> Opening:
        opening = self._open(index)
        self._enter(index)
        return opening

    def _enter(self, index: int) -> None:
        if self._play is None or self._play_index != index:
            self._play, self._play_index = Play(self.game(index)), index
        else:
            self._play.restart()

    def _open(self, index: int) -> Opening:
        text = self.game(index).start.text
        return Opening(f"{self._prefix}/{index}", text, self._template.messages(text))

    @property
    def _prefix(self) -> str:
        digest = hashlib.blake2b(json.dumps(sorted(self.settings.items())).encode(), digest_size=3).hexdigest()
        return f"textworld/{self.maker}-{digest}/{self.split}"

    def _index_of(self, task_id: str) -> int | None:
        index = index_after(self._prefix, task_id)
        return index if index is not None and index < self._num_games else None

    def _task_ids(self) -> tuple[str, ...]:
        return (f"{self._prefix}/0",)

    def _respond(self, action: str) -> Outcome:
        assert self._play is not None
        command = self._command(action)
        if command is None:
            return Outcome(NOT_ADMISSIBLE, info={"invalid_action": True})
        self._play.step(command)
        scene = self._play.scene
        return Outcome(
            scene.text,
            reward=float(scene.won),
            terminated=scene.won or scene.lost,
            info={"command_executed": command},
        )

    def _command(self, action: str) -> str | None:
        """The admissible command that an action gives."""
        assert self._play is not None
        said = (self.thoughts.answer(action) or "").strip().removeprefix(">").removesuffix(".")
        said = " ".join(said.lower().split())
        return next((command for command in self._play.scene.commands if command.lower() == said), None)

    def _info(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        assert self._play is not None
        info = {
            "success": self._play.scene.won,
            "admissible_commands": list(self._play.scene.commands),
            "task_type": self.maker,
            "invalid_action": False,
            "command_executed": None,
        }
        return super()._info({**info, **extra})

    def cut_off(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """See ``TextEnv.cut_off``; the beginning of a command is none that is admitted."""
        *rest, info = super().cut_off(action)
        return *rest, info | {"invalid_action": True}  # type: ignore[return-value]

    def _cut_off(self, limit: Literal["steps", "text"]) -> Outcome:
        return Outcome(info={"invalid_action": True} if limit == "text" else {})

    def _get_inner(self) -> tuple[str, ...]:
        assert self._play is not None
        return self._play.history

    def _set_inner(self, inner: tuple[str, ...]) -> None:
        if self._play is None or self._play_index != self._index:
            self._enter(self._index)
        assert self._play is not None
        self._play.go_to(inner)

    def __getstate__(self) -> dict[str, Any]:
        """All but the interpreter, which begins anew where the environment is copied to."""
        history = None if self._play is None else self._play.history
        return self.__dict__ | {"_play": history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Invert ``__getstate__``: the commands are given again."""
        super().__setstate__(state)
        history, self._play = state["_play"], None
        if history is not None:
            self._play = Play(self.game(self._play_index))
            self._play.go_to(history)

    def _demonstrate(self, index: int, seed: int) -> Solution:
        """The maker's walkthrough, up to ``max_steps``."""
        game = self.game(index)
        play, turns = Play(game), []
        for command in game.walkthrough[: self.max_steps]:
            play.step(command)
            turns.append(Turn((command,), play.scene.text, float(play.scene.won)))
        won = play.scene.won
        info: dict[str, Scalar] = {"source": "walkthrough", "success": won, "answer": None, "task_type": self.maker}
        return Solution(tuple(turns), info, truncated=not won)
