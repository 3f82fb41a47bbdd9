"""What lies outside the checkout is found by name: modules, files, folders of settings, entry points."""

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from safetensors.numpy import save_file

import oreo_agents as oreo
import oreo_envs
from oreo_agents import plugins
from oreo_agents.episodes.tasks import EnvSettings, find_env, make_env
from oreo_agents.runs import choices, cli, facade, jobs, pipeline
from oreo_agents.runs.new import write
from oreo_algos import ranks

FILES = {
    "plugenv.py": """
        import gymnasium
        from oreo_envs import ProceduralEnv

        class Count(ProceduralEnv):
            name = "count"
            def __init__(self, *, most=99, **shared):
                super().__init__(**shared)
                self.most = most
            def draw(self, rng):
                number = int(rng.integers(self.most))
                return f"After {number}?", str(number + 1)

        gymnasium.register("PlugCount-v0", entry_point=Count)
        """,
    "plugalgo.py": """
        from dataclasses import dataclass
        from oreo_algos.algos import RejectionSampling, Sft

        @dataclass(frozen=True, kw_only=True)
        class MyPlugged(Sft):
            policy_lr: float = 3e-6
            strength: float = 0.5

        @dataclass(frozen=True, kw_only=True)
        class Demanding(MyPlugged):
            wanted: float

        class Bare(MyPlugged):
            wanted: float = 0.5
        """,
    "plugsearch.py": """
        from dataclasses import dataclass
        from oreo_agents.search import SampleSearch

        @dataclass(frozen=True, kw_only=True)
        class PlugFirst(SampleSearch):
            def choose(self, episodes, values, answers):
                return 0
        """,
    "conf/env/plugcount.yaml": "id: plugenv:PlugCount-v0\n",
    "conf/algo/plugged-gentle.yaml": "_target_: plugalgo.MyPlugged\nstrength: 0.1\n",
    "conf/recipe/tiny-plugged-gentle.yaml": "policy_lr: 7.0e-4\n",
    "conf/search/plug_two.yaml": "_target_: plugsearch.PlugFirst\nsamples: 2\n",
}


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder with modules and settings; what is named there is forgotten afterwards."""
    import textwrap

    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(pipeline, "train", None)
    modules, envs = set(sys.modules), set(gym.registry)
    stored = {group: set(ConfigStore.instance().repo.get(group, {})) for group in ("env", "algo", "search")}
    plugins.forget()
    yield
    plugins.forget()
    for name in set(sys.modules) - modules:
        if name.startswith("plug"):
            del sys.modules[name]
    for name in set(gym.registry) - envs:
        del gym.registry[name]
    for group, names in stored.items():
        found = ConfigStore.instance().repo.get(group, {})
        for name in set(found) - names:
            del found[name]


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DictConfig]:
    """Compose a command line as a run would, and build its settings."""
    seen: list[DictConfig] = []

    def job(config: DictConfig, folder: Path) -> None:
        algorithms = {"algo": config.algo} if "algo" in config else dict(config.get("algorithms", {}))
        jobs.settings_from_config(config, algorithms)
        seen.append(config)

    def call(command: str, *arguments: str) -> DictConfig:
        monkeypatch.setitem(jobs.JOBS, command, job)
        monkeypatch.setattr(sys, "argv", ["oreo", command, *arguments, "hydra.run.dir=out"])
        cli.main()
        return seen[-1]

    return call


@pytest.fixture
def refused(composed: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            composed(*arguments)
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.startswith("oreo: ") and "Traceback" not in said
        return said

    return call


@pytest.mark.parametrize("name", ["plugenv:PlugCount-v0", "PlugCount-v0", "PlugOffered-v0"])
def test_an_agent_is_evaluated_on_what_a_module_or_an_installed_package_offers(name: str, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    info = tmp_path / "plugged-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1\n")
    offers = "PlugCount-v0 = plugenv\nPlugOffered-v0 = plugenv:Count\n"
    (info / "entry_points.txt").write_text(f"[oreo.envs]\n{offers}")

    def agent(messages):
        return f"#### {int(messages[-1]['content'][6:-1]) + 1}"

    result = oreo_envs.evaluate(agent, name, split="train", episodes=3, most=500, record=tmp_path / "record")
    assert result.success_rate == 1.0
    assert (
        len(oreo_envs.evaluate(agent, name, split="train", episodes=4, most=500, record=tmp_path / "record").rows) == 4
    )


def test_what_nothing_offers_is_unknown_to_agents_too():
    with pytest.raises(gym.error.NameNotFound, match="PlugNowhere"):
        oreo_envs.evaluate(str, "PlugNowhere-v0", split="train")


def test_an_environment_is_named_by_module_and_id(composed, tmp_path: Path):
    config = composed("train", "env.id=plugenv:PlugCount-v0", "+env.options.most=7")
    assert list(config.imports) == [str(tmp_path / "plugenv.py")]
    assert (config.env.demonstrations, config.env.options) == (None, {"most": 7})
    env = make_env(EnvSettings(id="plugenv:PlugCount-v0", options={"most": 7}), "train")
    assert env.unwrapped.most == 7  # type: ignore[attr-defined]
    assert find_env("plugenv:PlugCount-v0") == find_env("plugcount") == "PlugCount-v0"


def test_a_file_of_settings_needs_the_id_alone(composed, tmp_path: Path):
    config = composed("run", "--config-dir", "conf", "env=plugcount", "env.max_new_tokens=9")
    assert list(config.imports) == [str(tmp_path / "plugenv.py")]  # for an evaluation in another folder
    assert config.env.id == "plugenv:PlugCount-v0" and config.collect.sampling.max_new_tokens == 9


@pytest.mark.parametrize("place", ["conf", "file://{}/conf"])
def test_hydras_own_way_to_name_a_folder_of_settings_works(place: str, composed, tmp_path: Path):
    config = composed("collect", f"hydra.searchpath=[{place.format(tmp_path)}]", "env=plugcount")
    assert config.env.id == "plugenv:PlugCount-v0"


def test_classes_of_an_imported_file_are_choices(composed):
    config = composed("train", "--import=plugalgo.py", "algo=my-plugged", "algo.strength=0.2")
    assert (config.algo._target_, config.algo.strength, config.algo.policy_lr) == ("plugalgo.MyPlugged", 0.2, 3e-6)
    config = composed("run", "--import", "plugsearch.py", "search=[greedy,plug_first]", "searches.plug_first.samples=3")
    assert config.searches.plug_first == {
        "_target_": "plugsearch.PlugFirst",
        "samples": 3,
        "temperature": 0.7,
    }


def test_python_knows_by_name_what_is_plugged_in():
    plugins.add_folder("conf")
    for file in ("plugalgo.py", "plugsearch.py"):
        plugins.import_named(file)
    assert oreo.algorithm("plugged-gentle", tiny=True).policy_lr == 7e-4
    assert oreo.algorithm("demanding", wanted=0.25, strength=2).wanted == 0.25  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"algo.wanted has no default"):
        oreo.algorithm("demanding")
    assert {"greedy", "plug_first", "plug_two"} <= oreo.searches().keys()
    name, search = facade._search("plug_two", None, {"temperature": 0.5})
    assert (name, search.samples, search.temperature) == ("plug_two", 2, 0.5)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"unknown search 'plug_tow'; did you mean 'plug_two'"):
        facade._search("plug_tow", None, {})


def test_a_recipe_applies_wherever_an_algorithm_is_named(composed):
    given = ("--config-dir=conf", "--import", "plugalgo.py", "--import", "plugsearch.py")
    assert composed("train", *given, "algo=plugged-gentle").algo.policy_lr == 7e-4
    config = composed("run", *given, "algos=[oreo,plugged-gentle]", "search=[plug_two]")
    assert config.algorithms["plugged-gentle"].policy_lr == 7e-4 and config.searches.plug_two.samples == 2
    config = composed("run", *given, "+algo@algorithms.x=plugged-gentle", "algos=[x]")
    assert config.algorithms.x.policy_lr == 7e-4
    assert composed("run", "+algo@algorithms.x=dpo", "algos=[x]").algorithms.x.beta == 0.5  # ours, as dpo has it
    config = composed("run", *given, "+algo@algorithms.x=dpo", "+recipe@algorithms.x=tiny-plugged-gentle")
    assert config.algorithms.x.policy_lr == 7e-4  # one that is given stays


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("train algo=my-plugged", ("random weights", "(policy_lr=3e-06 batch_size=128 epochs=3)", "tiny-my-plugged.y")),
        ("run algos=[oreo,my-plugged]", ("used for my-plugged: ", "Give algorithms.my-plugged.policy_lr=5e-4 algo")),
        ("train policy.path=small", ("small has 12 parameters", "is used for oreo: ", "Give recipe@algo=tiny-oreo")),
        (
            "run policy.path=small algos=[dpo,x] +algo@algorithms.x=kto",
            ("dpo, x: ", "Give recipe@algorithms.dpo=tiny-dpo; Give +recipe@algorithms.x=tiny-kto"),
        ),
        ("train policy.path=small recipe@algo=value-adapters", ("Give recipe@algo=tiny-oreo",)),
        ("train policy.path=small recipe@algo=tiny-oreo", ()),
        ("train policy.path=small algo.policy_lr=1e-5", ()),
        ("train policy.path=large", ()),
        ("train policy.path=hub/name", ()),
        ("train algo=plugged-gentle", ()),
        ("run", ()),
    ],
)
def test_rates_for_checkpoints_are_told_of_a_small_policy(arguments, told, monkeypatch, capsys):
    for name, count in (("small", 12), ("large", 10_000_000)):
        Path(name).mkdir()
        save_file({"weight": np.zeros((2, count // 2), np.int8)}, f"{name}/model.safetensors")

    def prepared(config: DictConfig, folder: Path, algorithms: dict[str, Any], **_: Any) -> Any:
        settings = jobs.settings_from_config(config, algorithms)
        return SimpleNamespace(settings=settings, ranks=ranks.current(), train_and_evaluate=stop)

    def stop(names: object) -> None:
        raise ValueError("far enough")

    monkeypatch.setattr(jobs, "prepare", prepared)
    given = [*arguments.split(), "--import=plugalgo.py", "--config-dir=conf", "hydra.run.dir=out"]
    monkeypatch.setattr(sys, "argv", ["oreo", *given])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr()
    assert "far enough" in printed.err
    assert [part for part in told if part not in printed.out] == []
    assert printed.out.count("no recipe for small models") == bool(told)


def test_one_name_swept_over_algorithms_with_recipes_is_refused(refused):
    said = refused("run", "-m", "+algo@algorithms.x=oreo,dpo", "algos=[x]")
    assert "one name is one algorithm" in said


def test_one_search_a_job_needs_no_brackets(composed):
    assert list(composed("eval", "search=majority").evaluate.searches) == ["majority"]


def test_flags_may_stand_anywhere(composed):
    assert composed("train", "env.id=plugenv:PlugCount-v0", "seed=3", "--config-dir", "conf").seed == 3


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("collect", "--config-dir", "conf", "env=plugcont"), ("did you mean 'env/plugcount'", "looked in", "conf")),
        (("train", "--import", "plugalgo.py", "algo=my-pluged"), ("did you mean 'algo/my-plugged'", "known: ")),
        (("train", "--import", "plugalgo.py", "algo=my-plugged", "algo.strenght=1"), ("did you mean 'algo.strength'",)),
        (("train", "algo=dpo", "algo.label_smothing=1"), ("did you mean 'algo.label_smoothing'",)),
        (("train", "--import", "plugalgo.py", "algo=demanding"), ("algo.wanted has no default: give algo.wanted=...",)),
        (("train", "--import", "plugalgo.py", "algo=bare"), ("wanted would be no setting of Bare: write @dataclass",)),
        (("eval", "--import", "plugsearch.py", "search=[plug_frist]"), ("did you mean 'plug_first'", "--import: plug")),
        (("train", "env.id=plugenv:PlugCont-v0"), ("did you mean 'PlugCount-v0'", "--import: plugenv")),
        (("train", "env=plugenv:PlugCount-v0"), ("is given as env.id=plugenv:PlugCount-v0",)),
        (("train", "env.id=nowhere:X-v0"), ("there is no module nowhere", "working folder")),
        (("train", "--import", "nofile.py"), ("nofile.py: no such file",)),
        (("train", "--import", "no module"), ("is no name of a module",)),
        (("train", "--import="), ("--import needs the name of a module",)),
        (("train", "--import"), ("'hydra.run.dir=out' is no name of a module",)),
        (("train", "--config-dir", "nodir"), ("--config-dir nodir: no such folder",)),
        (("train", "--import", "plugbad.py"), ("KeyError: 'x'", "plugbad.py, line 2")),
        (("train", "--import", "plugends.py"), ("cannot be imported: SystemExit: 1", "plugends.py, line 2")),
        (("train", "--config-dir", "hiding"), ("oreo.yaml would be hidden by the suite's own algo/oreo.yaml",)),
    ],
)
def test_what_is_not_found_is_said_with_where_it_looked(arguments, parts, refused, tmp_path: Path):
    (tmp_path / "plugbad.py").write_text("\nraise KeyError('x')\n", encoding="utf-8")
    (tmp_path / "plugends.py").write_text("import sys\nsys.exit(1)\n", encoding="utf-8")
    (tmp_path / "hiding" / "algo").mkdir(parents=True)
    (tmp_path / "hiding" / "algo" / "oreo.yaml").write_text("{}", encoding="utf-8")
    said = refused(*arguments)
    assert [part for part in parts if part not in said] == []


def test_a_file_called_like_an_installed_module_is_refused(tmp_path: Path):
    (tmp_path / "json.py").write_text("", encoding="utf-8")
    with pytest.raises(plugins.PluginError, match="another module is called json too"):
        plugins.import_named("json.py")


def test_an_import_is_named_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert plugins.import_named("plugenv") == str(tmp_path / "plugenv.py")
    assert plugins.import_named("plugenv") == str(tmp_path / "plugenv.py")  # it can be found by now
    assert plugins.import_named("oreo_envs.countdown") == "oreo_envs.countdown"
    monkeypatch.chdir("/")
    assert plugins.import_named(str(tmp_path / "plugenv.py")) == str(tmp_path / "plugenv.py")


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an installation of a package in a folder leaves for importlib.metadata."""
    import tomllib

    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(folder)
    plugins.forget()


def test_an_installed_package_is_known_by_its_entry_points(composed, refused, monkeypatch, tmp_path: Path):
    for kind in ("env", "algo", "search"):
        installed(write(kind, f"plug-{kind}", tmp_path / kind), monkeypatch)
    assert not [name for name in sys.modules if name.startswith("plug_")]  # nothing is imported before it is asked for
    config = composed("run", "env=plug-env", "algos=[oreo,plug-algo]", "search=[greedy,plug-search]")
    assert config.env.id == "PlugEnv-v0" and config.algorithms["plug-algo"].policy_lr == 2e-4
    assert config.searches["plug-search"]._target_ == "plug_search.search.PlugSearch"
    assert find_env("PlugEnv-v0") == "PlugEnv-v0" and EnvSettings(id="PlugEnv-v0").module is None
    assert {"plug_env", "plug_algo", "plug_search", *plugins.OURS} <= plugins.named_roots()
    assert "plug-env" in refused("sft", "env=plug-evn") and "plug-algo" in choices.known("algo")
    composed("train", "experiment=plug-algo-tiny", "algo=plug-algo")
    composed("run", "experiment=plug-env-tiny")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("algo", "oreo", "there is already algo=oreo"),
        ("env", "json", "a Python module json is there already"),
        ("env", "My-Env", "give small letters"),
        ("env", "class", "give small letters"),
        ("search", "conf", "conf is there already"),
    ],
)
def test_a_new_package_takes_no_name_that_is_taken(kind: str, name: str, message: str, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        write(kind, name, Path(name))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_evaluation_runs_code_of_a_run_that_is_named_once_more(composed, refused, monkeypatch, tmp_path: Path):
    config = composed("run", "--import", "plugsearch.py", "env.id=plugenv:PlugCount-v0", "search=[plug_first]")
    run = tmp_path / "somewhere"
    (run / "sft" / "policy").mkdir(parents=True)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    plugins.forget()
    code = {str(tmp_path / "plugsearch.py"), str(tmp_path / "plugenv.py")}
    said = refused("eval", str(run))
    assert all(f"--import {file}" in said for file in code)
    again = composed("eval", str(run), *(f"--import={file}" for file in code))
    assert set(again.imports) == code
    assert again.env == config.env and again.searches.plug_first == config.searches.plug_first


def test_a_worker_imports_first_what_the_run_imported(monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []
    monkeypatch.setattr(pipeline, "start_worker", lambda: asked.append("started"))
    pipeline._start_worker(("plugenv",))
    assert asked == ["started"] and "PlugCount-v0" in gym.registry


def test_settings_that_reach_a_worker_bring_the_environment_of_an_installed_package(monkeypatch, tmp_path: Path):
    installed(write("env", "plug-env", tmp_path / "env"), monkeypatch)
    sent = pickle.dumps(EnvSettings(id="PlugEnv-v0"))
    del gym.registry["PlugEnv-v0"], sys.modules["plug_env"]
    plugins.forget()
    assert pickle.loads(sent).keywords() == {}
    assert "PlugEnv-v0" in gym.registry


def test_what_code_of_ones_own_raises_ends_a_job_in_a_sentence(refused, monkeypatch, tmp_path: Path):
    (tmp_path / "plugbroken.py").write_text("def losses(batch):\n    return batch['weight']\n", encoding="utf-8")

    def job(config: DictConfig, folder: Path) -> None:
        import plugbroken

        plugbroken.losses({})

    monkeypatch.setattr(jobs, "settings_from_config", job)
    said = refused("train", "--import", "plugbroken.py")
    assert said.startswith(f"oreo: losses ({tmp_path}/plugbroken.py, line 2) raised KeyError: 'weight'; its traceback")
    assert "return batch['weight']" in (tmp_path / "out" / "cli.log").read_text()
