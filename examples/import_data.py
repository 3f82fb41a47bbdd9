"""Solutions that you already have become a buffer of episodes, and a policy learns from it.

The questions are your own (``oreo/QA-v0``), each solution is labelled right or wrong, and the policy is a small model
from random weights in place of a checkpoint: with one, ``checkpoint`` is its folder or hub name.
"""

import itertools
import json
import random
import sys
from pathlib import Path

from oreo_agents import CausalPolicy, PromptFormat
from oreo_agents.networks.tiny import TinyConfig, byte_tokenizer, create_checkpoint
from oreo_agents.runs.data import encode_buffer, import_solutions
from oreo_algos import EpisodeBuffer, Models, TrainerConfig, train
from oreo_algos.algos import Dpo


def write_questions(folder: Path) -> Path:
    """Write questions with answers, and for each a right and a wrong solution; return the file of solutions."""
    rng = random.Random(0)
    sums = rng.sample(list(itertools.product(range(2, 20), repeat=2)), 64)
    (folder / "questions").mkdir(parents=True, exist_ok=True)
    questions = [{"question": f"What is {a} + {b}?", "answer": str(a + b)} for a, b in sums]
    for split in ("train", "dev", "test"):  # responses to held-out questions would be counted and left out
        rows = questions if split == "train" else [{"question": f"What is {split} + 1?", "answer": "unknown"}]
        (folder / "questions" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    solutions = [
        {"question": row["question"], "response": f"{a} + {b} = {c}\n\\boxed{{{c}}}", "correct": c == a + b}
        for row, (a, b) in zip(questions, sums, strict=True)
        for c in (a + b, a + b + 1)
    ]
    (folder / "solutions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in solutions))
    return folder / "solutions.jsonl"


def main(folder: Path = Path("outputs/examples/import_data")) -> None:
    """Import, encode, save, train."""
    solutions = write_questions(folder)
    buffer, counts = import_solutions(solutions, "labelled", "qa", path=str(folder / "questions"))
    print(counts)

    checkpoint = folder / "checkpoint"
    tokenizer = byte_tokenizer([solutions.read_text()], 400)
    create_checkpoint(TinyConfig(hidden_size=32, layers=1, heads=2), tokenizer, checkpoint, seed=0)

    encode_buffer(buffer, PromptFormat.from_pretrained(str(checkpoint))).save(folder / "episodes")
    episodes = EpisodeBuffer.load(folder / "episodes")
    print(episodes.stats())

    policy = CausalPolicy.from_pretrained(str(checkpoint))
    models = Models(policy, reference=policy.frozen_copy())
    algorithm = Dpo(policy_lr=1e-3, batch_size=16, epochs=2)
    result = train(algorithm, models, episodes, TrainerConfig(), folder / "dpo")
    print(f"{result.steps} steps; pairs ordered right: {result.metrics['train/rewards/accuracies']:.0%}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
