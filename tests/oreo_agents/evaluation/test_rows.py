"""Which runs make one row: settings of real configurations, answers invented."""

import copy
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

import oreo_agents
from oreo_agents.evaluation import results
from oreo_agents.evaluation.comparisons import comparison_pairs, comparison_tables
from oreo_agents.evaluation.report import main, report
from oreo_agents.evaluation.results import Entry, find_results, load_entries
from oreo_agents.evaluation.run_settings import flatten, under, written
from oreo_agents.evaluation.statistics import RunKey
from oreo_agents.evaluation.tables import accuracy_tables, choice_tables, win_tables
from oreo_agents.runs.choices import compose, known
from oreo_agents.runs.overrides import initialised

ROOT = Path(__file__).resolve().parents[3]
ALL, NONE, HALF = [1] * 8, [0] * 8, [1, 0] * 4
Solved = dict[tuple[str, str] | tuple[str, str, str], Sequence[int]]


@cache
def composed(command: str, *overrides: str) -> DictConfig:
    with initialised():
        return compose(command, overrides)


def configuration(command: str, *overrides: str) -> DictConfig:
    """Return what the command would write down; plain values are set afterwards, what is composed is composed once."""
    chosen = [text for text in overrides if known(text.partition("=")[0])]
    config = copy.deepcopy(composed(command, *chosen))
    for text in overrides:
        key, _, value = text.partition("=")
        if text not in chosen:
            OmegaConf.update(config, key.lstrip("+"), yaml.safe_load(value), force_add=key.startswith("+"))
    return OmegaConf.create(OmegaConf.to_container(config, resolve=True))  # type: ignore[return-value]


def test_configurations_are_those_of_the_command():
    for given in (
        ["collect.samples=2", "seed=1"],
        ["policy=checkpoint", "policy.path=/some/model", "+env.options.num_verbs=8", "data=[first,second]"],
    ):
        real = OmegaConf.to_container(composed("run", *given), resolve=True)
        assert OmegaConf.to_container(configuration("run", *given)) == real


def run(folder: Path, solved: Solved, *overrides: str, command: str = "run", **facts: Any) -> Path:
    """A run folder: the configuration that the command would write down, and answers by algorithm, search, split."""
    config = configuration(command, *overrides)
    folder.mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml")
    rows = []
    for (algo, search, *split_given), outcomes in solved.items():
        split = split_given[0] if split_given else "test"
        items = [{"task_id": f"{split}/{k}", "correct": bool(x), "tokens": 9} for k, x in enumerate(outcomes)]
        (folder / algo).mkdir(exist_ok=True)
        text = "".join(json.dumps(item) + "\n" for item in items)
        (folder / algo / f"items-{split}-{search}.jsonl").write_text(text)
        row = {"algo": algo, "search": search, "env": config.env.id, "split": split, "seed": config.seed}
        row |= {"env_options": OmegaConf.to_container(config.env.options), "checkpoint": f"{folder}/{algo}"}
        row |= {"n": len(outcomes), "correct": sum(outcomes), "accuracy": sum(outcomes) / len(outcomes)}
        rows.append(row | {"tokens_per_task": 9.0} | facts)
    training = {algo: {"cpu_seconds": 60.0, "steps": 5} for algo, *_ in solved}
    (folder / "results.json").write_text(json.dumps({"results": rows, "training": training}))
    return folder


def entries(*folders: Path, **options: Any) -> list[Entry]:
    return load_entries([path for folder in folders for path in find_results(folder)], **options)


def names(*folders: Path, **options: Any) -> list[str]:
    return [entry.algo for entry in entries(*folders, **options)]


def cells(table: Any) -> list[list[str]]:
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]


TWO: Solved = {("sft", "greedy"): NONE, ("oreo", "greedy"): HALF}


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("sft.demonstrations=800", "sft.demonstrations=400", {"sft", "oreo"}),
        ("collect.samples=2", "collect.samples=12", {"oreo"}),
        ("policy.tiny.hidden_size=32", "policy.tiny.hidden_size=64", {"sft", "oreo"}),
        ("policy.path=some/model", "policy.path=another/model", {"sft", "oreo"}),
        ("env.options.answer=boxes", "env.options.answer=exact", {"sft", "oreo"}),
        ("seed=0", "+env.options.num_verbs=8", {"sft", "oreo"}),
        ("algorithms.oreo.beta=0.03", "algorithms.oreo.beta=0.1", {"oreo"}),
        ("seed=0", "+algorithms.oreo.warmup_ratio=0.2", {"oreo"}),
        ("data=first", "data=[first,second]", {"oreo"}),
        ("evaluate.tasks=100", "evaluate.tasks=50", {"sft", "oreo"}),
        ("value.bias_at_mean_reward=false", "value.bias_at_mean_reward=true", {"oreo"}),
        ("trainer.micro_batch_tokens=99", "trainer.micro_batch_tokens=98", {"sft", "oreo"}),
    ],
)
def test_a_setting_that_differs_makes_a_row_named_by_it(tmp_path: Path, first: str, second: str, told: set[str]):
    folders = [run(tmp_path / name, TWO, override) for name, override in (("z", first), ("a", second))]
    for order in (folders, folders[::-1]):
        found = entries(*order)
        rows = {algo: [entry for entry in found if entry.name == algo] for algo in ("sft", "oreo")}
        assert {algo for algo, own in rows.items() if len(own) == 2} == told
        key = second.lstrip("+").partition("=")[0].removeprefix("algorithms.oreo.")
        assert all(any(key in entry.algo for entry in rows[algo]) for algo in told)


@pytest.mark.parametrize(
    "others",
    [
        ["workers=1"],
        ["seed=1"],
        ["algos=[dpo]"],
        ["algorithms.dpo.beta=7"],
        ["evaluate.splits=[dev,test]"],
        ["evaluate.searches=[greedy,majority]"],
        ["searches.majority.samples=4"],
        ["trainer.keep_checkpoints=2"],
        ["iteration.keep_data=false"],
        ["env.evaluation_splits=[test]"],
    ],
)
def test_what_decides_no_row_makes_none(tmp_path: Path, others: list[str]):
    folders = [run(tmp_path / "a", TWO), run(tmp_path / "b", TWO, *others)]
    assert names(*folders) == ["sft", "oreo"]


def test_the_order_and_the_names_of_folders_mean_nothing(tmp_path: Path):
    """Two runs that differ in their demonstrations: neither answers for the other, whatever they are called."""
    good: Solved = {("sft", "greedy"): NONE, ("oreo", "greedy"): ALL}
    bad: Solved = {("sft", "greedy"): HALF, ("oreo", "greedy"): NONE}
    said = []
    for first, second in (("a", "c"), ("c", "a")):
        place = tmp_path / first / "runs"
        one = run(place / first, good, "sft.demonstrations=800")
        other = run(place / second, bad, "sft.demonstrations=400")
        [table] = comparison_tables(entries(one, other))
        said.append(sorted(row[0:4] for row in cells(table) if " - sft" in row[0]))
    assert said[0] == said[1] == [
        ["oreo sft.demonstrations=400 - sft sft.demonstrations=400", "1", "8", "-50.0"],
        ["oreo sft.demonstrations=800 - sft sft.demonstrations=800", "1", "8", "+100.0"],
    ]  # fmt: skip


def test_seeds_are_runs_of_one_row_and_units_of_its_interval(tmp_path: Path):
    folders = [run(tmp_path / str(seed), TWO, f"seed={seed}") for seed in range(3)]
    [sft, oreo] = entries(*folders)
    assert (oreo.algo, oreo.seeds, len(oreo.answers)) == ("oreo", [0, 1, 2], 3)
    assert names(*folders, group_by=["seed"]) == [f"{a} seed={s}" for a in ("sft", "oreo") for s in range(3)]
    assert not sft.duplicates


def test_equal_settings_and_seed_twice_are_said_and_count_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = [run(tmp_path / name, {("oreo", "greedy"): own}) for name, own in (("a", ALL), ("b", NONE))]
    [found] = entries(*folders)
    assert len(found.rows) == 1 and found.accuracy == pytest.approx(0.5)
    [(what, where)] = found.duplicates.items()
    assert what == "oreo, greedy, seed 0" and where == folders
    report(folders, tmp_path / "out")
    assert "oreo, greedy, seed 0: trained more than once" in capsys.readouterr().out.replace("\n", " ")
    [alone] = entries(folders[0])
    assert not alone.duplicates


def test_worlds_are_joined_when_asked(tmp_path: Path):
    folders = [run(tmp_path / str(world), TWO, f"env.options.world={world}") for world in (0, 1)]
    assert len(names(*folders)) == 4
    for asked in ({"over": ["env.options.world"]}, {"over": ["env.options"]}, {"group_by": []}):
        [_, oreo] = entries(*folders, **asked)
        assert oreo.algo == "oreo" and len({key.world for key in oreo.answers}) == 2


def test_settings_that_are_averaged_over_are_paired_with_their_like(tmp_path: Path):
    solved = {2: (NONE, NONE), 12: (ALL, HALF)}
    folders = [
        run(tmp_path / str(k), {("oreo", "greedy"): a, ("dpo", "greedy"): b}, f"collect.samples={k}")
        for k, (a, b) in solved.items()
    ]
    found = entries(*folders, over=["collect.samples"])
    assert [entry.algo for entry in found] == ["oreo", "dpo"] and len(found[0].answers) == 2
    [pair] = comparison_pairs(found)
    assert pair.compared is not None and (pair.compared.runs, pair.compared.mean) == (1, pytest.approx(0.25))


def test_a_seed_is_one_unit_however_many_settings_are_averaged_over(tmp_path: Path):
    """Four settings of two seeds are two independent runs, and as sure as two runs of the means are."""
    seeds = {0: (ALL, HALF), 1: (HALF, NONE)}
    for seed, (a, b) in seeds.items():
        for samples in (2, 4, 8, 16):
            solved: Solved = {("oreo", "greedy"): a, ("dpo", "greedy"): b}
            run(tmp_path / "many" / f"{seed}-{samples}", solved, f"seed={seed}", f"collect.samples={samples}")
        run(tmp_path / "few" / str(seed), solved, f"seed={seed}")
    many, few = entries(tmp_path / "many", over=["collect.samples"]), entries(tmp_path / "few")
    assert [len(entry.rows) for entry in many] == [8, 8] and not many[0].duplicates
    assert [entry.interval for entry in many] == [entry.interval for entry in few]
    assert comparison_pairs(many)[0].compared == comparison_pairs(few)[0].compared


def test_an_unknown_setting_or_base_is_refused_with_the_closest(tmp_path: Path):
    folder = run(tmp_path / "a", TWO)
    with pytest.raises(ValueError, match=r"no setting 'collect.sampels'; did you mean 'collect.samples'"):
        entries(folder, group_by=["collect.sampels"])
    with pytest.raises(ValueError, match=r"--base sftt: there is no such row; did you mean 'sft'\?; rows: sft, oreo"):
        comparison_tables(entries(folder), "sftt")


def test_a_base_is_what_all_others_are_compared_with(tmp_path: Path):
    solved: Solved = {("sft", "greedy"): NONE, ("dpo", "greedy"): HALF, ("oreo", "greedy"): ALL}
    found = entries(*(run(tmp_path / str(k), solved, f"sft.demonstrations={k}") for k in (4, 8)))
    labels = [pair.label for pair in comparison_pairs(found, "sft")]
    assert labels == [
        f"{a} sft.demonstrations={k} - sft sft.demonstrations={k}" for k in (4, 8) for a in ("dpo", "oreo")
    ]
    row = comparison_pairs(found, "dpo sft.demonstrations=4")
    assert len(row) == 5 and {pair.second.algo for pair in row} == {"dpo sft.demonstrations=4"}


def test_a_checkpoint_of_a_run_has_the_settings_and_the_seed_of_that_run(tmp_path: Path):
    """Evaluated at the default seed: which seed trained it, and how, stands in its run."""
    for seed in (0, 1):
        for beta in (0.03, 0.1):
            trained = run(tmp_path / f"{beta}-{seed}", TWO, f"seed={seed}", f"algorithms.oreo.beta={beta}")
            path = f"policy.path={trained}/oreo/policy"
            run(
                tmp_path / "evals" / trained.name, {("oreo", "greedy"): HALF}, path, "policy=checkpoint", command="eval"
            )
    found = entries(tmp_path / "evals")
    assert [(entry.algo, entry.seeds) for entry in found] == [("oreo beta=0.03", [0, 1]), ("oreo beta=0.1", [0, 1])]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("policy.system_prompt=Think.", "oreo policy.system_prompt=Think."),
        ("env.options.answer=exact", "oreo env.options.answer=exact"),
        ("evaluate.sampling.max_new_tokens=7", "oreo evaluate.sampling.max_new_tokens=7"),
    ],
)
def test_evaluations_of_one_checkpoint_that_ask_otherwise_are_rows(tmp_path: Path, override: str, told: str):
    """The same weights answer twice: as the run asked, and in another way."""
    trained = run(tmp_path / "run", TWO)
    evals = tmp_path / "evals"
    given = ("policy=checkpoint", f"policy.path={trained}/oreo/policy")
    facts = {"command": "eval", "checkpoint": "w"}
    run(evals / "a", {("oreo", "greedy"): HALF}, *given, **facts)
    run(evals / "b", {("oreo", "greedy"): ALL}, *given, override, **facts)
    [first, second] = entries(evals)
    assert told in (first.algo, second.algo) and {first.accuracy, second.accuracy} == {0.5, 1.0}


def test_one_label_for_two_networks_of_a_run_makes_no_row_of_both(tmp_path: Path):
    trained, evals = run(tmp_path / "run", TWO), tmp_path / "evals"
    for name, solved in (("sft", NONE), ("oreo", ALL)):
        given = ("policy=checkpoint", f"policy.path={trained}/{name}/policy", "label=mine")
        run(evals / name, {("mine", "greedy"): solved}, *given, command="eval", checkpoint=name)
    assert sorted((entry.algo, entry.accuracy) for entry in entries(evals)) == [
        ("mine network=oreo", 1.0),
        ("mine network=sft", 0.0),
    ]


def test_checkpoints_of_nowhere_are_told_apart_by_their_weights(tmp_path: Path):
    def evaluated(name: str, weights: str) -> Path:
        path = f"policy.path=hub/{name}"
        solved: Solved = {("model", "greedy"): HALF}
        return run(tmp_path / name, solved, path, "policy=checkpoint", command="eval", checkpoint=weights)

    folders = [evaluated("one", "w1"), evaluated("two", "w2"), evaluated("copy", "w1")]
    assert names(*folders) == ["model policy.path=one", "model policy.path=two"]


def test_dev_chooses_settings_and_test_tells_how_good_they_are(tmp_path: Path):
    by_beta = {0.03: (HALF, NONE), 0.1: (NONE, ALL)}
    folders = [
        run(
            tmp_path / str(beta),
            {("oreo", "greedy", "dev"): dev, ("oreo", "greedy", "test"): test},
            f"algorithms.oreo.beta={beta}",
        )
        for beta, (dev, test) in by_beta.items()
    ]
    [table] = choice_tables(entries(*folders), "dev")
    [row] = cells(table)
    assert row[:5] == ["oreo", "greedy", "beta=0.03", "2", "50.0"] and row[5].startswith("0.0 (")
    assert choice_tables(entries(*folders), "nowhere") == []


def test_wins_are_counted_by_setting_with_the_choice_of_dev(tmp_path: Path):
    """OREO has two betas: the one that dev prefers stands for it, though the other is better on test."""
    for samples, dpo in ((2, HALF), (12, NONE)):
        for beta, (dev, test) in {0.03: (ALL, [1, 1, 1, 0, 0, 0, 0, 0]), 0.1: (NONE, ALL)}.items():
            solved: Solved = {("oreo", "greedy", "dev"): dev, ("oreo", "greedy", "test"): test}
            solved |= {("dpo", "greedy", "dev"): dpo, ("dpo", "greedy", "test"): dpo} if beta == 0.03 else {}
            settings = (f"collect.samples={samples}", f"algorithms.oreo.beta={beta}")
            run(tmp_path / f"{samples}-{beta}", solved, *settings)
    [table] = [table for table in win_tables(entries(tmp_path), "dev") if "split test" in str(table.title)]
    assert [row[:4] for row in cells(table)] == [
        ["collect.samples=12", "37.5", "0.0", "oreo"],
        ["collect.samples=2", "37.5", "50.0", "dpo"],
        ["wins", "1", "1", ""],
    ]


def test_no_task_that_tells_two_apart_is_no_certainty(tmp_path: Path):
    folders = [run(tmp_path / str(s), {("sft", "greedy"): ALL, ("oreo", "greedy"): ALL}, f"seed={s}") for s in (0, 1)]
    for some in (folders[:1], folders):
        [table] = comparison_tables(entries(*some))
        [row] = cells(table)
        low, high = map(float, row[4].split(" to "))
        assert row[3] == "+0.0" and low < -5 and high > 5


def test_a_report_is_written_in_every_format(tmp_path: Path):
    folders = [run(tmp_path / str(k), TWO, f"collect.samples={k}") for k in (2, 12)]
    out = tmp_path / "out"
    main([*map(str, folders), "--out", str(out), "--base", "sft", "--format", "json,csv,latex,markdown"])
    document = json.loads((out / "report.json").read_text())
    rows = {row["row"]: row for row in document["rows"]}
    assert rows["oreo collect.samples=12"]["accuracy"] == 0.5 and rows["oreo collect.samples=12"]["seeds"] == [0]
    assert {pair["difference"] for pair in document["comparisons"]} == {0.5}
    head, *lines = (out / "report.csv").read_text().splitlines()
    assert head.startswith("row,algo,") and "collect.samples" in head and len(lines) == 3
    tex = (out / "report.tex").read_text()
    assert r"oreo collect.samples=12 & greedy & 1 & 8 & 50.0 &" in tex and tex.count(r"\begin{tabular}") >= 2
    assert "| oreo collect.samples=12 | greedy | 1 | 8 | 50.0 |" in (out / "report.md").read_text()


def test_options_of_the_report_leave_the_folders_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = [str(run(tmp_path / str(k), TWO, f"env.options.world={k}")) for k in (0, 1)]
    main(["--out", str(tmp_path / "out"), "--over", "env.options.world", "--format", "csv", *folders])
    assert len((tmp_path / "out" / "report.csv").read_text().splitlines()) == 3
    assert not (tmp_path / "out" / "report.md").exists()
    with pytest.raises(SystemExit):
        main([*folders, "--format", "cvs"])
    assert "no format 'cvs'; did you mean 'csv'?" in capsys.readouterr().err


def test_results_are_rows_of_equal_columns(tmp_path: Path):
    for samples in (2, 12):
        for seed in (0, 1):
            run(tmp_path / f"{samples}-{seed}", TWO, f"collect.samples={samples}", f"seed={seed}")
    rows = oreo_agents.load_results(tmp_path)
    assert len(rows) == 8 and len({tuple(row) for row in rows}) == 1
    assert all(value is None or isinstance(value, str | int | float) for row in rows for value in row.values())
    oreo = [row for row in rows if row["algo"] == "oreo"]
    assert {(row["collect.samples"], row["seed"], row["accuracy"], row["cpu_seconds"]) for row in oreo} == {
        (samples, seed, 0.5, 60.0) for samples in (2, 12) for seed in (0, 1)
    }
    items = oreo_agents.load_results([str(tmp_path)], items=True, settings=["env.options.world"])
    assert len(items) == 64 and items[0]["task_id"] == "test/0" and items[0]["env.options.world"] == 0


def test_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pandas")
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "reports.md").read_text(encoding="utf-8"), re.DOTALL)
    for name, samples in (("outputs/train-sweep/0", 2), ("runs/a", 4), ("runs/b", 4), ("outputs/train-sweep/1", 8)):
        run(tmp_path / name, TWO, f"collect.samples={samples}")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block, "reports.md", "exec"), names)
    assert len(names["rows"]) == 4 and len(names["tasks"]) == 32


def test_settings_are_written_as_the_command_line_reads_them():
    assert written("algo.beta", 0.03) == "beta=0.03"
    assert written("data", None) == "data=null" and written("x", True) == "x=true"
    assert written("data", ["a", "b"]) == "data=[a,b]"
    assert (
        written("policy.path", "/long/run1/oreo/policy", ["/long/run2/oreo/policy"]) == "policy.path=run1/oreo/policy"
    )
    assert written("policy.path", "/a/x", [None]) == "policy.path=x"
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "d": [1]}
    assert under("algo.beta", "beta") and under("env.options.world", "env.options") and not under("beta2", "beta")


def test_a_table_of_one_run_names_no_settings(tmp_path: Path):
    [table] = accuracy_tables(entries(run(tmp_path / "a", TWO, "collect.samples=2")))
    assert [row[0] for row in cells(table)] == ["sft", "oreo"]


def test_answers_by_unit_are_put_together_once_however_often_they_are_asked_for(monkeypatch):
    calls = []
    whole = results._by_unit
    monkeypatch.setattr(results, "_by_unit", lambda found: calls.append(1) or whole(found))
    answers = {RunKey("{}", seed, 0): {"a": 1.0, "b": float(seed > 0)} for seed in range(3)}
    entry = Entry("oreo", "greedy", "oreo/Arithmetic-v0", "test", [{"accuracy": 0.5}] * 3, answers)
    assert entry.accuracy == pytest.approx(5 / 6) and entry.interval is not None and entry.units == answers
    assert calls == [1]
