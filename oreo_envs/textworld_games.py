"""The environment ``oreo/TextWorld-v0``.

Knows: episodes: which game, what the player reads and may write, rewards, ends, ``info``.
Does not know: how games are made and played (``textworld_maker``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from oreo_envs.action_formats import FORMATS, ActionFormat, Said
from oreo_envs.answers import index_after
from oreo_envs.base import Opening, Outcome, Scalar, Solution, TextEnv, Turn
from oreo_envs.checks import choose, positive
from oreo_envs.prompts import list_name, prompt_template, with_list
from oreo_envs.splits import SPLITS
from oreo_envs.textworld_maker import DEFAULTS, MadeGame, Play, Scene, made_game, settings_of

# Seeds of a split begin at a multiple of this, so that no seed is in two.
_SEEDS = 1 << 24
# What makers hold out for each split, beside the seeds.
_HELD_OUT: dict[str, dict[str, dict[str, Any]]] = {
    "tw-cooking": {"train": {"split": "train"}, "dev": {"split": "valid"}, "test": {"split": "test"}},
    "tw-simple": {"test": {"test": True}},
}

PROMPTS = {"command": "textworld", "react": "textworld-react", "tags": "textworld-tags"}
"""How an action may be written, and the prompt that asks for it."""

NOT_ADMISSIBLE = "That is not possible now."
"""The answer to what is no admissible command."""


class TextWorldEnv(TextEnv):
    """``oreo/TextWorld-v0``: text games by TextWorld's own makers.

    Action: one command, one of ``info["admissible_commands"]``, such as "go north", "open chest drawer", "take old key
        from chest drawer", "look", "inventory", written as ``action_format`` says (``ActionFormat``). Letter case,
        spaces, a ``>`` before and a full stop after it do not count; a command inside a thought (``<think>``) is not
        obeyed.
    Observation: the game's answer; at reset the objective and the room. What is not admissible changes nothing in the
        game and answers "That is not possible now.", but is an action. With ``admissible_in_prompt`` all but the last
        are followed by what can be done.
    Start: ``options={"index": i}``, ``{"task_id": ...}``, or drawn from the seed.
    Reward: 1.0 on the action that wins the game, else 0.0; the game's own points are not paid.
    Episode end: terminated when the game is won or lost; truncated at ``max_steps`` actions, or when actions and
        observations exceed ``max_chars`` characters.
    Info: ``messages`` (the opening is the user's, a command the assistant's, an answer the user's),
        ``task_id, index, split, step, success, answer`` (always None), ``admissible_commands`` (sorted),
        ``task_type`` (the maker), ``invalid_action``, ``invalid_reason`` ("no_command", "not_possible", "too_long",
        "cut_off", else None), ``command_executed`` (None at the start and after an invalid action). ``action_rest`` in
        ReAct and tags: what followed the command and was dropped; ``action_valid`` in tags: well-formed by
        verl-agent's rule.
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
        action_format: str = "command",
        react: str = "first",
        admissible_in_prompt: bool | str = False,
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
            action_format: "command"; "react": "Thought: ..." and, on a new line, "Action: ..."; "tags":
                "<think>...</think>" and "<action>...</action>". See ``ActionFormat``.
            react: which "Action:" of a turn counts: the "first", or by the rule of "eto".
            admissible_in_prompt: follow observations by the admissible commands, as ``prompts.LISTS`` writes them;
                True, or the name of a list.
            prompt: a template of ``oreo_envs.prompts``; "question": the bare opening, None: what fits the format.
            max_steps: actions before truncation; None: no limit.
            max_chars: characters of actions and observations before truncation.
            shared: what all environments take, see ``TextEnv``.

        Raises:
            ValueError: an unknown maker, setting or value.
        """
        super().__init__(split=split, max_steps=max_steps, max_chars=max_chars, **shared)
        self._format = ActionFormat(choose("action_format", action_format, FORMATS), react)
        self.action_format, self._list = action_format, list_name(admissible_in_prompt)
        self._template = prompt_template(PROMPTS[action_format] if prompt is None else prompt)
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
        """Return the action that gives ``command``, with a reason where the format has one."""
        return self._format.write(command, reason)

    def command_in(self, action: str) -> str:
        """Return the command that an action gives, in small letters; "" where it gives none."""
        return _plain(self._format.read(action, self.thoughts).command)

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
        text = self._listed(self.game(index).start)
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
        said = self._format.read(action, self.thoughts)
        wanted = _plain(said.command)
        command = next((command for command in self._play.scene.commands if command.lower() == wanted), None)
        if command is not None:
            self._play.step(command)
        scene = self._play.scene
        reason = None if command is not None else "not_possible" if wanted else "no_command"
        return Outcome(
            self._listed(scene, NOT_ADMISSIBLE if command is None else scene.text),
            reward=float(scene.won),
            terminated=scene.won or scene.lost,
            info={
                "invalid_action": reason is not None,
                "invalid_reason": reason,
                "command_executed": command,
                **self._format.info(said),
            },
        )

    def _listed(self, scene: Scene, text: str | None = None) -> str:
        """A text, the scene's own where none is given, followed by what can be done where that is asked for."""
        text = scene.text if text is None else text
        return text if self._list is None or scene.won or scene.lost else with_list(text, scene.commands, self._list)

    def _info(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        assert self._play is not None
        info = {
            "success": self._play.scene.won,
            "admissible_commands": list(self._play.scene.commands),
            "task_type": self.maker,
            "invalid_action": False,
            "invalid_reason": None,
            "command_executed": None,
            **self._format.info(Said("", valid=True)),
        }
        return super()._info({**info, **extra})

    def cut_off(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """See ``TextEnv.cut_off``; the beginning of a command is none that is admitted."""
        *rest, info = super().cut_off(action)
        refused = {"invalid_action": True, "invalid_reason": "cut_off", **self._format.info(Said("", valid=False))}
        return *rest, info | refused  # type: ignore[return-value]

    def _cut_off(self, limit: Literal["steps", "text"]) -> Outcome:
        return Outcome(info={"invalid_action": True, "invalid_reason": "too_long"} if limit == "text" else {})

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
            turns.append(Turn((self.action_text(command),), self._listed(play.scene), float(play.scene.won)))
        won = play.scene.won
        info: dict[str, Scalar] = {"source": "walkthrough", "success": won, "answer": None, "task_type": self.maker}
        return Solution(tuple(turns), info, truncated=not won)


def _plain(command: str) -> str:
    """A command in small letters, without a ">" before and a full stop after it."""
    return " ".join(command.strip().removeprefix(">").removesuffix(".").lower().split())
