"""Episodes of agents that are written down, and gone on with."""

import json
import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from env_samples import GSM8K_ROWS
from stub_server import completion, failure, serving

from oreo_envs import ChatClient, EvaluationStopped, Recorder, evaluate
from oreo_envs.recording import EPISODES, read_rows, read_settings

pytestmark = pytest.mark.usefixtures("data_folder")

ANSWERS = {row["question"]: row["answer"].rpartition("#### ")[2] for row in GSM8K_ROWS}


def right(messages):
    return f"Let me see.\n#### {ANSWERS[messages[-1]['content']]}"


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / EPISODES).read_text(encoding="utf-8").splitlines()]


def counting(answer=right):
    def agent(messages):
        agent.asked.append(messages[-1]["content"])
        return answer(messages)

    agent.asked = []
    return agent


def test_every_episode_is_written_with_its_conversation_and_where_actions_stand(tmp_path):
    folder = tmp_path / "record"
    result = evaluate(right, "oreo/GSM8K-v0", split="train", record=folder, num_envs=2)
    assert list(read_rows(folder)) == sorted(
        result.rows, key=lambda row: [one["index"] for one in lines(folder)].index(row.index)
    )
    settings = read_settings(folder)
    assert (settings["env_id"], settings["split"], settings["held_out"]) == ("oreo/GSM8K-v0", "train", False)
    assert settings["agent"] == "test_recording.right"
    for row in result.rows:
        said = [row.messages[message]["content"][start:end] for message, start, end in row.spans]
        assert said == [row.messages[-1]["content"]] and row.rewards == (1.0,) and row.terminated


def test_games_have_an_action_a_turn(tmp_path):
    def expert(messages, info):
        return info["walkthrough"][info["step"]]

    result = evaluate(expert, "oreo/ALFWorld-v0", split="valid_seen", expert=True, record=tmp_path / "r")
    for row in result.rows:
        turns = [message["content"] for message in row.messages if message["role"] == "assistant"]
        assert [row.messages[m]["content"][a:b] for m, a, b in row.spans] == turns
        assert row.rewards == (0.0,) * (len(turns) - 1) + (1.0,)
    assert read_settings(tmp_path / "r")["held_out"] is True


def test_what_was_finished_is_not_asked_again(tmp_path):
    first, second = counting(), counting()
    second.__qualname__ = first.__qualname__
    evaluate(first, "oreo/GSM8K-v0", split="test", episodes=2, record=tmp_path / "r")
    result = evaluate(second, "oreo/GSM8K-v0", split="test", record=tmp_path / "r")
    assert (len(first.asked), len(second.asked), len(result.rows), result.success_rate) == (2, 2, 4, 1.0)
    assert not set(first.asked) & set(second.asked) and len(lines(tmp_path / "r")) == 4
    again = evaluate(second, "oreo/GSM8K-v0", split="test", record=tmp_path / "r", episodes_per_task=2)
    assert len(again.rows) == 8 and len(second.asked) == 6
    assert [(row.index, row.sample) for row in again.rows] == [(i, s) for i in range(4) for s in (0, 1)]
    few = evaluate(second, "oreo/GSM8K-v0", split="test", record=tmp_path / "r", episodes=1)
    assert len(few.rows) == 1 and len(second.asked) == 6


def test_errors_are_asked_again_and_kept_apart(tmp_path):
    def fails(messages):
        if len(agent.asked) == 2:
            raise ConnectionError("gone")
        return right(messages)

    agent = counting(fails)
    assert len(evaluate(agent, "oreo/GSM8K-v0", split="test", record=tmp_path / "r").errors) == 1
    result = evaluate(agent, "oreo/GSM8K-v0", split="test", record=tmp_path / "r")
    assert (result.errors, len(agent.asked), agent.asked[-1]) == ({}, 5, agent.asked[1])
    assert sum(line["error"] is not None for line in lines(tmp_path / "r")) == 1


KILLED = """
import os, sys
from oreo_envs import evaluate

def agent(messages):
    agent.asked += 1
    if agent.asked == 3:
        os._exit(9)
    return "#### 7"

agent.asked = 0
evaluate(agent, "oreo/GSM8K-v0", split="test", record=sys.argv[1])
"""


@pytest.mark.parametrize("torn", ['{"task_id": "gsm8k/te', "", '{"task_id": "x"}'])
def test_a_run_that_was_killed_goes_on(tmp_path, torn):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "r")], check=False)
    assert killed.returncode == 9 and len(lines(tmp_path / "r")) == 2
    with (tmp_path / "r" / EPISODES).open("a", encoding="utf-8") as file:
        file.write(torn)
    agent = counting(lambda messages: "#### 7")
    agent.__module__, agent.__qualname__ = "__main__", "agent"
    result = evaluate(agent, "oreo/GSM8K-v0", split="test", record=tmp_path / "r")
    assert len(agent.asked) == 2 and len(result.rows) == 4 and len(lines(tmp_path / "r")) == 4


def test_a_damaged_line_is_left_out_and_said(tmp_path, caplog):
    agent = counting()
    evaluate(agent, "oreo/GSM8K-v0", split="test", record=tmp_path / "r")
    path = tmp_path / "r" / EPISODES
    path.write_text(path.read_text().replace('"messages"', '"massages"', 1), encoding="utf-8")
    assert len(evaluate(agent, "oreo/GSM8K-v0", split="test", record=tmp_path / "r").rows) == 4
    assert len(agent.asked) == 5 and "1 damaged lines are left out" in caplog.text


def test_a_folder_of_other_episodes_is_refused(tmp_path):
    evaluate(right, "oreo/GSM8K-v0", split="test", record=tmp_path / "r", episodes=1)
    for options, told in (
        ({"split": "train"}, "split: there 'test', here 'train'"),
        ({"split": "test", "prompt": "boxed"}, "options: there {}, here {'prompt': 'boxed'}"),
        ({"split": "test", "step_by_step": True}, "step_by_step: there False, here True"),
    ):
        with pytest.raises(ValueError, match="holds other episodes") as error:
            evaluate(right, "oreo/GSM8K-v0", record=tmp_path / "r", episodes=1, **options)
        assert told in str(error.value)
    with pytest.raises(ValueError, match=r"agent: there 'test_recording\.right', here 'test_recording.counting"):
        evaluate(counting(), "oreo/GSM8K-v0", split="test", record=tmp_path / "r")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("text")
    with pytest.raises(ValueError, match="not empty, and not a record of episodes"):
        evaluate(right, "oreo/GSM8K-v0", split="test", record=tmp_path / "mine")
    with pytest.raises(ValueError, match="this is a file"):
        evaluate(right, "oreo/GSM8K-v0", split="test", record=tmp_path / "mine" / "thesis.txt")
    (tmp_path / "r" / "record.json").write_text("{")
    with pytest.raises(ValueError, match="not the settings of a record"):
        evaluate(right, "oreo/GSM8K-v0", split="test", record=tmp_path / "r")


def test_one_process_writes_at_a_time(tmp_path):
    env = Recorder(gym.make("oreo/GSM8K-v0"), tmp_path / "r")
    with pytest.raises(ValueError, match="another process writes there"):
        Recorder(gym.make("oreo/GSM8K-v0"), tmp_path / "r")
    env.close()
    Recorder(gym.make("oreo/GSM8K-v0"), tmp_path / "r").close()


def test_a_stopped_evaluation_says_where_it_goes_on(tmp_path):
    def answer(request):
        return completion(right(request["messages"])) if len(stub.requests) < 3 or back else (401, failure("expired"))

    back = False
    with serving(answer) as stub:
        for url in (stub.url, stub.url.replace("127.0.0.1", "localhost")):  # the server may have moved meanwhile
            client = ChatClient(url, "stub", "secret", temperature=0.0)
            play = {"split": "test", "record": tmp_path / "r", "num_envs": 1}
            if not back:
                with pytest.raises(EvaluationStopped, match=r"2 of 4 episodes were finished and are in .*/r, where"):
                    evaluate(client, "oreo/GSM8K-v0", **play)
                back = True
            else:
                assert evaluate(client, "oreo/GSM8K-v0", **play).success_rate == 1.0
        with pytest.raises(ValueError, match=r"'temperature': 0\.5"):
            evaluate(ChatClient(stub.url, "stub", temperature=0.5), "oreo/GSM8K-v0", **play)
    assert len(stub.requests) == 5
    assert not any(b"secret" in file.read_bytes() for file in (tmp_path / "r").iterdir())


def test_episodes_that_are_played_by_hand_are_recorded(tmp_path):
    env = Recorder(gym.make("oreo/GSM8K-v0", order="sequential", max_steps=3), tmp_path / "r", agent="me")
    for actions in (["3 + 4", " = 7\n", "#### 7"], ["no"], ["\n", "\n", "So it is 25."]):
        env.reset()
        for action in actions:
            env.step(action)
    env.reset(options={"index": 0})
    env.step("#### 7")
    env.close()
    rows = list(read_rows(tmp_path / "r"))
    assert [(row.index, row.sample, row.success, row.terminated, row.truncated) for row in rows] == [
        (0, 0, True, True, False),  # the second was left before its end
        (2, 0, True, False, True),
        (0, 1, True, True, False),
    ]
    texts = [rows[0].messages[message]["content"][start:end] for message, start, end in rows[0].spans]
    assert texts == ["3 + 4", " = 7\n", "#### 7"] and rows[0].rewards == (0.0, 0.0, 1.0)
    assert read_settings(tmp_path / "r")["agent"] == "me"
    with Recorder(gym.make("oreo/GSM8K-v0", order="sequential", max_steps=3), tmp_path / "r", agent="me") as env:
        env.reset()
        env.step("#### 7")
    assert [row.sample for row in read_rows(tmp_path / "r") if row.index == 0] == [0, 1, 2]
    with pytest.raises(ValueError, match="text environments of this package"):
        Recorder(gym.make("CartPole-v1"), tmp_path / "x")


def test_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """docs/agents.md: what needs neither a server nor a checkpoint."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    names: dict = {}
    for block in blocks:
        if not re.search(r"ChatClient\(|PolicyAgent", block):
            exec(compile(block, "docs/agents.md", "exec"), names)
    assert "0 of 50 tasks solved, 0.0% [0.0%, 7.1%]" in capsys.readouterr().out
    assert len(list(read_rows(tmp_path / "played"))) == 1


def test_rows_that_contradict_themselves_are_left_out_and_every_text_can_be_written(tmp_path, caplog):
    replies = iter(["\ud800 is\n#### 1"] + ["#### 2"] * 3)
    evaluate(lambda messages: next(replies), "oreo/GSM8K-v0", split="test", record=tmp_path / "r")
    path = tmp_path / "r" / "episodes.jsonl"
    row = json.loads(path.read_text().splitlines()[1])
    wrong = [{"spans": [[0, 0, 10**9]]}, {"spans": [[9, 0, 0]]}, {"rewards": []}, {"messages": []}, {"info": 3}]
    with path.open("a") as file:
        file.writelines(json.dumps(row | one) + "\n" for one in wrong)
    rows = list(read_rows(tmp_path / "r"))
    assert len(rows) == 4 and "5 damaged lines are left out" in caplog.text
    assert rows[0].messages[-1]["content"] == "? is\n#### 1"
