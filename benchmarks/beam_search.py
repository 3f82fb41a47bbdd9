"""Step beam search that goes on from kept keys and values, against the same search that reads everything anew.

A small Llama is trained for some seconds to speak in steps of about 10 tokens, after prompts of about 75, and is
widened by zeros, so that it costs more than its training; an answer is cut off after 8 steps. The value network starts
from its weights with a random head. How good they are does not matter here. Both sides search from the same seed, and
the script fails unless they find the same answers by the same number of tokens.

The peer is ``Player`` as it was before caches were kept, which is how the authors' search works too: at each step the
policy reads the whole transcript for each continuation (within a step it has a key-value cache), and V reads all of
each candidate. Trunk tokens are the positions, padding included, that pass through the trunks of both networks.

The gain grows with beams and tasks that share a pass, for a pass costs something whatever it holds: with few rows that
is most of what is left to us. On one core of a busy machine 4 x 4 with 4 tasks, which ``--quick`` runs, took 2.6 to 3.0
times less; 2 x 4 took 2.4 times less with 4 tasks and 3.0 times less with 16, which the full run has.

    python benchmarks/beam_search.py [--json] [--quick] [--device cuda] [--tasks 16] [--width 2]
"""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from side_by_side import Row, parse, report, say, take_turns
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, DynamicCache, LlamaForCausalLM

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.episodes.generate import Sample, Sampling, draw
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.networks.checkpoints import autocast, base_model
from oreo_agents.networks.kv_cache import Prefix, pad_left
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.tiny import TinyConfig, create_checkpoint, word_tokenizer
from oreo_agents.networks.value import TokenValue
from oreo_agents.search import Answer, Player, StepBeam
from oreo_agents.search.player import Judgement
from oreo_envs.arithmetic import VERBS
from oreo_envs.prompts import PROMPTS

PROMPT = "gsm8k-hash@1"
MAKE_ENV = partial(
    gym.make, "oreo/Arithmetic-v0", disable_env_checker=True, verbs_per_problem=(7, 7), prompt=PROMPT, max_steps=8
)


class ReencodingPlayer(Player):
    """Reads whole transcripts each time; searches, randomness and batches are those of its base."""

    @torch.no_grad()
    def continue_turns(
        self, records: Sequence[Record], temperature: float, sources: Sequence[Any], *, one_step: bool
    ) -> list[Sample]:
        """Continue each record from its tokens alone, by one step."""
        assert one_step
        samples = [Sample([], []) for _ in records]
        order = sorted(range(len(records)), key=lambda i: len(records[i].tokens))
        for start in range(0, len(order), self.sampling.batch_size):
            rows = order[start : start + self.sampling.batch_size]
            self._continue_batch([(records[i], sources[i], samples[i]) for i in rows], temperature)
        return samples

    def _continue_batch(self, rows: list[tuple[Record, Any, Sample]], temperature: float) -> None:
        model = self.policy.plain
        tokens, mask = pad_left([record.tokens for record, _, _ in rows], model.device)
        cache = DynamicCache(config=model.config)
        while rows:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            with autocast(model.device):
                output = model(
                    tokens,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
            chosen, logprobs = draw(output.logits[:, -1].float(), temperature, [source for _, source, _ in rows])
            drawn = zip(rows, chosen.tolist(), logprobs.tolist(), strict=True)
            kept = [i for i, (row, token, logprob) in enumerate(drawn) if self._goes_on(row, token, logprob)]
            if len(kept) < len(rows):
                index = torch.tensor(kept, dtype=torch.long, device=model.device)
                cache.batch_select_indices(index)
                mask, chosen = mask[index], chosen[index]
                rows = [rows[i] for i in kept]
            tokens = chosen[:, None]
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)

    def _goes_on(self, row: tuple[Record, Any, Sample], token: int, logprob: float) -> bool:
        """Add a token to a sample; returns whether its step goes on."""
        record, _, sample = row
        sample.tokens.append(token)
        sample.logprobs.append(logprob)
        sample.ended = token in self.prompt_format.end_ids
        if sample.ended:
            return False
        limit = min(self.sampling.max_new_tokens - record.spoken, self.policy.max_length - len(record.tokens))
        length = self.prompt_format.complete_step(sample.tokens, record.delimiters, inside=record.spoken > 0)
        if length is not None and length < limit:
            sample.stop_at(length)
        return not sample.stopped and len(sample.tokens) < limit

    @torch.no_grad()
    def judge(self, records: Sequence[Any], continuations: Sequence[Sequence[int]]) -> list[Judgement]:
        """Read the whole transcript of each state."""
        assert self.value is not None
        states = [[*record.tokens, *more] for record, more in zip(records, continuations, strict=True)]
        order = sorted(range(len(states)), key=lambda i: len(states[i]))
        found: dict[int, Judgement] = {}
        device = next(self.value.parameters()).device
        for start in range(0, len(order), self.sampling.batch_size):
            rows = order[start : start + self.sampling.batch_size]
            # Padding is on the right and attention is causal, so no attention mask is needed.
            tokens = pad_sequence([torch.tensor(states[i]) for i in rows], batch_first=True).to(device)
            last = torch.tensor([[len(states[i]) - 1] for i in rows], device=device)
            with autocast(device):
                values = self.value.model(input_ids=tokens, use_cache=False).logits.squeeze(-1).gather(1, last)
            for i, value in zip(rows, values.squeeze(1).float().tolist(), strict=True):
                found[i] = Judgement(value, len(states[i]), Prefix())
        return [found[i] for i in range(len(states))]


def write_answer(rng: random.Random) -> str:
    """Write steps that are easy to learn to imitate: a verb and eight rising numbers each."""
    lines = []
    for _ in range(5):
        numbers = [str(6 * place + rng.randint(0, 5)) for place in range(8)]
        lines.append(" ".join([rng.choice(VERBS), *numbers]) + "\n")
    return "".join(lines)


def train_policy(folder: Path, steps: int) -> PromptFormat:
    """Write the checkpoint of a small model that knows what steps look like."""
    rng = random.Random(0)
    env: Any = MAKE_ENV(split="train").unwrapped
    instruction = (PROMPTS[PROMPT].system or "").replace(",", "").replace(".", "").replace(":", "")
    prompt_format = PromptFormat(word_tokenizer([*env.vocabulary(), *instruction.split()]))
    create_checkpoint(TinyConfig(), prompt_format.tokenizer, folder, seed=0)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for step in range(steps):
        rows = []
        for index in range(4 * step, 4 * (step + 1)):
            _, info = env.reset(options={"index": index})
            prompt = prompt_format.opening(info["messages"])
            rows.append(torch.tensor([*prompt, *prompt_format.encode(write_answer(rng))]))
        tokens = pad_sequence(rows, batch_first=True, padding_value=-100)
        model(tokens.clamp(min=0), labels=tokens, use_cache=False).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return prompt_format


@torch.no_grad()
def widen(folder: Path, factor: int) -> None:
    """Rewrite a checkpoint so that it says the same and costs as much as a model ``factor`` times as wide."""
    small: Any = AutoModelForCausalLM.from_pretrained(folder)
    config = copy.deepcopy(small.config)
    for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"):
        setattr(config, name, factor * getattr(config, name))
    wide = LlamaForCausalLM(config)
    for name, weight in wide.named_parameters():
        narrow = small.get_parameter(name)
        # Zeros lower the mean square that a norm divides by.
        scale = factor**-0.5 if "norm" in name else 1.0
        weight.zero_()[tuple(map(slice, narrow.shape))] = scale * narrow
    wide.save_pretrained(folder)


def count_trunk_tokens(
    search: Callable[[], list[Answer | None]], policy: CausalPolicy, value: TokenValue
) -> tuple[list[Answer | None], int]:
    """Return what a search finds, and the positions that pass through the trunks of both networks meanwhile."""
    read = []

    def note(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        read.append(output.last_hidden_state.shape[:2].numel())

    hooks = [base_model(network.model).register_forward_hook(note) for network in (policy, value)]
    found = search()
    for hook in hooks:
        hook.remove()
    return found, sum(read)


def same(ours: Sequence[Answer | None], theirs: Sequence[Answer | None]) -> None:
    """Fail unless both sides found the same beams, by the same tokens on the way."""
    for one, other in zip(ours, theirs, strict=True):
        assert one is not None and other is not None
        pair = (one.episode, other.episode)
        equal = one.tokens == other.tokens and np.array_equal(*(episode.tokens for episode in pair))
        if not equal or not np.allclose(*(episode.behavior_logprobs for episode in pair), atol=1e-4):
            raise SystemExit("the two searches differ")


def main() -> None:
    """Measure."""
    options = parse(__doc__, tasks=16, width=2)
    tasks, n = (4, 3) if options.quick else (options.tasks, 5)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        prompt_format = train_policy(Path(name), steps=80)
        widen(Path(name), options.width)
        policy = CausalPolicy.from_pretrained(name, device=options.device)
        value = TokenValue.from_policy(name, device=options.device)
    head = value.model.score.weight
    torch.nn.init.normal_(head, generator=torch.Generator(head.device).manual_seed(0))
    for search in (StepBeam(tau=0, keep=4, expand=4), StepBeam(tau=0, keep=2, expand=4)):

        def answer(player: type[Player], search: StepBeam = search) -> list[Answer | None]:
            make_env, limits = partial(MAKE_ENV, split="test"), Sampling(max_new_tokens=200, batch_size=256)
            return search.answer(player(make_env, policy, prompt_format, range(tasks), limits, seed=0, value=value))

        found: dict[type[Player], tuple[list[Answer | None], int]] = {}

        def measured(player: type[Player], found: dict[Any, Any] = found, answer: Any = answer) -> None:
            found[player] = count_trunk_tokens(partial(answer, player), policy, value)

        label = f"step beam {search.size}, {tasks} tasks"
        sides = partial(measured, Player), partial(measured, ReencodingPlayer)
        rows.append(take_turns(f"{label}: time", *sides, n=n, device=options.device, warmup=0))
        (ours, count), (theirs, peer_count) = found[Player], found[ReencodingPlayer]
        same(ours, theirs)
        rows.append(Row(f"{label}: trunk tokens", count, peer_count, "tokens", n))
        say(rows[-1])
        if options.quick:
            break
    report(rows, as_json=options.json)


if __name__ == "__main__":
    main()
