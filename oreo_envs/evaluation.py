"""Playing the tasks of a split with any agent.

Knows: how to call an agent, sync or async, one at a time or several; what of it is written down; what is counted.
Does not know: models, tokens; who is right (the environments); how servers are asked (``chat``).
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oreo_envs.asynchronous import aside, finish, run
from oreo_envs.bars import bar
from oreo_envs.base import TextEnv
from oreo_envs.chat import ChatAgent, ClientAgent
from oreo_envs.checks import closest, flag, positive, whole
from oreo_envs.grading import answer_may_go_on
from oreo_envs.plain import make
from oreo_envs.recording import RecordFolder, Row, Track, common_settings
from oreo_envs.records import Message
from oreo_envs.replies import ChatRefused, Reply, Usage

Agent = Callable[..., "str | Reply | Awaitable[str | Reply]"]
"""``agent(messages)`` or ``agent(messages, info)``, a function, a coroutine function or an object that is called."""

_Z = 1.959963984540054
_CLIENT_ENVS = 8


class EvaluationStopped(RuntimeError):
    """No task can be finished any more; ``evaluation`` holds those that were."""

    def __init__(self, why: str, evaluation: Evaluation) -> None:
        """Keep what was finished."""
        super().__init__(why)
        self.evaluation = evaluation


@dataclass(frozen=True)
class Evaluation:
    """All episodes that were played, in the order of their tasks' index."""

    env_id: str
    split: str
    rows: tuple[Row, ...]

    @property
    def counted(self) -> tuple[Row, ...]:
        """The rows that say something of success: those without an error, and with a verdict."""
        return tuple(row for row in self.rows if row.counted)

    def _shares(self) -> list[float]:
        """For each task the share of its counted episodes that solved it."""
        tasks: dict[int, list[bool]] = {}
        for row in self.counted:
            tasks.setdefault(row.index, []).append(row.success)
        return [sum(solved) / len(solved) for solved in tasks.values()]

    @property
    def success_rate(self) -> float:
        """Share of the tasks that were solved, 0..1: the mean over tasks of their episodes; nan without any."""
        shares = self._shares()
        return sum(shares) / len(shares) if shares else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the success rate.

        With several episodes a task it is that of the effective number of episodes, which the spread between tasks
        tells (Korn & Graubard 1998, who take it for another interval): between that of tasks and that of episodes.
        """
        shares, episodes = self._shares(), len(self.counted)
        if not shares:
            return 0.0, 1.0
        rate, count = sum(shares) / len(shares), float(len(shares))
        spread = sum((share - rate) ** 2 for share in shares)
        if episodes > count > 1 and 0 < rate < 1:
            effective = rate * (1 - rate) * count * (count - 1) / spread if spread else math.inf
            count = min(max(effective, count), float(episodes))
        centre, scale = rate + _Z**2 / (2 * count), 1 + _Z**2 / count
        swing = _Z * math.sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2))
        return max(0.0, (centre - swing) / scale), min(1.0, (centre + swing) / scale)

    def pass_at(self, k: int) -> float:
        """How often at least one of k episodes of a task solves it (the unbiased estimate of Chen et al. 2021).

        Raises:
            ValueError: a task has fewer than k counted episodes.
        """
        tasks: dict[int, list[bool]] = {}
        for row in self.counted:
            tasks.setdefault(row.index, []).append(row.success)
        if not tasks or min(map(len, tasks.values())) < positive("k", k):
            raise ValueError(f"pass_at({k}) needs {k} counted episodes of each task; play with episodes_per_task={k}")
        missed = [math.comb(len(one) - sum(one), k) / math.comb(len(one), k) for one in tasks.values()]
        return 1 - sum(missed) / len(missed)

    @property
    def conversations(self) -> dict[str, tuple[Message, ...]]:
        """The conversation of each task, the first of several; all are in ``rows``."""
        return {row.task_id: row.messages for row in reversed(self.rows)}

    @property
    def errors(self) -> dict[str, str]:
        """What the agent raised, for the tasks where it did."""
        return {row.task_id: row.error for row in self.rows if row.error is not None}

    @property
    def usage(self) -> Usage:
        """Replies, tokens and cost of all rows, as far as the agent says."""
        return sum((row.usage for row in self.rows), Usage())

    def __str__(self) -> str:
        """One line: tasks solved, rate, interval, what is not counted, limits, tokens."""
        counted, usage = self.counted, self.usage
        solved, tasks = sum(row.success for row in counted), len({row.index for row in counted})
        many = "tasks" if tasks == len(counted) else f"episodes of {tasks} tasks"
        said = [f"{self.env_id} {self.split}: {solved} of {len(counted)} {many} solved"]
        if counted:
            low, high = self.interval
            said[0] += f", {self.success_rate:.1%} [{low:.1%}, {high:.1%}]"
        failed = sum(row.error is not None for row in self.rows)
        if cut := sum(row.truncated for row in counted):
            said.append(f"{cut} ended at a limit")
        if ungraded := len(self.rows) - len(counted) - failed:
            said.append(f"{ungraded} could not be graded and are not counted")
        if usage.prompt_tokens or usage.completion_tokens:
            said.append(f"{usage.prompt_tokens:,} tokens read, {usage.completion_tokens:,} written")
        if usage.cost:
            said.append(f"cost {usage.cost:.4g}")
        if failed:
            said.append(f"{failed} ended in an error and are not counted")
        return "; ".join(said)


def evaluate(
    agent: Agent | ChatAgent | Any,
    env_id: str,
    *,
    split: str,
    num_envs: int | None = None,
    episodes: int | None = None,
    episodes_per_task: int = 1,
    seed: int = 0,
    step_by_step: bool = False,
    model: str | None = None,
    request: Mapping[str, Any] | None = None,
    record: str | Path | None = None,
    progress: bool | None = None,
    **env_kwargs: Any,
) -> Evaluation:
    r"""Play every task of a split.

    Args:
        agent: called with the messages so far, and with ``info`` where it has a second argument without a default, or
            one called ``info``; returns the text of its action, or a ``Reply``. A coroutine function is awaited, and so
            is what another function returns that can be. Or a ``ChatClient``; or a client object of the library
            ``openai``, or one that has its ``chat.completions.create``.
        env_id: a registered id, or ``module:id``; a plain environment is filled up, see ``PlainEnv``.
        split: which tasks.
        num_envs: how many tasks are played at the same time, which is how many requests a server gets at once; an agent
            that is no coroutine is then called from as many threads. None: 8 of a client, else 1.
        episodes: how many tasks, drawn by ``seed``, always the same ones; None: all of them.
        episodes_per_task: how often each of them is played.
        seed: draws the tasks where they are not all.
        step_by_step: where a question is asked, what the agent returns is a part of its response, and it is asked again
            until the response states its final answer (``#### x``, ``\boxed{x}``); else it is the whole response, and
            graded as it is, prose as well. Turns of games are single commands anyway.
        model, request: of a client object: which model to ask, and further fields such as ``{"temperature": 0.7}``.
        record: a folder to write every episode to as it ends, with its conversation, for ``oreo data encode``. Where it
            holds episodes already, those are not played again, but for those that ended in an error.
        progress: show a bar; None: where standard error is a terminal.
        env_kwargs: arguments of ``gym.make``, but for those that say which task comes next.

    Returns:
        A row for each episode, the success rate with its interval, and the conversations. What the agent raises ends
        its episode, is part of the row, and the row is not counted. A reply that a limit on tokens cut is graded only
        where its answer was complete.

    Raises:
        ValueError: an environment whose actions are no text, or no number of tasks where these have no end, or more
            than there are; an agent that cannot be called; no seed; a folder that holds other episodes; what the
            environment refuses.
        EvaluationStopped: a server that will not answer: a wrong key, an unknown model, nobody there.
    """
    agent = _resolved(agent, model, request)
    if whole("seed", seed) < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed}")
    env = _made(env_id, split, env_kwargs)
    asked = _chosen(env.unwrapped, episodes, seed)
    wanted = [(index, sample) for sample in range(positive("episodes_per_task", episodes_per_task)) for index in asked]
    at_once = bool(env.unwrapped.step_delimiters) and not flag("step_by_step", step_by_step)
    if num_envs is None:
        num_envs = _CLIENT_ENVS if isinstance(agent, ChatAgent) else 1
    positive("num_envs", num_envs)
    rows: dict[tuple[int, int], Row] = {}
    with ExitStack() as stack:
        folder = None
        if record is not None:
            settings = common_settings(env, _described(agent)) | {"step_by_step": not at_once}
            folder = RecordFolder(record, settings)
            stack.callback(folder.close)
            before = {(row.index, row.sample): row for row in folder.rows if row.counted}
            rows = {place: before[place] for place in wanted if place in before}
        left = [place for place in wanted if place not in rows]
        envs = [env, *(copy.deepcopy(env) for _ in range(min(num_envs, len(left)) - 1))]
        shown = stack.enter_context(bar(f"{env_id} {split}", len(wanted), progress))
        for row in rows.values():
            shown.add(row)

        def finished(row: Row) -> None:
            if folder is not None:
                folder.add(row)
            rows[row.index, row.sample] = row
            shown.add(row)

        try:
            if left:
                _play(agent, envs, left, at_once, finished)
        except ChatRefused as error:
            done = sum(row.counted for row in rows.values())
            why = f"{error}; {done} of {len(wanted)} episodes were finished"
            if folder is not None:
                why += f" and are in {folder.folder}, where the same call goes on"
            raise EvaluationStopped(why, _evaluation(env_id, split, rows)) from None
    return _evaluation(env_id, split, rows)


def _made(env_id: str, split: str, options: Mapping[str, Any]) -> Any:
    for name in ("order", "place"):
        if name in options:
            raise ValueError(
                f"{name}={options[name]!r} has no effect: evaluate says which task comes next; leave it out"
            )
    try:
        return make(env_id, split=split, **options)
    except TypeError as error:
        own = inspect.signature(evaluate).parameters
        for name in options:
            if f"no argument {name!r}" in str(error) and (hint := closest(name, own)):
                raise TypeError(f"neither evaluate nor the environment has an argument {name!r}{hint}") from None
        raise


def _evaluation(env_id: str, split: str, rows: Mapping[tuple[int, int], Row]) -> Evaluation:
    return Evaluation(env_id, split, tuple(rows[place] for place in sorted(rows)))


def _resolved(agent: Any, model: str | None, request: Mapping[str, Any] | None) -> Any:
    if not isinstance(agent, ChatAgent) and ClientAgent.fits(agent):
        if model is None:
            raise ValueError("a client object is asked for a model: say which with model=...")
        return ClientAgent(agent, model, request=request)
    if model is not None or request is not None:
        raise ValueError("model=... and request=... are for client objects; another agent knows its model itself")
    if not callable(agent):
        raise ValueError(f"an agent is called with messages and returns its action, got {agent!r:.80}")
    return agent


def _described(agent: Any) -> Any:
    """What tells an agent from others, for a record."""
    if isinstance(agent, ChatAgent):
        return agent.described()
    named = agent if hasattr(agent, "__qualname__") else type(agent)
    return f"{named.__module__}.{named.__qualname__}"


def _chosen(env: TextEnv, episodes: int | None, seed: int) -> Sequence[int]:
    available = env.num_tasks
    if episodes is None and available is None:
        raise ValueError("tasks are made without end here: say how many to play with episodes=...")
    if episodes is None or available is None:
        return range(positive("episodes", available if episodes is None else episodes))  # type: ignore[arg-type]
    if positive("episodes", episodes) > available:
        raise ValueError(f"episodes={episodes}: split {env.split!r} has {available} tasks; None plays all of them")
    drawn: list[int] = np.random.default_rng(seed).permutation(available)[:episodes].tolist()
    return drawn


_Places = Sequence[tuple[int, int]]


def _play(agent: Any, envs: Sequence[Any], places: _Places, at_once: bool, finished: Callable[[Row], None]) -> None:
    """Play all episodes, one in each environment at a time; ends with the first ``ChatRefused``."""
    if len(envs) == 1 and not _is_async(agent):
        aside(lambda: _play_here(agent, envs[0], places, at_once, finished))
    else:
        run(_play_beside(agent, envs, places, at_once, finished))


def _play_here(agent: Any, env: Any, places: _Places, at_once: bool, finished: Callable[[Row], None]) -> None:
    """One after the other, in this thread and without a loop: an agent may run one of its own."""
    ask, runner = _with_info(agent), None
    with ExitStack() as stack:

        async def reply(info: dict[str, Any]) -> Any:
            nonlocal runner
            said = ask(info)
            if inspect.isawaitable(said):
                runner = runner or stack.enter_context(asyncio.Runner())
                said = runner.run(_awaited(said))
            return said

        async def call(function: Callable[..., Any], *arguments: Any) -> Any:
            return function(*arguments)

        for index, sample in places:
            finished(finish(_episode(env, index, sample, at_once, reply, call)))


async def _play_beside(
    agent: Any, envs: Sequence[Any], places: _Places, at_once: bool, finished: Callable[[Row], None]
) -> None:
    """Several at a time in one loop, in which clients keep their connections; what is no coroutine, in threads."""
    ask, loop, left = _with_info(agent), asyncio.get_running_loop(), iter(places)
    pool = ThreadPoolExecutor(len(envs))
    loop.set_default_executor(pool)

    async def call(function: Callable[..., Any], *arguments: Any) -> Any:
        return await loop.run_in_executor(pool, function, *arguments)

    async def reply(info: dict[str, Any]) -> Any:
        said = ask(info) if _is_async(agent) else await call(ask, info)
        return await said if inspect.isawaitable(said) else said

    async def player(env: Any) -> None:
        for index, sample in left:
            finished(await _episode(env, index, sample, at_once, reply, call))

    async with AsyncExitStack() as stack:
        if isinstance(agent, ChatAgent):
            await stack.enter_async_context(agent)
        players = [asyncio.ensure_future(player(env)) for env in envs]
        try:
            await asyncio.gather(*players)
        finally:
            for one in players:
                one.cancel()
            await asyncio.gather(*players, return_exceptions=True)
            pool.shutdown(wait=False, cancel_futures=True)


async def _awaited(said: Awaitable[Any]) -> Any:
    return await said


async def _episode(env: Any, index: int, sample: int, at_once: bool, reply: Any, call: Any) -> Row:
    """Play one task."""
    _, info = env.reset(options={"index": index})
    track = Track(info, sample)
    steps, usage, reason, error = 0, Usage(), None, None
    try:
        while not track.over:
            said = await reply(track.info)
            steps += 1
            if isinstance(said, Reply):
                usage, reason = usage + said.usage, said.finish_reason
            for act, text in _actions(env, said, at_once):
                if not track.over:
                    # Games take no time; answers are graded.
                    track.note(await call(act, text) if env.unwrapped.step_delimiters else act(text))
    except ChatRefused:
        raise
    except Exception as raised:  # whatever an agent raises is what became of its task
        error = f"{type(raised).__name__}: {raised}"
    return track.row(steps=steps, error=error, usage=usage, finish_reason=reason)


def _actions(env: Any, said: Any, at_once: bool) -> Iterator[tuple[Callable[[str], Any], str]]:
    """How a reply is handed over: each text, and what is done with it unless the episode is over."""
    text = said.text if isinstance(said, Reply) else said
    if isinstance(said, Reply) and said.cut:
        if not text or not env.unwrapped.step_delimiters or answer_may_go_on(text, env.unwrapped.thoughts):
            yield env.unwrapped.cut_off, text
        else:
            yield env.step, text
            yield env.unwrapped.cut_off, ""
        return
    yield env.step, text
    if at_once:
        yield env.step, ""


def _is_async(agent: Any) -> bool:
    return inspect.iscoroutinefunction(agent) or inspect.iscoroutinefunction(type(agent).__call__)


def _with_info(agent: Agent) -> Callable[[dict[str, Any]], Any]:
    """Return the agent as a function of ``info``."""
    try:
        parameters = inspect.signature(agent).parameters.values()
    except (TypeError, ValueError):  # a function of C that does not say
        parameters = ()  # type: ignore[assignment]
    wanted = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    if any(one.name == "info" and one.kind is one.KEYWORD_ONLY for one in parameters):
        return lambda info: agent(info["messages"], info=info)
    if len(wanted) > 1 or "info" in [one.name for one in parameters][1:2]:
        return lambda info: agent(info["messages"], info)
    return lambda info: agent(info["messages"])
