"""Cards of a run: what they are told when a network is saved, and when it has been evaluated."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from huggingface_hub import ModelCard
from tiny_models import CHATML, make_tokenizer

from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.episodes.texts import text_episode
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.runs.cards import add_results, card_of
from oreo_agents.runs.run_data import Part
from oreo_agents.runs.settings import RunSettings
from oreo_algos import EpisodeBuffer
from oreo_algos.algos import Dpo, Sft


def row(algo: str, search: str = "greedy", **more: Any) -> dict[str, Any]:
    return {"algo": algo, "search": search, "env": "oreo/QA-v0", "split": "test", "seed": 0, "n": 4, "correct": 1,
            "accuracy": 0.25, "wilson_low": 0.1, "wilson_high": 0.5, "tokens_per_task": 3.0} | more  # fmt: skip


def card(folder: Path, *, rest: str = "\n## Results\n\nNot evaluated yet.\n\n## Usage\n") -> Path:
    folder.mkdir(parents=True)
    file = folder / "README.md"
    file.write_text(f"---\ntags: [a]\n---\n# x\n{rest}", encoding="utf-8")
    return file


def results(file: Path) -> list[str]:
    return [one.metric_name for one in ModelCard.load(file).data.eval_results or []]


def test_each_network_gets_the_results_that_are_its_own(tmp_path: Path):
    sft, oreo, value = (card(tmp_path / name) for name in ("sft/policy", "oreo/policy", "oreo/value"))
    rows = [row("sft"), row("oreo"), row("oreo", "best_of_n", value="oreo", size="8"), row("sft", "vote", value="oreo"),
            row("elsewhere")]  # fmt: skip
    add_results(tmp_path, rows)
    assert results(sft) == ["accuracy, greedy", "accuracy, vote, by V of oreo, answers of sft"]
    assert results(oreo) == ["accuracy, greedy", "accuracy, best_of_n of 8, by V of oreo"]
    assert results(value) == [
        "accuracy, best_of_n of 8, by V of oreo",
        "accuracy, vote, by V of oreo, answers of sft",
    ]
    before = oreo.stat().st_mtime_ns
    add_results(tmp_path, rows)
    assert oreo.stat().st_mtime_ns == before, "what is there already is not written again"


def test_a_card_that_somebody_broke_ends_no_run(tmp_path: Path, caplog):
    file = card(tmp_path / "oreo" / "policy")
    file.write_text("---\n: [\n---\n", encoding="utf-8")
    add_results(tmp_path, [row("oreo")])
    assert file.read_text(encoding="utf-8") == "---\n: [\n---\n" and "gets no results" in caplog.text


def test_the_data_is_told_by_counts_and_no_question_or_path_of_it(tmp_path: Path):
    secret = text_episode(
        [{"role": "user", "content": "SECRET?"}], ["#### 1"], [1.0], task_id="t", env_id="oreo/QA-v0", info={}
    )
    buffer = EpisodeBuffer([secret, secret], provenance={"source": "policy samples"})
    settings = RunSettings(
        env=EnvSettings(id="oreo/QA-v0", path=str(tmp_path / "private"), options={"prompt": "boxed"}),
        policy=PolicySettings(),
        sft=SftSettings(split="train"),
        collect=CollectSettings(samples=2),
    )
    tokenizer = make_tokenizer()
    for template in (None, CHATML):
        tokenizer.chat_template = template
        given = (settings, [Part(str(tmp_path / "e"), buffer)], buffer, PromptFormat(tokenizer))
        text = card_of("policy", Dpo(), *given)
        assert "2 episodes of 1 tasks (policy samples, split train), 100.0% of them right" in text
        assert "put your final answer within" in text and "What is 3 + 4?" in text and "from scratch" in text
        assert "SECRET" not in text and str(tmp_path) not in text
        assert ("apply_chat_template" in text) == (template is not None)
        assert "(demonstrations, split train)" in card_of("policy", Sft(), *given)
    given_data = SimpleNamespace(**{**settings.__dict__, "data_folders": [str(tmp_path / "mine")]})
    text = card_of("policy", Dpo(), given_data, *given[1:])  # type: ignore[arg-type]
    assert "(policy samples, given as mine)" in text and str(tmp_path) not in text
