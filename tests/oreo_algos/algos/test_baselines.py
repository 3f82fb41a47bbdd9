"""Means of questions and of states: which states are one, what they are worth, and the rewards made of them."""

import numpy as np
import pytest
import torch
from tabular import tiny_models

from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.algos import AsymRe, ConstantBaseline
from oreo_algos.algos.baselines import baseline_values, less_baseline, states_of
from oreo_algos.batch import collate

HALL, KITCHEN, LEFT, RIGHT, END = 1, 2, 3, 4, 5


def game(places, actions, rewards, task_id="game", **fields):
    """A place is read before each action."""
    tokens = [token for pair in zip(places, actions, strict=True) for token in pair]
    step_id = [k for number in range(len(actions)) for k in (-1, number)]
    return Episode(
        tokens=tokens,
        step_id=step_id,
        rewards=rewards,
        terminated=True,
        truncated=False,
        task_id=task_id,
        env_id="oreo/Rooms-v0",
        **fields,
    )


ROOMS = EpisodeBuffer(
    [
        game([HALL, KITCHEN], [LEFT, LEFT], [0.0, 1.0]),
        game([HALL, KITCHEN], [LEFT, RIGHT], [0.0, 0.0]),
        game([HALL, HALL, KITCHEN], [RIGHT, LEFT, LEFT], [0.25, 0.0, 1.0]),
        game([HALL, END], [RIGHT, RIGHT], [0.0, 0.0]),
        game([HALL, KITCHEN], [LEFT, RIGHT], [0.0, 5.0], task_id="another game"),
    ]
)


def test_a_state_is_worth_what_followed_it_in_its_task():
    values = baseline_values(ROOMS, "state")
    hall, kitchen = np.mean([1.0, 0.0, 1.25, 1.0, 0.0]), np.mean([1.0, 0.0, 1.0])
    assert values(0, ROOMS[0]) == pytest.approx([hall, kitchen])
    assert values(2, ROOMS[2]) == pytest.approx([hall, hall, kitchen])


def test_of_a_state_that_one_episode_was_in_the_question_says_what_it_is_worth():
    values = baseline_values(ROOMS, "state")
    question = np.mean([1.0, 0.0, 1.25, 0.0])
    assert values(3, ROOMS[3])[1] == pytest.approx(question)
    assert values(4, ROOMS[4]) == pytest.approx([5.0, 5.0])


@pytest.mark.parametrize(("baseline", "mean"), [("question", 0.5625), ("data", 7.25 / 5), (0.3, 0.3)])
def test_others_compare_whole_episodes(baseline, mean):
    values = baseline_values(ROOMS, baseline)
    # What was earned on the way is no longer to come.
    assert values(2, ROOMS[2]) == pytest.approx([mean, mean - 0.25, mean - 0.25])


@pytest.mark.parametrize("baseline", ["state", "question", "data", 0.3])
def test_what_follows_an_action_adds_up_to_its_advantage(baseline):
    values = baseline_values(ROOMS, baseline)
    for number, (before, after) in enumerate(zip(ROOMS, less_baseline(ROOMS, values, shift=0.1), strict=True)):
        expected = np.cumsum(before.rewards[::-1])[::-1] - values(number, before) - 0.1
        assert np.cumsum(after.rewards[::-1])[::-1] == pytest.approx(expected, abs=1e-6)
        assert after.success == before.success and after.tokens.tolist() == before.tokens.tolist()


def test_without_an_observation_a_state_is_what_was_written():
    lines = [
        Episode(
            tokens=[HALL, *tokens],
            step_id=[-1, 0, 0, 1, 2],
            rewards=[0.0, 0.0, 1.0],
            terminated=True,
            truncated=False,
            task_id="sum",
            env_id="oreo/Lines-v0",
        )
        for tokens in ([7, 8, 9, 6], [7, 8, 9, 5], [7, 7, 9, 6])
    ]
    one, same, other = map(states_of, lines)
    assert one == same and len(set(one)) == 3
    assert other[0] == one[0] and not {*other[1:]} & {*one}


def test_where_the_environment_names_its_states_those_are_they():
    first = game([HALL, KITCHEN], [LEFT, LEFT], [0.0, 1.0], info={"states": "a b"})
    assert states_of(first) == [b"a", b"b"]
    wrong = game([HALL, KITCHEN], [LEFT, LEFT], [0.0, 1.0], info={"states": "a"})
    assert len(set(states_of(wrong))) == 2 and b"a" not in states_of(wrong)


def test_an_observation_within_an_action_is_none_between_two():
    """The environment's words between two tokens of one action leave the state of the next to what was written."""
    episode = Episode(
        tokens=[1, 2, 3, 4, 5],
        step_id=[-1, 0, -1, 0, 1],
        rewards=[0.0, 1.0],
        terminated=True,
        truncated=False,
        task_id="t",
        env_id="oreo/Lines-v0",
    )
    assert len(set(states_of(episode))) == 2


def test_the_constant_of_oreo_may_be_a_mean_of_questions_or_states():
    """Against OREO's loss by hand, in the step's own residual: ``V + beta * sum l - R``."""
    for baseline in ("question", "state"):
        models, algorithm = tiny_models(), ConstantBaseline(granularity="step", baseline=baseline, beta=0.3, alpha=0.0)
        examples = algorithm.select(ROOMS, np.random.default_rng(0))
        algorithm.begin_run(models, examples)
        loss = algorithm.losses(collate(examples), models).terms["policy"].item()
        values, rows = baseline_values(ROOMS, baseline), []
        for number, episode in enumerate(ROOMS):
            scores = models.policy.score(collate([episode]), models.reference)
            ratio = (scores.logprobs - scores.ref_logprobs)[0, torch.tensor(episode.step_id) >= 0].detach().numpy()
            residual = values(number, episode) + 0.3 * np.cumsum(ratio[::-1])[::-1]
            rows.append(np.mean((residual - np.cumsum(episode.rewards[::-1])[::-1]) ** 2))
        assert loss == pytest.approx(np.mean(rows), rel=1e-5)


def test_asymre_gives_each_action_its_own_advantage():
    algorithm = AsymRe(baseline="state", delta_v=0.0)
    models = tiny_models()
    examples = algorithm.select(ROOMS, np.random.default_rng(0))
    loss = algorithm.losses(collate(examples), models).terms["policy"].item()
    values, total = baseline_values(ROOMS, "state"), 0.0
    for number, episode in enumerate(ROOMS):
        logprobs = models.policy.score(collate([episode])).logprobs[0, torch.tensor(episode.step_id) >= 0]
        advantages = np.cumsum(episode.rewards[::-1])[::-1] - values(number, episode)
        total -= float(advantages @ logprobs.detach().numpy())
    assert loss == pytest.approx(total / len(ROOMS), rel=1e-5)


def test_an_empty_buffer_and_one_without_a_difference_are_refused():
    for baseline in ("question", "state", "data"):
        with pytest.raises(ValueError, match="no episode"):
            less_baseline(EpisodeBuffer([]), baseline_values(EpisodeBuffer([]), baseline))
    with pytest.raises(ValueError, match="each of the 1 episodes of this buffer returned just what"):
        less_baseline(ROOMS[[4]], baseline_values(ROOMS[[4]], "state"))
