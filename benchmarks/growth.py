"""How the cost of each part grows with its size: every size is doubled twice, and the exponent of the CPU time printed.

    python benchmarks/growth.py [--only TEXT ...] [--json]

1 is linear. An exponent is that of the last doubling, of the least of several times each, which take turns. Attention,
which is quadratic in the length of a transcript, is kept out by models so small that it does not show. Exits with 1
where an exponent exceeds 1.1 beyond what the repetitions disagree by.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from buffer_scale import make as draw_episodes
from buffer_scale import write
from corridor import Corridor, make_game
from transformers import LlamaConfig, LlamaForCausalLM

from oreo_agents.episodes.generate import Sampling, draw, generate
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import rollout
from oreo_agents.episodes.turn_tokens import StepEnd
from oreo_agents.evaluation.report import report
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.tiny import byte_tokenizer
from oreo_agents.networks.value import TokenValue
from oreo_agents.search import Majority, Player, StepBeam, WeightedVote
from oreo_algos import Episode, EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Sft
from oreo_algos.algos.selection import preference_pairs

LIMIT = 1.1
_REPEATS = 3
_TEXTS = ["Tom has 21 marbles. 21 + 5 = 26\n#### 26", "a b c\n\nd e f. look take go 1 2 3"]


@dataclass(frozen=True)
class Growth:
    """A size that grows.

    Attributes:
        name: of what is done, and what of it doubles.
        size: the first one.
        ready: given a size, sets up what is not timed, and returns what is.
    """

    name: str
    size: int
    ready: Callable[[int], Callable[[], object]]


@dataclass(frozen=True)
class Found:
    """What was measured: seconds of CPU at each size, exponents by repetition."""

    name: str
    sizes: list[int]
    seconds: list[float]
    exponents: list[float]

    @property
    def exponent(self) -> float:
        """Of the last doubling."""
        return math.log2(self.seconds[-1] / self.seconds[-2])


def tokenizer_format() -> PromptFormat:
    """Return the format of a byte-level tokenizer without a template."""
    return PromptFormat(byte_tokenizer(_TEXTS * 2, 290))


def make_policy(context: int, vocabulary: int = 300, *, attention: str = "sdpa") -> CausalPolicy:
    """Return a policy of few weights; ``attention="itself"`` leaves attention out, all else is done as ever."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=vocabulary, num_hidden_layers=2, max_position_embeddings=context, **shape)
    config._attn_implementation = attention
    policy = CausalPolicy(LlamaForCausalLM(config).eval())
    assert policy.resumes
    return policy


def steps_of_a_game(size: int) -> Callable[[], object]:
    """Play turns."""
    env = Corridor()

    def play() -> None:
        env.reset(seed=0)
        for _ in range(size):
            env.step("go")

    return play


def steps_of_a_text(env_id: str, size: int) -> Callable[[], object]:
    """Say an answer of steps."""
    env = gym.make(env_id, split="train", max_steps=1 << 30, max_chars=1 << 40, disable_env_checker=True)

    def play() -> None:
        env.reset(options={"index": 0})
        for number in range(size):
            env.step(f"{number} and one more is {number + 1}, and so on\n")

    return play


def turns_of_rollouts(size: int, attention: str = "sdpa") -> Callable[[], object]:
    """Play games with a model."""
    prompt_format, policy = tokenizer_format(), make_policy(64 * size, attention=attention)
    sampling = Sampling(temperature=0, max_new_tokens=2, batch_size=16)

    games = partial(rollout, partial(make_game, size), policy, prompt_format, range(16), sampling, seed=0)
    prompt_format.end_ids = frozenset(range(300))  # whatever is said in a turn, it has ended
    return lambda: list(games())


def tokens_of_samples(size: int) -> Callable[[], object]:
    """Sample long answers."""
    policy, rows = make_policy(8 * size), [[5, 6, 7]] * 16
    return lambda: generate(policy, rows, (), Sampling(temperature=0, max_new_tokens=size))


def rows_of_samples(size: int) -> Callable[[], object]:
    """Sample many answers."""
    policy, rows = make_policy(64), [[5, 6, 7 + k % 9] for k in range(size)]
    return lambda: generate(policy, rows, (), Sampling(temperature=0, max_new_tokens=16, batch_size=32))


def vocabulary_of_draws(size: int) -> Callable[[], object]:
    """Draw tokens."""
    logits = torch.randn(64, size)
    return lambda: draw(logits, 1.0, [np.random.default_rng(k) for k in range(64)])


def text_ends(size: int) -> Callable[[], object]:
    """Say where the text of each token ends, where the pieces add up, and where they do not."""
    prompt_format = tokenizer_format()
    tokens = prompt_format.encode("Tom has 21 marbles.\n" * size)
    return lambda: (prompt_format.text_ends(tokens), prompt_format.split_steps(tokens, ("\n",)))


def text_ends_of_others(size: int) -> Callable[[], object]:
    """Do so for a tokenizer whose text is no sum of pieces."""
    prompt_format = tokenizer_format()
    decode = prompt_format.decode
    prompt_format.decode = lambda tokens: decode(tokens).replace(" .", ".")  # type: ignore[method-assign]
    tokens = prompt_format.encode("Tom has 21 marbles .\n" * size)
    return lambda: prompt_format.text_ends(tokens)


def one_long_step(size: int) -> Callable[[], object]:
    """Ask at each token whether a step that never ends is over."""
    prompt_format = tokenizer_format()
    tokens = prompt_format.encode("\\[" + "a = b\n" * size)

    def look() -> None:
        over, said = StepEnd(prompt_format, ("\n",), inside=False), []
        for token in tokens:
            said.append(token)
            assert over(said) is None

    return look


def beam(size: int, *, deep: bool) -> Callable[[], object]:
    """Search: so many steps, or so many beams."""
    prompt_format = tokenizer_format()
    limit = 8 * size if deep else 16
    policy = make_policy(16 * limit + 400)
    with tempfile.TemporaryDirectory() as folder:
        policy.plain.save_pretrained(folder)
        value = TokenValue.from_policy(folder)
    prompt_format.complete_step = lambda tokens, **_: 4 if len(tokens) == 4 else None  # type: ignore[method-assign]
    make_env = partial(gym.make, "oreo/Arithmetic-v0", split="test", max_chars=1 << 30, max_steps=None)
    sampling = Sampling(max_new_tokens=limit, batch_size=64)
    search = StepBeam(keep=2, expand=2) if deep else StepBeam(keep=size, expand=4)
    return lambda: search.answer(
        Player(
            partial(make_env, disable_env_checker=True), policy, prompt_format, range(2), sampling, seed=0, value=value
        )
    )


def episodes_of_a_buffer(size: int, folder: Path) -> Callable[[], object]:
    """Write a buffer, read it, count it."""

    def work() -> None:
        write(size, folder / "buffer")
        buffer = EpisodeBuffer.load(folder / "buffer")
        buffer.stats()
        preference_pairs(buffer, 6, np.random.default_rng(0))
        buffer.first_of_copies  # noqa: B018

    return work


def samples_of_a_task(size: int) -> Callable[[], object]:
    """Pair right and wrong answers to one task."""
    episodes = [
        Episode(
            tokens=[1, 2],
            step_id=[-1, 0],
            rewards=[float(k % 2)],
            terminated=True,
            truncated=False,
            task_id="one",
            env_id="oreo/Test-v0",
        )
        for k in range(size)
    ]
    buffer = EpisodeBuffer(episodes)
    buffer.columns  # noqa: B018
    return lambda: [preference_pairs(buffer, 6, np.random.default_rng(k)) for k in range(20)]


def votes(size: int) -> Callable[[], object]:
    """Vote."""
    episodes = list(draw_episodes(size))
    answers, values = [str(k % 50) for k in range(size)], np.random.default_rng(0).random(size)
    searches = (Majority(samples=size, temperature=1.0), WeightedVote(samples=size, temperature=1.0))
    return lambda: [search.choose(episodes, values, answers) for search in searches]


def results(folder: Path, runs: int, tasks: int) -> None:
    """Write results of runs as ``oreo`` does."""
    rng = np.random.default_rng(0)
    for seed in range(runs):
        rows = []
        for algo in ("sft", "oreo", "dpo"):
            right = rng.random(tasks) < 0.5
            fields = {"env": "oreo/Arithmetic-v0", "split": "test", "seed": seed, "settings": {}, "search": "greedy"}
            counts = {"n": tasks, "correct": int(right.sum()), "accuracy": float(right.mean()), "tokens_per_task": 9.0}
            rows.append({"algo": algo, "env_options": {}, "value_tokens_per_task": 0.0} | fields | counts)
            place = folder / str(seed) / algo
            place.mkdir(parents=True)
            items = [
                {"task_id": f"t/{k}", "correct": bool(r), "tokens": 9, "answer": "1", "kind": None}
                for k, r in enumerate(right)
            ]
            (place / "items-test-greedy.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
            metrics = [{"step": step, "loss/policy": 1 / (step + 1)} for step in range(50)]
            (place / "metrics.jsonl").write_text("\n".join(map(json.dumps, metrics)), encoding="utf-8")
        (folder / str(seed) / "results.json").write_text(json.dumps({"results": rows}), encoding="utf-8")
        (folder / str(seed) / "config.yaml").write_text(f"seed: {seed}\n", encoding="utf-8")


def reports(size: int, folder: Path, *, of_tasks: bool) -> Callable[[], object]:
    """Report on runs."""
    place = folder / f"runs-{of_tasks}-{size}"
    if not place.exists():
        results(place, 4 if of_tasks else size, size if of_tasks else 200)
    return lambda: report([place], place / "report", quiet=True)


def steps_of_training(size: int, folder: Path) -> Callable[[], object]:
    """Train."""
    policy = make_policy(64)
    episodes = [
        Episode(
            tokens=[*range(3, 19)],
            step_id=[-1] * 4 + [0] * 12,
            rewards=[1.0],
            terminated=True,
            truncated=False,
            task_id=f"t/{k}",
            env_id="oreo/Test-v0",
        )
        for k in range(2 * size)
    ]
    buffer, settings = EpisodeBuffer(episodes), TrainerConfig(checkpoint_every=max(size // 2, 1))
    algorithm = Sft(batch_size=2, epochs=1)

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            train(algorithm, Models(policy=policy), buffer, settings, Path(place))

    return work


def growths(folder: Path) -> Iterator[Growth]:
    """Yield everything whose cost is to grow as its size does."""
    yield Growth("a game: turns", 400, steps_of_a_game)
    yield Growth("an answer of steps, arithmetic: steps", 100, partial(steps_of_a_text, "oreo/Arithmetic-v0"))
    yield Growth("an answer of steps, countdown: steps", 100, partial(steps_of_a_text, "oreo/Countdown-v0"))
    yield Growth("16 games with a model: turns", 60, turns_of_rollouts)
    yield Growth("16 games with a model, no attention: turns", 60, partial(turns_of_rollouts, attention="itself"))
    yield Growth("sampling: tokens", 256, tokens_of_samples)
    yield Growth("sampling: rows", 128, rows_of_samples)
    yield Growth("drawing: vocabulary", 50_000, vocabulary_of_draws)
    yield Growth("where tokens end: tokens", 200, text_ends)
    yield Growth("where tokens end, no sum of pieces: tokens", 100, text_ends_of_others)
    yield Growth("a step that never ends: tokens", 50, one_long_step)
    yield Growth("step beam: depth", 16, partial(beam, deep=True))
    yield Growth("step beam: width", 4, partial(beam, deep=False))
    yield Growth("a buffer: episodes", 2000, partial(episodes_of_a_buffer, folder=folder))
    yield Growth("pairs: samples of a task", 1000, samples_of_a_task)
    yield Growth("votes: samples of a task", 2000, votes)
    yield Growth("a report: runs", 20, partial(reports, folder=folder, of_tasks=False))
    yield Growth("a report: tasks", 1000, partial(reports, folder=folder, of_tasks=True))
    yield Growth("training: steps", 50, partial(steps_of_training, folder=folder))


def measure(growth: Growth) -> Found:
    """Time a growth at three sizes."""
    sizes = [growth.size << k for k in range(3)]
    works = [growth.ready(size) for size in sizes]
    works[0]()
    rounds: list[list[float]] = []
    for _ in range(_REPEATS):
        rounds.append([])
        for work in works:
            start = time.process_time()
            work()
            rounds[-1].append(time.process_time() - start)
    least = [min(times) for times in zip(*rounds, strict=True)]
    return Found(growth.name, sizes, least, [math.log2(times[-1] / times[-2]) for times in rounds])


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="names that hold one of these texts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for growth in growths(Path(folder)):
            if any(text in growth.name for text in options.only):
                with redirect_stdout(StringIO()):
                    found.append(measure(growth))
                one = found[-1]
                print(f"{one.name}: {one.exponent:.2f} {[round(s, 3) for s in one.seconds]}", file=sys.stderr)
    if options.json:
        print(json.dumps([vars(one) | {"exponent": one.exponent} for one in found], indent=1))
    else:
        print("| what: which size | sizes | CPU s | exponent |\n|---|---|---|---:|")
        for one in found:
            sizes, seconds = (" ".join(f"{x:.3g}" for x in numbers) for numbers in (one.sizes, one.seconds))
            print(f"| {one.name} | {sizes} | {seconds} | {one.exponent:.2f} |")
    if any(min(one.exponent, *one.exponents) > LIMIT for one in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
