"""What there is to choose in ALFWorld: games forked at states that a policy visits, every action played out many times.

    python benchmarks/alfworld_forks.py RUN [--policies sft oreo] [--split valid_seen] [--states 140] [--out FOLDER]
    python benchmarks/alfworld_forks.py RUN --only-report

RUN is a folder of ``oreo run`` on ALFWorld's games with a value. Of each game one turn of an episode at temperature 1
is taken at random. There a search would propose actions: the greedy one and others at temperature 0.7. Of each
different command: V before and after the game has answered, log pi, and how many of 16 episodes that go on from there
at temperature 1 are won, and whether the greedy one is; written to ``<policy>-<split>-<temperature>.jsonl``, some
states at a time (killed and started again, it goes on). Printed: the spread of true advantages beside V's error, the
share of states in which an action matters, and how much more is won by one choice of each rule than by the greedy
action, in points, paired by state. Q has the noise of 16 episodes, which is taken out of the spreads; ``oracle``
chooses by half of them and is judged by the other half.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from oreo_agents import CausalPolicy, PromptFormat, Sampling, TokenValue
from oreo_agents.episodes.generate import Sample
from oreo_agents.episodes.record import Record
from oreo_agents.episodes.tasks import EnvSettings, make_env
from oreo_agents.evaluation.statistics import RunKey, compare
from oreo_agents.search import Player

ACTIONS, TEMPERATURE, ROLLOUTS = 5, 0.7, 16
AT_ONCE = 6
DRAWS = 500

State = dict[str, Any]
"""A turn with its actions, as a line of the file says it."""

Floats = NDArray[np.float64]


def player_of(run: Path, name: str, split: str) -> Player:
    """Seat a policy of a run, with OREO's value, at all games of a split."""
    written_env = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["env"]
    env = EnvSettings(**{key: value for key, value in written_env.items() if key != "_target_"})
    make, folder = partial(make_env, env, split), str(run / name / "policy")
    return Player(
        make,
        CausalPolicy.from_pretrained(folder),
        PromptFormat.from_pretrained(folder),
        range(make().unwrapped.num_tasks),  # type: ignore[attr-defined]
        Sampling(max_new_tokens=env.max_new_tokens, batch_size=256),
        seed=1,
        value=TokenValue.from_pretrained(str(run / "oreo" / "value")),
    )


def play_on(player: Player, records: Sequence[Record], *, greedy: bool, place: int = 0) -> list[Record]:
    """Play records to their ends at temperature 1, or by the likeliest tokens."""
    sources = {id(r): None if greedy else player.source(r, place, k) for k, r in enumerate(records)}
    while running := [record for record in records if not record.over]:
        said = player.continue_turns(running, 1.0, [sources[id(r)] for r in running], one_step=False)
        for record, sample in zip(running, said, strict=True):
            record.advance(sample, player.prompt_format, player.sampler.max_length)
    for record in records:
        record.forget()
    return list(records)


def visited(player: Player) -> list[tuple[Record, list[tuple[Any, str | None]]]]:
    """Play every game once and return a turn of each, with the states and commands before it."""
    rng = np.random.default_rng(player.seed)
    kept: dict[int, tuple[Record, list[tuple[Any, str | None]]]] = {}
    for games in player.begin():
        past: dict[int, list[tuple[Any, str | None]]] = {game.slot: [] for game in games}
        sources = {game.slot: player.source(game, 0) for game in games}
        while running := [game for game in games if not game.over]:
            for game in running:
                fork = game.fork()
                if rng.random() < 1 / (len(past[game.slot]) + 1):
                    kept[game.slot] = fork, list(past[game.slot])
            said = player.continue_turns(running, 1.0, [sources[g.slot] for g in running], one_step=False)
            for game, sample in zip(running, said, strict=True):
                past[game.slot].append((game.state.inner, game.command(sample, player.prompt_format)))
                game.advance(sample, player.prompt_format, player.sampler.max_length)
    return [kept[slot] for slot in sorted(kept)]


def proposals(player: Player, record: Record, temperature: float) -> list[tuple[Sample, int]]:
    """Propose as a search does: different commands, the greedy one first, and how often each came up."""
    sources = [None, *(player.source(record, 1, k) for k in range(1, ACTIONS))]
    said = player.continue_turns([record] * ACTIONS, temperature, sources, one_step=False)
    found: dict[Any, tuple[Sample, int]] = {}
    for sample in said:
        command = record.command(sample, player.prompt_format) or tuple(sample.tokens)
        first, draws = found.get(command, (sample, 0))
        found[command] = first, draws + 1
    return list(found.values())


def measure(
    player: Player, turns: Sequence[tuple[Record, list[tuple[Any, str | None]]]], temperature: float
) -> list[State]:
    """Play out every action of some turns."""
    offers = [(record, past, proposals(player, record, temperature)) for record, past in turns]
    asked = [(record, sample) for record, _, offer in offers for sample, _ in offer]
    children = [record.fork() for record, _ in asked]
    for child, (_, sample) in zip(children, asked, strict=True):
        child.advance(sample, player.prompt_format, player.sampler.max_length)
    owners = [record for record, _ in asked]
    before = player.judge(owners, [s.tokens[: -1 if s.ended else None] for _, s in asked])
    after = player.judge(owners, [c.judged[len(r.tokens) :] for c, r in zip(children, owners, strict=True)])
    said = player.log_policy(owners, [sample for _, sample in asked])
    greedy = play_on(player, [child.fork() for child in children], greedy=True)
    ends = play_on(player, [child.fork() for child in children for _ in range(ROLLOUTS)], greedy=False, place=2)
    won = np.array([bool(end.info["success"]) for end in ends]).reshape(-1, ROLLOUTS)
    found, place = [], 0
    for record, past, offer in offers:
        actions = []
        for sample, draws in offer:
            command = record.command(sample, player.prompt_format)
            actions.append(
                {
                    "command": command,
                    "draws": draws,
                    "before": before[place].value,
                    "after": after[place].value,
                    "log_policy": said[place],
                    "again": (record.state.inner, command) in past,
                    "over": children[place].over,
                    "won": won[place].astype(int).tolist(),
                    "greedy_won": bool(greedy[place].info["success"]),
                }
            )
            place += 1
        known = any(record.state.inner == state for state, _ in past)
        found.append({"task": record.info["task_id"], "turn": len(past), "known": known, "actions": actions})
    return found


def fill(run: Path, name: str, split: str, states: int, temperature: float, path: Path) -> None:
    """Measure as many states as are missing."""
    done = len(load(path))
    if done >= states:
        return
    player = player_of(run, name, split)
    turns = visited(player)[:states]
    for start in range(done, len(turns), AT_ONCE):
        rows = measure(player, turns[start : start + AT_ONCE], temperature)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        for record, _ in turns[start : start + AT_ONCE]:
            record.forget()


def load(path: Path) -> list[State]:
    """Read what was measured."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def column(state: State, key: str) -> Floats:
    """Return a number of each action."""
    return np.array([action[key] for action in state["actions"]], dtype=float)


def chances(state: State) -> Floats:
    """Return Q of each action under the policy, as far as its episodes tell."""
    return np.array([np.mean(action["won"]) for action in state["actions"]])


def noise(state: State) -> float:
    """Estimate the variance that Q has by chance, a mean over the actions."""
    q = chances(state)
    return float((q * (1 - q)).mean() / (ROLLOUTS - 1))


def spreads(states: Sequence[State]) -> dict[str, float]:
    """Estimate how far actions of one state differ in truth, and how far V errs about that; those with two or more."""
    chosen = [state for state in states if len(state["actions"]) > 1]
    if not chosen:
        return {}

    def within(read: Callable[[State], Floats]) -> float:
        return float(np.mean([read(state).var(ddof=1) for state in chosen]))

    by_chance = float(np.mean([noise(state) for state in chosen]))
    true = max(within(chances) - by_chance, 0.0)
    found = {"sd of the true advantage": true**0.5}
    for key in ("before", "after"):
        error = within(lambda state, key=key: column(state, key) - chances(state)) - by_chance
        own = within(lambda state, key=key: column(state, key))
        found[f"V {key}: sd"] = own**0.5
        found[f"V {key}: rms error of the advantage"] = max(error, 0.0) ** 0.5
        shared = (own + true - error) / 2
        found[f"V {key}: correlation with the true one"] = shared / (own * true) ** 0.5 if own * true > 0 else np.nan
    return found


def matters(state: State, rng: np.random.Generator) -> bool:
    """Say whether the episodes after its actions tell them apart at the 5% level, by permutations."""
    won = np.array([action["won"] for action in state["actions"]])
    if len(won) < 2 or won.min() == won.max():
        return False
    drawn = rng.permuted(np.tile(won.ravel(), (DRAWS, 1)), axis=1).reshape(DRAWS, *won.shape)
    reached = drawn.mean(axis=2).var(axis=1) >= won.mean(axis=1).var() - 1e-12
    return bool((1 + reached.sum()) / (DRAWS + 1) < 0.05)


Rule = Callable[[State], Floats]


def rules() -> dict[str, Rule]:
    """Return the score of each action by rule; the first of the greatest is taken, and the first action is greedy."""
    found: dict[str, Rule] = {"majority of 5": partial(column, key="draws"), "log pi alone": _scored("before", 1e6)}
    for key in ("before", "after"):
        found |= {f"V {key} + {tau} log pi": _scored(key, tau) for tau in (0, 0.05, 0.2)}
    return found


def _scored(key: str, tau: float) -> Rule:
    return lambda state: column(state, key) + tau * column(state, "log_policy")


def gain(state: State, rule: Rule, worth: Callable[[State], Floats]) -> float:
    """Return how much more the choice of a rule is worth than the greedy action."""
    q = worth(state)
    return float(q[rule(state).argmax()] - q[0])


def oracle(state: State) -> float:
    """Return the same of the action that half of the episodes prefer, judged by the other half, both ways round."""
    won = np.array([action["won"] for action in state["actions"]], dtype=float)
    halves = [won[:, ::2].mean(axis=1), won[:, 1::2].mean(axis=1)]
    return float(np.mean([b[a.argmax()] - b[0] for a, b in (halves, halves[::-1])]))


def written(gains: Sequence[float]) -> str:
    """Write the mean of gains of states with its interval, in points."""
    row = {str(k): gain for k, gain in enumerate(gains)}
    found = compare({RunKey(): row}, {RunKey(): dict.fromkeys(row, 0.0)})
    assert found is not None
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def report(states: Sequence[State], title: str) -> str:
    """Write the tables of one policy."""
    rng = np.random.default_rng(0)
    told = [matters(state, rng) for state in states]
    groups = {
        "all": list(states),
        "first 5 turns": [state for state in states if state["turn"] < 5],
        "later": [state for state in states if state["turn"] >= 5],
        "state seen before": [state for state in states if state["known"]],
        "new state": [state for state in states if not state["known"]],
        "greedy command given before": [state for state in states if state["actions"][0]["again"]],
        "some action matters": [state for state, yes in zip(states, told, strict=True) if yes],
    }
    groups = {name: rows for name, rows in groups.items() if rows}
    lines = [f"### {title}, {len(states)} states", "", f"| | {' | '.join(groups)} |", f"|---|{'---:|' * len(groups)}"]

    def add(name: str, cell: Callable[[list[State]], str]) -> None:
        lines.append(f"| {name} | {' | '.join(cell(rows) for rows in groups.values())} |")

    add("states", lambda rows: str(len(rows)))
    add("different actions", lambda rows: f"{np.mean([len(state['actions']) for state in rows]):.1f}")
    add("one action only, %", lambda rows: f"{100 * np.mean([len(state['actions']) < 2 for state in rows]):.0f}")
    add("Q of the greedy action", lambda rows: f"{np.mean([chances(state)[0] for state in rows]):.2f}")
    add("sd of Q of the greedy action", lambda rows: f"{np.std([chances(state)[0] for state in rows]):.2f}")
    yes = {id(state): mark for state, mark in zip(states, told, strict=True)}
    add("an action matters (p < .05), %", lambda rows: f"{100 * np.mean([yes[id(state)] for state in rows]):.0f}")
    for name in spreads(states):
        add(name, lambda rows, name=name: f"{found[name]:.2f}" if name in (found := spreads(rows)) else "")
    add("gain of the oracle", lambda rows: written([oracle(state) for state in rows]))
    for name, rule in rules().items():
        add(f"gain of {name}", lambda rows, rule=rule: written([gain(state, rule, chances) for state in rows]))
    for name, rule in rules().items():
        worth = partial(column, key="greedy_won")
        add(
            f"then greedy: gain of {name}",
            lambda rows, rule=rule, worth=worth: written([gain(state, rule, worth) for state in rows]),
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--policies", nargs="+", default=["sft", "oreo"])
    parser.add_argument("--split", default="valid_seen")
    parser.add_argument("--states", type=int, default=140)
    parser.add_argument("--temperature", type=float, default=TEMPERATURE, help="of the proposals")
    parser.add_argument("--out", type=Path, default=Path("outputs/alfworld-forks"))
    parser.add_argument("--only-report", action="store_true", help="play nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.policies:
        path = options.out / f"{name}-{options.split}-{options.temperature:g}.jsonl"
        if not options.only_report:
            fill(options.run, name, options.split, options.states, options.temperature, path)
        if states := load(path):
            print(report(states, f"{options.run.name}, {name}, {options.split}, {options.temperature:g}"))


if __name__ == "__main__":
    main()
