"""Every command, killed again and again: the same command then ends with the files of an unbroken run.

    python benchmarks/kills.py                          # 200 kills over all commands
    python benchmarks/kills.py --kills 40 --only rounds # of one kind

One process loads torch and the suite and forks the commands. A fork dies (SIGKILL) at the n-th file event that it
causes, that is an ``open`` for writing, ``mkdir``, ``rename``, ``remove``, ``rmdir`` or ``fsync``; or at a random
moment of its CPU time, which also falls into what libraries write in other languages. Where, a seed says. A chain is
one to three kills in one folder and then a run that is let live. After it must hold:

- *same*: the files are those of the unbroken run. Weights, episodes, items and metrics are compared by their bytes,
  JSON without what a clock says; reports, pictures, cards and events by their names.
- *restarted*: the command that is let live ends with 0.
- *clean*: no temporary file or folder, no checkpoint.
- *kept*: no result that was whole when a kill came is made again.

Of two processes under ``torch.distributed`` one is killed, and the other has to end by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHAIN, PATIENCE_S, JOIN_S = 3, 600, 60
CLOCKS = re.compile(r'"([\w/]*seconds)": [^,}\n]*')
BY_NAME = ("report.md", "*.png", "README.md", "config.yaml", "trained.yaml", "multirun.yaml")
APART = re.compile(r"(^|/)(\.hydra|\.[^/]*\.lock|[^/]*\.log|events\.out\.[^/]*|mapped-[^/]*|ref-[^/]*|outputs(?=/|$))")
LEFT = re.compile(
    r"(^|/)(\.[^/]*\.(tmp|old|gone)(-[^/]*)?|[^/]*\.tmp|\.save-[^/]*|checkpoint-\d+|best-\d+|[^/]*\.parts)(/|$)"
)
# Answers are no result of their own: the items, which follow them, say that a search is done.
DONE = re.compile(r"(^|/)(summary\.json|items-[^/]*\.jsonl|data/[^/]*/metadata\.json)$")

SMALL = [
    *("experiment=smoke", "policy.path={base}/run/sft/policy", "workers=1", "trainer.checkpoint_every=2"),
    *("sft.demonstrations=32", "sft.algorithm.epochs=1"),
    *("collect.tasks=6", "collect.samples=4", "evaluate.tasks=4", "search=[greedy]"),
    *("collect.sampling.max_new_tokens=24", "evaluate.sampling.max_new_tokens=24"),
]
LEARNED = {"value_warmup_steps": 2, "batch_size": 8, "policy_lr": 0.001, "value_lr": 0.001}
OREO = ["algo=oreo", "algo.epochs=2", *(f"algo.{name}={value}" for name, value in LEARNED.items())]
RUN = [f"algorithms.oreo.{name}={value}" for name, value in LEARNED.items()]
PARTS = ["collect.tasks=16", "collect.part_tasks=4"]
CHOSEN = ["trainer.evaluate_every=3", "evaluate.dev.tasks=3", "trainer.load_best_model_at_end=true"]
HERE = "hydra.run.dir=run"


@dataclass(frozen=True)
class Case:
    """Commands, one after the other, in a folder of their own; ``{base}`` is the folder of the case ``base``."""

    commands: Sequence[Sequence[str]]
    base: str | None = "start"
    ranks: int = 1
    share: int = 1


START = Case([["sft", "experiment=smoke", HERE]], base=None)
"""Answers some of its tasks: what learns from its answers is not the same whatever they are."""

CASES = {
    "start": START,
    "sft": Case([["sft", *SMALL, HERE]], share=2),
    "train": Case([["train", *SMALL, *OREO, HERE]], share=3),
    "train, best kept": Case([["train", *SMALL, *OREO, *CHOSEN, HERE]], share=2),
    "run": Case([["run", "algos=[oreo,rejection]", *SMALL, *RUN, HERE]], share=2),
    "rounds": Case([["run", "algos=[oreo]", "rounds=2", *SMALL, *RUN, HERE]], share=3),
    "collect in parts": Case([["collect", *SMALL, *PARTS, HERE]], share=3),
    "shards": Case(
        [
            *(["collect", *SMALL, *PARTS, f"shard={number}/2", HERE] for number in (1, 2)),
            ["data", "merge", *(f"run/data/episodes-{number}-of-2" for number in (1, 2)), "--out", "whole"],
        ],
        share=2,
    ),
    "eval": Case([["eval", "{base}/run/oreo", "search=[greedy,best_of_n]", "evaluate.tasks=4", HERE]], base="train"),
    "data": Case(
        [
            ["data", "import", "rows.jsonl", "--out", "a"],
            ["data", "import", "rows.jsonl", "--out", "a"],
            ["data", "split", "a", "--share", "0.5"],
            ["data", "merge", "a-train", "a-held", "--out", "b"],
        ],
        base=None,
        share=3,
    ),
    "report": Case([["report", "{base}/run", "--out", "out"]], base="train"),
    "two ranks": Case([["train", *SMALL, *OREO, HERE]], ranks=2, share=2),
    "two ranks, sharded": Case([["train", *SMALL, *OREO, "trainer.sharding=full", HERE]], ranks=2),
}


@dataclass
class Tally:
    """What came of a case."""

    found: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """How a run of commands ended: its status, file events and CPU seconds of the first process."""

    status: int
    events: int
    cpu_s: float


def load(cases: Sequence[Case]) -> None:
    """Load what forks would each load; no thread may run when they begin."""
    import oreo_agents.evaluation.report
    import oreo_agents.runs.cli
    import oreo_agents.runs.data

    if any(case.commands[0][0] not in ("data", "report") for case in cases):
        import torch

        import oreo_agents.runs.pipeline  # noqa: F401

        torch.set_num_threads(1)
        torch.optim.AdamW([torch.zeros(1)])


def count_events(die_at: int | None) -> list[int]:
    """Count the file events of this process from here on, in what is returned; die at one of them."""
    count = [0]

    def happened() -> None:
        count[0] += 1
        if count[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, values: tuple[object, ...]) -> None:
        if event in EVENTS or (event == "open" and isinstance(values[2], int) and values[2] & WRITING):
            happened()

    def fsync(descriptor: int, really=os.fsync) -> None:
        happened()
        really(descriptor)

    os.fsync = fsync
    sys.addaudithook(hook)
    return count


def work(folder: Path, base: Path, case: Case, told: int, die_at: int | None, die_after_s: float | None) -> None:
    """Be a fork: run the commands and end."""
    from oreo_agents.runs import cli

    os.chdir(folder)
    log = os.open("fork.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    count, status = count_events(die_at), 0
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, die_after_s or 0)
    began = time.process_time()
    for command in case.commands:
        sys.argv = ["oreo", *(text.format(base=base) for text in command)]
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:  # whatever it was, the log says it
            import traceback

            traceback.print_exc()
            status = 70
        if status:
            break
    signal.setitimer(signal.ITIMER_PROF, 0)
    os.write(told, json.dumps([count[0], time.process_time() - began]).encode())
    sys.stdout.flush()
    os._exit(status)


def run(
    folder: Path,
    base: Path,
    case: Case,
    *,
    die_at: int | None = None,
    die_after_s: float | None = None,
    victim: int = 0,
) -> Ended:
    """Run the commands of a case in forks and wait for them; -9: killed, 71: a rank did not end by itself."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    children, pipes = [], []
    for rank in range(case.ranks):
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            if case.ranks > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(case.ranks)}
                os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
                os.environ["OREO_JOIN_SECONDS"] = str(JOIN_S)
            mine = rank == victim
            work(folder, base, case, writes, die_at if mine else None, die_after_s if mine else None)
        os.close(writes)
        children.append(child)
        pipes.append(reads)
    ends = [wait_for(child) for child in children]
    said = [os.read(pipe, 100) for pipe in pipes]
    for pipe in pipes:
        os.close(pipe)
    status = ends[victim] if ends[victim] in (-signal.SIGKILL, -signal.SIGPROF) else max(ends, key=abs)
    status = 71 if 71 in ends else status
    events, cpu = json.loads(said[victim] or b"[0, 0]")
    return Ended(-signal.SIGKILL if status == -signal.SIGPROF else status, events, cpu)


def wait_for(child: int) -> int:
    """Return the exit status of a fork, negative for a signal; one that stands still is ended, 71."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 71


def files(folder: Path) -> Iterator[str]:
    """Yield the names of all that a case has left, without logs and what is only kept to be faster."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not APART.search(name) and (path.is_file() or LEFT.search(name)):
            yield name


def content(folder: Path, name: str) -> bytes:
    """Return what two runs have alike in a file."""
    path = folder / name
    if path.is_dir() or any(path.match(pattern) for pattern in BY_NAME):
        return b""
    if path.suffix in (".json", ".jsonl"):
        text = CLOCKS.sub("", path.read_text(encoding="utf-8"))
        return text.replace(str(folder), "").encode()
    return path.read_bytes()


def stands_still(folder: Path) -> bool:
    """Tell whether a training of a case has learned nothing: its weights would be the same whatever is lost."""
    for path in folder.rglob("metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not any(row.get("train/grad_norm", 0) > 0 for row in rows):
            return True
    return False


def stamps(folder: Path) -> dict[str, int]:
    """Return when each result was written that says that something is done."""
    there = [name for name in files(folder) if DONE.search(name) and not LEFT.search(name)]
    return {name: (folder / name).stat().st_mtime_ns for name in there}


def prepare(folder: Path, case: Case) -> None:
    """Make the folder of a case, with the rows that data commands read."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if case.commands[0][0] == "data":
        rows = [
            {"prompt": f"What is {n} + {n}?", "response": f"It is\n{2 * n}.", "label": n % 3 > 0} for n in range(40)
        ]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def check(whole: Path, broken: Path, last: Ended, before: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield what a chain broke, by kind, with the file."""
    if last.status:
        lines = (broken / "fork.log").read_text(encoding="utf-8", errors="replace").splitlines()
        yield "restarted", f"ended with {last.status}: {' | '.join(lines[-4:])[-600:]}"
        return
    left = [name for name in files(broken) if LEFT.search(name)]
    if left:
        yield "clean", left[0]
    expected, found = ({name for name in files(f) if not LEFT.search(name)} for f in (whole, broken))
    different = expected ^ found or {n for n in expected if content(whole, n) != content(broken, n)}
    if different:
        yield "same", ", ".join(sorted(different)[:3])
    now = stamps(broken)
    again = [name for name, stamp in before.items() if now.get(name) != stamp]
    if again:
        yield "kept", again[0]


def torture(
    name: str,
    case: Case,
    kills: int,
    root: Path,
    rng: random.Random,
    *,
    until: float = float("inf"),
    verbose: bool = False,
) -> Tally:
    """Break chains of runs of a case until there were so many kills, or it is so late (``time.monotonic``)."""
    tally, whole, broken = Tally(), root / "whole" / name.replace(" ", "-"), root / "broken"
    base = root / "whole" / (case.base or "")
    prepare(whole, case)
    unbroken = run(whole, base, case)
    if unbroken.status:
        raise SystemExit(f"{name}: the unbroken run ended with {unbroken.status}, see {whole / 'fork.log'}")
    if stands_still(whole):
        raise SystemExit(f"{name}: the unbroken run learned nothing, so that its weights tell nothing, see {whole}")
    # Data commands write anew what is there: nothing of theirs is to be kept.
    keeps = case.commands[0][0] not in ("data", "report")
    while tally.found["events"] + tally.found["moments"] < kills and time.monotonic() < until:
        prepare(broken, case)
        before: dict[str, int] = {}
        for _ in range(rng.randint(1, CHAIN)):
            kind = rng.choice(["events", "moments"])
            victim = rng.randrange(case.ranks)
            most = max(unbroken.events // (20 if victim else 1), 1)
            moment = {"die_at": rng.randint(1, most)} if kind == "events" else {}
            after = {} if moment else {"die_after_s": max(rng.uniform(0, unbroken.cpu_s), 0.001)}
            ended = run(broken, base, case, **moment, **after, victim=victim)  # type: ignore[arg-type]
            if ended.status != -signal.SIGKILL:
                if ended.status:
                    tally.found["restarted"] += 1
                    tally.faults.append(f"{name}: ended with {ended.status}, see {broken / 'fork.log'}")
                break
            tally.found[kind] += 1
            if keeps:
                before = {**stamps(broken), **before}
        tally.found["chains"] += 1
        faults = list(check(whole, broken, run(broken, base, case), before))
        for kind, what in faults:
            tally.found[kind] += 1
            tally.faults.append(f"{name}: not {kind}: {what}")
        if faults:
            shutil.rmtree(root / f"fault-{len(tally.faults)}", ignore_errors=True)
            shutil.copytree(broken, root / f"fault-{name.replace(' ', '-')}-{len(tally.faults)}", dirs_exist_ok=True)
        if verbose:
            done = tally.found["events"] + tally.found["moments"]
            print(f"{name}: {done} of {kills} kills, {len(tally.faults)} faults", file=sys.stderr, flush=True)
    return tally


def table(found: dict[str, Tally]) -> str:
    """Write what came of all cases."""
    columns = ("events", "moments", "chains", "same", "restarted", "clean", "kept")
    heads = ("at file events", "at moments", "chains", "other files", "failed restarts", "left behind", "made again")
    lines = [f"| command | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    rows = [(name, tally.found) for name, tally in found.items()]
    rows.append(("all", sum((tally.found for tally in found.values()), Counter())))
    return "\n".join([*lines, *(f"| {name} | {' | '.join(str(row[c]) for c in columns)} |" for name, row in rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, compare and print; return how many faults there were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="how long at most, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(CASES), help="a kind of command; may be repeated")
    parser.add_argument("--folder", type=Path, help="where to work; what broke stays there")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(arguments)
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    chosen = {name: CASES[name] for name in options.only or CASES if name != "start"}
    needed: dict[str, Case] = {}
    for case in chosen.values():
        while case.base and case.base not in needed:
            needed = {case.base: CASES[case.base], **needed}
            case = CASES[case.base]
    needed = {name: needed[name] for name in CASES if name in needed and name not in chosen}
    load([*chosen.values(), *needed.values()])
    shares, found = sum(case.share for case in chosen.values()), dict[str, Tally]()
    with contextlib.ExitStack() as stack:
        root = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kills-")))
        root = root.resolve()
        for name, case in needed.items():
            torture(name, case, 0, root, random.Random(0))
        for name, case in chosen.items():
            kills = -(-options.kills * case.share // shares)
            rng = random.Random(f"{options.seed} {name}")
            share = case.share / shares * options.minutes * 60
            found[name] = torture(name, case, kills, root, rng, until=time.monotonic() + share, verbose=options.verbose)
    print(table(found))
    faults = [fault for tally in found.values() for fault in tally.faults]
    print(*faults, sep="\n")
    return len(faults)


if __name__ == "__main__":
    raise SystemExit(min(main(), 1))
