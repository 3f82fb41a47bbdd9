"""Reading problems: every place they may lie in, every way a file may be broken."""

import json
import logging
import os

import gymnasium as gym
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from env_samples import ENV_IDS, GSM8K_ROWS, MATH_ROWS, write_jsonl

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs import hub, math
from oreo_envs.answers import ProblemSetEnv
from oreo_envs.datasets import Problem, Source, load_problems
from oreo_envs.gsm8k import SOURCE


def questions(**arguments):
    arguments = {"split": "test"} | arguments
    return [problem.question for problem in gym.make("oreo/GSM8K-v0", **arguments).unwrapped.problems]


EXPECTED = [row["question"] for row in GSM8K_ROWS]


def as_parquet(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    path.unlink()
    return path.with_suffix(".parquet")


def test_a_place_is_a_path_or_a_text(tmp_path):
    file = write_jsonl(tmp_path / "test.jsonl", GSM8K_ROWS)
    assert questions(path=file) == questions(path=tmp_path) == questions(path=str(tmp_path)) == EXPECTED


def test_without_a_path_the_data_variable_is_used(data_folder):
    assert questions() == questions(split="train") == EXPECTED


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_the_default_is_what_may_be_learned_from(data_folder, env_id):
    env = gym.make(env_id).unwrapped
    assert env.split == "train" and "train" not in env.held_out_splits


def test_a_changed_file_is_read_again(tmp_path):
    file = write_jsonl(tmp_path / "test.jsonl", GSM8K_ROWS)
    first = load_problems(SOURCE, "test", file)
    assert load_problems(SOURCE, "test", file) is first
    write_jsonl(file, GSM8K_ROWS[:2])
    assert len(load_problems(SOURCE, "test", file)) == 2


def test_a_line_separator_inside_a_text_is_no_line_end(tmp_path):
    row = {"question": "a\u2028b\u0085c", "answer": "#### 1"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert questions(path=tmp_path) == ["a\u2028b\u0085c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{"question": "a", "answer": "#### 1"}\n{"question": \n',
            r"test\.jsonl, line 2: not JSON",
        ),
        (b'\n\n"text"\n', r"test\.jsonl, line 3: not a JSON object but str"),
        (
            b'{"question": "\xff", "answer": "#### 1"}\n',
            r"test\.jsonl, line 1: not UTF-8 text \(byte 0xff: .*\); save the file as UTF-8",
        ),
        (
            b'{"q": "a", "answer": "#### 1"}\n',
            r"line 1: no field 'question'; this row has q, answer; it needs question, answer.*fields=",
        ),
        (b'{"question": 5, "answer": "#### 5"}\n', r"line 1: the question is no text but int"),
        (b'{"question": "a", "answer": {"a": 5}}\n', r"line 1: the answer is neither a text nor a number but dict"),
        (
            b'{"question": "a", "answer": "five"}\n',
            r"line 1: field 'answer' does not end in '#### <number>', and is no number",
        ),
        (b"", r"no problem of split 'test' in it"),
    ],
)
def test_a_broken_row_is_named(tmp_path, content, message):
    (tmp_path / "test.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        questions(path=tmp_path)


def test_a_wrong_path_says_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"split 'test' of gsm8k: it has no data files. .*test\.jsonl"):
        questions(path=tmp_path)
    write_jsonl(tmp_path / "train.jsonl", GSM8K_ROWS)
    with pytest.raises(FileNotFoundError, match=r"data files are train\.jsonl \(train\)\. A split is test\.jsonl, "):
        questions(path=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"absent: no such file or folder \(split 'test' of gsm8k\)"):
        questions(path=tmp_path / "absent")
    for path in (5, b"test.jsonl", [5], {"path": tmp_path}):
        with pytest.raises(ValueError, match="path must be a file, a folder or a list of these, got "):
            questions(path=path)


def test_a_link_to_nothing_is_named_and_a_pipe_is_no_data(tmp_path):
    os.mkfifo(tmp_path / "test.jsonl")
    with pytest.raises(FileNotFoundError, match="it has no data files"):
        questions(path=tmp_path)
    (tmp_path / "test.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(FileNotFoundError, match=r"test\.json: a link to a file that is not there; copy or download"):
        questions(path=tmp_path)


def test_an_unreachable_hub_says_how_to_get_the_data(tmp_path, monkeypatch):
    def out_of_reach(*_, **__):
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", out_of_reach)
    monkeypatch.setattr(hub, "why_unreachable", lambda: None)
    monkeypatch.delenv("OREO_DATA", raising=False)
    with pytest.raises(
        FileNotFoundError,
        match=r"OREO_DATA is not set, and the hub cannot be reached \(OSError: no route to host\)"
        r".*hf download --repo-type dataset openai/gsm8k --local-dir FOLDER; then pass path=FOLDER.*test\.jsonl",
    ):
        questions()
    monkeypatch.setenv("OREO_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"gsm8k has no file of it, and the hub"):
        questions()


def test_the_hub_is_asked_for_the_right_files(tmp_path, monkeypatch):
    asked = []

    def download(repository, name, *, repo_type):
        asked.append((repository, name, repo_type))
        return str(as_parquet(write_jsonl(tmp_path / f"{len(asked)}.jsonl", GSM8K_ROWS)))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.delenv("OREO_DATA", raising=False)
    assert questions(split="train") == EXPECTED
    assert asked == [("openai/gsm8k", "main/train-00000-of-00001.parquet", "dataset")]


def test_hub_rows_of_math_have_their_answer_in_the_solution(tmp_path, monkeypatch):
    rows = [{key: row[key] for key in ("problem", "solution")} for row in MATH_ROWS]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(file))
    monkeypatch.delenv("OREO_DATA", raising=False)
    problems = list(gym.make("oreo/MATH-v0", split="test").unwrapped.problems)
    assert len(problems) == 7 * len(MATH_ROWS)  # one file a subject
    assert [problem.answer for problem in problems[:2]] == ["2", "\\frac{1}{4}"]


def test_math500_is_the_flagged_part_of_test(data_folder):
    env = gym.make("oreo/MATH-v0", split="math500").unwrapped
    assert [problem.question for problem in env.problems] == [MATH_ROWS[0]["problem"]]
    with pytest.raises(ValueError, match="split 'math500' is held out"):
        env.demonstration(0)


def test_the_two_known_empty_answers_are_repaired_loudly_and_no_other(tmp_path, caplog):
    start = next(iter(math.EMPTY_ANSWERS))
    row = {"problem": start + " is:", "solution": "There are $\\boxed{}$.", "answer": ""}
    write_jsonl(tmp_path / "train.jsonl", [row])
    with caplog.at_level(logging.WARNING, logger="oreo_envs.datasets"):
        env = gym.make("oreo/MATH-v0", split="train", path=tmp_path).unwrapped
    assert "empty reference answer repaired to '0'" in caplog.text
    assert env.problems[0].answer == "0"
    assert env.demonstration(0).steps == ("There are $\\boxed{0}$.",)
    write_jsonl(tmp_path / "train.jsonl", [row | {"problem": "What is 1?"}])
    with pytest.raises(ValueError, match=r"of split 'train' in it; 1 row without .*line 1: no answer \(''\)"):
        gym.make("oreo/MATH-v0", split="train", path=tmp_path)


def test_they_are_repaired_too_where_answers_stand_in_the_solution(tmp_path):
    rows = [{"problem": start, "solution": "So the answer is $\\boxed{}$."} for start in math.EMPTY_ANSWERS]
    env = gym.make("oreo/MATH-v0", path=write_jsonl(tmp_path / "train.jsonl", rows)).unwrapped
    assert [problem.answer for problem in env.problems] == ["0", "0"]
    assert env.demonstration(1).steps == ("So the answer is $\\boxed{0}$.",)


def test_a_demonstration_is_the_authors_text_without_calculator_marks_and_early_boxes(data_folder):
    env = gym.make("oreo/GSM8K-v0", split="train").unwrapped
    assert env.demonstration(0).steps == ("It is 3+4=7.\n", "#### 7")
    env = gym.make("oreo/MATH-v0", split="train").unwrapped
    assert env.demonstration(0).steps == (
        "As $x^2 = 4$. ",
        "So $x$ is ${2}$ or\n",
        "$-2$; thus $x = \\boxed{2}.$",
    )
    assert env.demonstration(1).steps == (
        "It is\n",
        "\\[0.5 \\cdot \\frac{1}{2}. \n = \\boxed{\\frac{1}{4}}\\]",
    )


def test_a_further_data_set_is_a_row_reader_and_a_few_names(tmp_path):
    class CapitalsEnv(ProblemSetEnv):
        source = Source("capitals", lambda row, split: Problem(row["q"], row["a"]), hub={})
        name = source.name
        default_prompt = "boxed"
        splits = ("train", "test")

        def _solution(self, index, seed):
            return f"\\boxed{{{self.problems[index].answer}}}", {}

    write_jsonl(tmp_path / "train.jsonl", [{"q": "Of France?", "a": "Paris"}, {"q": "Of Peru?", "a": "Lima"}])
    env = CapitalsEnv(path=tmp_path)
    question, info = env.reset(options={"task_id": "capitals/train/1"})
    assert (question, env.num_tasks, info["messages"]) == ("Of Peru?", 2, list(env.template().messages(question)))
    assert env.step("It is \\boxed{Lima}.")[1:3] == (1.0, True)
    with pytest.raises(ValueError, match="unknown split 'dev'; known: train, test"):
        CapitalsEnv(split="dev", path=tmp_path)
