"""Rows of every layout that is known: recognised by their columns, and what becomes of them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from layout_rows import RIGHT, ROWS, WRONG, Q, ask, say

from oreo_agents.formats.importing import CHAT, ImportSettings, import_episodes
from oreo_agents.formats.registry import LAYOUTS
from oreo_algos import Episode, EpisodeBuffer


def write(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path, rows: list[Any], **settings: Any) -> EpisodeBuffer:
    return import_episodes([write(folder, rows)], ImportSettings(**settings))[0]


def steps_of(episode: Episode) -> list[str]:
    return [episode.messages[m]["content"][a:b] for m, a, b in episode.action_spans.tolist()]


def test_every_layout_has_rows():
    assert {name.partition(",")[0] for name in ROWS} | {"oreo", "trl-prompt"} == {one.name for one in LAYOUTS}


@pytest.mark.parametrize("name", ROWS)
def test_a_layout_is_recognised_and_its_actions_are_what_the_assistant_said(name: str, tmp_path: Path):
    buffer, counts = import_episodes([write(tmp_path, ROWS[name])], ImportSettings())
    assert counts.layout == name.partition(",")[0]
    assert len(buffer) >= 5 and buffer.env_ids == [CHAT]
    for episode in buffer:
        assert {episode.messages[m]["role"] for m, *_ in episode.action_spans.tolist()} == {"assistant"}
        assert episode.messages[-1]["content"].endswith(steps_of(episode)[-1])
        assert episode.rewards[:-1].tolist() == [0.0] * (episode.num_steps - 1)
    # Whatever is labelled has both outcomes of each task; what is shown counts as such.
    outcomes = [sorted({buffer[i].success for i in of}) for of in buffer.by_task().values()]
    assert all(found == ([True] if counts.shown else [False, True]) for found in outcomes) or name == "lm-eval, chat"
    assert counts.shown in (0, len(buffer))


def test_scores_decide_which_half_is_chosen_and_labels_do_without_a_threshold(tmp_path: Path):
    buffer = read(tmp_path, ROWS["trl-preference, implicit chat with scores"])
    assert [episode.messages[-1]["content"] for episode in buffer if episode.success] == RIGHT
    assert [episode.info["score"] for episode in buffer[:2]] == [7.0, 2.5]
    pairs = [episode.info["pair"] for episode in buffer]
    assert pairs[::2] == pairs[1::2] and len(set(pairs)) == 5


def test_an_implicit_prompt_is_what_both_begin_with(tmp_path: Path):
    buffer = read(tmp_path, ROWS["trl-preference, implicit"])
    assert buffer[0].messages[0] == ask(f"{Q[0]} Answer:")
    assert buffer[0].messages[1]["content"] == f" {RIGHT[0]}"


def test_tools_are_written_as_text(tmp_path: Path):
    episode = read(tmp_path, ROWS["trl-messages, tools"])[0]
    assert [message["role"] for message in episode.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert "<tools>" in episode.messages[0]["content"]
    assert episode.messages[2]["content"] == '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    assert episode.messages[3]["content"] == "<tool_response>\n3\n</tool_response>"


def test_a_turn_that_is_not_to_be_learned_from_is_no_action(tmp_path: Path):
    episode = read(tmp_path, ROWS["sharegpt, AgentTraj-L"])[3]
    assert episode.task_id == "alfworld_3" and steps_of(episode) == ["go to desk 1", "take mug 1"]
    assert episode.messages[1] == say("OK.")


@pytest.mark.parametrize(
    ("name", "second", "labels"),
    [
        ("math-shepherd", "Step 2: The answer is: 2", [1, 0]),
        ("prm800k", "That is 2.", [1, -1]),
        ("trl-stepwise", "She has 3.", [1, 0]),
    ],
)
def test_labels_of_steps_cut_the_steps_and_are_rewards_if_asked_for(name, second, labels, tmp_path: Path):
    bad = next(episode for episode in read(tmp_path, ROWS[name]) if not episode.success)
    assert len(steps_of(bad)) == 2 and steps_of(bad)[1].startswith(second)
    assert json.loads(str(bad.info["step_rightness"])) == labels and bad.rewards.tolist() == [0, 0]
    paid = next(episode for episode in read(tmp_path, ROWS[name], pay_steps=True) if not episode.success)
    assert paid.rewards.tolist() == labels and "step_rightness" not in paid.info
    whole = next(episode for episode in read(tmp_path, ROWS[name], pay_steps=True, steps="turn") if not episode.success)
    assert whole.num_steps == 1 and whole.rewards.tolist() == [sum(labels)]


def test_steps_may_be_labelled_by_signs_and_are_paid_only_where_they_are_labelled(tmp_path: Path):
    [episode] = read(tmp_path, [{"prompt": "q", "completions": ["a", "b"], "labels": [1, -1]}], pay_steps=True)
    assert not episode.success and episode.rewards.tolist() == [1, -1]
    with pytest.raises(ValueError, match="line 1: --step-rewards pays labels of steps, and this row has none"):
        read(tmp_path, ROWS["labelled"], pay_steps=True)


def test_steps_are_cut_as_asked(tmp_path: Path):
    rows = ROWS["messages"]
    assert read(tmp_path, rows)[0].num_steps == 2
    assert steps_of(read(tmp_path, rows, steps="response")[0]) == ["take mug 1"]
    lines = read(tmp_path, ROWS["labelled"], steps="line")[0]
    assert "".join(steps_of(lines)) == RIGHT[0] and lines.num_steps == 2 and lines.rewards.tolist() == [0, 1]


def test_rewards_between_are_judged_by_a_threshold_that_is_asked_for(tmp_path: Path):
    rows = [{"prompt": "q", "response": "a", "reward": reward} for reward in (0.2, 0.9)]
    with pytest.raises(ValueError, match=r"rows.jsonl, line 1: the label 0\.2 .*--success-threshold"):
        read(tmp_path, rows)
    assert [episode.success for episode in read(tmp_path, rows, success_threshold=0.5)] == [False, True]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"a": 1, "b": 2}], r"line 1: no layout fits the columns a, b\. The closest: .* needs .*oreo data formats"),
        ([{"prompt": "q"}], r"line 1: a prompt without an answer, which is a task and no episode"),
        ([ROWS["labelled"][0], {"question": "q"}], r"line 2: the rows before are in the layout labelled, "
         r"and here is no response and no .* among the columns question"),
        ([ROWS["labelled"][0], ROWS["trl-completion"][0]], r"line 2: .*; it would be trl-completion"),
        ([ROWS["trl-completion"][0] | {"label": None}, ROWS["trl-unpaired"][0]],
         r"line 2: the rows before are in the layout trl-completion, and this one is trl-unpaired; say --format"),
        ([{"prompt": "q", "chosen": "a", "rejected": "a"}], r"line 1: chosen and rejected are the same"),
        ([{"chosen": "a", "rejected": "b"}], r"line 1: .*do not begin alike"),
        ([{"prompt": "q", "response": "a"}], r"line 1: there is no reward .* is of no environment \(--env\)"),
        ([{"messages": [say("hm")]}], r"line 1: no message|the assistant speaks first"),
        ([{"messages": [ask("q"), {**say("a"), "weight": 0}]}], r"line 1: no message of the assistant is to be"),
        ([{"messages": [ask("q"), {"role": "assistant", "content": [{"type": "image"}]}]}], "only text is read"),
        ([{**ROWS["lm-eval"][0], "resps": [["a"], ["b"]]}], "2 responses share one metric"),
        ([{**ROWS["lm-eval"][0], "resps": [[-1.5, False]]}], "compares likelihoods"),
        ([{**ROWS["math-shepherd"][0], "label": "nothing"}], "step 1 is not"),
        ([{**ROWS["openr1"][0], "correctness_math_verify": None}], "there is no reward or correct or .*--label"),
        ([{"prompt": "q", "completions": ["a"], "labels": [1, 0]}], "must be a list of 1 labels"),
        ([{"prompt": "q", "completions": ["a"], "labels": [0.7]}], "a label of a step is true or false, or 1, 0 or"),
        ([{"messages": [ask("q"), say(" ")]}], "message 1: the assistant says nothing"),
        ([{"conversations": [{"from": "gpt", "value": 3}], "reward": 1}], "the content must be a text, got 3"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_told_by_place_columns_and_what_would_fit(rows, told: str, tmp_path: Path):
    with pytest.raises(ValueError, match=rf"rows\.jsonl, .*{told}"):
        read(tmp_path, rows)


def test_bad_rows_are_left_out_and_counted_if_asked_for(tmp_path: Path):
    rows = [ROWS["labelled"][0], {"question": "q"}, ROWS["labelled"][1], {**ROWS["labelled"][2], "correct": "hm"}]
    with pytest.raises(ValueError, match="line 2"):
        read(tmp_path, rows)
    buffer, counts = import_episodes([write(tmp_path, rows)], ImportSettings(skip_bad=True))
    assert (len(buffer), counts.skipped) == (2, 2)
    assert any(text.startswith("2 rows are left out, the first: ") and "line 2" in text for text in counts.sentences())


def test_episodes_that_are_none_are_left_out_too(tmp_path: Path):
    """What a row says of its spans is only held against its messages when the episode is made."""
    whole = {"task_id": "t", "env_id": CHAT, "success": True, "rewards": [1.0], "messages": [ask("q"), say("a")]}
    rows = [whole | {"action_spans": [[1, 0, end]]} for end in (1, 99)] + [whole | {"action_spans": [[1, 0, 1]]}]
    rows[2]["rewards"] = [10**400]
    with pytest.raises(ValueError, match="line 2: "):
        read(tmp_path, rows)
    buffer, counts = import_episodes([write(tmp_path, rows)], ImportSettings(skip_bad=True))
    assert (len(buffer), counts.skipped) == (1, 2) and "line 2: " in counts.first_skipped
    with pytest.raises(ValueError, match="line 1: a label is true, false or a finite number"):
        read(tmp_path, [{"prompt": "q", "response": "a", "reward": 10**400}])


def test_a_row_is_left_out_whole(tmp_path: Path):
    """The half of a pair that can be read is no answer of its own."""
    pairs = [{"prompt": "q", "chosen": "a", "rejected": text} for text in ("b", "\ud800", "c")]
    several = [{"problem": "q", "responses": ["a", "\ud800"], "scores": [1, 0]}, {**ROWS["answers"][0]}]
    buffer, counts = import_episodes([write(tmp_path, pairs)], ImportSettings(skip_bad=True))
    assert (len(buffer), len(buffer.pairs), counts.pairs, counts.episodes, counts.skipped) == (4, 2, 2, 4, 1)
    buffer, counts = import_episodes([write(tmp_path, several)], ImportSettings(skip_bad=True))
    assert "\ud800" not in str([e.messages for e in buffer]) and counts.episodes == len(buffer)
    assert not any(e.messages[0]["content"] == "q" for e in buffer) and counts.skipped == 1
    shown = [{"prompt": "q", "completion": text} for text in ("\ud800", "a")]
    _, counts = import_episodes([write(tmp_path, shown)], ImportSettings(skip_bad=True))
    assert (counts.shown, counts.episodes, counts.skipped) == (1, 1, 1)


def test_rows_of_another_filter_are_the_same_samples_again(tmp_path: Path):
    _, counts = import_episodes([write(tmp_path, ROWS["lm-eval"])], ImportSettings())
    assert (counts.episodes, counts.other_series) == (10, 10)


def test_files_of_any_kind_hold_the_same_rows(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet

    rows = ROWS["trl-preference, chat"]
    plain = read(tmp_path / "plain", rows)
    (tmp_path / "array.json").write_text(json.dumps(rows))
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for name in ("array.json", "rows.jsonl.gz", "rows.parquet"):
        assert import_episodes([tmp_path / name], ImportSettings())[0].content_hash == plain.content_hash


def test_labels_of_a_table_are_words(tmp_path: Path):
    (tmp_path / "a.csv").write_text("question,response,correct\nq,a,True\nq,b,false\nq,c,0\nq,d,1\n")
    buffer, _ = import_episodes([tmp_path / "a.csv"], ImportSettings())
    assert [episode.success for episode in buffer] == [True, False, False, True]


def test_columns_that_others_files_have_null_are_not_there(tmp_path: Path):
    """Parquet gives every message of a column the fields that any of them has."""
    talk = [{"tool_calls": None, "name": None, **message} for message in (ask("q"), say("a"))]
    assert len(read(tmp_path, [{"messages": talk, "tools": None, "reward": None}])) == 1


def test_prompts_are_kept_unless_a_task_of_an_environment_says_otherwise(tmp_path: Path, caplog):
    (tmp_path / "gsm8k").mkdir()
    write(tmp_path / "gsm8k", [{"question": Q[3], "answer": "So.\n#### 5"}], "train.jsonl")
    system = {"role": "system", "content": "Be brief."}
    rows = [{"prompt": [system, ask(Q[n])], "completion": [say(f"So.\n#### {n + 2}")], "label": True} for n in (3, 4)]
    known, kept = read(tmp_path, rows, env_id="oreo/GSM8K-v0", path=str(tmp_path / "gsm8k"))
    assert known.task_id == "gsm8k/train/0" and known.messages[0] != system and known.num_steps == 2
    assert kept.messages[:2] == [system, ask(Q[4])] and kept.task_id.startswith("gsm8k/imported/")


def test_answers_without_a_verdict_are_graded_where_the_task_is_known(tmp_path: Path):
    (tmp_path / "gsm8k").mkdir()
    write(tmp_path / "gsm8k", [{"question": Q[3], "answer": "So.\n#### 5"}], "train.jsonl")
    rows = [{"query": Q[3], "response": f"So.\n#### {n}"} for n in (5, 6)]
    file = write(tmp_path, rows)
    settings = ImportSettings(env_id="oreo/GSM8K-v0", path=str(tmp_path / "gsm8k"))
    buffer, counts = import_episodes([file], settings)
    assert [episode.success for episode in buffer] == [True, False] and (counts.graded, counts.shown) == (2, 0)
    assert WRONG and not any(e.success for e in buffer[1:])
