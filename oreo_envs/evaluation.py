"""Playing every task of a split once with any agent.

Knows: how to call an agent, sync or async, one at a time or several; what to report of a task.
Does not know: models, tokens; who is right (the environments).
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
import queue
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from oreo_envs.base import TextEnv
from oreo_envs.checks import positive, whole
from oreo_envs.plain import make
from oreo_envs.records import Message, Scalar

Agent = Callable[..., str | Awaitable[str]]
"""``agent(messages)`` or ``agent(messages, info)``, a function, a coroutine function or an object that is called."""

_Z = 1.959963984540054
_Game = Generator[dict[str, Any], Any, "Row"]


@dataclass(frozen=True)
class Row:
    """What became of one task.

    Attributes:
        task_id: the task.
        index: of the task in its split.
        success: whether it was solved.
        reward: the sum of all rewards.
        steps: how often the agent acted.
        answer: the answer that was found in the response, None: none, or there are no answers here.
        truncated: a limit ended it.
        error: what the agent raised, "ValueError: ...", None: nothing; such a task is no success.
        messages: the whole conversation, as far as it came.
        info: what else the last ``info`` says in single values, such as ``grade_reason``.
    """

    task_id: str
    index: int
    success: bool
    reward: float
    steps: int
    answer: Any
    truncated: bool
    error: str | None
    messages: tuple[Message, ...] = field(repr=False)
    info: dict[str, Scalar] = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """All tasks that were played, in the order of their index."""

    env_id: str
    split: str
    rows: tuple[Row, ...]

    @property
    def success_rate(self) -> float:
        """Share of the tasks that were solved, 0..1."""
        return sum(row.success for row in self.rows) / len(self.rows)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the success rate; each task counts once."""
        count, rate = len(self.rows), self.success_rate
        centre, scale = rate + _Z**2 / (2 * count), 1 + _Z**2 / count
        swing = _Z * math.sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2))
        return max(0.0, (centre - swing) / scale), min(1.0, (centre + swing) / scale)

    @property
    def conversations(self) -> dict[str, tuple[Message, ...]]:
        """The conversation of each task."""
        return {row.task_id: row.messages for row in self.rows}

    @property
    def errors(self) -> dict[str, str]:
        """What the agent raised, for the tasks where it did."""
        return {row.task_id: row.error for row in self.rows if row.error is not None}

    def __str__(self) -> str:
        """One line: tasks solved, rate, interval, errors."""
        solved, (low, high) = sum(row.success for row in self.rows), self.interval
        line = f"{self.env_id} {self.split}: {solved} of {len(self.rows)} tasks solved, {self.success_rate:.1%} "
        return f"{line}[{low:.1%}, {high:.1%}]" + (f"; {len(self.errors)} ended in an error" if self.errors else "")


def evaluate(
    agent: Agent,
    env_id: str,
    *,
    split: str,
    num_envs: int = 1,
    episodes: int | None = None,
    seed: int = 0,
    step_by_step: bool = False,
    **env_kwargs: Any,
) -> Evaluation:
    r"""Play every task of a split exactly once.

    Args:
        agent: called with the messages so far, and with ``info`` where it has a second argument without a default, or
            one called ``info``; returns the text of its action. A coroutine function is awaited, and so is what
            another function returns that can be.
        env_id: a registered id, or ``module:id``; a plain environment is filled up, see ``PlainEnv``.
        split: which tasks.
        num_envs: how many tasks are played at the same time; an agent that is no coroutine is then called from as many
            threads.
        episodes: how many tasks, drawn by ``seed``, always the same ones; None: all of them.
        seed: draws the tasks where they are not all.
        step_by_step: where a question is asked, what the agent returns is a part of its response, and it is asked again
            until the response states its final answer (``#### x``, ``\boxed{x}``); else it is the whole response, and
            graded as it is, prose as well. Turns of games are single commands anyway.
        env_kwargs: arguments of ``gym.make``.

    Returns:
        A row for each task, the success rate with its interval, and the conversations. What the agent raises ends its
        task and is part of the row.

    Raises:
        ValueError: an environment whose actions are no text, or no number of tasks where these have no end, or more
            than there are; an agent that cannot be called; no seed; what the environment refuses.
    """
    if not callable(agent):
        raise ValueError(f"an agent is called with messages and returns its action, got {agent!r:.80}")
    if whole("seed", seed) < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed}")
    env = make(env_id, split=split, **env_kwargs)
    own: Any = env.unwrapped
    indices = _chosen(own, episodes, seed)
    at_once = bool(own.step_delimiters) and not step_by_step
    envs = [env, *(copy.deepcopy(env) for _ in range(min(positive("num_envs", num_envs), len(indices)) - 1))]
    ask = _with_info(agent)
    if _is_async(agent):
        rows = _run(_play_async(ask, envs, indices, at_once))
    else:
        with _waiting(ask) as waited:
            rows = _play_threads(waited, envs, indices, at_once)
    return Evaluation(env_id, split, tuple(sorted(rows, key=lambda row: row.index)))


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


def _episode(env: gymnasium.Env[str, str], index: int, at_once: bool) -> _Game:
    """Play one task: yields each info that an action is wanted for, is sent the action, or thrown what went wrong."""
    _, info = env.reset(options={"index": index})
    total, steps, over, truncated, error = 0.0, 0, False, False, None
    try:
        while not over:
            action = yield info
            steps += 1
            for text in (action, "") if at_once else (action,):
                if not over:
                    _, reward, terminated, truncated, info = env.step(text)
                    total, over = total + float(reward), terminated or truncated
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    told = {"messages", "task_id", "index", "split", "step", "success", "answer"}
    rest = {name: value for name, value in info.items() if name not in told and isinstance(value, Scalar)}
    success = bool(info["success"]) and error is None
    return Row(
        info["task_id"], index, success, total, steps, info["answer"], truncated, error,
        tuple(info["messages"]), rest,
    )  # fmt: skip


def _play_threads(
    ask: Callable[[dict[str, Any]], Any], envs: Sequence[Any], indices: Sequence[int], at_once: bool
) -> list[Row]:
    def play(index: int) -> Row:
        env = free.get()
        game = _episode(env, index, at_once)
        try:
            info = next(game)
            while True:
                try:
                    action = ask(info)
                except Exception as error:
                    info = game.throw(error)
                else:
                    info = game.send(action)
        except StopIteration as end:
            row: Row = end.value
            return row
        finally:
            free.put(env)

    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for env in envs:
        free.put(env)
    if len(envs) == 1:
        return [play(index) for index in indices]
    with ThreadPoolExecutor(len(envs)) as pool:
        return list(pool.map(play, indices))


async def _play_async(
    ask: Callable[[dict[str, Any]], Any], envs: Sequence[Any], indices: Sequence[int], at_once: bool
) -> list[Row]:
    async def play(env: Any) -> None:
        for index in left:
            game = _episode(env, index, at_once)
            try:
                info = next(game)
                while True:
                    try:
                        action = await ask(info)
                    except Exception as error:
                        info = game.throw(error)
                    else:
                        info = game.send(action)
            except StopIteration as end:
                rows.append(end.value)

    left: Iterator[int] = iter(indices)
    rows: list[Row] = []
    await asyncio.gather(*map(play, envs))
    return rows


def _run(playing: Any) -> list[Row]:
    """Run a coroutine, in a thread of its own where a loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        rows: list[Row] = asyncio.run(playing)
        return rows
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(playing)).result()


@contextmanager
def _waiting(ask: Callable[[dict[str, Any]], Any]) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """Make ``ask`` wait where it returns something to be awaited, as a lambda around a coroutine function does.

    One loop for all threads: clients keep their connections in the loop that they were first used in.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def result(awaitable: Awaitable[str]) -> str:
        return await awaitable

    def waited(info: dict[str, Any]) -> Any:
        said = ask(info)
        return asyncio.run_coroutine_threadsafe(result(said), loop).result() if inspect.isawaitable(said) else said

    try:
        yield waited
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


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
