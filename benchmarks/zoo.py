"""What every causal family of the installed transformers does here, made small and asked for everything.

    python benchmarks/zoo.py [FAMILY ...] [--jobs 2] [--write docs/models.md]

Each answer is held against the plain model of transformers, read whole, one document at a time, without a cache. A
family works for everything, some of it slowly perhaps, or is refused with a sentence; a number that is another one,
without a word, is a fault of ours, and the exit code is 1. ``--write`` replaces the table between the marks of a page.
"""

import argparse
import logging
import re
import resource
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from types import FunctionType, MethodType

import families
import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from oreo_agents import CausalPolicy, Sampling, TokenValue, generate
from oreo_agents.episodes.sources import row_source
from oreo_agents.networks import index_ties, miniature
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.capability import Capability
from oreo_agents.networks.kv_cache import Prefix
from oreo_agents.networks.network import Network
from oreo_agents.networks.tiny import byte_tokenizer
from oreo_agents.progress import start_worker
from oreo_algos import Episode, EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Algorithm, Dpo, Oreo
from oreo_algos.batch import collate

# Documents within the window of the small models, and beyond it.
SHORT, LONG = (7, 4, 6, 8), (21, 5, 13, 9)
# Two prompts are equal, the others ragged.
PROMPTS = [[5, 6, 7], [5, 6, 7], [9, 10, 11, 12, 13, 14, 15, 16, 17], [40]]
TOLERANCE = 2e-4  # nats, or units of V
_MEMORY = 8 * 2**30  # a family that is not made small fails by itself
BEGIN, END = "<!-- zoo -->", "<!-- /zoo -->"


class WrongError(Exception):
    """A number that is another one than transformers' own, and nobody said so."""


@contextmanager
def proved_once() -> Iterator[None]:
    """Try once in which ways models of one family, class and structure are read, however often they are loaded."""
    attempt = miniature._reason
    found: dict[object, str | None] = {}

    def told(thing: object) -> object:
        """Tell apart what trials are made of: functions by what they see, models of one family by their structure."""
        if isinstance(thing, MethodType):
            return told(thing.__func__), told(thing.__self__)
        if isinstance(thing, FunctionType):
            return thing.__qualname__, *(told(cell.cell_contents) for cell in thing.__closure__ or ())
        if isinstance(thing, nn.Module):
            shapes = tuple((weight.dtype, weight.shape) for weight in thing.parameters())
            return type(thing), tuple(map(type, thing.modules())), shapes
        return thing if isinstance(thing, int) else type(thing)

    def reason(trial: Callable[[], str | None]) -> str | None:
        key = told(trial)
        if key not in found:
            found[key] = attempt(trial)
        return found[key]

    miniature._reason = reason
    try:
        yield
    finally:
        miniature._reason = attempt


def documents(lengths: Sequence[int], seed: int = 0) -> list[Episode]:
    """Random transcripts; half of each is the policy's, and of each task there are both outcomes."""
    rng = np.random.default_rng(seed)
    return [
        Episode(
            tokens=rng.integers(3, 250, size=length),
            step_id=[-1] * (length // 2) + [0] * (length - length // 2),
            rewards=[float(number % 2)],
            terminated=True,
            truncated=False,
            task_id=f"task-{number // 2}",
            env_id="zoo",
        )
        for number, length in enumerate(lengths)
    ]


@dataclass(frozen=True)
class Case:
    """One family: its checkpoint, and the model that tells what is right."""

    family: str
    folder: Path

    @cached_property
    def truth(self) -> PreTrainedModel:
        """The plain model; where equal scores leave it open which keys are read, the first are."""
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        index_ties.settle(model)
        return model

    @cached_property
    def policy(self) -> CausalPolicy:
        """The same as a policy."""
        return CausalPolicy.from_pretrained(str(self.folder))

    @cached_property
    def value(self) -> TokenValue:
        """The same as a value network, whose head says something."""
        return value_of(self)

    def save(self, network: Network, name: str) -> str:
        """Write a network as a run does; return its folder."""
        network.save(self.folder / name, byte_tokenizer(["a b"], 200), "# card")
        return str(self.folder / name)


@torch.no_grad()
def logprobs_alone(model: PreTrainedModel, episode: Episode) -> Tensor:
    """Log-probabilities of the action tokens of a document, read by itself, nats."""
    tokens = torch.from_numpy(episode.tokens).long()
    logp = model(tokens[None], use_cache=False).logits[0].float().log_softmax(-1)
    chosen = logp[:-1].gather(1, tokens[1:, None])[:, 0]
    return chosen[torch.from_numpy(episode.step_id[1:] >= 0)]


def same(found: Tensor, expected: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Refuse numbers that differ."""
    difference = (found.float() - expected.float()).abs().max().item()
    if not difference < tolerance:
        raise WrongError(f"{what}: off by {difference:.2g}")


def scores_of(policy: CausalPolicy, episodes: Sequence[Episode]) -> Tensor:
    """Log-probabilities of all action tokens, in order."""
    batch = collate(episodes)
    return policy.score(batch).logprobs[batch.action_mask]


def scores(case: Case) -> str | None:
    """Log-probabilities alone, packed, padded and transformers' own."""
    for lengths in (SHORT, LONG):
        episodes = documents(lengths)
        expected = torch.cat([logprobs_alone(case.truth, episode) for episode in episodes])
        same(scores_of(case.policy, episodes).detach(), expected, f"documents of {max(lengths)} tokens")
        for episode in episodes[:1]:
            same(scores_of(case.policy, [episode]).detach(), logprobs_alone(case.truth, episode), "one document")
    how = case.policy.documents
    return f"one document at a time: {how.alone}" if how.alone else None


def samples(case: Case) -> str | None:
    """Greedy answers, and the log-probabilities of drawn ones."""
    for temperature in (0.0, 1.0):
        limits = Sampling(temperature=temperature, max_new_tokens=10)
        sources = [row_source(0, index, 0) for index in range(len(PROMPTS))]
        drawn = generate(case.policy, PROMPTS, [], limits, sources=sources)
        for prompt, sample in zip(PROMPTS, drawn, strict=True):
            tokens = torch.tensor(prompt + sample.tokens)
            with torch.no_grad():
                logp = case.truth(tokens[None], use_cache=False).logits[0].float().log_softmax(-1)[len(prompt) - 1 : -1]
            said = logp.gather(1, tokens[len(prompt) :, None])[:, 0]
            same(torch.tensor(sample.logprobs), said, "what was drawn")
            if temperature == 0:
                same(said, logp.amax(dim=-1), "greedy answers")
    return case.policy.reads_slowly


def value_of(case: Case, lora: Lora | None = None) -> TokenValue:
    """A value network of the family, whose head says something."""
    value = TokenValue.from_policy(str(case.folder), lora=lora)
    heads = [module for name, module in value.named_modules() if name.endswith(("score", "classifier", "default"))]
    generator = torch.Generator().manual_seed(0)
    for head in heads:
        if isinstance(head, nn.Linear) and head.out_features == 1:
            nn.init.normal_(head.weight, generator=generator)
    return value


def values(case: Case) -> str | None:
    """V at each token against the trunk and the head, and after a transcript that is read on."""
    value = case.value
    head = next(m for n, m in value.plain.named_children() if n in ("score", "classifier"))
    trunk = next(part for part in case.truth.children() if isinstance(part, PreTrainedModel))
    for lengths in (SHORT, LONG):
        episodes = documents(lengths)
        found = value.token_values(collate(episodes)).detach()
        for row, episode in zip(found, episodes, strict=True):
            tokens = torch.from_numpy(episode.tokens).long()
            with torch.no_grad():
                hidden = trunk(tokens[None], use_cache=False)[0][0]
                expected = hidden.float() @ head.weight[0]
            same(row[1 : len(tokens) + 1], expected, "V", 1e-3)
            after, _ = value.values_after([tokens.tolist()], [Prefix()])
            same(after, expected[-1:], "V after a transcript", 1e-3)
    again = TokenValue.from_pretrained(case.save(value, "value"))
    same(again.token_values(collate(episodes)).detach(), found, "V loaded")
    return None if value.resumes else "transcripts are read anew at each look"


def updated(case: Case, algorithm: Algorithm, models: Models, name: str) -> None:
    """One step; what is saved and loaded says the same."""
    episodes = documents([*SHORT, *LONG])
    before = scores_of(models.policy, episodes).detach()
    train(algorithm, models, EpisodeBuffer(episodes), TrainerConfig(tracker="none"), case.folder / f"{name}-run")
    after = scores_of(models.policy, episodes).detach()
    if not (after - before).abs().max() > 1e-5:
        raise WrongError(f"{name}: one step changes nothing")
    loaded = CausalPolicy.from_pretrained(case.save(models.policy, f"{name}-policy"))
    same(scores_of(loaded, episodes).detach(), after, f"{name}: policy loaded", 1e-3)
    if models.value is not None:
        batch = collate(episodes)
        loaded = TokenValue.from_pretrained(case.save(models.value, f"{name}-value"))
        same(loaded.token_values(batch).detach(), models.value.token_values(batch).detach(), f"{name}: V loaded", 1e-3)


def trained(case: Case, lora: Lora | None = None) -> str | None:
    """One step of OREO and one of DPO."""
    policy = case.policy if lora is None else CausalPolicy.from_pretrained(str(case.folder), lora=lora)
    begun = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    for algorithm in (Oreo(policy_lr=1e-2, value_lr=1e-2, batch_size=64), Dpo(policy_lr=1e-2, batch_size=64)):
        value = (case.value if lora is None else value_of(case, lora)) if "value" in algorithm.needs else None
        models = Models(policy, policy.frozen_copy(), value, policy_is_reference=True)
        try:
            updated(case, algorithm, models, type(algorithm).__name__ + ("-lora" if lora else ""))
        finally:
            policy.load_state_dict(begun)
    return None


def adapted(case: Case) -> str | None:
    """The same with adapters, merged when they are saved."""
    return trained(case, Lora(rank=2, alpha=4))


def checkpointed(case: Case) -> str | None:
    """Gradients of layers that are computed again."""
    batch = collate(documents(SHORT))

    def gradients(policy: CausalPolicy) -> Tensor:
        policy.zero_grad()
        policy.score(batch).logprobs.sum().backward()
        return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])

    expected = gradients(case.policy)
    found = gradients(CausalPolicy.from_pretrained(str(case.folder), gradient_checkpointing=True))
    same(found / expected.abs().max(), expected / expected.abs().max(), "gradients")
    return None


QUESTIONS: dict[str, Callable[[Case], str | None]] = {
    "scoring": scores,
    "sampling": samples,
    "value": values,
    "training": trained,
    "adapters": adapted,
    "gradient checkpointing": checkpointed,
}


def ask(family: str) -> list[Capability]:
    """Ask a family everything."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), proved_once():
        warnings.simplefilter("ignore")
        case = Case(family, Path(folder))
        try:
            families.build(family).save_pretrained(folder)
            byte_tokenizer(["a b"], 200).save_pretrained(folder)
            _ = case.truth
        except Exception as error:
            return [Capability("made", "refused", f"transformers: {error}"[:200])]
        found = [_answer("loading", lambda case: case.policy and None, case)]
        if found[0].status == "refused":
            return found
        return found + [_answer(name, question, case) for name, question in QUESTIONS.items()]


def _start_worker() -> None:
    start_worker()
    logging.disable(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _answer(name: str, question: Callable[[Case], str | None], case: Case) -> Capability:
    try:
        why = question(case)
    except ValueError as error:
        return Capability(name, "refused", str(error).replace(str(case.folder), "FOLDER"))
    except WrongError as error:
        return Capability(name, "wrong", str(error))  # type: ignore[arg-type]
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Capability(
            name, "wrong", f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        )  # type: ignore[arg-type]
    return Capability(name, "ok" if why is None else "slow", why or "")


def works(found: Sequence[Capability]) -> bool:
    """Whether a family does everything, be it slowly."""
    return len(found) > 1 and all(row.status in ("ok", "slow") for row in found)


def table(answers: dict[str, list[Capability]]) -> str:
    """Write what was found as Markdown: families that load, then those that do not."""
    loaded = {family: found for family, found in answers.items() if len(found) > 1}
    lines = [
        f"{sum(map(works, answers.values()))} of {len(answers)} families work for everything "
        f"(transformers {version('transformers')}, peft {version('peft')}, torch {torch.__version__.split('+')[0]}).",
        "",
        f"| family | {' | '.join(QUESTIONS)} |",
        f"|---|{'---|' * len(QUESTIONS)}",
    ]
    for family, found in loaded.items():
        status = {row.name: row.status for row in found}
        lines.append(f"| `{family}` | {' | '.join(status[name] for name in QUESTIONS)} |")
    refused = {family: found[0] for family, found in answers.items() if len(found) == 1}
    reasons: dict[str, list[str]] = {}
    for family, row in refused.items():
        inner = re.search(r"\((.*)\)", row.why)
        reasons.setdefault(inner[1] if inner else row.why, []).append(f"`{family}`")
    lines += ["", "Refused when they are loaded:", ""]
    lines += [f"- {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    lines += ["", "Refused otherwise:", ""]
    lines += [
        f"- `{family}`, {row.name}: {row.why}"
        for family, found in loaded.items()
        for row in found
        if row.status not in ("ok", "slow")
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask some families or all, print what was found, and say whether nothing is silently wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=families.names())
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    answers: dict[str, list[Capability]] = {}
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), _start_worker) as pool:
        for family, found in zip(options.families, pool.map(ask, options.families), strict=True):
            answers[family] = found
            odd = [f"{row.name} {row.status}: {row.why}" for row in found if row.status != "ok"]
            print(family, "; ".join(odd) or "ok", flush=True)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        options.write.write_text(f"{before}{BEGIN}\n{table(answers)}\n{END}{after}", encoding="utf-8")
    wrong = [family for family, found in answers.items() if any(row.status == "wrong" for row in found)]
    print(f"{sum(map(works, answers.values()))} of {len(answers)} work for everything; wrong: {wrong or 'none'}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
