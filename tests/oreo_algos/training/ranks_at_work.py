"""Train in groups of forked processes, and leave what each found, for the tests to compare with one process.

    python ranks_at_work.py FOLDER PLAN...

FOLDER holds the buffers ``several`` and ``single``; plans are as in ``main``. This process imports torch, computes
nothing, and forks: a group costs no import.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from layered import layered_models
from torch import distributed as dist

from oreo_algos import EpisodeBuffer, TrainerConfig, algos, ranks, train
from oreo_algos.training import resume, trainer

FAST = {"policy_lr": 0.01}
BOTH = {**FAST, "value_lr": 0.01, "batch_size": 5}

# Name: algorithm, options of the policy. All take 4 steps at least, the last of an epoch a smaller one.
CASES: dict[str, tuple[Any, dict[str, bool]]] = {
    "sft": (algos.Sft(**FAST, batch_size=5, epochs=2), {}),
    "sft, one example a step": (algos.Sft(**FAST, batch_size=1, epochs=1), {}),
    "sft, observations": (algos.Sft(**FAST, batch_size=4, epochs=1, observation_weight=0.3), {}),
    "more sft": (algos.MoreSft(**FAST, batch_size=4), {}),
    "rejection": (algos.RejectionSampling(**FAST, batch_size=4, epochs=2), {}),
    "dpo": (algos.Dpo(**FAST, batch_size=3, epochs=2), {}),
    "kto": (algos.Kto(**FAST, batch_size=5, epochs=2), {}),
    "kto, one turn": (algos.Kto(**FAST, batch_size=5, epochs=2, beta=1.0), {}),
    "oreo": (algos.Oreo(**BOTH, epochs=2), {}),
    "oreo, step": (algos.Oreo(**BOTH, epochs=2, granularity="step", beta=0.5), {}),
    "oreo, response": (algos.Oreo(**BOTH, epochs=2, granularity="response"), {}),
    "oreo, k3": (algos.Oreo(**BOTH, epochs=2, kl="k3"), {}),
    "oreo, warm-up": (algos.Oreo(**BOTH, epochs=1, value_warmup_steps=2, value_updates=2), {}),
    "oreo, value only": (algos.Oreo(**BOTH, epochs=2, value_only=True), {}),
    "oreo, moving average": (algos.Oreo(**BOTH, epochs=2, target_decay=0.5, kl_target=0.1), {}),
    "oreo, muon": (algos.Oreo(**BOTH, epochs=2, optimizer="muon", weight_decay=0.1), {}),
    "oreo, tied": (algos.Oreo(**BOTH, epochs=2), {"tied": True}),
    "oreo, adapted": (algos.Oreo(**BOTH, epochs=2), {"adapted": True}),
    "dqo": (algos.Dqo(**BOTH, epochs=2), {}),
    "dpo, likelihood and step": (algos.Dpo(**FAST, batch_size=3, epochs=2, nll_weight=0.5, compared="step"), {}),
    "direct advantage": (algos.DirectAdvantage(**BOTH, epochs=2, value_warmup_steps=2), {}),
    "implicit prm": (algos.ImplicitPrm(**FAST, batch_size=5, epochs=2, beta=1.0), {}),
    "grpo": (algos.Grpo(**FAST, batch_size=5, epochs=2, alpha=0.1), {}),
    "constant": (algos.ConstantBaseline(**FAST, batch_size=5, epochs=2), {}),
    "constant, states": (algos.ConstantBaseline(**FAST, batch_size=5, epochs=2, baseline="state"), {}),
    "asymre": (algos.AsymRe(**FAST, batch_size=5, epochs=2), {}),
    "topr": (algos.Topr(**FAST, batch_size=5, epochs=2), {}),
    "optimal advantage": (algos.OptimalAdvantage(**FAST, batch_size=5, epochs=2, beta=0.1), {}),
    "awr": (algos.AdvantageWeighted(**BOTH, epochs=2), {}),
    "iql": (algos.AdvantageWeighted(**BOTH, epochs=2, granularity="step", expectile=0.7, trace=0.0), {}),
}
KILLED = "oreo, moving average"
SHARDINGS = ("replicated", "full")


def run_case(name: str, base: Path, folder: Path, sharding: str = "replicated", **config: Any) -> dict[str, Any]:
    """Train; return the gradients of the first step, the parameters at the end and the result."""
    algorithm, options = CASES[name]
    buffer = EpisodeBuffer.load(base / ("single" if "one turn" in name else "several"))
    models = layered_models(**options)
    gradients: list[dict[str, Any]] = []
    clip = torch.nn.utils.clip_grad_norm_

    def noted(parameters: Any, *arguments: Any) -> Any:
        own = list(parameters)
        gradients.append([None if p.grad is None else trainer.whole_tensor(p.grad).clone() for p in own])
        return clip(own, *arguments)

    torch.nn.utils.clip_grad_norm_ = noted
    try:
        how: Any = {"micro_batch_tokens": 30, "tracker": "none", "sharding": sharding} | config
        result = train(algorithm, models, buffer, TrainerConfig(**how), folder)
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
    weights = [parameter.detach() for name in ("policy", "value") for parameter in getattr(models, name).parameters()]
    return {"gradients": gradients[:2], "weights": weights, "steps": result.steps}


def in_group(size: int, work: Callable[[int], Any], *, grouped: bool = True, seconds: float = 300) -> list[int]:
    """Fork processes that form a group and work, each given its rank; return how each ended, as ``waitpid`` says."""
    meet = tempfile.mktemp()
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            try:
                torch.set_num_threads(torch.get_num_threads())  # its pool of threads does not live through a fork
                if grouped:
                    wait = timedelta(seconds=seconds)
                    dist.init_process_group(
                        "gloo", init_method=f"file://{meet}", rank=rank, world_size=size, timeout=wait
                    )
                work(rank)
                if grouped:
                    dist.destroy_process_group()
                os._exit(0)
            except BaseException:  # the parent is another process, to which nothing may be raised
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


def compare(base: Path, size: int, names: Sequence[str]) -> None:
    """Train all cases in one group, in both ways."""

    def work(rank: int) -> None:
        for name in names:
            for sharding in SHARDINGS:
                place = f"{name}-{sharding}-{size}"
                found = run_case(name, base, base / "runs" / place, sharding)
                if rank == 0:
                    torch.save(found, base / f"{place}.pt")

    if any(in_group(size, work)):
        raise SystemExit(f"{size} ranks failed")


def kill(base: Path, sharding: str, victims: Sequence[int], moment: str) -> None:
    """Two ranks train, of which some are killed in the save of step 2 or after it; then others go on."""
    place = f"killed-{sharding}-{''.join(map(str, victims))}-{moment}"
    folder = base / "runs" / place
    save, write = resume.save_together, sys.modules["oreo_algos.storage.checkpoint"].write_tensors

    def work(rank: int) -> None:
        def die() -> None:
            if rank in victims:
                os.kill(os.getpid(), signal.SIGKILL)

        def save_and_die(folder: Path, step: int, *arguments: Any, **options: Any) -> None:
            if step == 2 and moment == "within":
                sys.modules["oreo_algos.storage.checkpoint"].write_tensors = lambda *_: (write(*_), die())
            save(folder, step, *arguments, **options)
            if step == 2:
                die()

        trainer.save_run.__globals__["save_together"] = save_and_die
        run_case(KILLED, base, folder, sharding, checkpoint_every=1)

    ends = in_group(2, work)
    if not all(ends):
        raise SystemExit(f"{place}: a rank lived on: {ends}")
    for size in (1, 2, 3):
        again = base / "runs" / f"{place}-{size}"
        shutil.copytree(folder, again)

        def go_on(rank: int, size: int = size, again: Path = again) -> None:
            for way in SHARDINGS:
                own = again.with_name(f"{again.name}-{way}")
                if rank == 0:
                    shutil.copytree(again, own)
                dist.barrier()
                found = run_case(KILLED, base, own, way)
                if rank == 0:
                    torch.save(found, base / f"{own.name}.pt")

        if any(in_group(size, go_on)):
            raise SystemExit(f"{place}: {size} ranks could not go on")


def hand_over(base: Path, name: str) -> None:
    """One process begins and two go on, in parts; two begin so and one goes on."""

    def stop_after(folder: Path, sharding: str) -> None:
        step = trainer._Run._train_step

        def stopped(run: Any) -> Any:
            if run.step == 3:
                raise KeyboardInterrupt
            return step(run)

        trainer._Run._train_step = stopped  # type: ignore[method-assign]
        try:
            run_case(name, base, folder, sharding, checkpoint_every=3)
        except KeyboardInterrupt:
            return
        finally:
            trainer._Run._train_step = step  # type: ignore[method-assign]
        raise SystemExit(f"{folder} was not stopped")

    def go_on(rank: int, place: str, sharding: str) -> None:
        found = run_case(name, base, base / "runs" / place, sharding)
        if rank == 0:
            torch.save(found, base / f"{place}.pt")

    ends = in_group(2, lambda rank: stop_after(base / "runs" / "to-one", "full"))
    ends += in_group(1, lambda rank: stop_after(base / "runs" / "from-one", "replicated"), grouped=False)
    ends += in_group(2, lambda rank: go_on(rank, "from-one", "full"))
    ends += in_group(1, lambda rank: go_on(rank, "to-one", "full"), grouped=False)
    if any(ends):
        raise SystemExit(f"not handed over: {ends}")


def fail(base: Path) -> None:
    """Two ranks train, of which the second finds a loss that is no number."""

    def work(rank: int) -> None:
        if rank == 1:
            losses = algos.Sft.losses

            def broken(*arguments: Any) -> Any:
                found = losses(*arguments)
                found.terms["policy"] = found.terms["policy"] * float("nan")
                return found

            algos.Sft.losses = broken  # type: ignore[method-assign]
        try:
            run_case("sft", base, base / "runs" / "fail")
        except ValueError as error:
            (base / f"said-{rank}").write_text(str(error))

    if any(in_group(2, work)):
        raise SystemExit("a rank did not end")


def first(base: Path) -> None:
    """The first rank works for longer than a collective may take here, and then fails."""

    def broken() -> None:
        time.sleep(3)
        raise KeyError("it broke")

    def work(rank: int) -> None:
        us = ranks.current()
        found = us.first(lambda: 7 + us.rank)
        try:
            us.first(broken)
        except (KeyError, ranks.ElsewhereError) as error:
            (base / f"heard-{rank}").write_text(f"{found}, {error.args[0]}".replace("'", ""))

    if any(in_group(2, work, seconds=2)):
        raise SystemExit("a rank did not end")


def main(base: Path, plan: str) -> None:
    """Do what the plan says."""
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1)])  # imports what optimisers import late
    match plan.split(":"):
        case "compare", size, names:
            compare(base, int(size), names.split(";") if names else list(CASES))
        case "kill", sharding, victims, moment:
            kill(base, sharding, [int(victim) for victim in victims], moment)
        case "hand over", name:
            hand_over(base, name)
        case "fail", *_:
            fail(base)
        case "first", *_:
            first(base)


if __name__ == "__main__":
    for plan in sys.argv[2:]:
        main(Path(sys.argv[1]), plan)
