"""The suite from Python: make, load, collect, train, evaluate, answer, save, a function each.

Knows: sensible defaults, which parts belong together. Does not know: run folders, the command line.
Networks are trained in place; every function takes an environment made by ``make``, or its name.
"""

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from oreo_agents.episodes.collect import CollectSettings, encode
from oreo_agents.episodes.collect import collect as collect_episodes
from oreo_agents.episodes.collect import demonstrations as demonstrate
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.held_out import find_held_out, require_learnable
from oreo_agents.episodes.tasks import Purpose, choose_indices, derive
from oreo_agents.evaluation.evaluate import evaluate as evaluate_searches
from oreo_agents.evaluation.score import Score
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_agents.progress import progress
from oreo_agents.runs.building import build
from oreo_agents.runs.choices import known
from oreo_agents.runs.data import encode_buffer
from oreo_agents.runs.facade_networks import (
    format_of,
    load_policy,
    load_value,
    new_policy,
    new_value,
    require_same_tokens,
    save,
)
from oreo_agents.runs.facade_parts import Env, counted, env_of, id_of, learnable, make, replaced
from oreo_agents.runs.overrides import beside_others, composed
from oreo_agents.search import BestOfN, Greedy, Search
from oreo_agents.serving.answering import LocalEngine, Reply
from oreo_agents.serving.bodies import RefusedError, read_messages
from oreo_agents.serving.conversations import Question
from oreo_agents.serving.settings import known_searches
from oreo_algos import EpisodeBuffer, Models, TrainerConfig, TrainResult
from oreo_algos import train as run_training
from oreo_algos.algos import Algorithm
from oreo_algos.training.doctor import examine_outcomes
from oreo_envs.checks import closest, positive, whole
from oreo_envs.messages import Message

_log = logging.getLogger(__name__)

__all__ = [
    "algorithm",
    "answer",
    "collect",
    "demonstrations",
    "evaluate",
    "format_of",
    "load_policy",
    "load_value",
    "make",
    "new_policy",
    "new_value",
    "save",
    "searches",
    "train",
]

# Below so many parameters a network from random weights is meant, whose settings are other ones.
_TINY = 10_000_000


def demonstrations(
    env: Env | str, policy: CausalPolicy, *, tasks: int | None = None, samples: int = 1, seed: int = 0
) -> EpisodeBuffer:
    """Return worked solutions of an environment as episodes, to imitate.

    Args:
        env: with a split that may be learned from.
        policy: whose tokenizer encodes them.
        tasks: at most, drawn by ``seed``; None: all.
        samples: of each task, which differ where the environment draws what its solver does.
        seed: of both.

    Raises:
        ValueError: the split is held out, or the environment shows nothing.
    """
    counted(seed=seed, tasks=tasks, samples=samples)
    made = learnable(env_of(env))
    seeds = [seed, *(derive(seed, sample) for sample in range(1, samples))]
    indices = choose_indices(made, tasks, derive(seed, Purpose.DEMONSTRATIONS))
    return encode(demonstrate(made, indices, seeds), format_of(policy), id_of(made), {"seed": seed})


def collect(
    policy: CausalPolicy,
    env: Env | str,
    *,
    tasks: int | None = None,
    samples: int = 4,
    temperature: float = 1.0,
    max_new_tokens: int = 256,
    batch_size: int = 128,
    keep_per_outcome: int | None = None,
    seed: int = 0,
) -> EpisodeBuffer:
    """Sample episodes of a policy, to learn from.

    Args:
        policy: acts.
        env: with a split that may be learned from.
        tasks: at most, drawn by ``seed``; None: all.
        samples: episodes a task.
        temperature: of the sampling.
        max_new_tokens: tokens a turn at most.
        batch_size: episodes generated together.
        keep_per_outcome: keep at most so many right and so many wrong episodes a task; None: all.
        seed: of tasks and sampling.

    Raises:
        ValueError: the split is held out, or no episode could begin.
    """
    counted(seed=seed, tasks=tasks, samples=samples)
    made = learnable(env_of(env))
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, batch_size=batch_size)
    return collect_episodes(
        partial(copy.deepcopy, made),
        policy,
        format_of(policy),
        choose_indices(made, tasks, derive(seed, Purpose.COLLECTION)),
        CollectSettings(samples=samples, sampling=sampling, keep_per_outcome=keep_per_outcome),
        seed=derive(seed, Purpose.COLLECTION),
        selection_seed=derive(seed, Purpose.SELECTION),
        provenance={"env": id_of(made), "seed": seed},
    )


def algorithm(name: str, *, tiny: bool = False, **settings: Any) -> Algorithm[Any]:
    """Return an algorithm by the name that the command line has for it.

    Args:
        name: ``sft``, ``rejection``, ``dpo``, ``kto``, ``oreo``, ``oreo-step``, ...
        tiny: with the settings for small models from random weights, in place of the paper's.
        settings: its own: ``beta``, ``policy_lr``, ``epochs``, ``batch_size``, ...

    Raises:
        ValueError: there is none of that name, or it refuses a setting.
    """
    choices = known("algo")
    if name not in choices:
        raise ValueError(f"unknown algorithm {name!r}{closest(name, choices)} (known: {', '.join(choices)})")
    size = ["policy=tiny"] if tiny else ["policy=checkpoint", "policy.path=none"]
    with beside_others():
        found: Algorithm[Any] = _built(composed("train", [f"algo={name}", *size]).algo, settings)
    return found


def train(
    how: str | Algorithm[Any],
    policy: CausalPolicy,
    episodes: EpisodeBuffer | str | os.PathLike[str],
    *,
    value: TokenValue | None = None,
    reference: CausalPolicy | None = None,
    folder: str | os.PathLike[str] | None = None,
    trainer: TrainerConfig | None = None,
    seed: int = 0,
    allow_held_out: bool = False,
    **settings: Any,
) -> TrainResult:
    """Train a policy, and its value where the algorithm has one, in place.

    Args:
        how: an algorithm, or its name, see ``algorithm``; by name a small policy takes the settings for such ones.
        policy: is trained.
        episodes: to learn from, or the folder of a buffer; those that nobody has encoded yet are encoded first.
        value: is trained too; ``new_value(policy)`` begins one.
        reference: what the policy is held to; None: the policy as it is now.
        folder: for checkpoints, metrics and TensorBoard, from which the same call continues a run that was killed;
            None: nothing is kept but the networks.
        trainer: how to run, see ``TrainerConfig``.
        seed: order of the data; that of ``trainer`` where one is given.
        allow_held_out: learn also from episodes of tasks that are held out to measure with.
        settings: of the algorithm, in place of its own.

    Raises:
        ValueError: the algorithm needs a value, or finds nothing to learn; a setting that it does not have; episodes of
            held-out tasks.
    """
    written = format_of(policy)
    require_same_tokens(policy, value, "value", TokenValue)
    require_same_tokens(policy, reference, "reference", CausalPolicy)
    if reference is policy:
        raise ValueError("reference is the policy itself, which is trained; leave it out to hold it to what it is now")
    if isinstance(how, str):
        how = algorithm(how, tiny=sum(p.numel() for p in policy.parameters()) < _TINY)
    chosen = replaced(how, settings)
    if "value" in chosen.needs and value is None:
        raise ValueError(f"{type(chosen).__name__} trains a value network too: give value=new_value(policy)")
    if not isinstance(episodes, EpisodeBuffer | str | os.PathLike):
        raise ValueError(f"episodes are an EpisodeBuffer or its folder, got {episodes!r:.80}")
    if not isinstance(trainer, TrainerConfig | None):
        raise ValueError(f"trainer is a TrainerConfig, got {trainer!r:.80}")
    counted(seed=seed)
    folder = None if folder is None else Path(folder).expanduser()
    if folder is not None and folder.is_file():
        raise ValueError(f"folder={folder}: this is a file; name a folder")
    buffer = episodes if isinstance(episodes, EpisodeBuffer) else EpisodeBuffer.load(episodes)
    for found in find_held_out("episodes" if buffer is episodes else str(episodes), buffer):
        require_learnable(found, allowed=allow_held_out, switch="allow_held_out=True")
    if not buffer.tokenizer_fingerprint:
        buffer = encode_buffer(buffer, written)
    if chosen.needs:  # it tells good episodes from bad ones
        for finding in examine_outcomes(buffer):
            _log.warning("%s: %s", finding.name, finding.text)
    models = Models(policy, value=value if "value" in chosen.needs else None)
    if "reference" in chosen.needs:
        models.reference = policy.frozen_copy() if reference is None else reference
        models.policy_is_reference = reference is None
    config = trainer or TrainerConfig(seed=seed)
    if folder is not None:
        return run_training(chosen, models, buffer, config, folder)
    with TemporaryDirectory() as temporary:
        return run_training(chosen, models, buffer, config, Path(temporary) / type(chosen).__name__.lower())


def evaluate(
    policy: CausalPolicy,
    env: Env | str,
    *,
    search: str | Search = "greedy",
    value: TokenValue | None = None,
    tasks: int | None = None,
    max_new_tokens: int = 256,
    batch_size: int = 128,
    seed: int = 0,
    **settings: Any,
) -> Score:
    """Measure how often a policy, with a search, solves tasks.

    Args:
        policy: acts.
        env: with the split to measure on, such as ``make("gsm8k", split="test")``.
        search: how to answer, see ``searches``.
        value: for a search that reads V.
        tasks: at most, always the same ones; None: all.
        max_new_tokens: tokens a turn at most.
        batch_size: rows generated together.
        seed: of the sampling.
        settings: of the search, such as ``samples=4``.

    Raises:
        ValueError: the search needs a value, or is not made for tasks of this kind; an unknown search or setting.
    """
    counted(seed=seed, tasks=tasks)
    made = env_of(env)
    require_same_tokens(policy, value, "value", TokenValue)
    name, chosen = _search(search, value, settings)
    indices = choose_indices(made, tasks, None)
    with progress(f"evaluate, {name}", len(indices)) as advance:
        [(_, items)] = evaluate_searches(
            partial(copy.deepcopy, made),
            policy,
            format_of(policy),
            {name: chosen},
            indices,
            Sampling(max_new_tokens=max_new_tokens, batch_size=batch_size),
            seed=seed,
            value=value,
            progress=advance,
        )
    unwrapped: Any = made.unwrapped
    return Score(id_of(made), unwrapped.split, name, tuple(items))


def answer(
    policy: CausalPolicy,
    asked: str | Sequence[Message],
    *,
    value: TokenValue | None = None,
    search: str | Search | None = None,
    max_tokens: int = 256,
    stops: Sequence[str] = (),
    steps: Sequence[str] = ("\n",),
    ends_at_answer: bool = False,
    seed: int = 0,
    **settings: Any,
) -> Reply:
    """Answer a conversation by a search, as ``oreo serve`` does with the same seed.

    Args:
        policy: answers.
        asked: a question, or messages whose last one is the user's.
        value: for a search that reads V, and for the values of the answer's steps.
        search: or its name, see ``searches``; None: best of n with a value, else greedy.
        max_tokens: of the answer.
        stops: texts that end it.
        steps: texts that end a step.
        ends_at_answer: the line of a final answer, such as ``#### 5``, ends it.
        seed: of everything that is drawn.
        settings: of the search, such as ``samples=4``.

    Raises:
        ValueError: the search needs a value, the question fills the context, an unknown search or setting.
    """
    if "max_new_tokens" in settings:
        raise ValueError("answer: max_new_tokens is called max_tokens here, as in a request to a server")
    require_same_tokens(policy, value, "value", TokenValue)
    _, chosen = _search(search or (BestOfN() if value is not None else Greedy()), value, settings)
    engine = LocalEngine(policy, format_of(policy), value, delimiters=steps, ends_at_answer=ends_at_answer)
    messages = _messages(asked)
    counted(seed=abs(whole("seed", seed)))
    positive("max_tokens", max_tokens)
    if isinstance(stops, str) or not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"stops is a list of texts that are not empty, got {stops!r:.80}")
    tokens = tuple(engine.encode(messages))
    if len(tokens) >= engine.context:
        raise ValueError(f"this question has {len(tokens)} tokens, and the context is {engine.context}")
    room = min(max_tokens, engine.context - len(tokens))
    question = Question(messages=messages, tokens=tokens, seed=seed, max_tokens=room, stops=tuple(stops))
    return engine.answer(chosen, [question])[0]


def searches() -> dict[str, Search]:
    """Return the searches by name, in their default sizes, those that are plugged in too."""
    found = known_searches()
    return found | {name: _plugged_search(name, {}) for name in known("search") if name not in found}


def _messages(asked: Any) -> tuple[Message, ...]:
    """Read a question or messages as the server does."""
    given = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    try:
        return read_messages(list(given) if isinstance(given, Sequence) else given, last=("user", "system"))
    except RefusedError as error:
        raise ValueError(f"asked is a question or messages; {error}") from None


def _search(search: str | Search, value: TokenValue | None, settings: Mapping[str, Any]) -> tuple[str, Search]:
    ours = known_searches()
    if not isinstance(search, str):
        found = replaced(search, settings)
        name = next((n for n, s in ours.items() if type(s) is type(found)), "search")
    else:
        names = dict.fromkeys([*ours, *known("search")])
        if search not in names:
            raise ValueError(f"unknown search {search!r}{closest(search, names)} (known: {', '.join(names)})")
        found = replaced(ours[search], settings) if search in ours else _plugged_search(search, settings)
        name = search
    if found.needs_value and value is None:
        raise ValueError(f"{name} chooses by V: give value=load_value(FOLDER, policy), or another search")
    return name, found


def _plugged_search(name: str, settings: Mapping[str, Any]) -> Any:
    with beside_others():
        return _built(composed("eval", [f"+search@searches.{name}={name}"]).searches[name], settings)


def _built(node: Any, settings: Mapping[str, Any]) -> Any:
    """Make what a node of the configuration names, with some settings changed, and those that have no default."""
    return replaced(build(node, settings), settings)
