"""``oreo COMMAND --help`` of the commands that take settings: what it does, examples, its settings.

Knows: which settings a command has, in groups. Does not know: what a command does with them. The short texts load
nothing; what a group holds is read from its configuration and its dataclasses.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from io import StringIO
from pydoc import locate
from textwrap import fill, indent
from typing import Any, get_type_hints

from oreo_agents.runs.described import Setting, fields_of, options_of, plain


@dataclass(frozen=True)
class Help:
    """What is said of a command.

    Attributes:
        summary: what it does.
        examples: command lines without ``oreo``, each with what it is for.
        groups: names of the groups of its settings.
        plain: settings of no group that are worth a line.
    """

    summary: str
    examples: Mapping[str, str]
    groups: tuple[str, ...]
    plain: tuple[str, ...] = ("seed", "workers")


GROUPS = {
    "env": "which tasks: env=NAME chooses a file, env.options.NAME=... what it is given",
    "policy": "what the policy begins with: policy.path=FOLDER_OR_HUB_NAME, or a small model from random weights",
    "value": "what the value network begins with: value.path=..., value.lora.rank=...",
    "sft": "the supervised start: how many demonstrations, sft.algorithm.policy_lr=...",
    "collect": "offline episodes: how many tasks and samples, collect.sampling.temperature=...",
    "algo": "the algorithm: algo=NAME chooses a file, algo.beta=... sets a field",
    "algorithms": "one group for each algorithm: algorithms.oreo.beta=...; algos=[...] says which are trained",
    "iteration": "rounds of collection and training: rounds=3",
    "searches": "how answers are chosen, one group a search: searches.majority.samples=...; search=[...] says which",
    "sampler": "who generates: this process, or sampler=vllm sampler.url=http://HOST:PORT",
    "evaluate": "on what is measured: evaluate.tasks=..., evaluate.splits=[...], evaluate.pairs.share=0.1",
    "value_eval": "what=value: how V is measured, value_eval.samples=...",
    "trainer": "how training runs: trainer.micro_batch_tokens=..., trainer.doctor.NAME=... (warnings)",
}

PLAIN = {
    "seed": "of everything random",
    "data": "folder of a buffer to train on, rows, or a list of them, whose episodes are joined; null: collect one",
    "allow_held_out": "true: learn also from what `data` holds of held-out tasks, which results and cards then say",
    "workers": "processes that train and evaluate side by side; null: one a core for small models on a CPU, else 1",
    "algos": "which algorithms to train; the start is evaluated as sft",
    "rounds": "how often to collect and train; 1: the offline episodes of the start alone",
    "what": "accuracy, of tasks; pairs: how those of `data` are ranked; value: how good V is; null: by what is given",
    "run": "what `oreo eval RUN` sets",
    "shard": "2/8: collect the second of eight shares; null: all; `oreo data merge` joins them",
    "label": "name in the results; null: that of the folder which holds the checkpoint",
    "reference.path": "the policy that training started from, for log-ratios; null: as the run says, else none",
}
"""Settings of no group."""

DOCTOR = """\
oreo doctor RUN/NAME | policy.path=FOLDER_OR_HUB_NAME [value.path=FOLDER] [--json] [KEY=VALUE ...]

Loads a checkpoint as the other commands do, with the same settings (policy.dtype, policy.lora.rank,
policy.chat_template ...), and tries what they would ask of it. Every line is "ok", "slow" (another way is taken, which
gives the same numbers) or "refused" (with what to do). Exit code 2 when something is refused.

  --json   a list of {"name", "status", "why"} in place of the table
"""
"""Of ``oreo doctor``."""

_COLUMN = 52
_BEFORE = ("env", "policy", "value", "sft", "collect")
_AFTER = ("searches", "evaluate", "sampler", "trainer")

HELPS = {
    "run": Help(
        "A whole comparison: draw demonstrations, fine-tune the start on them (sft), collect offline episodes of it, "
        "train every algorithm from that start on those episodes, evaluate all of them on held-out tasks, report. The "
        "same command in the same folder goes on where it was stopped.",
        {
            "run experiment=smoke": "every stage in half a minute",
            "run": "the demonstration of the README, some minutes",
            "run algos=[oreo,rejection] seed=1 evaluate.tasks=200": "two algorithms, another seed, fewer tasks",
            "run env=gsm8k policy.path=Qwen/Qwen2.5-Math-1.5B": "a pretrained model on a data set",
            "run rounds=3 hydra.run.dir=outputs/mine": "three rounds, in that folder",
        },
        (*_BEFORE, "algorithms", "iteration", *_AFTER),
        ("algos", "rounds", "data", "seed", "workers"),
    ),
    "train": Help(
        "One algorithm: the start and the episodes (made once and kept in outputs/starts, or given), its training, its "
        "evaluation. With -m a sweep over settings, which ends in a joint report.",
        {
            "train algo=dpo": "DPO on the default task",
            "train -m algo=oreo,dpo,rejection seed=0,1,2": "three algorithms with three seeds, one table at the end",
            "train algo=oreo algo.beta=0.05 rounds=2": "other settings of an algorithm",
            "train algo=oreo env=gsm8k policy.path=checkpoint/ data=episodes/": "your checkpoint, your episodes",
            "train -m algo=oreo collect.samples=4,16 seed=0,1": "is more data worth it?",
        },
        (*_BEFORE, "algo", "iteration", *_AFTER),
        ("rounds", "data", "seed", "workers"),
    ),
    "sft": Help(
        "The supervised start alone: demonstrations of the environment, and a policy that imitates them.",
        {
            "sft": "the small model on the default task",
            "sft env=countdown sft.demonstrations=2000": "another environment, fewer demonstrations",
            "sft env=gsm8k policy.path=Qwen/Qwen2.5-Math-1.5B": "a pretrained model",
            "sft sft.algorithm.epochs=5 seed=1": "longer, another seed",
            "sft policy.tiny.hidden_size=128 hydra.run.dir=outputs/wide": "a wider small model, in that folder",
        },
        (*_BEFORE, *_AFTER),
    ),
    "collect": Help(
        "Offline episodes: of the start policy, or of the environment's expert, as a folder that `data=` reads.",
        {
            "collect": "of the small model, after its supervised start",
            "collect policy.path=checkpoint/ env=gsm8k collect.tasks=500": "of a checkpoint",
            "collect policy=expert env=alfworld env.path=generated": "demonstrations of an expert",
            "collect policy.path=RUN/oreo/policy hydra.run.dir=outputs/more": "of a policy that was trained here",
            "collect policy.path=checkpoint/ env=gsm8k shard=2/8": "an eighth of it; `oreo data merge` joins all eight",
        },
        (*_BEFORE, *_AFTER),
        ("shard", "seed"),
    ),
    "eval": Help(
        "Measure what a run trained, on its own tasks; or a checkpoint; or, with data=PAIRS, how well preference pairs "
        "are ranked; or, with what=value, how good a value is.",
        {
            "eval RUN": "everything that the run trained, once more",
            "eval RUN/oreo search=[greedy,best_of_n,step_beam]": "one policy of it, with searches by its value",
            "eval policy.path=checkpoint/ env=gsm8k search=[greedy,majority]": "a checkpoint",
            "eval RUN/dpo data=pairs.jsonl": "how often it ranks held-out preference pairs as they should be",
            "eval RUN/oreo what=value": "how well V orders right and wrong answers",
        },
        (*_BEFORE, *_AFTER, "value_eval"),
        ("what", "label", "seed"),
    ),
}
"""By command."""


def help_text(command: str) -> str:
    """Return the short help of a command."""
    about = HELPS[command]
    width = max(len(line) for line in about.examples if len(line) <= _COLUMN)
    examples = [
        f"  oreo {line:<{width}}  {text}" if len(line) <= _COLUMN else f"  oreo {line}\n{'':{width + 9}}{text}"
        for line, text in about.examples.items()
    ]
    groups = [f"  {name:<11} {GROUPS[name]}" for name in about.groups]
    others = [f"  {name:<11} {text}" for name, text in PLAIN.items() if name in about.plain]
    more = {
        f"oreo {command} --help GROUP": "every setting of a group, with its default and what it means",
        f"oreo {command} --cfg job": "the settings as this command line makes them, as YAML",
        "-m": "a sweep: every combination of KEY=A,B,C",
        "--import MODULE_OR_FILE.py": "an algorithm, search or environment of yours; --config-dir DIR: its settings",
        "hydra.run.dir=FOLDER": "where to work; default: a folder of its own below outputs/",
    }
    return "\n".join(
        [
            f"oreo {command} [KEY=VALUE ...]\n",
            fill(about.summary, 100),
            "\nExamples:\n",
            *examples,
            "\nSettings, in groups:\n",
            *groups,
            "",
            *others,
            "",
            *(f"  {left:<26}  {right}" for left, right in more.items()),
            "",
        ]
    )


def asked_of_parser(command: str, arguments: Sequence[str]) -> str | None:
    """Return the help of a command whose arguments argparse reads; None: none is asked for, or of no such command."""
    homes = {
        "report": "oreo_agents.evaluation.report_arguments",
        "data": "oreo_agents.runs.data_arguments",
        "reproduce": "oreo_agents.runs.reproduce",
    }
    if not {"-h", "--help"} & {*arguments} or command not in {*homes, "doctor"}:
        return None
    if command == "doctor":
        return DOCTOR
    printed = StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        import_module(homes[command]).parser().parse_args(arguments)
    return printed.getvalue()


def asked(command: str, arguments: Sequence[str]) -> str | None:
    """Return what ``oreo COMMAND [KEY=VALUE ...] --help [GROUP ...]`` prints; None: no help is asked for.

    Raises:
        ValueError: the command has no such group.
    """
    at = next((k for k, text in enumerate(arguments) if text in ("-h", "--help")), None)
    if at is None:
        return None
    groups = [text for text in arguments[at + 1 :] if "=" not in text]
    overrides = [text for text in arguments if "=" in text and not text.startswith("-")]
    return "\n".join(group_text(command, name, overrides) for name in groups) or help_text(command)


def group_text(command: str, group: str, overrides: Sequence[str] = ()) -> str:
    """Return the settings of a group, such as ``algo`` or ``collect.sampling``, or a single setting.

    Raises:
        ValueError: the command has no such group.
    """
    from oreo_agents.runs.overrides import composed_values
    from oreo_envs.checks import closest

    config = composed_values(command, overrides)
    top = group.partition(".")[0]
    found = (
        [row for row in rows(config, top) if f"{row.name.lstrip('+')}.".startswith(f"{group}.")]
        if top in config
        else []
    )
    if not found:
        known = ", ".join(HELPS[command].groups)
        near = closest(group, [*HELPS[command].groups, *config])
        raise ValueError(f"oreo {command} has no group of settings {group!r}{near} (groups: {known})")
    parts = []
    for row in found:
        left = f"{row.name}={row.default}" + (f"   ({row.kind})" if row.kind else "")
        parts.append(f"{left}\n{indent(fill(row.text, 96), '    ')}" if row.text else left)
    return "\n".join(parts) + "\n"


def rows(config: Mapping[str, Any], key: str) -> Iterator[Setting]:
    """Yield the settings below a dotted key of a composed configuration, with the defaults that it gives them.

    A setting that no file names, and that is therefore added on the command line, has a name that begins with ``+``.
    """
    node: Any = config
    for name in key.split("."):
        node = node[name]
    if not isinstance(node, Mapping):
        yield Setting(key, "", plain(node), PLAIN.get(key, ""))
        return
    target = node.get("_target_")
    if target is None:
        for name in node:
            yield from rows(config, f"{key}.{name}")
        return
    for setting in fields_of(find(target)):
        full = f"{key}.{setting.name}"
        if setting.name not in node:
            yield from _unnamed(find(target), key, setting)
        elif isinstance(node[setting.name], Mapping) and "_target_" in node[setting.name]:
            yield from rows(config, full)
        elif full == "env.options":
            yield from _options(config)
        else:
            yield Setting(full, setting.kind, plain(node[setting.name]), setting.text)


def _unnamed(owner: type, key: str, setting: Setting) -> Iterator[Setting]:
    """Yield a setting that no file names; one that is a dataclass, by its own fields."""
    kind = get_type_hints(owner).get(setting.name)
    full = f"{key}.{setting.name}"
    if isinstance(kind, type) and is_dataclass(kind):
        for each in fields_of(kind):
            yield from _unnamed(kind, full, each)
    else:
        yield Setting(f"+{full}", setting.kind, setting.default, setting.text)


def find(target: str) -> type:
    """Return the class of a ``_target_``.

    Raises:
        ValueError: there is none.
    """
    found = locate(target)
    if not isinstance(found, type):
        raise ValueError(f"{target} is no class")
    return found


def _options(config: Mapping[str, Any]) -> Iterator[Setting]:
    import gymnasium

    import oreo_envs  # noqa: F401 (registers the ids)

    entry_point: Any = gymnasium.spec(config["env"]["id"]).entry_point
    module, _, name = entry_point.partition(":")
    given = config["env"]["options"]
    for setting in options_of(getattr(import_module(module), name)):
        if setting.name not in ("split", "path"):
            added = "" if setting.name in given else "+"
            default = plain(given[setting.name]) if setting.name in given else setting.default
            yield Setting(f"{added}env.options.{setting.name}", setting.kind, default, setting.text)
