"""One episode on its way: what is generated, scored and rewarded is written down as it happens.

Knows: environments and the tokens of a policy. Does not know: models, which samples are worth keeping.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from oreo_agents.episodes.generate import Choices, Sample, make_choices
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.networks.kv_cache import Prefix
from oreo_algos.episode import Episode
from oreo_envs.grading import answer_may_go_on

# Keys of `info` that an episode keeps elsewhere, or that describe a moment and not the episode.
_NOT_KEPT = {
    *("messages", "task_id", "index", "step", "admissible_commands", "command_executed", "expert_action", "state"),
    *("invalid_action", "invalid_reason", "action_valid", "action_rest"),
}

INVALID = "invalid_actions/"
"""What keys of an episode's ``info`` begin with that say how many actions were refused, and end with the reason."""


@dataclass
class Record:
    """An episode that may go on.

    Attributes:
        env: where it is played.
        slot: its number among the episodes asked for.
        info: what the environment said last.
        tokens: the transcript.
        turn_start: where in ``tokens`` the model's present turn begins.
        step_id, logprobs: of each token, see ``Episode``.
        rewards, spans: of each action, see ``Episode``.
        states: what the environment called its state before each action, None where it says nothing.
        generated: tokens drawn on the way here, those that were not kept included.
        invalid: actions that the environment did not admit.
        reasons: how many of them for which reason, where the environment says so.
        malformed: actions that do not have the form that is asked for, where the environment judges that.
        terminated, truncated: Gymnasium's meaning.
        ended: the last token is one that the model ended its turn with.
        state: of the environment, where it is shared with other records.
        policy_cache, value_cache: what the two networks have read of ``tokens``; shared with forks.
    """

    env: gym.Env[str, str]
    slot: int
    info: dict[str, Any]
    tokens: list[int]
    turn_start: int
    step_id: list[int]
    logprobs: list[float]
    rewards: list[float] = field(default_factory=list)
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    states: list[str | None] = field(default_factory=list)
    generated: int = 0
    invalid: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    malformed: int = 0
    terminated: bool = False
    truncated: bool = False
    ended: bool = False
    state: Any = None
    policy_cache: Prefix = field(default_factory=Prefix)
    value_cache: Prefix = field(default_factory=Prefix)

    @classmethod
    def begin(cls, env: gym.Env[str, str], slot: int, index: int, prompt_format: PromptFormat) -> "Record":
        """Reset the environment to task ``index`` and encode its opening.

        Raises:
            ValueError: the task is played in turns, and the chat template cannot write several after this opening.
        """
        _, info = env.reset(options={"index": int(index)})
        prompt_format.tell(env, info["messages"])
        if not env.unwrapped.step_delimiters:  # type: ignore[attr-defined]
            prompt_format.require_turns(info["messages"])
        tokens = prompt_format.opening(info["messages"])
        return cls(env, slot, info, tokens, len(tokens), [-1] * len(tokens), [0.0] * len(tokens))

    def fork(self) -> "Record":
        """Return a copy that goes its own way.

        The two share one environment: from now on, each puts it into its own state before it acts.
        """
        if self.state is None:
            self.state = self.env.unwrapped.clone_state()  # type: ignore[attr-defined]
        twin = copy.copy(self)
        for name in ("tokens", "step_id", "logprobs", "rewards", "spans", "states"):
            setattr(twin, name, list(getattr(self, name)))
        twin.reasons = dict(self.reasons)
        return twin

    def forget(self) -> None:
        """Release what the networks have read; an episode that goes no further does not need it."""
        self.policy_cache = self.value_cache = Prefix()

    @property
    def over(self) -> bool:
        """Whether the episode has ended, for whatever reason."""
        return self.terminated or self.truncated

    @property
    def delimiters(self) -> tuple[str, ...]:
        """Texts that end a step of a turn; empty where a turn is one action."""
        found: tuple[str, ...] = self.env.unwrapped.step_delimiters  # type: ignore[attr-defined]
        return found

    @property
    def spoken(self) -> int:
        """Tokens of the present turn so far."""
        return len(self.tokens) - self.turn_start

    @property
    def judged(self) -> list[int]:
        """The tokens after which V tells how good this is: all of them, or those before the last of a finished answer.

        The last token of a finished answer is its end token as a rule; V after an end token is 0 by definition, also
        where the environment cut off the step that it ends.
        """
        return self.tokens[:-1] if self.terminated or self.ended else self.tokens

    def choices(self, prompt_format: PromptFormat) -> Choices:
        """Return the tokens of each action that the environment admits now."""
        write = self.env.unwrapped.action_text  # type: ignore[attr-defined]
        return make_choices(prompt_format.reply(write(command)) for command in self.info["admissible_commands"])

    def command(self, sample: Sample, prompt_format: PromptFormat) -> str | None:
        """Return the command that a generated turn would give, in one spelling; None where nobody reads one in it.

        Where the environment does not say which command it reads, a turn of a game is one, in its canonical form.
        """
        env: Any = self.env.unwrapped
        read = getattr(env, "command_in", None if self.delimiters else env.canonical)
        if not sample.ended or read is None:
            return None
        return read(self.said(sample, prompt_format)) or None

    def said(self, sample: Sample, prompt_format: PromptFormat) -> str:
        """Return the text of a generated turn."""
        _, texts = prompt_format.split_steps(sample.tokens, self.delimiters, inside=self.spoken > 0)
        return "".join(texts).removeprefix(prompt_format.lead)

    def advance(self, sample: Sample, prompt_format: PromptFormat, max_length: int) -> None:
        """Hand generated tokens to the environment, step by step, and record what it used of them.

        Args:
            sample: the turn, or the next part of it.
            prompt_format: of the policy's tokenizer.
            max_length: of the policy's context, tokens.
        """
        self.generated += len(sample.tokens) + sample.dropped
        numbers, texts = prompt_format.split_steps(sample.tokens, self.delimiters, inside=self.spoken > 0)
        if self.spoken and sample.ended and texts == [""]:
            # The end token alone: it belongs to the step before, as where both are generated at once.
            numbers, texts = [-1] * len(numbers), []
        if not self.spoken and texts[0].strip():
            texts[0] = texts[0].removeprefix(prompt_format.lead)
        observation = ""
        used = 0
        cut = not sample.ended and not sample.stopped
        for text in texts:
            used += 1
            observation = self._act(text, unfinished=cut and used == len(texts) and self._may_go_on(text))
            if self.over:
                break
        in_one_message = bool(self.delimiters)
        if not self.over and in_one_message and sample.ended:
            # The answer ended without a final answer: an empty action closes the episode.
            self._close()
        kept = sum(1 for number in numbers if number < used)
        first = len(self.rewards) - used
        self.tokens += sample.tokens[:kept]
        self.step_id += [first + number for number in numbers[:kept]]
        self.logprobs += sample.logprobs[:kept]
        self.ended = sample.ended and kept == len(sample.tokens)
        self.policy_cache = sample.cache
        if self.over or sample.stopped:
            return
        if not sample.ended:
            self.truncated = True
            return
        between = prompt_format.next_turn(observation, system=self.info["messages"][0]["role"] == "system")
        if len(self.tokens) + len(between) >= max_length:
            self.truncated = True
            return
        self.ended = False
        self.tokens += between
        self.step_id += [-1] * len(between)
        self.logprobs += [0.0] * len(between)
        self.turn_start = len(self.tokens)

    def _may_go_on(self, text: str) -> bool:
        """Whether a text that a limit cut is the beginning of a command or of a final answer: it must not be judged."""
        if not self.delimiters:
            return True
        said = self.info["messages"][-1]
        turn = said["content"] if said["role"] == "assistant" else ""
        return answer_may_go_on(turn + text, self.env.unwrapped.thoughts)  # type: ignore[attr-defined]

    def _act(self, text: str, *, unfinished: bool) -> str:
        before = self.info["messages"]
        self.states.append(self.info.get("state"))
        observation, reward = self._step(text, unfinished=unfinished)
        message, start = len(before), 0
        if before[-1]["role"] == "assistant":
            message, start = len(before) - 1, len(before[-1]["content"])
        self.spans.append((message, start, start + len(text)))
        self.rewards.append(reward)
        self.invalid += bool(self.info.get("invalid_action"))
        self.malformed += self.info.get("action_valid") is False
        if reason := self.info.get("invalid_reason"):
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        return observation

    def _close(self) -> None:
        """End an episode whose text is complete; the reward belongs to the last action that has tokens."""
        _, reward = self._step("")
        self.rewards[-1] += reward

    def _step(self, action: str, *, unfinished: bool = False) -> tuple[str, float]:
        env: Any = self.env.unwrapped
        if self.state is not None:
            env.restore_state(self.state)
        act = env.cut_off if unfinished else self.env.step
        observation, reward, self.terminated, self.truncated, self.info = act(action)
        if self.state is not None:
            self.state = env.clone_state()
        return observation, float(reward)

    def episode(self, extra: dict[str, Any]) -> Episode:
        """Freeze what was recorded, with ``extra`` added to its info."""
        kept: dict[str, Any] = {
            key: value
            for key, value in self.info.items()
            if key not in _NOT_KEPT
            and isinstance(value, str | int | float | bool | np.generic | None)
            and not (isinstance(value, float | np.floating) and not np.isfinite(value))
        }
        if "invalid_action" in self.info:
            kept["invalid_actions"] = self.invalid
            kept |= {f"{INVALID}{reason}": count for reason, count in sorted(self.reasons.items())}
        if all(isinstance(state, str) and len(state.split()) == 1 for state in self.states):
            kept["states"] = " ".join(map(str, self.states))
        if "action_valid" in self.info:
            kept["malformed_actions"] = self.malformed
        assert self.env.spec is not None
        return Episode(
            tokens=np.array(self.tokens, dtype=np.int32),
            step_id=np.array(self.step_id, dtype=np.int32),
            rewards=np.array(self.rewards, dtype=np.float32),
            behavior_logprobs=np.array(self.logprobs, dtype=np.float32),
            action_spans=np.array(self.spans, dtype=np.int32),
            terminated=self.terminated,
            truncated=self.truncated,
            task_id=self.info["task_id"],
            env_id=self.env.spec.id,
            messages=self.info["messages"],
            info={**kept, "generated_tokens": self.generated, **extra},
        )
