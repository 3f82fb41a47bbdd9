"""Alpha, beta and learning rate of OREO, and as many settings of every algorithm that it is compared with.

    python benchmarks/temperature.py [--world 20] [--algos oreo oreo-constant ...] [--out FOLDER]
    python benchmarks/temperature.py --claims 10 11 12 13 14 15 [--best]
    python benchmarks/temperature.py --only-report [--claims 10 11 ...]

The first form is for choices: one world of ``miniature.py`` (boxes), one start, one set of episodes and one warmed-up
value for all settings, one seed, greedy answers to its 500 dev problems. The second is for claims: in each world KTO
and, with the paper's and two other pairs of alpha and beta, OREO and its constant, each with the rest of its recipe,
from one start and the same episodes, on 1,000 test problems; with ``--best`` also the setting of each algorithm that
the first form found best (by accuracy), from that start on those episodes.

Killed and started again, it goes on.
"""

import argparse
import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from runs import difference, entries, find, finished, oreo, percent

from oreo_algos.training.metrics_writer import read_metrics

WORLD = ["experiment=miniature", "env.options.answer=boxes"]
# alpha, beta and rate: the paper's alpha and beta, smaller alphas, smaller betas, then the rate.
TEMPERATURES = [
    (0.01, 0.03, 5e-4),
    (0.001, 0.03, 5e-4),
    (0.001, 0.01, 5e-4),
    (0.003, 0.03, 5e-4),
    (0.0, 0.03, 5e-4),
    (0.0003, 0.003, 5e-4),
    (0.001, 0.01, 1e-3),
    (0.001, 0.01, 2.5e-4),
    (0.003, 0.03, 1e-3),
    (0.01, 0.03, 1e-3),
]
# alpha of the other levels at their recipes' rate: the paper's, the recipe's, which is derived, and less.
LEVELS = {"oreo-step": (0.1, 0.025, 0.008), "oreo-response": (0.3, 0.12, 0.036)}
# beta and rate of KTO and DPO; the first was the best of four and five rates.
PREFERENCES = [
    *((0.5, 3e-4), (0.5, 5e-4), (0.5, 1e-4), (0.25, 3e-4), (0.25, 5e-4)),
    *((1.0, 3e-4), (1.0, 5e-4), (0.1, 3e-4), (0.25, 1e-4), (0.1, 1e-4)),
]
# alpha, beta and rate of the claims: the paper's at the recipe's rate and at its own best, and the chosen.
CLAIMED = {
    "paper": (0.01, 0.03, 5e-4),
    "lower-alpha": (0.003, 0.03, 5e-4),
    "paper-faster": (0.01, 0.03, 1e-3),
    "lower-both": (0.001, 0.01, 5e-4),
}


@dataclass(frozen=True)
class Setting:
    """One algorithm with its numbers, by the names of its fields."""

    algo: str
    numbers: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        """Of its folder."""
        return "-".join([self.algo, *(f"{key}_{value:g}" for key, value in self.numbers)])

    @property
    def temperature(self) -> float | None:
        """``beta + alpha / (2 beta)``, reward units a nat, at token level."""
        known = dict(self.numbers)
        if "alpha" not in known or self.algo in LEVELS:
            return None
        return known["beta"] + known["alpha"] / (2 * known["beta"])


def settings() -> list[Setting]:
    """Return ten settings of each algorithm, OREO's first, and three of its other levels."""
    return [
        *(
            Setting(algo, (("policy_lr", rate), ("beta", beta), ("alpha", alpha)))
            for algo in ("oreo", "oreo-constant")
            for alpha, beta, rate in TEMPERATURES
        ),
        *(
            Setting(algo, (("policy_lr", rate), ("beta", beta)))
            for algo in ("kto", "dpo")
            for beta, rate in PREFERENCES
        ),
        *(
            Setting("rejection", (("policy_lr", rate), ("epochs", epochs)))
            for rate, epochs in product((3e-4, 1e-3, 2e-3, 3e-3, 1e-2), (3, 6))
        ),
        *(
            Setting(algo, (("policy_lr", 3e-4), ("beta", 0.03), ("alpha", alpha)))
            for algo, alphas in LEVELS.items()
            for alpha in alphas
        ),
    ]


def choose(out: Path, world: int, algos: list[str]) -> None:
    """Train and evaluate what is missing of the settings."""
    here = ["env=miniature", "env.options.answer=boxes", f"env.options.world={world}", "policy=tiny"]
    start = out / "start"
    dev = ["evaluate.splits=[dev]", "evaluate.tasks=500"]
    oreo(start, "run", *WORLD, f"env.options.world={world}", "algos=[oreo-constant]", "workers=1", *dev)
    here += [f"policy.path={start / 'sft' / 'policy'}", f"data={start / 'data' / 'episodes'}"]
    warm = ["algo=oreo", "algo.value_only=true", "algo.epochs=1", "evaluate.tasks=1"]
    oreo(out / "value", "train", *here, *warm)
    for setting in settings():
        if setting.algo not in algos:
            continue
        asked = [f"algo={setting.algo}", *(f"algo.{key}={value:g}" for key, value in setting.numbers)]
        if setting.algo == "oreo" or setting.algo in LEVELS:
            asked += [f"value.path={out / 'value' / 'oreo' / 'value'}", "algo.value_warmup_steps=0"]
        oreo(out / setting.name, "train", *here, *asked, *dev)


def choices_table(out: Path) -> str:
    """Return what is finished as a table, best settings of each algorithm first."""
    lines = [
        "| algorithm | setting | temperature | greedy, % | - OREO's first setting | sound, % | KL | CPU s |",
        "|---|---|---:|---|---|---:|---:|---:|",
    ]
    done = [setting for setting in settings() if finished([out / setting.name])]
    found = {setting: entries([out / setting.name])[0] for setting in done}
    first = found.get(settings()[0])
    for setting in sorted(done, key=lambda each: (-_order(each), -found[each].accuracy)):
        entry = found[setting]
        training = json.loads((out / setting.name / "results.json").read_text(encoding="utf-8"))["training"]
        numbers = ", ".join(f"{key} {value:g}" for key, value in setting.numbers)
        temperature = "" if setting.temperature is None else f"{setting.temperature:.3f}"
        paired = "" if first is None or entry is first else difference(entry, first)
        cells = [setting.algo, numbers, temperature, percent(entry), paired, f"{100 * entry.rows[0]['sound']:.1f}"]
        cells += [last_kl(out / setting.name / setting.algo), f"{training[setting.algo]['cpu_seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _order(setting: Setting) -> int:
    return -list(dict.fromkeys(each.algo for each in settings())).index(setting.algo)


def last_kl(folder: Path) -> str:
    """Return the KL to the reference over the last ten steps, nats a token; "" for an algorithm that has none."""
    last = [row["train/kl"] for row in read_metrics(folder)[-10:] if "train/kl" in row]
    return f"{sum(last) / len(last):.3f}" if last else ""


def claim(out: Path, worlds: list[int]) -> None:
    """Train KTO, OREO and its constant in each world."""
    added = []
    for algo, (pair, (alpha, beta, rate)) in product(("oreo", "oreo-constant"), CLAIMED.items()):
        name = f"algorithms.{algo}-{pair}"
        added += [f"+algo@{name}={algo}", f"+recipe@{name}=tiny-{algo}", f"{name}.policy_lr={rate:g}"]
        added += [f"{name}.alpha={alpha}", f"{name}.beta={beta}"]
    names = [*(f"oreo-{pair}" for pair in CLAIMED), "kto", *(f"oreo-constant-{pair}" for pair in CLAIMED)]
    for world in worlds:
        asked = [f"env.options.world={world}", f"algos=[{','.join(names)}]", "workers=1"]
        oreo(out / f"claim-{world}", "run", *WORLD, *added, *asked)


def best_settings(out: Path) -> list[Setting]:
    """Return the best of the finished choices of each algorithm."""
    best: dict[str, Setting] = {}
    scores: dict[str, float] = {}
    for setting in settings():
        folder = out / setting.name
        if finished([folder]) and (score := entries([folder])[0].accuracy) > scores.get(setting.algo, -1.0):
            best[setting.algo], scores[setting.algo] = setting, score
    return list(best.values())


def claim_best(out: Path, worlds: list[int]) -> None:
    """Train the best of the choices of each algorithm in each world."""
    for world, setting in product(worlds, best_settings(out)):
        run = out / f"claim-{world}"
        asked = ["env=miniature", "env.options.answer=boxes", f"env.options.world={world}", "policy=tiny"]
        asked += [f"policy.path={run / 'sft' / 'policy'}", f"data={run / 'data' / 'episodes'}", f"algo={setting.algo}"]
        asked += [f"algo.{key}={value:g}" for key, value in setting.numbers]
        oreo(out / f"best-{world}-{setting.name}", "train", *asked, "evaluate.tasks=1000", "evaluate.value_searches=[]")


def _best_runs(out: Path, setting: Setting, worlds: list[int]) -> list[Path]:
    return finished([out / f"best-{world}-{setting.name}" for world in worlds])


def claims_table(out: Path, worlds: list[int]) -> str:
    """Return the finished worlds as a table with paired differences."""
    found = entries(finished([out / f"claim-{world}" for world in worlds]))
    for setting in best_settings(out):
        for entry in entries(_best_runs(out, setting, worlds), "policy.path", "data"):
            numbers = ", ".join(f"{key} {value:g}" for key, value in setting.numbers)
            found.append(replace(entry, algo=f"{setting.algo}, best of its choices ({numbers})"))
    paper = find(found, "oreo-paper")
    best = next((entry for entry in found if entry.algo.startswith("oreo, best")), None)
    bases = {"oreo-paper": paper} | ({"oreo, best": best} if best is not None else {})
    heads = ["algorithm", "greedy, %", "each world", "sound, %", *(f"- {name}" for name in bases)]
    lines = [f"| {' | '.join(heads)} |", f"|---|---|---|---:|{'---|' * len(bases)}"]
    for entry in found:
        each = " ".join(f"{100 * row['accuracy']:.1f}" for row in entry.rows)
        sound = sum(row.get("sound", float("nan")) for row in entry.rows) / len(entry.rows)
        paired = ["" if base is None or base is entry else difference(entry, base) for base in bases.values()]
        lines.append(f"| {' | '.join([entry.algo, percent(entry), each, f'{100 * sound:.1f}', *paired])} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, default=20, help="of the choices")
    parser.add_argument("--claims", nargs="+", type=int, default=[], help="worlds of the claims, none of the choices")
    parser.add_argument("--best", action="store_true", help="claims of the best choice of each algorithm too")
    every = list(dict.fromkeys(setting.algo for setting in settings()))
    parser.add_argument("--algos", nargs="+", default=every, choices=every, help="of the choices")
    parser.add_argument("--out", type=Path, default=Path("outputs/temperature"))
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.claims:
        if not options.only_report:
            claim(options.out, options.claims)
            if options.best:
                claim_best(options.out, options.claims)
        print(claims_table(options.out, options.claims))
        return
    if not options.only_report:
        choose(options.out, options.world, options.algos)
    print(choices_table(options.out))


if __name__ == "__main__":
    main()
