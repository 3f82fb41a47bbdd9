"""Model cards: metadata that the hub's library reads, results once there are some, code that runs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from tiny_models import CHATML, make_tokenizer

from oreo_agents.networks import model_card as cards
from oreo_agents.networks.model_card import Base, CardFacts, base_of, with_results
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.networks.value import TokenValue
from oreo_algos.algos import Oreo

ROW: dict[str, Any] = {
    "algo": "oreo", "search": "greedy", "env": "oreo/GSM8K-v0", "env_options": {"prompt": "boxed"}, "split": "test",
    "seed": 3, "n": 200, "correct": 50, "accuracy": 0.25, "wilson_low": 0.195, "wilson_high": 0.314,
    "tokens_per_task": 88.6,
}  # fmt: skip


def facts(part: str = "policy", **changes: Any) -> CardFacts:
    given: dict[str, Any] = {
        "part": part,
        "algorithm": Oreo(beta=0.5),
        "env_id": "oreo/GSM8K-v0",
        "env_options": {"prompt": "boxed"},
        "seed": 3,
        "base": Base("org/model", "apache-2.0", "[org/model](https://hf.co/org/model)"),
        "data": "40 episodes of 10 tasks (policy samples, split train), 25.0% of them right",
        "messages": [{"role": "system", "content": 'Say it\'s "so".'}, {"role": "user", "content": "What is 3 + 4?"}],
        "has_template": False,
        "max_new_tokens": 5,
    }
    return CardFacts(**given | changes)


def test_a_card_says_what_the_network_is_and_the_hub_reads_it():
    text = cards.model_card(facts())
    data = ModelCard(text).data
    assert (data.base_model, data.license, data.library_name) == ("org/model", "apache-2.0", "transformers")
    assert data.pipeline_tag == "text-generation" and "oreo-suite" in data.tags and data.eval_results is None
    for said in ("40 episodes of 10 tasks", "`oreo/GSM8K-v0`; prompt: boxed", "seed 3", "Not evaluated yet",
                 "Other than the defaults of Oreo: beta=0.5", "apache-2.0, that of the base model"):  # fmt: skip
        assert said in text
    assert ModelCard(cards.model_card(facts("value"))).data.pipeline_tag == "token-classification"


def test_results_are_there_with_n_and_interval_and_adding_them_again_changes_nothing():
    row = ROW | {"search": "best_of_n", "size": "8", "value": "oreo", "not_graded": 2}
    text = with_results(cards.model_card(facts()), [ROW, row])
    greedy, best = ModelCard(text).data.eval_results
    assert (greedy.metric_value, greedy.metric_name, greedy.dataset_split) == (0.25, "accuracy, greedy", "test")
    assert (greedy.dataset_type, greedy.dataset_args) == ("oreo/GSM8K-v0", {"prompt": "boxed"})
    assert {"n": 200, "low": 0.195, "high": 0.314}.items() <= greedy.metric_args.items()
    assert best.metric_name == "accuracy, best_of_n of 8, by V of oreo"
    assert "| greedy | test | 200 | 25.0 | 19.5 to 31.4 | 89 |" in text and "2 answers could not be graded" in text
    assert "Not evaluated" not in text and "## Usage" in text and "All settings" in text
    assert with_results(text, [ROW, row]) == text
    assert "best_of_n" not in with_results(text, [ROW]) and with_results(text, []) == text
    assert "best_of_n of 8, by V of oreo, answers of sft" in with_results(text, [row | {"algo": "sft"}])


def test_no_name_or_setting_breaks_the_card():
    odd = "a|b\n## Results\n<script>`"
    text = with_results(cards.model_card(facts(env_options={"x": odd})), [ROW | {"algo": odd, "search": odd}])
    assert ModelCard(text).data.model_name == odd and text.count("\n## Results\n") == 1
    assert len(ModelCard(text).data.eval_results) == 1 and "\n<script>" not in text


def test_a_readme_of_somebody_elses_keeps_its_text():
    text = with_results("---\nlicense: mit\n---\n# Mine\n\nwords\n", [ROW])
    assert ModelCard(text).data.eval_results and text.endswith("# Mine\n\nwords\n")
    with pytest.raises(ValueError, match="no YAML"):
        with_results("---\n: [\n---\n", [ROW])


def test_base_model_and_licence_come_from_the_checkpoints_own_card(tmp_path: Path, monkeypatch):
    assert base_of(None).name is None and "from scratch" in base_of(None).words
    folder = tmp_path / "people" / "mine"
    folder.mkdir(parents=True)
    assert base_of(str(folder)) == Base(None, None, "a folder, `mine`"), "no path of anybody's machine"
    (folder / "README.md").write_text("---\nbase_model: org/first\nlicense: mit\n---\n# x\n", encoding="utf-8")
    found = base_of(str(folder))
    assert (found.name, found.licence) == ("org/first", "mit") and "made from [org/first]" in found.words
    for text in (
        "---\nbase_model: /home/me/model\n---\n",
        "no card",
        "---\n: [\n---\n",
        "---\nbase_model: [a, b]\n---\n",
    ):
        (folder / "README.md").write_text(text, encoding="utf-8")
        assert base_of(str(folder)).name is None
    monkeypatch.setattr(cards, "try_to_load_from_cache", lambda repo, file: str(folder / "README.md"))
    (folder / "README.md").write_text("---\nlicense: other\n---\n", encoding="utf-8")
    assert base_of("org/model") == Base("org/model", "other", "[org/model](https://hf.co/org/model)")
    monkeypatch.setattr(cards, "try_to_load_from_cache", lambda repo, file: None)
    assert base_of("org/model").licence is None
    assert "not known; add `license:` above" in cards.model_card(facts(base=base_of("org/model")))


@pytest.mark.parametrize("template", [None, CHATML])
@pytest.mark.parametrize("part", ["policy", "value"])
def test_the_code_of_a_card_runs_on_the_folder(
    part: str, template: str | None, checkpoint: Callable[[str], str], tmp_path: Path, monkeypatch, capsys
):
    make = {"policy": CausalPolicy.from_pretrained, "value": TokenValue.from_policy}[part]
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    text = cards.model_card(facts(part, has_template=template is not None))
    make(checkpoint("gpt2" if template is None else "llama")).save(tmp_path, tokenizer, text)
    [code] = re.findall(r"```python\n(.*?)\n```", (tmp_path / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capsys.readouterr().out
    assert "after ' 7'" in printed or "after '7'" in printed if part == "value" else printed.endswith("\n")
