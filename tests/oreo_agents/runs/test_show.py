"""`oreo show`: what is read, filtered and set side by side; foreign text steers nothing."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_models import make_tokenizer

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.spoken import visible
from oreo_agents.episodes.texts import encode_episode, text_episode
from oreo_agents.evaluation.kept import SOURCE
from oreo_agents.networks.value import TokenValue
from oreo_agents.runs.show import main
from oreo_agents.value_quality.path import read_paths
from oreo_algos.episode import Episode
from oreo_algos.storage.buffer import EpisodeBuffer

FORMAT = PromptFormat(make_tokenizer())
ENV = "oreo/GSM8K-v0"


def answer(task: int, text: str, *, right: bool, question: str | None = None, **info) -> Episode:
    steps = text.splitlines(keepends=True)
    opening = [{"role": "user", "content": question or f"question {task}?"}]
    rewards = [0.0] * (len(steps) - 1) + [float(right)]
    told = {"answer": text.split()[-1], "reference": "7", "grade_reason": "numeric" if right else "different", **info}
    episode = text_episode(opening, steps, rewards, task_id=f"gsm8k/test/{task}", env_id=ENV, info=told)
    return encode_episode(episode, FORMAT)


def keep(run: Path, algo: str, episodes: list[Episode], search: str = "greedy", **facts) -> Path:
    folder = run / algo / f"answers-test-{search}"
    told = {"source": SOURCE, "algo": algo, "search": search, "split": "test", "evaluated": 9, **facts}
    EpisodeBuffer(episodes, tokenizer_fingerprint=FORMAT.fingerprint, provenance=told).save(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two algorithms: both solve task 0, neither task 3; 1 and 2 are solved by one of them."""
    folder = tmp_path / "run"
    told = {"sft": [1, 0, 1, 0], "oreo": [1, 1, 0, 0]}
    for algo, solved in told.items():
        keep(
            folder, algo, [answer(k, f"{algo} says\n#### {7 if s else 8}", right=bool(s)) for k, s in enumerate(solved)]
        )
    rows = [{"algo": algo, "search": "greedy", "split": "test"} for algo in told]
    (folder / "results.json").write_text(json.dumps({"results": rows}), encoding="utf-8")
    (folder / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    return folder


def shown(*arguments: object, width: int = 120, terminal: bool = False) -> str:
    stream = io.StringIO()
    main(
        [str(a) for a in arguments],
        Console(file=stream, width=width, force_terminal=terminal, color_system="truecolor" if terminal else "auto"),
    )
    return stream.getvalue()


def test_a_run_is_read_in_the_order_of_its_results(run: Path):
    text = shown(run)
    assert text.index("sft, greedy, test") < text.index("oreo, greedy, test")
    assert "4 answers of 9 evaluated, 2 right, 2 wrong" in text
    assert "question 0?" in text and "  1  sft says" in text and "  2  #### 7" in text
    assert "answer 7; reference 7; numeric; reward 1; 2 steps; " in text and "answer 8; reference 7; different" in text
    assert "\x1b" not in text and not any(line.endswith(" ") for line in text.splitlines())


def test_answers_are_chosen_by_outcome_algorithm_task_and_reason(run: Path):
    wrong = shown(run, "--wrong", "--algo", "oreo")
    assert "question 2?" in wrong and "question 3?" in wrong and "question 1?" not in wrong and "sft" not in wrong
    assert "question 1?" in shown(run / "oreo", "--right") and "question 1?" not in shown(run / "sft", "--right")
    one = shown(run, "--task", "gsm8k/test/3", "--search", "greedy", "--split", "test")
    assert one.count("question 3?") == 2 and "question 1?" not in one
    assert shown(run, "--reason", "numeric").count("right  gsm8k") == 4
    few = shown(run, "--limit", "3")
    assert few.count("question") == 3 and "3 of 8 answers shown; --limit 0 shows all" in few
    assert shown(run, "--limit", "0").count("question") == 8
    assert "no answers of that kind" in shown(run, "--right", "--reason", "different")


@pytest.mark.parametrize("text", ["{", "[]", '{"results": [3]}', '{"results": [{"algo": "sft"}]}'])
def test_results_that_are_damaged_hide_no_answers(run: Path, text: str):
    (run / "results.json").write_text(text, encoding="utf-8")
    assert "sft, greedy, test" in shown(run)


def test_answers_that_do_not_say_of_which_algorithm_are_a_buffer_as_others(tmp_path: Path):
    folder = keep(tmp_path, "sft", [answer(0, "#### 7", right=True)], split=None)
    assert f"{folder}  1 answers, 1 right" in shown(tmp_path, width=500)


@pytest.mark.parametrize(
    "info",
    [{"turns": "[1,2"}, {"turns": '{"a": 1}'}, {"turns": "[1]"}, {"turns": '[[["a"], ["b"]]]'}, {"value": "high"}],
)
def test_what_an_environment_calls_as_a_search_does_is_left_alone(tmp_path: Path, info: dict[str, str]):
    keep(tmp_path, "sft", [answer(0, "#### 7", right=True, **info)])
    assert "1  #### 7\nanswer 7; reference 7; numeric; reward 1; 1 step" in shown(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--search", "gredy"], r"no answers of search 'gredy'; did you mean 'greedy'\?; there are greedy"),
        (["--algo", "dpo"], "no answers of algo 'dpo'; there are sft, oreo"),
        (["--task", "gsm8k/test/33"], r"no answer of task 'gsm8k/test/33'; did you mean 'gsm8k/test/3'"),
        (["--reason", "x"], r"no answer of reason 'x'.*there are different, numeric"),
        (["--compare", "oreo"], r"several algorithms \(sft, oreo\); name one, as .*run/NAME or with --algo NAME"),
        (["--algo", "sft", "--compare", "nothing"], "no answers of algo 'nothing'; there are sft, oreo"),
        (["--values"], "no value network was trained there; give --values FOLDER"),
    ],
)
def test_what_is_not_there_is_a_sentence(run: Path, arguments: list[str], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        main([str(run), *arguments], Console(file=io.StringIO()))


def test_names_in_errors_steer_nothing_either(tmp_path: Path):
    keep(tmp_path, "a\x1b[2J", [answer(0, "#### 7", right=True, grade_reason="\x1b[2J")])
    for given in (["--algo", "b"], ["--reason", "b"]):
        with pytest.raises(ValueError, match=r"\\x1b\[2J") as error:
            shown(tmp_path, *given)
        assert "\x1b" not in str(error.value)


def test_a_folder_without_answers_is_a_sentence(tmp_path: Path):
    for folder, sentence in ((tmp_path / "no", "nothing there"), (tmp_path, "no answers there")):
        with pytest.raises(FileNotFoundError, match=sentence):
            main([str(folder)])
    (tmp_path / "oreo").mkdir()
    (tmp_path / "oreo" / "items-test-greedy.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"no answers were kept.*evaluate\.keep=200"):
        main([str(tmp_path)])
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "metadata.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="not valid JSON"):
        main([str(broken)])


def test_what_a_kill_left_is_not_read(run: Path):
    folder = keep(run, "oreo", [answer(5, "#### 1", right=False)], search="majority")
    folder.rename(folder.with_name(f".{folder.name}.tmp-1"))
    assert "majority" not in shown(run)


def test_any_buffer_is_read_also_one_that_does_not_say_where_actions_lie(tmp_path: Path):
    bare = Episode(
        tokens=[1, 2], step_id=[-1, 0], rewards=[1.0], terminated=True, truncated=True, task_id="t", env_id=ENV,
        messages=[{"role": "user", "content": "ask"}, {"role": "assistant", "content": "say"}],
    )  # fmt: skip
    EpisodeBuffer([answer(0, "a\n\nb #### 7", right=True), bare]).save(tmp_path / "b")
    text = shown(tmp_path / "b")
    assert "2 answers, 2 right, 0 wrong" in text and "user: ask" in text and "assistant: say" in text
    assert "does not say where its actions lie" in text and "cut off by a limit" in text


HOSTILE = "[bold red]x[/] [link=file:///etc]y[/link] :smile: \x1b[31mred\x1b[0m \x1b]0;title\x07 a\rb \u202eevil\u2028z"


@pytest.mark.parametrize("terminal", [True, False])
def test_foreign_text_is_neither_markup_nor_control(tmp_path: Path, terminal: bool):
    episode = answer(
        0, f"{HOSTILE}\n#### 7", right=True, question=HOSTILE, answer=HOSTILE, reference=HOSTILE, grade_reason=HOSTILE
    )
    keep(tmp_path, "[red]a\x1b[2J", [episode], search="x")
    text = shown(tmp_path, width=4000, terminal=terminal)
    assert text.count("[bold red]x[/] [link=file:///etc]y[/link] :smile:") >= 5
    assert text.count(r"\x1b[31mred\x1b[0m \x1b]0;title\x07 a\rb \u202eevil\u2028z") >= 4  # a step ends at its \r
    assert r"[red]a\x1b[2J" in text
    own = text.replace("\x1b[", "") if terminal else text
    assert (
        not {"\x1b[31m", "\x1b[2J", "\x1b]", "\x07", "\r", "\u202e", "\u2028"} & {c for c in own}
        and "\x1b[31m" not in text
    )
    assert ("\x1b" in text) == terminal


def test_what_people_write_with_stays():
    text = "Größe ∑ 😀 👩\u200d🚀 می\u200cخواهم\tx\n"
    assert visible(text) == text
    assert visible("a\x00\x9b\u200b\ue000") == r"a\x00\x9b\u200b\ue000"


def test_games_show_what_was_said_in_between_and_what_was_proposed(tmp_path: Path):
    said = ["go", "up", "You are up.", "down", "Nothing happens."]
    messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 3, said, strict=False)]
    turns = [[["up", 3, 0.5, 0.375], ["down", 1, None]], [["down", 4, 0.25]]]
    game = Episode(
        tokens=[], step_id=[], rewards=[0.0, 0.0], action_spans=[[1, 0, 2], [3, 0, 4]],
        terminated=True, truncated=False, task_id="game/0", env_id=ENV, messages=messages,
        info={"invalid_actions": 1, "turns": json.dumps(turns)},
    )  # fmt: skip
    EpisodeBuffer([game]).save(tmp_path / "b")
    lines = [line.strip() for line in shown(tmp_path / "b").splitlines()]
    start = lines.index("1  up")
    assert lines[start : start + 5] == [
        "1  up",
        "chosen from up (3x, V 0.50, score 0.38); down (1x)",
        "You are up.",
        "2  down",
        "Nothing happens.",
    ]
    assert "1 actions refused; 2 steps" in lines[start + 5]


def test_what_a_search_chose_from_is_told_and_shown_when_asked_for(tmp_path: Path):
    folder = keep(tmp_path, "oreo", [answer(0, "so\n#### 7", right=True)], search="majority")
    voters = [
        answer(0, "so\n#### 7", right=True, chosen=True, candidate=0, value=0.5),
        answer(0, "or\n#### 9", right=False, chosen=False, candidate=1),
        answer(0, "hm\n#### 7", right=True, chosen=False, candidate=2, value=0.75, score=0.5),
    ]
    EpisodeBuffer(voters, provenance={"source": SOURCE}).save(folder.with_name("candidates-test-majority"))
    text = shown(tmp_path)
    assert "chosen from 3 answers: 7 (2x, right, V up to 0.75, score up to 0.50, chosen); 9 (1x, wrong)" in text
    assert "  1  or" not in text
    text = shown(tmp_path, "--candidates")
    assert "V 0.75; score 0.50;" in text
    assert "right  candidate 1 of 3, chosen" in text and "wrong  candidate 2 of 3\n" in text and "  1  or" in text


# --- side by side


@pytest.mark.parametrize("by_path", [True, False])
def test_two_algorithms_stand_side_by_side_where_one_of_them_solved_the_task(run: Path, by_path: bool):
    text = shown(run / "oreo", "--compare", run / "sft" if by_path else "sft")
    assert "both right 1, only A right 1, only B right 1, both wrong 1" in text
    assert "question 1?" in text and "question 2?" in text and "question 0?" not in text and "question 3?" not in text
    assert text.count("question 1?") == 1, "asked once where both were asked the same"
    [line] = [line for line in text.splitlines() if "  2  #### 7" in line and line.index("7") < 60]
    assert line.split("  |  ")[0].strip() == "2  #### 7" and line.split("  |  ")[1].strip() == "2  #### 8"


def test_a_comparison_is_narrowed_to_who_was_right(run: Path):
    won = shown(run / "oreo", "--compare", "sft", "--right")
    lost = shown(run / "oreo", "--compare", "sft", "--wrong")
    assert "question 1?" in won and "question 2?" not in won and "question 2?" in lost and "question 1?" not in lost
    assert "question 3?" in shown(run / "oreo", "--compare", "sft", "--task", "gsm8k/test/3")
    assert "1 of 2 tasks" in shown(run / "oreo", "--compare", "sft", "--limit", "1")
    assert "no tasks that only one of the two solved of that kind" in shown(run / "oreo", "--compare", "oreo")


def test_a_narrow_terminal_puts_them_below_each_other(run: Path):
    text = shown(run / "oreo", "--compare", "sft", width=60, terminal=True)
    assert "  |  " not in text and text.index("oreo says") < text.index("sft says")


def test_runs_of_two_folders_are_compared_on_what_they_share(run: Path, tmp_path: Path):
    other = tmp_path / "other"
    keep(other, "dpo", [answer(1, "dpo\n#### 8", right=False, question="asked otherwise")], env_options={"a": 1})
    keep(other, "dpo", [answer(1, "x #### 7", right=True)], search="majority")
    text = shown(run / "oreo", "--compare", other)
    assert "1 answers to the same tasks" in text and "the environment's options differ" in text
    assert "question 1?" in text and "asked otherwise" in text and "majority" not in text
    keep(tmp_path / "third", "dpo", [answer(8, "#### 8", right=False)])
    with pytest.raises(ValueError, match="answer no task in common"):
        shown(run / "oreo", "--compare", tmp_path / "third")
    keep(tmp_path / "fourth", "dpo", [answer(1, "#### 8", right=False)], search="vote")
    with pytest.raises(ValueError, match="share no search on one split"):
        shown(run / "oreo", "--compare", tmp_path / "fourth")


# --- V


@pytest.fixture
def value(checkpoint: Callable[[str], str], tmp_path: Path) -> Path:
    network = TokenValue.from_policy(checkpoint("llama"))
    with torch.no_grad():
        network.model.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    network.save(tmp_path / "value", make_tokenizer(), "card")
    return tmp_path / "value"


def test_steps_are_coloured_by_the_advantage_that_a_value_network_sees(run: Path, value: Path):
    [episode, *_] = EpisodeBuffer.load(run / "oreo" / "answers-test-greedy")
    [path] = read_paths(TokenValue.from_pretrained(str(value)), [episode], 1)
    text = shown(run / "oreo", "--values", value, "--limit", "1")
    for k in range(2):
        assert f"{path.advantages[k]:+.2f} -> {path.values[k + 1]:.2f}  " in text
    assert f"V at the start {path.values[0]:.2f}" in text and "\x1b" not in text
    coloured = shown(run / "oreo", "--values", value, "--limit", "1", terminal=True)
    assert "48;2;" in coloured
    value.rename(run / "oreo" / "value")
    assert shown(run / "oreo", "--values", "--limit", "1", width=120) == shown(
        run / "oreo", "--values", run / "oreo" / "value", "--limit", "1"
    )
    assert "sft, greedy, test: no value network was trained there, so its steps have no colour" in shown(
        run, "--values"
    )


@pytest.mark.parametrize("inside", [True, False])
def test_an_evaluation_of_another_run_knows_the_value_it_was_given(
    run: Path, value: Path, inside: bool, tmp_path: Path
):
    if inside:
        value.rename(run / "lent")
    keep(run, "dpo", [answer(1, "#### 7", right=True)], value="lent" if inside else str(value))
    assert "V at the start" in shown(run / "dpo", "--values")


def test_text_that_another_tokenizer_encoded_is_encoded_for_the_value(run: Path, value: Path, tmp_path: Path):
    episodes = list(EpisodeBuffer.load(run / "oreo" / "answers-test-greedy"))
    odd = [encode_episode(episode, FORMAT) for episode in episodes]
    EpisodeBuffer(odd, tokenizer_fingerprint="another").save(tmp_path / "odd")
    lines = shown(run / "oreo", "--values", value).splitlines()
    assert [line for line in lines if "->" in line] == [
        line for line in shown(tmp_path / "odd", "--values", value).splitlines() if "->" in line
    ]


def test_a_policy_is_no_value(run: Path, checkpoint):
    with pytest.raises(ValueError, match="a value network is a token classifier with one label"):
        shown(run / "oreo", "--values", checkpoint("llama"))


def test_the_colours_say_which_way_a_step_moves_v():
    from oreo_agents.evaluation.answer_view import Steps, answer_lines

    steps = Steps(np.array([0.5, 0.9, 0.1]), np.array([0.4, -0.8]), 0.4)
    lines = answer_lines(answer(0, "up\n#### 8", right=False), None, steps)
    colours = [
        span.style.bgcolor.get_truecolor()
        for line in lines[:2]
        for span in line.spans
        if hasattr(span.style, "bgcolor") and span.style.bgcolor
    ]
    assert colours[0].blue > colours[0].red and colours[1].red > colours[1].blue


def test_reading_loads_no_torch(run: Path):
    code = (
        "import sys; from oreo_agents.runs import show; "
        f"show.main([{str(run)!r}, '--compare', 'sft', '--algo', 'oreo']); show.main([{str(run)!r}]); "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.endswith("False False\n"), result.stderr


def test_who_reads_only_the_beginning_meets_no_traceback(run: Path):
    code = f"from oreo_agents.runs import show; show.main([{str(run)!r}, '--limit', '0'])"
    command = f'{sys.executable} -c "{code}" | head -c 1'
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert not result.stderr


def test_answers_of_several_runs_say_of_which(run: Path):
    run.rename(run.parent / "first")
    keep(run.parent / "second", "sft", [answer(0, "#### 7", right=True)])
    text = shown(run.parent)
    assert "first: sft, greedy, test" in text and "second: sft, greedy, test  1 answers" in text


def test_what_the_limit_leaves_out_has_no_heading(tmp_path: Path):
    for search in ("greedy", "majority"):
        keep(tmp_path, "dpo", [answer(0, "so\n#### 9", right=False)], search=search)
        keep(tmp_path, "oreo", [answer(0, "so\n#### 7", right=True)], search=search)
    text = shown(tmp_path / "oreo", "--compare", "dpo", "--limit", "1")
    assert text.count("answers to the same tasks") == 1 and "1 of 2 tasks" in text
    assert shown(tmp_path / "oreo", "--compare", "dpo", "--limit", "0").count("answers to the same tasks") == 2
