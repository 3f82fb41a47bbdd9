"""The environment ``oreo/ALFWorld-v0``.

Knows: episodes: which game, what the player reads and may write, rewards, ends, ``info``.
Does not know: how a game works (``simulator``, ``textworld_engine``), where games are (``games``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from oreo_envs.action_formats import FORMATS, ActionFormat, Said
from oreo_envs.alfworld.advice import Adviser, Watched
from oreo_envs.alfworld.commands import (
    SPELLINGS,
    STYLES,
    Obeyed,
    is_thought,
    native_command,
    obey,
    show_command,
    show_opening,
    show_text,
)
from oreo_envs.alfworld.demonstrations import play_game, renumbered
from oreo_envs.alfworld.games import SPLITS, GameSource, task_type
from oreo_envs.alfworld.numbering import Numbering, RenumberedPlay
from oreo_envs.alfworld.refusals import why_not
from oreo_envs.alfworld.selection import DEV, MIXED, RENUMBERED, check_split, open_split
from oreo_envs.alfworld.simulator import DirectPlay
from oreo_envs.alfworld.state import State
from oreo_envs.alfworld.texts import NOTHING_HAPPENS, OK
from oreo_envs.alfworld.textworld_engine import ReplayState, TextWorldPlay
from oreo_envs.alfworld.vocabulary import vocabulary
from oreo_envs.base import Demonstration, EnvState, Opening, Outcome, Scalar, Solution, TextEnv, Turn
from oreo_envs.checks import choose, flag, share
from oreo_envs.orders import Seat
from oreo_envs.prompts import list_name, prompt_template, with_list

ENGINES = ("direct", "textworld")

PROMPTS = {"command": "alfworld", "react": "alfworld-react", "tags": "alfworld-tags"}
"""How an action may be written, and the prompt that asks for it."""

_LONGEST_DEMONSTRATION = 1_000
_EXPERT_STREAM, _NUMBERS_STREAM, _GAMES_STREAM = 1, 2, 3


AnyPlay = DirectPlay | TextWorldPlay | RenumberedPlay


class ALFWorldEnv(TextEnv):
    """``oreo/ALFWorld-v0``: household tasks in text.

    Action: one command, "go to desk 1", "take mug 1 from desk 1", "move mug 1 to shelf 2", "open",
        "close", "use", "heat ... with", "cool ... with", "clean ... with", "slice ... with",
        "examine", "look", "inventory", "help", written as ``action_format`` says (``ActionFormat``)
        and spelled as ``spelling`` allows (``commands.native_command``). A command inside a thought
        (``<think>``) is not obeyed. In the paper's style ``think: ...`` answers "OK.", as the loop of
        ReAct does; natively it is no command.
    Observation: the game's answer; at reset the room and "Your task is to: ...". What is not
        admissible answers "Nothing happens." and changes nothing in the game, but is an action. With
        ``admissible_in_prompt`` all but the last are followed by what can be done.
    Start: ``options={"index": i}``, ``{"task_id": "valid_seen/<task>/<trial>"}``, or drawn from the
        seed; games are sorted by task id.
    Reward: 1.0 on the action that reaches the goal, else 0.0.
    Episode end: terminated when the goal is reached; truncated at ``max_steps`` actions, or when
        actions and observations exceed ``max_chars`` characters.
    Info: ``messages`` (the opening is the user's, a command the assistant's, an answer the user's),
        ``task_id, index, split, step, success, answer`` (always None), ``admissible_commands``
        (sorted, in the text style), ``task_type``, ``invalid_action``, ``invalid_reason`` (one of
        ``refusals.REASONS``, else None), ``command_executed`` (in the native spelling, None at the
        start, after a thought and after an invalid action), ``goal_progress`` (the share of the goal's
        parts that are reached, see ``goal.Goal.progress``; 1.0 where it is won, and only there).
        ``action_rest`` in ReAct and tags: what followed the command and was dropped; ``action_valid``
        in tags: well-formed by verl-agent's rule. With ``expert=True`` ``walkthrough`` (a plan from the
        start, by a planner that sees everything) and ``expert_action``: what the exploring expert, who
        knows what the player has read, would do now; None when the episode is won. With ``states=True``
        ``state``: a name of the game's state.
    Source and version: Shridhar et al. 2021 (arXiv:2010.03768), data release 0.4, texts of TextWorld
        1.7; v0.
    """

    splits: ClassVar[tuple[str, ...]] = (*SPLITS, DEV, MIXED, RENUMBERED)
    held_out_splits: ClassVar[tuple[str, ...]] = ("valid_seen", "valid_unseen", DEV)
    split_names: ClassVar[Mapping[str, str]] = {
        "eval_in_distribution": "valid_seen",
        "eval_out_of_distribution": "valid_unseen",
    }
    option_splits: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "dev_scenes": ("train", DEV, MIXED, RENUMBERED),
        "houses": (MIXED,),
        "real_games": (MIXED,),
        **dict.fromkeys(("mistakes", "clean_share", "renumber"), ("train", MIXED, RENUMBERED)),
    }

    def __init__(
        self,
        *,
        split: str = "train",
        path: str | Path | None = None,
        games: GameSource | None = None,
        engine: str = "direct",
        text_style: str = "native",
        action_format: str = "command",
        react: str = "first",
        spelling: str = "lenient",
        admissible_in_prompt: bool | str = False,
        expert: bool = False,
        states: bool = False,
        mistakes: float = 0.0,
        clean_share: float = 0.0,
        renumber: float = 0.0,
        dev_scenes: Sequence[int] = (),
        houses: int = 0,
        real_games: int | None = None,
        prompt: str | None = None,
        max_steps: int | None = 50,
        max_chars: int = 1_000_000,
        thoughts: Any = None,
        order: str = "random",
        place: tuple[int, int] | Seat | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Find the games.

        Args:
            split: one of the data, or one that is made from it, see ``selection.open_split``.
            path: where the games are, see ``games.open_games``.
            games: games that are open already, instead of ``path``.
            engine: "direct", or "textworld" for the stock engine (thousands of times slower).
            text_style: "native", or "paper": no welcome line, no words on arriving, "put ... in/on".
            action_format: "command"; "react": "Thought: ..." and, on a new line, "Action: ..."; "tags":
                "<think>...</think>" and "<action>...</action>". See ``ActionFormat``.
            react: which "Action:" of a turn counts: the "first", or by the rule of "eto".
            spelling: "lenient", or "strict": what the stock engine obeys literally, in the text style.
            admissible_in_prompt: follow observations by the admissible commands, as ``prompts.LISTS`` writes them;
                True, or the name of a list.
            expert: put the planner's ``walkthrough`` and ``expert_action`` into ``info``.
            states: put the name of the game's state into ``info["state"]``, the same for equal ones whatever the player
                has seen; episodes then know of equal states, see ``algo.baseline=state``.
            mistakes: share of the commands of a demonstration that are wrong on purpose, 0..1.
            clean_share: share of the demonstrations that hold no mistake after all, 0..1.
            renumber: share of the demonstrations whose things have other numbers than in the game ("mug 6" for
                "mug 1"), drawn anew for each seed, so that nobody learns numbers by heart; share of the games of
                split "train_renumbered" that are played so, always the same ones, 0..1.
            dev_scenes: numbers of the rooms whose train games are the split "dev" and are held out of training.
            houses: generated houses of the split "train_and_houses", see ``selection.open_split``.
            real_games: train games in that split, drawn at random, always the same; None: all.
            prompt: a template of ``oreo_envs.prompts``; "question": the bare opening, None: what fits the format.
            max_steps: actions before truncation; the OREO paper has 40. None: no limit.
            max_chars: characters of actions and observations before truncation.
            thoughts: marks of thoughts, see ``TextEnv``; None: those in use.
            order, place, render_mode: see ``TextEnv``.

        Raises:
            FileNotFoundError: no games; says where it looked and how to get them.
            ValueError: an unknown value, an option that does nothing on this split, a split without games, or a file
                that is no game.
            ImportError: the stock engine is asked for and not installed.
        """
        super().__init__(
            split=split,
            max_steps=max_steps,
            max_chars=max_chars,
            thoughts=thoughts,
            order=order,
            place=place,
            render_mode=render_mode,
        )
        self.refuse_idle(dev_scenes=dev_scenes, houses=houses, real_games=real_games, mistakes=mistakes)
        self.refuse_idle(clean_share=clean_share, renumber=renumber)
        self.engine = choose("engine", engine, ENGINES)
        self.text_style = choose("text_style", text_style, STYLES)
        self._format = ActionFormat(choose("action_format", action_format, FORMATS), react)
        self.action_format = action_format
        self.spelling = choose("spelling", spelling, SPELLINGS)
        self._list = list_name(admissible_in_prompt)
        self.mistakes = share("mistakes", mistakes)
        self.clean_share = share("clean_share", clean_share)
        self.renumber = share("renumber", renumber)
        default = PROMPTS[action_format] + ("-paper" if text_style == "paper" else "")
        self._template = prompt_template(default if prompt is None else prompt)
        self._expert = flag("expert", expert)
        self._states = flag("states", states)
        self.games = open_split(self.split, path, dev_scenes, houses, real_games) if games is None else games
        check_split(self.games, self.split)
        self._play: AnyPlay | None = None
        self._play_index = -1
        self._adviser: Adviser | None = None

    @property
    def num_tasks(self) -> int:
        """Number of games in the split."""
        return len(self.games)

    def action_text(self, command: str, reason: str = "") -> str:
        """Return the action that gives ``command``, with a reason where the format has one."""
        return self._format.write(command, reason)

    def command_in(self, action: str) -> str:
        """Return the command that an action gives, in its native spelling; "" where it gives none."""
        return native_command(self._format.read(action, self.thoughts).command)

    def vocabulary(self) -> list[str]:
        """Words of openings, answers and commands, for a word-level tokenizer."""
        return vocabulary(tags=self.action_format == "tags", listed=self._list is not None)

    def _begin(self, index: int) -> Opening:
        self._play, self._play_index = self._new_play(index), index
        self._adviser = Adviser(self._play.intro) if self._expert else None
        return self._opening_text(index, self._play)

    def _open(self, index: int) -> Opening:
        return self._opening_text(index, self._new_play(index))

    def _new_play(self, index: int) -> AnyPlay:
        direct = self.engine == "direct"
        play = DirectPlay(self.games[index]) if direct else TextWorldPlay(self.games.data(index))
        numbering = self._numbering(index)
        return play if numbering is None else RenumberedPlay(play, numbering)

    def _numbering(self, index: int) -> Numbering | None:
        """The other numbers of game ``index``, always the same; None where it keeps its own."""
        if self.split != RENUMBERED:
            return None
        rng = self._draws(_GAMES_STREAM, index, 0)
        return Numbering(rng) if rng.random() < self.renumber else None

    def _opening_text(self, index: int, play: AnyPlay) -> Opening:
        text = self._listed(show_opening(play.intro, self.text_style), play)
        return Opening(self.games.task_ids[index], text, self._template.messages(text))

    def _index_of(self, task_id: str) -> int | None:
        return next((index for index, known in enumerate(self.games.task_ids) if known == task_id), None)

    def _task_ids(self) -> Iterable[str]:
        return self.games.task_ids

    def _respond(self, action: str) -> Outcome:
        assert self._play is not None
        said = self._format.read(action, self.thoughts)
        obeyed, reason = obey(self._play, said.command, style=self.text_style, spelling=self.spelling), ""
        if obeyed.command is None and not is_thought(said.command, self.spelling):
            reason = self._why_not(said.command)
        elif obeyed.command is None and self.text_style == "paper":
            obeyed = Obeyed(None, OK)
        elif obeyed.command is None:
            reason = "thought"
        text = NOTHING_HAPPENS if obeyed.text is None else show_text(obeyed.text, self.text_style)
        if self._adviser is not None and reason not in ("spelling", "thought") and text != OK:
            command = obeyed.command if reason == "" else native_command(said.command)
            self._adviser.hear(command or "", obeyed.text or NOTHING_HAPPENS)
        return Outcome(
            observation=self._listed(text, self._play),
            reward=float(self._play.won),
            terminated=self._play.won,
            info={
                "invalid_action": bool(reason),
                "invalid_reason": reason or None,
                "command_executed": obeyed.command,
                **self._format.info(said),
            },
        )

    def _listed(self, text: str, play: AnyPlay) -> str:
        """A text, followed by what can be done where that is asked for and the game goes on."""
        if self._list is None or play.won:
            return text
        return with_list(text, sorted(self._shown(play.commands())), self._list)

    def _why_not(self, command: str) -> str:
        """Why a command was not obeyed."""
        assert self._play is not None
        native = native_command(command)
        if self.spelling == "strict" and native in self._play.commands():
            return "spelling"
        if isinstance(self._play, RenumberedPlay):
            native = self._play.meant(native)
        return why_not(self.games[self._play_index].problem, self._house_state(), native)

    def _house_state(self) -> State:
        """The state in the direct engine, whichever plays."""
        assert self._play is not None
        state = self._play.state
        return state if isinstance(state, State) else self.games[self._play_index].replay(state.history)

    def demonstration(self, index: int, *, seed: int = 0) -> Demonstration:
        """Return a game played by the exploring expert, see ``TextEnv.demonstration``."""
        shown = super().demonstration(index, seed=seed)
        rng = self._draws(_NUMBERS_STREAM, shown.index, seed)
        return renumbered(shown, rng) if rng.random() < self.renumber else shown

    def _draws(self, stream: int, index: int, seed: int) -> np.random.Generator:
        """Randomness of one kind in the demonstration of a game."""
        return np.random.default_rng(np.random.SeedSequence([stream, self.splits.index(self.split), index, seed]))

    def _demonstrate(self, index: int, seed: int) -> Solution:
        """The exploring expert's, which reads what a policy reads."""
        play, rng = self._new_play(index), self._draws(_EXPERT_STREAM, index, seed)
        clean = self.clean_share > 0 and rng.random() < self.clean_share
        turns = []
        for move, mistaken, answer in play_game(
            play,
            show_opening(play.intro, self.text_style),
            style=self.text_style,
            mistakes=0.0 if clean else self.mistakes,
            max_steps=self.max_steps or _LONGEST_DEMONSTRATION,
            rng=rng,
        ):
            action = self.action_text(show_command(move.command, self.text_style), move.reason)
            turns.append(Turn((action,), self._listed(answer, play), float(play.won), mistaken))
        info: dict[str, Scalar] = {
            "source": "expert",
            "success": play.won,
            "answer": None,
            "task_type": task_type(self.games.task_ids[index]),
        }
        return Solution(tuple(turns), info, truncated=not play.won)

    def _info(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        assert self._play is not None
        info = {
            "success": self._play.won,
            "admissible_commands": sorted(self._shown(self._play.commands())),
            "task_type": task_type(self.games.task_ids[self._index]),
            "invalid_action": False,
            "invalid_reason": None,
            "command_executed": None,
            "goal_progress": self._house_state().progress,
            **self._format.info(Said("", valid=True)),
        }
        if self._states:
            info["state"] = self._house_state().name
        if self._expert:
            commands, numbering = self.games.walkthrough(self._index), self._numbering(self._index)
            info["walkthrough"] = self._shown(commands if numbering is None else [*map(numbering.show, commands)])
            advice = None if self._adviser is None or self._play.won else self._adviser.next_command()
            info["expert_action"] = None if advice is None else show_command(advice, self.text_style)
        return super()._info({**info, **extra})

    def _shown(self, commands: Sequence[str]) -> list[str]:
        if self.text_style == "native":
            return list(commands)
        return [show_command(command, self.text_style) for command in commands]

    def _get_inner(self) -> Any:
        assert self._play is not None
        return self._play.state if self._adviser is None else Watched(self._play.state, self._adviser.heard)

    def cut_off(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """See ``TextEnv.cut_off``; the beginning of a command is none that is admitted."""
        *rest, info = super().cut_off(action)
        refused = {"invalid_action": True, "invalid_reason": "cut_off", **self._format.info(Said("", valid=False))}
        return *rest, info | refused  # type: ignore[return-value]

    def _cut_off(self, limit: Literal["steps", "text"]) -> Outcome:
        return Outcome(info={"invalid_action": True, "invalid_reason": "too_long"} if limit == "text" else {})

    def restore_state(self, state: EnvState) -> None:
        """Go back to a state that ``clone_state`` returned, here or in an equal environment.

        Raises:
            ValueError: it is of another engine, of a game that is not here, or of an environment without an expert.
        """
        inner = state.inner.state if isinstance(state.inner, Watched) else state.inner
        if self._expert and inner is state.inner:
            raise ValueError("a state of an environment without expert=True: it does not say what the player has read")
        if not isinstance(inner, State if self.engine == "direct" else ReplayState):
            raise ValueError(f"a state of another engine or environment: this one plays engine={self.engine!r}")
        if self.games.task_ids[state.index : state.index + 1] != (state.opening.task_id,):
            raise ValueError(
                f"a state of {state.opening.task_id}, which is not game {state.index} of {self.split!r} here"
            )
        super().restore_state(state)

    def _set_inner(self, inner: Any) -> None:
        if self._play is None or self._play_index != self._index:
            self._play, self._play_index = self._new_play(self._index), self._index
            self._adviser = Adviser(self._play.intro) if self._expert else None
        if isinstance(inner, Watched):
            inner, heard = inner
            if self._adviser is not None and self._adviser.heard != heard:
                self._adviser.recall(heard)
        self._play.state = inner
