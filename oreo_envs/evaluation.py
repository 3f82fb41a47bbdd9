"""Playing the tasks of a split with any agent.

Knows: how to call an agent, sync or async, one at a time or several; what of it is written down; what is counted.
Does not know: models, tokens; who is right (the environments); how servers are asked (``chat``).
"""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from oreo_envs.asynchronous import aside, finish, run
from oreo_envs.bars import bar
from oreo_envs.base import TextEnv
from oreo_envs.chat import ChatAgent, ClientAgent
from oreo_envs.checks import closest, flag, positive, whole
from oreo_envs.grading import answer_may_go_on
from oreo_envs.outcomes import Evaluation, EvaluationStopped
from oreo_envs.plain import make
from oreo_envs.recording import RecordFolder, Row, Track, common_settings
from oreo_envs.replies import ChatRefused, Reply, Usage

Agent = Callable[..., "str | Reply | Awaitable[str | Reply]"]
"""``agent(messages)`` or ``agent(messages, info)``, a function, a coroutine function or an object that is called."""

_CLIENT_ENVS = 8
_MOST = 10_000_000


class _AgentError(Exception):
    """What an agent raised, in words."""


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
            one called ``info``, in which stands ``sample`` too: how often the task was played before; returns the text
            of its action, or a ``Reply``. A coroutine function is awaited, and so is what another function returns that
            can be. Or a ``ChatClient``; or a client object of the library ``openai``, or one that has its
            ``chat.completions.create``.
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
    if len(asked) * positive("episodes_per_task", episodes_per_task) > _MOST:
        raise ValueError(
            f"{len(asked)} tasks, {episodes_per_task} times each: at most {_MOST} episodes can be played at once, for "
            "each is kept in memory; give fewer episodes="
        )
    wanted = [(index, sample) for sample in range(episodes_per_task) for index in asked]
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
    ask, runner = _contained(_with_info(agent)), None
    with ExitStack() as stack:

        async def reply(info: dict[str, Any]) -> Any:
            nonlocal runner
            said = ask(info)
            if inspect.isawaitable(said):
                runner = runner or stack.enter_context(asyncio.Runner())
                said = runner.run(_waited_for(said))
            return said

        async def call(function: Callable[..., Any], *arguments: Any) -> Any:
            return function(*arguments)

        for index, sample in places:
            finished(finish(_episode(env, index, sample, at_once, reply, call)))


async def _play_beside(
    agent: Any, envs: Sequence[Any], places: _Places, at_once: bool, finished: Callable[[Row], None]
) -> None:
    """Several at a time in one loop, in which clients keep their connections; what is no coroutine, in threads."""
    ask, loop, left = _contained(_with_info(agent)), asyncio.get_running_loop(), iter(places)
    pool = ThreadPoolExecutor(len(envs))
    loop.set_default_executor(pool)

    async def call(function: Callable[..., Any], *arguments: Any) -> Any:
        return await loop.run_in_executor(pool, function, *arguments)

    async def reply(info: dict[str, Any]) -> Any:
        said = ask(info) if _is_async(agent) else await call(ask, info)
        return await _waited_for(said) if inspect.isawaitable(said) else said

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


def _contained(ask: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Keep in an agent what would mean something else around it, where futures and loops are."""

    def contained(info: dict[str, Any]) -> Any:
        try:
            return ask(info)
        except (StopIteration, asyncio.CancelledError) as error:
            raise _AgentError(f"{type(error).__name__}: {error}") from error

    return contained


async def _waited_for(said: Awaitable[Any]) -> Any:
    """Await an agent, in which a cancellation may be that of a task of its own."""
    try:
        return await said
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _AgentError(f"CancelledError: {error}") from error


async def _episode(env: Any, index: int, sample: int, at_once: bool, reply: Any, call: Any) -> Row:
    """Play one task."""
    _, info = env.reset(options={"index": index})
    track = Track(info, sample)
    steps, usage, reason, error = 0, Usage(), None, None
    try:
        while not track.over:
            said = await reply({**track.info, "sample": sample})
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
        error = _told(raised)
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


def _told(error: Exception) -> str:
    if isinstance(error, _AgentError):
        return str(error)
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # of somebody else's class
        return type(error).__name__


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
        return lambda info: agent(list(info["messages"]), info=_copied(info))
    if len(wanted) > 1 or "info" in [one.name for one in parameters][1:2]:
        return lambda info: agent(list(info["messages"]), _copied(info))
    return lambda info: agent(list(info["messages"]))


def _copied(info: dict[str, Any]) -> dict[str, Any]:
    """What an agent may change is its own."""
    return {name: list(value) if isinstance(value, list) else value for name, value in info.items()}
