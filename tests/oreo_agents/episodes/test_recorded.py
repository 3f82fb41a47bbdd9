"""From agents' conversations to buffers, and from policies to agents."""

import gymnasium as gym
import pytest
from tiny_models import CHATML, make_model, make_tokenizer

from oreo_agents import PolicyAgent, Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.recorded import recorded_episodes
from oreo_agents.episodes.rollout import rollout
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.runs.data import import_solutions, main
from oreo_algos import EpisodeBuffer
from oreo_envs import Recorder, Reply, evaluate
from oreo_envs.wordproblems import solve

ARITHMETIC = "oreo/Arithmetic-v0"
GAMES = {"path": "generated", "expert": True}


def solver(messages, info):
    """Right on even tasks; prose on every third."""
    problem = gym.make(ARITHMETIC).unwrapped.problem(info["index"])
    if info["index"] % 3 == 2:
        return f"I guess.\nThe answer is {problem.answer}."
    return solve(problem) if info["index"] % 2 == 0 else "Hm.\n#### 31337"


def expert(messages, info):
    return info["walkthrough"][info["step"]]


@pytest.fixture(params=[None, CHATML], ids=["plain", "chatml"])
def prompt_format(request):
    return PromptFormat(make_tokenizer(template=request.param, end_of_turn=request.param is not None))


def test_an_answer_at_once_falls_into_the_steps_of_its_environment(tmp_path):
    evaluate(solver, ARITHMETIC, split="train", episodes=6, record=tmp_path / "r")
    buffer, counts = recorded_episodes(tmp_path / "r")
    assert str(counts) == "" and buffer.env_ids == [ARITHMETIC] and len(buffer) == 6
    for index, episode in enumerate(buffer):
        [*opening, said] = episode.messages
        steps = [said["content"][a:b] for _, a, b in episode.action_spans.tolist()]
        assert "".join(steps) == said["content"] and all(step.endswith("\n") for step in steps[:-1])
        right = index % 2 == 0 or index % 3 == 2
        assert episode.success is right and episode.rewards.tolist() == [0.0] * (len(steps) - 1) + [float(right)]
        assert [message["role"] for message in opening] == ["user"] and episode.terminated
    assert buffer.provenance["record"] == "r" and buffer.provenance["env"] == ARITHMETIC


def test_encoded_actions_are_what_the_agent_said(tmp_path, prompt_format):
    evaluate(expert, "oreo/ALFWorld-v0", split="train", episodes=2, record=tmp_path / "r", **GAMES)
    evaluate(solver, ARITHMETIC, split="train", episodes=3, record=tmp_path / "a")
    from oreo_agents.runs.data import encode_buffer

    for folder in ("r", "a"):
        for episode in encode_buffer(recorded_episodes(tmp_path / folder)[0], prompt_format):
            ends = prompt_format.end_ids
            for k, (message, start, end) in enumerate(episode.action_spans.tolist()):
                tokens = [int(t) for t in episode.tokens[episode.step_id == k] if t not in ends]
                assert prompt_format.decode(tokens).strip() == episode.messages[message]["content"][start:end].strip()


def test_what_is_no_episode_is_left_out_and_said(tmp_path, capsys, checkpoint):
    def agent(messages, info):
        if info["index"] == 1:
            raise ValueError("no")
        return Reply("" if info["index"] == 2 else "Half of", cut=True) if info["index"] % 2 == 0 else "#### 1"

    evaluate(agent, ARITHMETIC, split="train", episodes=4, record=tmp_path / "r")
    main(["encode", str(tmp_path / "r"), "--tokenizer", checkpoint("llama"), "--out", str(tmp_path / "b")])
    assert "b: 2 episodes encoded" in capsys.readouterr().out.replace("\n", "")
    buffer = EpisodeBuffer.load(tmp_path / "b")
    assert [episode.truncated for episode in buffer] == [True, False] and all(e.encoded for e in buffer)
    _, counts = recorded_episodes(tmp_path / "r")
    assert str(counts) == "1 ended in an error, 1 hold no action"


def test_a_turn_that_was_cut_before_it_began_is_no_action(tmp_path):
    def agent(messages):
        return Reply("", cut=True) if len(messages) > 2 else "look"

    evaluate(agent, "oreo/ALFWorld-v0", split="train", episodes=1, path="generated", record=tmp_path / "r")
    [episode] = recorded_episodes(tmp_path / "r")[0]
    assert episode.num_steps == 1 and episode.truncated and episode.messages[-1]["content"] == ""


def test_held_out_answers_are_no_training_data(tmp_path, checkpoint):
    evaluate(solver, ARITHMETIC, split="test", episodes=2, record=tmp_path / "r")
    how = ["encode", str(tmp_path / "r"), "--tokenizer", checkpoint("llama")]
    with pytest.raises(ValueError, match=r"split 'test' of oreo/Arithmetic-v0, which is held out"):
        main([*how, "--out", str(tmp_path / "b")])
    with pytest.raises(ValueError, match="a record, which stays as it is"):
        main(how)
    main([*how, "--out", str(tmp_path / "b"), "--allow-held-out"])
    assert len(EpisodeBuffer.load(tmp_path / "b")) == 2
    main(["stats", str(tmp_path / "r"), str(tmp_path / "b")])


def test_actions_by_hand_and_a_closing_one_keep_their_rewards(tmp_path):
    with Recorder(gym.make(ARITHMETIC, order="sequential"), tmp_path / "r") as env:
        _, info = env.reset()
        answer = env.unwrapped.problem(info["index"]).answer
        for action in ("So ", "far.\nThe answer", f" is {answer}.", ""):
            env.step(action)
    [episode] = recorded_episodes(tmp_path / "r")[0]
    texts = [episode.messages[m]["content"][a:b] for m, a, b in episode.action_spans.tolist()]
    assert texts == ["So ", "far.\n", "The answer", f" is {answer}."] and episode.rewards.tolist() == [0, 0, 0, 1]


def test_a_policy_plays_as_an_agent_what_it_plays_in_rollouts(prompt_format):
    """Greedy, games of several turns, batched: the same texts as the loop that made its training data."""
    policy = CausalPolicy(make_model("llama", context=4096, init_std=0.3))
    sampling = Sampling(temperature=0.0, max_new_tokens=6)
    how = {"split": "train", "path": "generated", "max_steps": 3}
    played = evaluate(
        PolicyAgent(policy, prompt_format, sampling), "oreo/ALFWorld-v0", episodes=3, num_envs=3, seed=1, **how
    )
    indices = [row.index for row in played.rows]
    episodes = dict(
        rollout(lambda: gym.make("oreo/ALFWorld-v0", **how), policy, prompt_format, indices, sampling, seed=0)
    )
    for place, row in enumerate(played.rows):
        assert row.error is None and row.usage.completion_tokens
        assert [dict(m) for m in row.messages] == episodes[place].messages


def test_an_agent_of_a_policy_says_what_it_cannot_answer(prompt_format):
    agent = PolicyAgent(CausalPolicy(make_model("llama", context=64)), prompt_format)
    result = evaluate(agent, ARITHMETIC, split="train", episodes=1)
    assert "tokens were said, and the policy reads 64" in result.rows[0].error
    with pytest.raises(ValueError, match="does not go on with its own turn"):
        agent.tokens([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])


def test_samples_of_an_agent_are_drawn_from_its_seed(prompt_format):
    policy = CausalPolicy(make_model("llama", context=2048))
    sampling = Sampling(temperature=1.0, max_new_tokens=8)

    def texts(seed, **how):
        agent = PolicyAgent(policy, prompt_format, sampling, seed=seed)
        result = evaluate(agent, ARITHMETIC, split="train", **{"episodes": 3, **how})
        return {(row.index, row.sample): row.messages[-1]["content"] for row in result.rows}

    alone = texts(0)
    assert alone == texts(0) and alone != texts(1)
    # Whatever else is asked, and in whatever order.
    more = texts(0, episodes=5, episodes_per_task=2, num_envs=4)
    assert len({*more.values()}) == 10 and more.items() >= alone.items()


def test_conversations_of_games_are_imported_and_single_answers_are_refused(tmp_path):
    said = [
        {"role": "user", "content": "You are in a room."},
        {"role": "assistant", "content": "look"},
        {"role": "user", "content": "A mug 1."},
        {"role": "assistant", "content": "take mug 1 from desk 1"},
    ]
    import json

    file = tmp_path / "games.jsonl"
    file.write_text(json.dumps({"messages": said, "reward": 1, "task_id": "t"}) + "\n", encoding="utf-8")
    [episode], counts = import_solutions(file, "messages", "alfworld")
    assert counts.episodes == 1 and episode.rewards.tolist() == [0.0, 1.0] and episode.success
    assert episode.action_spans.tolist() == [[1, 0, 4], [3, 0, 22]] and episode.task_id == "t"
    with pytest.raises(ValueError, match="oreo/ALFWorld-v0 is played turn by turn: give whole conversations"):
        import_solutions(file, "labelled", "alfworld")
    for broken, told in (
        ({"messages": said}, "line 1: there is no reward or correct or is_correct or success"),
        ({"messages": said[1:], "reward": 1}, "the assistant speaks first, in answer to nothing"),
        ({"messages": said[:1], "reward": 1}, "no message is the assistant's"),
        ({"messages": "hm", "reward": 1}, "'messages' must be a list of chat messages, got 'hm'"),
        ({"messages": [{"role": "narrator", "content": ""}], "reward": 1}, "message 0: the role must be one of system"),
        ({"messages": [said[0], {"role": "assistant", "content": None}], "reward": 1}, "must be a text, got None"),
        ({"messages": [said[0], said[0]], "reward": 1}, "two messages of the user follow one another"),
        ({"messages": said, "reward": "good"}, "a label is true, false or a finite number, got 'good'"),
    ):
        file.write_text(json.dumps(broken) + "\n", encoding="utf-8")
        with pytest.raises(ValueError, match=r"games\.jsonl, line 1") as error:
            import_solutions(file, "messages", "alfworld")
        assert told in str(error.value)
