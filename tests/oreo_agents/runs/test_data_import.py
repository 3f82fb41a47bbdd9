"""`oreo data`: solutions in JSON lines become buffers."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import make_tokenizer

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.runs.data import encode_buffer, find_env, import_solutions, main
from oreo_algos import EpisodeBuffer

TRAIN_QUESTION = "Ana has 3 pears and buys 4 more. How many?"
TEST_QUESTION = "Ben has 5 plums and eats 2. How many?"
RIGHT, WRONG = "3 + 4 = 7\n#### 7", "3 + 4 = 8\n#### 8"


@pytest.fixture
def gsm8k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A GSM8K of one question a split; the hub is out of reach."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("OREO_DATA", raising=False)
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    for split, question, answer in (("train", TRAIN_QUESTION, 7), ("test", TEST_QUESTION, 3)):
        row = {"question": question, "answer": f"So.\n#### {answer}"}
        (folder / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    return str(folder)


def write(tmp_path: Path, *rows: dict[str, Any] | str) -> Path:
    path = tmp_path / "solutions.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def labelled(question: str, response: str, correct: Any, **more: Any) -> dict[str, Any]:
    return {"question": question, "response": response, "correct": correct, **more}


def test_a_labelled_solution_becomes_an_episode_of_its_task(tmp_path: Path, gsm8k: str):
    file = write(tmp_path, labelled(f" {TRAIN_QUESTION}\n", RIGHT, True, source="somebody:model"))
    buffer, counts = import_solutions(file, "labelled", "gsm8k", path=gsm8k)
    [episode] = buffer
    assert episode.task_id == "gsm8k/train/0" and episode.env_id == "oreo/GSM8K-v0"
    assert [message["role"] for message in episode.messages] == ["system", "user", "assistant"]
    assert episode.messages[-1]["content"] == RIGHT
    assert [RIGHT[a:b] for _, a, b in episode.action_spans.tolist()] == ["3 + 4 = 7\n", "#### 7"]
    assert episode.rewards.tolist() == [0.0, 1.0]
    assert episode.terminated and episode.success and not episode.encoded
    assert episode.info["source"] == "somebody:model"
    assert buffer.provenance == {"source": "import", "file": "solutions.jsonl", "format": "labelled"}
    assert (counts.episodes, counts.known, counts.held_out, counts.graded, counts.disagreements) == (1, 1, 0, 0, 0)


def test_the_label_wins_and_what_the_grader_says_against_it_is_counted(tmp_path: Path, gsm8k: str):
    rows = [
        labelled(TRAIN_QUESTION, RIGHT, True),
        labelled(TRAIN_QUESTION, RIGHT, False),
        labelled(TRAIN_QUESTION, WRONG, True),
        labelled(TRAIN_QUESTION, WRONG, False),
        labelled("Who?", "Me.", True),
    ]
    buffer, counts = import_solutions(write(tmp_path, *rows), "labelled", "gsm8k", path=gsm8k)
    assert [episode.total_reward for episode in buffer] == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert (counts.episodes, counts.known, counts.disagreements) == (5, 4, 2)


def test_held_out_tasks_are_counted(tmp_path: Path, gsm8k: str):
    rows = [labelled(TEST_QUESTION, "#### 3", True), labelled(TRAIN_QUESTION, RIGHT, True)]
    buffer, counts = import_solutions(write(tmp_path, *rows), "labelled", "gsm8k", path=gsm8k)
    assert (counts.known, counts.held_out) == (2, 1)
    assert [episode.task_id for episode in buffer] == ["gsm8k/test/0", "gsm8k/train/0"]


def test_prompt_response_rows_take_a_reward_a_verdict_or_the_environments_grade(tmp_path: Path, gsm8k: str):
    rows = [
        {"prompt": TRAIN_QUESTION, "response": RIGHT, "reward": -1},
        {"prompt": TRAIN_QUESTION, "response": RIGHT, "correct": False},
        {"prompt": TRAIN_QUESTION, "response": RIGHT, "label": True},
        {"prompt": TRAIN_QUESTION, "response": RIGHT},
        {"prompt": TRAIN_QUESTION, "response": WRONG, "reward": None},
    ]
    buffer, counts = import_solutions(write(tmp_path, *rows), "prompt-response", "gsm8k", path=gsm8k)
    assert [episode.total_reward for episode in buffer] == [-1.0, 0.0, 1.0, 1.0, 0.0]
    assert [episode.success for episode in buffer] == [False, False, True, True, False]
    assert counts.graded == 2 and counts.disagreements == 2


def test_a_number_between_right_and_wrong_is_judged_by_a_threshold_that_is_asked_for(tmp_path: Path, gsm8k: str):
    rows = [{"prompt": "Who?", "response": "Me.", "reward": reward} for reward in (0.05, 0.6, 1.0, 0.0)]
    file = write(tmp_path, *rows)
    with pytest.raises(ValueError, match=r"line 1: the label 0\.05 is neither 1 nor 0 nor -1.*--success-threshold"):
        import_solutions(file, "prompt-response", "gsm8k", path=gsm8k)
    buffer, _ = import_solutions(file, "prompt-response", "gsm8k", path=gsm8k, success_threshold=0.6)
    assert [episode.success for episode in buffer] == [False, True, True, False]
    assert [round(episode.total_reward, 6) for episode in buffer] == [0.05, 0.6, 1.0, 0.0]


def test_questions_of_no_task_are_grouped_by_their_text(tmp_path: Path, gsm8k: str):
    rows = [labelled("Who?", "Me.", True), labelled("Who?", "You.", False), labelled("What?", "It.", True)]
    buffer, counts = import_solutions(write(tmp_path, *rows), "labelled", "gsm8k", path=gsm8k)
    assert counts.known == 0
    names = [episode.task_id for episode in buffer]
    assert names[0] == names[1] != names[2]
    assert all(name.startswith("gsm8k/imported/") for name in names)


def test_without_the_environments_data_solutions_are_imported_with_a_warning(tmp_path: Path, caplog):
    file = write(tmp_path, labelled(TRAIN_QUESTION, RIGHT, True))
    nowhere = str(tmp_path / "nowhere")
    _, counts = import_solutions(file, "labelled", "gsm8k", path=nowhere)
    assert counts.known == 0
    assert "oreo/GSM8K-v0 train: questions are not matched to tasks" in caplog.text


def test_another_prompt_template_opens_the_messages(tmp_path: Path, gsm8k: str):
    file = write(tmp_path, labelled(TRAIN_QUESTION, RIGHT, True))
    buffer, _ = import_solutions(file, "labelled", "gsm8k", path=gsm8k, prompt="question")
    assert [message["role"] for message in buffer[0].messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{broken", "line 2: not JSON"),
        ("[1, 2]", "line 2: not a JSON object but list"),
        ({"response": "x", "correct": True}, "line 2: field 'question' must be a text that is not empty, got None"),
        (labelled("q", "  ", True), "line 2: field 'response' must be a text that is not empty"),
        (labelled("q", 7, True), "line 2: field 'response' must be a text that is not empty, got 7"),
        (labelled("q", "r", "yes"), "line 2: a label is true, false or a finite number, got 'yes'"),
        (labelled("q", "r", None), "line 2: there is no correct, and the question is no task of oreo/GSM8K-v0"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_file_and_line(tmp_path: Path, gsm8k: str, row, message: str):
    file = write(tmp_path, labelled("q", "r", True), row)
    with pytest.raises(ValueError, match=f"solutions.jsonl, {message}"):
        import_solutions(file, "labelled", "gsm8k", path=gsm8k)


def test_blank_lines_are_nothing_and_a_file_of_them_is_an_error(tmp_path: Path, gsm8k: str):
    with pytest.raises(ValueError, match=r"solutions.jsonl: no solutions in this file"):
        import_solutions(write(tmp_path, "", " "), "labelled", "gsm8k", path=gsm8k)
    _, counts = import_solutions(write(tmp_path, "", labelled("q", "r", 1)), "labelled", "gsm8k", path=gsm8k)
    assert counts.episodes == 1


def test_an_environment_is_found_by_id_or_short_name_in_any_case():
    assert find_env("gsm8k") == find_env("GSM8K") == find_env("oreo/GSM8K-v0") == "oreo/GSM8K-v0"
    assert find_env("reasoning-gym") == find_env("reasoninggym") == "oreo/ReasoningGym-v0"
    with pytest.raises(ValueError, match=r"--env gsm9k: unknown environment; known: .*gsm8k.*oreo/MATH-v0"):
        find_env("gsm9k")


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> str:
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


def test_an_encoded_buffer_carries_its_tokenizer(tmp_path: Path, gsm8k: str):
    prompt_format = PromptFormat(make_tokenizer())
    file = write(tmp_path, labelled(TRAIN_QUESTION, RIGHT, True))
    buffer = encode_buffer(import_solutions(file, "labelled", "gsm8k", path=gsm8k)[0], prompt_format)
    [episode] = buffer
    assert buffer.tokenizer_fingerprint == prompt_format.fingerprint
    said = episode.tokens[episode.step_id >= 0].tolist()
    assert prompt_format.decode(said) == RIGHT and said[-1] == prompt_format.end_of_turn
    assert prompt_format.decode(episode.tokens[episode.step_id == 0].tolist()) == "3 + 4 = 7\n"


def test_the_command_imports_encodes_and_describes(tmp_path, gsm8k, tokenizer_folder, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [labelled(TEST_QUESTION, "#### 3", True), labelled(TRAIN_QUESTION, WRONG, True)]
    file = write(tmp_path, *rows)
    main(["import", str(file), "--format", "labelled", "--env", "gsm8k", "--path", gsm8k])
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "solutions: 2 episodes of oreo/GSM8K-v0, read as labelled: of 2 tasks, 1.000 successful",
        "2 of tasks that the environment knows",
        "1 of held-out tasks: an evaluation on these is not a test",
        "1 labels that the grader disagrees with",
    ]
    plain = EpisodeBuffer.load(tmp_path / "solutions")
    assert not plain.tokenizer_fingerprint and not plain[0].encoded

    main(["encode", "solutions", "--tokenizer", tokenizer_folder, "--out", "encoded"])
    encoded = EpisodeBuffer.load(tmp_path / "encoded")
    fingerprint = PromptFormat(make_tokenizer()).fingerprint
    assert encoded.tokenizer_fingerprint == fingerprint and encoded[0].encoded
    assert encoded.provenance == plain.provenance

    options = ["--tokenizer", tokenizer_folder, "--out", "at-once", "--path", gsm8k]
    main(["import", str(file), "--format", "labelled", "--env", "oreo/GSM8K-v0", *options])
    assert EpisodeBuffer.load(tmp_path / "at-once").content_hash == encoded.content_hash

    main(["encode", "solutions", "--tokenizer", tokenizer_folder])
    assert EpisodeBuffer.load(tmp_path / "solutions").content_hash == encoded.content_hash

    capsys.readouterr()
    main(["stats", "solutions", "encoded"])
    text = capsys.readouterr().out
    assert "success_rate" in text and "1.000" in text and "oreo/GSM8K-v0" in text and fingerprint in text


def test_a_buffer_of_another_tokenizer_says_how_to_encode_it(tmp_path: Path, gsm8k: str):
    file = write(tmp_path, labelled(TRAIN_QUESTION, RIGHT, True))
    buffer, _ = import_solutions(file, "labelled", "gsm8k", path=gsm8k)
    encode_buffer(buffer, PromptFormat(make_tokenizer())).save(tmp_path / "buffer")
    with pytest.raises(ValueError, match=r"oreo data encode .* --tokenizer PATH"):
        EpisodeBuffer.load(tmp_path / "buffer", tokenizer_fingerprint="other")


def test_an_unknown_format_is_refused_by_the_command(tmp_path: Path):
    file = write(tmp_path, labelled("q", "r", 1))
    with pytest.raises(ValueError, match=r"--format labeled: no such layout; did you mean 'labelled'.*response"):
        main(["import", str(file), "--format", "labeled", "--env", "gsm8k"])


def test_solutions_of_real_models_import_and_encode_whole(tmp_path: Path):
    root = os.environ.get("OREO_DATA")
    file = Path(root or "") / "model_solutions" / "gsm8k_openai.jsonl"
    if not root or not file.exists():
        pytest.skip("OREO_DATA names no folder with model_solutions/gsm8k_openai.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    buffer, counts = import_solutions(file, "labelled", "gsm8k")
    assert counts.episodes == len(rows) == len(buffer)
    assert counts.known == counts.held_out == len(rows), "all questions are of the test split"
    assert counts.disagreements <= 0.01 * len(rows)
    assert [episode.success for episode in buffer] == [row["correct"] for row in rows]
    assert len(buffer.by_task()) == len({row["question"] for row in rows})
    prompt_format = PromptFormat(make_tokenizer())
    encoded = encode_buffer(buffer[:40], prompt_format)
    for episode, row in zip(encoded, rows, strict=False):
        assert prompt_format.decode(episode.tokens[episode.step_id >= 0].tolist()) == row["response"]
        assert len(np.unique(episode.step_id[episode.step_id >= 0])) == episode.num_steps


def test_generated_houses_are_written_where_the_environment_reads_them(tmp_path: Path, capsys):
    out = tmp_path / "houses"
    main(["generate-houses", "--out", str(out), "--split", "valid_seen", "--split", "valid_unseen", "--count", "2"])
    assert capsys.readouterr().out == f"{out}: 2 games of valid_seen\n{out}: 2 games of valid_unseen\n"
    assert len(list(out.glob("json_2.1.1/*/*/*/game.tw-pddl"))) == 4
    with pytest.raises(ValueError, match="is there already"):
        main(["generate-houses", "--out", str(out), "--split", "valid_seen", "--count", "2"])
