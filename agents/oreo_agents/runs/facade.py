"""The suite from Python: make, load, collect, train, evaluate, answer, save, a function each.

Knows: sensible defaults, which parts belong together. Does not know: run folders, the command line.
Networks are trained in place; every function takes an environment made by ``make``, or its name.
"""

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
from omegaconf import OmegaConf

import oreo_envs
from oreo_agents.episodes.collect import CollectSettings, encode
from oreo_agents.episodes.collect import collect as collect_episodes
from oreo_agents.episodes.collect import demonstrations as demonstrate
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.tasks import Purpose, choose_indices, derive, find_env
from oreo_agents.evaluation.evaluate import evaluate as evaluate_searches
from oreo_agents.evaluation.score import Score
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import load_tokenizer, tokenizer_fingerprint
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.tiny import TinyConfig, byte_tokenizer, create_checkpoint, word_tokenizer
from oreo_agents.networks.value import TokenValue, ValueSettings
from oreo_agents.progress import progress, quiet
from oreo_agents.runs.choices import known
from oreo_agents.runs.data import encode_buffer
from oreo_agents.runs.loading import Loader
from oreo_agents.runs.overrides import beside_others, build, composed
from oreo_agents.search import BestOfN, Greedy, Search
from oreo_agents.serving.answering import LocalEngine, Reply
from oreo_agents.serving.conversations import Question
from oreo_agents.serving.settings import known_searches
from oreo_algos import EpisodeBuffer, Models, TrainerConfig, TrainResult
from oreo_algos import train as run_training
from oreo_algos.algos import Algorithm
from oreo_envs.checks import closest
from oreo_envs.records import Message

Env = gym.Env[str, str]

# Below so many parameters a network from random weights is meant, whose settings are other ones.
_TINY = 10_000_000


def make(env: str, **options: Any) -> Env:
    """Make an environment.

    Args:
        env: an id such as ``oreo/GSM8K-v0``, or its short name, ``gsm8k``.
        options: ``split``, ``path`` and what else it takes.

    Raises:
        ValueError: there is none of that name, or it refuses an option.
    """
    env_id = find_env(env, "make: ")
    try:
        return oreo_envs.make(env_id, **options)
    except TypeError as error:
        raise ValueError(f"{env_id}: {error}") from None


def load_policy(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "float32",
    lora: Lora | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    system_prompt: str | None = None,
    thoughts: Sequence[Sequence[str]] | None = None,
    gradient_checkpointing: bool = False,
    trust_remote_code: bool = False,
) -> CausalPolicy:
    """Load a policy with its tokenizer.

    Args:
        path: folder or hub name of a causal language model; of a folder that ``save`` wrote, the policy in it.
        device: ``auto``: the GPU when there is one.
        dtype: of the weights, ``float32`` or ``bfloat16``.
        lora: adapters to train in place of all weights.
        chat_template, chat_template_kwargs, system_prompt, thoughts: how it writes conversations, see
            ``PolicySettings``.
        gradient_checkpointing: less memory, a third more time.
        trust_remote_code: run code that comes with the checkpoint.

    Raises:
        ValueError: nothing readable at ``path``.
    """
    quiet()
    settings = PolicySettings(
        path=_part(path, "policy"),
        device=device,
        dtype=dtype,
        lora=lora or Lora(),
        chat_template=chat_template,
        chat_template_kwargs=chat_template_kwargs or {},
        system_prompt=system_prompt,
        thoughts=thoughts,
        gradient_checkpointing=gradient_checkpointing,
        trust_remote_code=trust_remote_code,
    )
    return Loader(settings, ValueSettings()).policy(str(settings.path))


def new_policy(env: Env | str, *, seed: int = 0, **shape: Any) -> CausalPolicy:
    """Make a small policy from random weights, with a tokenizer of the words of an environment.

    Args:
        env: whose words: its vocabulary, or those of a few hundred demonstrations.
        seed: of the weights.
        shape: see ``TinyConfig``: ``hidden_size``, ``layers``, ``context``, ...

    Raises:
        ValueError: an environment without words of its own, or a shape that cannot be.
    """
    quiet()
    config = _settings(TinyConfig, shape)
    made = _env(env)
    unwrapped: Any = made.unwrapped
    if hasattr(unwrapped, "vocabulary"):
        tokenizer = word_tokenizer(unwrapped.vocabulary())
    else:
        shown = demonstrate(made, choose_indices(made, 200, seed), [seed])
        tokenizer = byte_tokenizer((m["content"] for one in shown for m in one.messages), config.tokenizer_size)
    with TemporaryDirectory() as folder:
        create_checkpoint(config, tokenizer, Path(folder), seed)
        policy = load_policy(folder)
    policy.path = None
    _settle(policy, PromptFormat(tokenizer, "new_policy"))
    return policy


def load_value(path: str | os.PathLike[str], policy: CausalPolicy) -> TokenValue:
    """Load a trained value network beside its policy.

    Args:
        path: folder or hub name of a one-label token classifier; of a folder that ``save`` wrote, the value in it.
        policy: whose transcripts it reads; it goes where the policy is.

    Raises:
        ValueError: it is none, or reads other tokens than the policy.
    """
    quiet()
    written, folder = format_of(policy), _part(path, "value")
    value = TokenValue.from_pretrained(folder, device=_device(policy))
    tokenizer = load_tokenizer(folder)
    # How conversations are written is the policy's, whatever template lies beside the value.
    tokenizer.chat_template = written.tokenizer.chat_template
    if tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(written.tokenizer):
        raise ValueError(f"{folder} has another tokenizer than the policy, so it reads other tokens")
    _settle(value, written)
    return value


def new_value(policy: CausalPolicy, *, bias: float | None = None, lora: Lora | None = None) -> TokenValue:
    """Start a value network from the present weights of a policy, with a head that says 0 everywhere.

    Args:
        policy: as it is now, trained or not.
        bias: None: the paper's head; a number: a trained bias that starts there, such as the mean reward.
        lora: adapters to train in place of all weights.
    """
    quiet()
    with TemporaryDirectory() as folder:
        save_whole(policy, Path(folder))
        value = TokenValue.from_policy(folder, bias=bias, lora=lora, device=_device(policy))
    value.path = None
    _settle(value, format_of(policy))
    return value


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
    made = _learnable(_env(env))
    seeds = [seed, *(derive(seed, sample) for sample in range(1, samples))]
    indices = choose_indices(made, tasks, derive(seed, Purpose.DEMONSTRATIONS))
    return encode(demonstrate(made, indices, seeds), format_of(policy), _id(made), {"seed": seed})


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
    made = _learnable(_env(env))
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, batch_size=batch_size)
    return collect_episodes(
        partial(copy.deepcopy, made),
        policy,
        format_of(policy),
        choose_indices(made, tasks, derive(seed, Purpose.COLLECTION)),
        CollectSettings(samples=samples, sampling=sampling, keep_per_outcome=keep_per_outcome),
        seed=derive(seed, Purpose.COLLECTION),
        selection_seed=derive(seed, Purpose.SELECTION),
        provenance={"env": _id(made), "seed": seed},
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
        settings: of the algorithm, in place of its own.

    Raises:
        ValueError: the algorithm needs a value, or finds nothing to learn; a setting that it does not have.
    """
    if isinstance(how, str):
        how = algorithm(how, tiny=sum(p.numel() for p in policy.parameters()) < _TINY)
    chosen = _replaced(how, settings)
    if "value" in chosen.needs and value is None:
        raise ValueError(f"{type(chosen).__name__} trains a value network too: give value=new_value(policy)")
    buffer = episodes if isinstance(episodes, EpisodeBuffer) else EpisodeBuffer.load(episodes)
    if not buffer.tokenizer_fingerprint:
        buffer = encode_buffer(buffer, format_of(policy))
    models = Models(policy, value=value if "value" in chosen.needs else None)
    if "reference" in chosen.needs:
        models.reference = policy.frozen_copy() if reference is None else reference
        models.policy_is_reference = reference is None
    config = trainer or TrainerConfig(seed=seed)
    if folder is not None:
        return run_training(chosen, models, buffer, config, Path(folder))
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
    made = _env(env)
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
    return Score(_id(made), unwrapped.split, name, tuple(items))


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
    _, chosen = _search(search or (BestOfN() if value is not None else Greedy()), value, settings)
    engine = LocalEngine(policy, format_of(policy), value, delimiters=steps, ends_at_answer=ends_at_answer)
    messages = ({"role": "user", "content": asked},) if isinstance(asked, str) else tuple(map(dict, asked))
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


def save(folder: str | os.PathLike[str], policy: CausalPolicy, value: TokenValue | None = None) -> None:
    """Write a policy, and its value, into ``folder/policy`` and ``folder/value``.

    ``load_policy(folder)``, ``load_value(folder, policy)`` and ``oreo serve policy.path=folder/policy`` read them.
    """
    policy.save(Path(folder) / "policy")
    if value is not None:
        value.save(Path(folder) / "value", format_of(policy).tokenizer)


def format_of(policy: CausalPolicy) -> PromptFormat:
    """Return how a policy writes conversations.

    Raises:
        ValueError: nobody has said which tokenizer it reads.
    """
    if policy.prompt_format is None:
        if policy.path is None:
            raise ValueError(
                "this policy has no tokenizer: set policy.prompt_format = PromptFormat(tokenizer), or load it with "
                "load_policy(FOLDER)"
            )
        _settle(policy, PromptFormat.from_pretrained(policy.path))
    found: PromptFormat = policy.prompt_format
    return found


def save_whole(policy: CausalPolicy, folder: Path) -> None:
    """Write a policy with its adapters merged, whatever is asked of its own folder."""
    own, policy.lora = policy.lora, dataclasses.replace(policy.lora, save="merged")
    try:
        policy.save(folder, format_of(policy).tokenizer)
    finally:
        policy.lora = own


def _settle(network: CausalPolicy | TokenValue, written: PromptFormat) -> None:
    """Tell a network how it writes conversations."""
    network.prompt_format, network.tokenizer_fingerprint = written, written.fingerprint


def _part(path: str | os.PathLike[str], part: str) -> str:
    folder = Path(path)
    return str(folder / part) if (folder / part).is_dir() and not (folder / "config.json").exists() else str(path)


def _env(env: Env | str) -> Env:
    return make(env) if isinstance(env, str) else env


def _id(env: Env) -> str:
    return "" if env.spec is None else env.spec.id


def _learnable(env: Env) -> Env:
    unwrapped: Any = env.unwrapped
    if unwrapped.split in unwrapped.held_out_splits:
        raise ValueError(
            f"split {unwrapped.split!r} is held out: nothing may learn from it; make it with split='train'"
        )
    return env


def _device(policy: CausalPolicy) -> Any:
    return next(policy.parameters()).device


def _search(search: str | Search, value: TokenValue | None, settings: Mapping[str, Any]) -> tuple[str, Search]:
    ours = known_searches()
    if isinstance(search, Search):
        found = _replaced(search, settings)
        name = next((n for n, s in ours.items() if type(s) is type(found)), "search")
    else:
        names = dict.fromkeys([*ours, *known("search")])
        if search not in names:
            raise ValueError(f"unknown search {search!r}{closest(search, names)} (known: {', '.join(names)})")
        found = _replaced(ours[search], settings) if search in ours else _plugged_search(search, settings)
        name = search
    if found.needs_value and value is None:
        raise ValueError(f"{name} chooses by V: give value=load_value(FOLDER, policy), or another search")
    return name, found


def _plugged_search(name: str, settings: Mapping[str, Any]) -> Any:
    with beside_others():
        return _built(composed("eval", [f"+search@searches.{name}={name}"]).searches[name], settings)


def _built(node: Any, settings: Mapping[str, Any]) -> Any:
    """Make what a node of the configuration names, with some settings changed, and those that have no default."""
    for key in settings:
        if OmegaConf.is_missing(node, key):
            node[key] = settings[key]
    return _replaced(build(node), settings)


def _replaced(settings: Any, changes: Mapping[str, Any]) -> Any:
    """Return settings with some changed; a name that they do not have is refused."""
    known = [field.name for field in dataclasses.fields(settings)]
    for name in changes:
        if name not in known:
            raise ValueError(f"{type(settings).__name__} has no setting {name!r}{closest(name, known)}")
    return dataclasses.replace(settings, **changes) if changes else settings


def _settings(kind: type[Any], given: Mapping[str, Any]) -> Any:
    return _replaced(kind(), given)
