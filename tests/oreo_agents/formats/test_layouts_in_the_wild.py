"""Rows as public data sets have them: what a user would expect of each, in messages, actions, rewards and pairs.

The schemas are facts of the data sets that the names say, as of 2025; the texts are our own.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from layout_rows import ask, say
from test_layouts_of_episodes import read, steps_of, write

from oreo_agents.formats.importing import ImportSettings, import_episodes
from oreo_agents.formats.reading import files_of

CALL = {"name": "add", "arguments": '{"a": 1}'}
WRITTEN = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
TOLD = ask("<tool_response>\n3\n</tool_response>")
SYSTEM = {"role": "system", "content": "Be kind."}
TOOLED = {"role": "system", "content": 'Be kind.\n\n# Tools\n\n<tools>\n{"name": "add"}\n</tools>'}
HALVES = [[ask("q"), say("yes")], [ask("q"), say("no")]]


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


WILD: dict[str, tuple[dict[str, Any], list[list[dict[str, str]]]]] = {
    "OpenAI, legacy functions": (
        {
            "messages": [
                SYSTEM,
                ask("q"),
                {"role": "assistant", "content": None, "function_call": CALL},
                {"role": "function", "name": "add", "content": "3"},
                say("3."),
            ],
            "functions": [{"name": "add"}],
        },
        [[TOOLED, ask("q"), say(WRITTEN), TOLD, say("3.")]],
    ),
    "OpenAI, parts of the Responses API": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "input_text", "text": "q"}]},
                {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
            ]
        },
        [[ask("q"), say("a")]],
    ),
    "gpt-oss, thinking": (
        {"messages": [ask("q"), {"role": "assistant", "content": "a", "thinking": "hm"}]},
        [[ask("q"), say("<think>\nhm\n</think>\n\na")]],
    ),
    "LLaMA-Factory, tools": (
        {
            "conversations": [
                human("q"),
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "3"},
                gpt("3."),
            ],
            "system": "Be kind.",
            "tools": '[{"name": "add"}]',
        },
        [[TOOLED, ask("q"), say(WRITTEN), TOLD, say("3.")]],
    ),
    "Hermes, tools in the text": (
        {"conversations": [human("q"), gpt(WRITTEN), {"from": "tool", "value": TOLD["content"]}, gpt("3.")]},
        [[ask("q"), say(WRITTEN), TOLD, say("3.")]],
    ),
    "a game's observation": (
        {"conversations": [human("q"), gpt("go"), {"from": "observation", "value": "a room"}, gpt("look")]},
        [[ask("q"), say("go"), ask("a room"), say("look")]],
    ),
    "tools as a text": (
        {"messages": [ask("q"), say("a")], "system": "Be kind.", "tools": '{"name": "add"}'},
        [[TOOLED, ask("q"), say("a")]],
    ),
    "verifiers, calls as JSON": (
        {
            "example_id": 0,
            "prompt": [ask("q")],
            "completion": [
                {"role": "assistant", "content": "", "tool_calls": [json.dumps({"id": "1", "function": CALL})]},
                {"role": "tool", "content": "3"},
                say("3."),
            ],
            "reward": 1.0,
        },
        [[ask("q"), say(WRITTEN), TOLD, say("3.")]],
    ),
    "datasets.Sequence, a list a field": (
        {"messages": {"role": ["user", "assistant"], "content": ["q", "a"]}},
        [[ask("q"), say("a")]],
    ),
    "LMSYS": ({"conversation": [ask("q"), say("a")], "model": "m"}, [[ask("q"), say("a")]]),
    "Alpaca, history": (
        {"instruction": "Say", "input": "hi", "output": "hi", "history": [["q", "a"]], "system": "Be kind."},
        [[SYSTEM, ask("q"), say("a"), ask("Say\n\nhi"), say("hi")]],
    ),
    "LLaMA-Factory, KTO": (
        {"conversations": [human("q"), gpt("a")], "kto_tag": True},
        [[ask("q"), say("a")]],
    ),
    "SWE-Gym": ({"messages": [ask("q"), say("a")], "resolved": True}, [[ask("q"), say("a")]]),
    "Nemotron": (
        {"input": [ask("q")], "output": "a", "system_prompt": "Be kind."},
        [[SYSTEM, ask("q"), say("a")]],
    ),
    "lm-eval, no target": (
        {"doc_id": 0, "target": None, "arguments": [["q", {}]], "resps": [["a"]], "metrics": ["acc"], "acc": True},
        [[ask("q"), say("a")]],
    ),
    "hh-rlhf": (
        {
            "chosen": "\n\nHuman: q\n\nAssistant: What?\n\nHuman: q!\n\nAssistant: yes",
            "rejected": "\n\nHuman: q\n\nAssistant: What?\n\nHuman: q!\n\nAssistant: yet",
        },
        [[ask("q"), say("What?"), ask("q!"), say(half)] for half in ("yes", "yet")],
    ),
    "full-hh-rlhf": (
        {"prompt": "\n\nHuman: q\n\nAssistant:", "response": " yes", "chosen": " yes", "rejected": " no"},
        HALVES,
    ),
    "Argilla's ratings": (
        {"prompt": "q", "chosen": "no", "chosen-rating": 1.5, "rejected": "yes", "rejected-rating": 4.0},
        HALVES,
    ),
    "scores as texts": (
        {"prompt": "q", "chosen": "no", "score_chosen": "1.5", "rejected": "yes", "score_rejected": "10"},
        HALVES,
    ),
    "orca_dpo_pairs": (
        {"system": "Be kind.", "question": "q", "chosen": "yes", "rejected": "no"},
        [[SYSTEM, *half] for half in HALVES],
    ),
    "distilabel": ({"system": "", "input": "q", "chosen": "yes", "rejected": "no"}, HALVES),
    "LLaMA-Factory, preference": (
        {"instruction": "Say", "input": "it", "chosen": "hi", "rejected": "ho"},
        [[ask("Say\n\nit"), say("hi")], [ask("Say\n\nit"), say("ho")]],
    ),
    "a pair that differs within a word": (
        {"chosen": "It is 10.", "rejected": "It is 12."},
        [[ask("It is"), say(" 10.")], [ask("It is"), say(" 12.")]],
    ),
    "Step-DPO": (
        {"prompt": "q", "initial_reason_steps": "One.\n", "chosen": "Two.", "rejected": "Three."},
        [[ask("q"), say("One.\nTwo.")], [ask("q"), say("One.\nThree.")]],
    ),
    "ETO, preference": (
        {"id": 1, "prompt": [human("q"), gpt("OK"), human("room")], "chosen": [gpt("go")], "rejected": [gpt("look")]},
        [[ask("q"), say("OK"), ask("room"), say("go")], [ask("q"), say("OK"), ask("room"), say("look")]],
    ),
}
PAIRS = [name for name, (_, found) in WILD.items() if len(found) == 2]


@pytest.mark.parametrize("name", WILD)
def test_a_public_row_becomes_what_it_says(name: str, tmp_path: Path):
    row, expected = WILD[name]
    buffer = read(tmp_path, [row])
    assert [episode.messages for episode in buffer] == expected
    assert [episode.success for episode in buffer] == ([True, False] if name in PAIRS else [True])
    assert [float(episode.rewards[-1]) for episode in buffer] == ([1, 0] if name in PAIRS else [1])
    assert len(buffer.pairs) == (name in PAIRS)
    assert all(steps_of(episode)[-1] == episode.messages[-1]["content"] for episode in buffer)


def test_prm800k_takes_the_chosen_completion_or_the_one_that_was_wrong(tmp_path: Path):
    def step(*ratings: int | None, chosen: int | None = None, human: str | None = None) -> dict[str, Any]:
        texts = [{"text": f"rated {rating}", "rating": rating} for rating in ratings]
        return {
            "completions": texts,
            "chosen_completion": chosen,
            "human_completion": human and {"text": human, "rating": None, "source": "human"},
        }

    def row(reason: str, *steps: dict[str, Any]) -> dict[str, Any]:
        return {"question": {"problem": "q"}, "label": {"steps": steps, "finish_reason": reason}}

    rows = [
        row("solution", step(-1, 1, chosen=1), step(-1, human="by hand"), step(1, chosen=0)),
        row("found_error", step(1, chosen=0), step(0, None, -1)),
        row("solution", step(-1, chosen=0), step(1, chosen=0)),
    ]
    solved, erred, wrong = read(tmp_path, rows)
    assert steps_of(solved) == ["rated 1\n", "by hand\n", "rated 1"] and solved.success
    assert steps_of(erred) == ["rated 1\n", "rated -1"] and not erred.success
    assert not wrong.success, "a step on the way was wrong"


def test_trajectories_of_rllm_are_one_conversation_or_are_refused(tmp_path: Path):
    steps = [{"chat_completions": [ask("q"), say("a")]}, {"chat_completions": [ask("other"), say("b")]}]
    with pytest.raises(ValueError, match="line 1: step 2 does not go on with the conversation of the step before"):
        read(tmp_path, [{"steps": steps, "reward": 1.0}])
    row = {"is_correct": True, "termination_reason": "MAX_TURNS_EXCEEDED", "trajectories": [{"steps": steps[:1]}]}
    [episode] = read(tmp_path, [row])
    assert episode.success and episode.truncated


@pytest.mark.parametrize(
    ("prompt", "shared", "expected"),
    [
        ([SYSTEM], [ask("q")], [SYSTEM, ask("q")]),
        (SYSTEM, [ask("q")], [SYSTEM, ask("q")]),
        ([ask("p"), say("a")], [ask("q")], [ask("p"), say("a"), ask("q")]),
        ([ask("q")], [SYSTEM, ask("q")], [SYSTEM, ask("q")]),
        ("q\n", [SYSTEM, ask("q")], [SYSTEM, ask("q")]),
        ("Human: q", [ask("q")], [ask("q")]),
        ("q", [ask("q"), say("a"), ask("p")], [ask("q"), say("a"), ask("p")]),
    ],
)
def test_a_prompt_beside_answers_that_begin_with_one_is_not_lost(prompt, shared, expected, tmp_path: Path):
    row = {"prompt": prompt, "chosen": [*shared, say("yes")], "rejected": [*shared, say("no")]}
    assert [e.messages for e in read(tmp_path, [row])] == [[*expected, say(text)] for text in ("yes", "no")]
    for other in ("p", [ask("q"), say("other")]):
        with pytest.raises(ValueError, match="line 1: chosen and rejected begin with 'q', and the prompt says some"):
            read(tmp_path, [{"prompt": other, "chosen": HALVES[0], "rejected": HALVES[1]}])


def test_what_both_begin_with_is_found_at_once(tmp_path: Path, monkeypatch):
    """A word of a million letters took a quarter of an hour: each step back copied the rest."""
    word = "a" * 1_000_000
    row = {"chosen": f"Say it: {word}b", "rejected": f"Say it: {word}c"}
    assert read(tmp_path, [row])[1].messages == [ask("Say it:"), say(f" {word}c")]


def test_what_is_not_read_of_a_row_is_told(tmp_path: Path):
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1.0, "model": None, "source": "s"}]
    _, counts = import_episodes([write(tmp_path, rows)], ImportSettings())
    assert counts.sentences() == ["1 preference pairs", "not read: the columns margin"]


def test_a_verdict_may_stand_in_any_column(tmp_path: Path):
    """TRL's log of completions has a column a reward function, and would else be there to imitate."""
    rows = [{"prompt": "q", "completion": text, "score": 0.3, "accuracy": good} for text, good in (("a", 1), ("b", 0))]
    file = write(tmp_path, rows)
    buffer, counts = import_episodes([file], ImportSettings(label="accuracy"))
    assert [episode.success for episode in buffer] == [True, False] and counts.layout == "trl-unpaired"
    nested = [{"messages": [ask("q"), say("a")], "metrics": {"solved": False}}]
    assert not read(tmp_path, nested, label="metrics.solved")[0].success
    with pytest.raises(ValueError, match=r"line 1: --label acc: there is no such column among prompt, completion"):
        import_episodes([write(tmp_path, rows)], ImportSettings(label="acc"))


def test_splits_are_said_as_a_repository_calls_them(tmp_path: Path):
    """UltraFeedback's five splits: two words of each are our own, and neither is enough."""
    for split in ("train_prefs", "train_sft", "test_prefs"):
        write(tmp_path / "data", [{"prompt": split, "completion": "a"}], f"{split}-00000-of-00001.jsonl")
    with pytest.raises(
        ValueError, match=r"may be data/train_prefs.* or data/train_sft.*; name the file .* say --split"
    ):
        files_of(str(tmp_path))
    assert [file.name for file in files_of(str(tmp_path), "train_sft")] == ["train_sft-00000-of-00001.jsonl"]
    with pytest.raises(FileNotFoundError, match=r"no file of split 'train_gen': its data files are data/test_prefs"):
        files_of(str(tmp_path), "train_gen")


def test_a_buffer_is_not_imported_again(tmp_path: Path):
    read(tmp_path, [{"prompt": "q", "completion": "a"}]).save(tmp_path / "buffer")
    with pytest.raises(ValueError, match="buffer: an episode buffer already; train on it"):
        files_of(str(tmp_path / "buffer"))


def test_answers_and_verdicts_are_as_many(tmp_path: Path):
    with pytest.raises(ValueError, match="line 1: there are 2 responses, and 1 verdicts of them"):
        read(tmp_path, [{"prompt": "q", "responses": ["a", "b"], "scores": [1]}])


def test_a_bare_answer_is_no_solution_to_imitate(tmp_path: Path):
    with pytest.raises(ValueError, match="a bare answer, say, is a task and no episode"):
        read(tmp_path, [{"question": "q", "answer": "4"}])
    assert read(tmp_path, [{"question": "q", "answer": "2 + 2 = 4\n#### 4"}])[0].success


def test_a_file_that_is_one_object_says_where_its_rows_are(tmp_path: Path):
    with pytest.raises(ValueError, match="data holds 2 objects: if these are the rows, save that list alone"):
        read(tmp_path, [{"version": "1", "data": [{"prompt": "q"}] * 2}])


def test_arrays_of_minari_are_read_from_json_too(tmp_path: Path):
    row = {"observations": ["q", ""], "actions": ["a"], "rewards": [1], "terminations": [True], "truncations": [False]}
    assert read(tmp_path, [row])[0].messages == [ask("q"), say("a")]
    with pytest.raises(ValueError, match="line 1: actions must be texts, and observations texts too, one more"):
        read(tmp_path, [row | {"actions": [1]}])
