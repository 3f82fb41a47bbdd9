"""Text through Gymnasium's vector environments, as `gym.make_vec` makes them by default."""

import copy
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_samples import GSM8K_ROWS, MATH_ROWS
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

import oreo_envs  # noqa: F401 (registers the ids)

pytestmark = [
    pytest.mark.usefixtures("data_folder"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

MODES = {
    "sync": {"vectorization_mode": "sync"},
    "fork": {"vectorization_mode": "async", "vector_kwargs": {"context": "fork"}},
    "spawn": {"vectorization_mode": "async", "vector_kwargs": {"context": "spawn"}},
    "no shared memory": {"vectorization_mode": "async", "vector_kwargs": {"shared_memory": False}},
}


@pytest.mark.parametrize("mode", MODES)
def test_texts_of_different_length_arrive_whole(mode):
    """Seeds are chosen so that the two environments ask both problems, one of them not ASCII."""
    problems = [row["problem"] for row in MATH_ROWS]
    single = gym.make("oreo/MATH-v0")
    seeds = {single.reset(seed=seed)[1]["index"]: seed for seed in range(20)}
    envs = gym.make_vec("oreo/MATH-v0", num_envs=2, **MODES[mode])
    try:
        assert envs.reset(seed=[seeds[0], seeds[1]])[0] == (problems[0], problems[1])
        observations, infos = envs.reset(seed=[seeds[1], seeds[0]])
        assert observations == (problems[1], problems[0])
        assert list(infos["task_id"]) == ["math/train/1", "math/train/0"]
        observations, rewards, terminated, truncated, infos = envs.step(("Größe ∑ 🎲\n", "\\boxed{2}"))
        assert observations == ("", "")
        assert rewards.tolist() == [0.0, 1.0]
        assert terminated.tolist() == [False, True] and not truncated.any()
        assert infos["messages"][0][-1]["content"] == "Größe ∑ 🎲\n"
        assert infos["grade_reason"][1] == "exact" and infos["_grade_reason"].tolist() == [
            False,
            True,
        ]
        # The finished one starts anew; its old text is gone.
        observations, *_ = envs.step(("b", "ignored"))
        assert observations[0] == "" and observations[1] in problems
    finally:
        envs.close()


def test_the_default_of_make_vec_works():
    envs = gym.make_vec("oreo/GSM8K-v0", num_envs=3)
    observations, _ = envs.reset(seed=0)
    assert set(observations) <= {row["question"] for row in GSM8K_ROWS}
    envs.close()


def test_all_environments_of_a_vector_can_be_given_one_task():
    envs = gym.make_vec("oreo/Arithmetic-v0", num_envs=2)
    observations, infos = envs.reset(options={"index": 5})
    assert observations[0] == observations[1] and infos["index"].tolist() == [5, 5]
    envs.close()


def _made(**settings):
    return gym.make("oreo/Countdown-v0", split="test", **settings)


def test_environments_that_were_made_before_their_vector_play_by_their_place_in_it():
    """They were told the order in which they had been made."""
    made = [_made(order="sequential") for _ in range(4)]
    for envs in (made[::-1], [made[2], made[0], made[3], made[1]], [copy.deepcopy(env) for env in made]):
        made[0].reset(seed=1)  # what was played before takes no part
        vector = SyncVectorEnv([lambda env=env: env for env in envs])
        assert [env.unwrapped.place.index for env in envs] == [0, 1, 2, 3]
        found = [vector.reset()[1]["index"].tolist() for _ in range(2)]
        assert found == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert vector.reset(options={"index": [9, 2, 5, 7]})[1]["index"].tolist() == [9, 2, 5, 7]


def test_of_environments_made_in_turn_for_training_and_tests_each_vector_has_its_own():
    for_training, for_tests = zip(*[(_made(order="sequential"), _made()) for _ in range(3)], strict=True)
    vectors = [SyncVectorEnv([lambda env=env: env for env in envs]) for envs in (for_tests, for_training)]
    assert vectors[1].reset(seed=0)[1]["index"].tolist() == [0, 1, 2]
    assert vectors[0].reset(options={"index": [3, 1, 2]})[1]["index"].tolist() == [3, 1, 2]
    wrapped = SyncVectorEnv([lambda env=env: gym.wrappers.TimeLimit(env, 3) for env in for_training[:2]])
    assert wrapped.reset(seed=0)[1]["index"].tolist() == [0, 1]


def test_shuffled_environments_made_before_their_vector_do_not_overlap():
    envs = [gym.make("oreo/GSM8K-v0", order="shuffled") for _ in range(2)]
    envs[1].reset(seed=5)
    vector = SyncVectorEnv([lambda env=env: env for env in reversed(envs)])
    assert sorted(np.concatenate([vector.reset()[1]["index"] for _ in range(2)])) == [0, 1, 2, 3]


def test_one_environment_has_no_two_places_and_a_place_that_was_given_is_kept():
    env = _made()
    with pytest.raises(ValueError, match="environments 0 and 2 of the vector are one and the same"):
        SyncVectorEnv([lambda: env, _made, lambda: env])
    with pytest.raises(ValueError, match=r"environment 0 of the vector was made with place=\(1, 2\); put it there, or"):
        SyncVectorEnv([lambda: _made(place=(1, 2)), lambda: _made(place=(0, 2))])
    part = SyncVectorEnv([lambda at=at: _made(order="sequential", place=(at, 4)) for at in (2, 3)])
    assert [part.reset()[1]["index"].tolist() for _ in range(2)] == [[2, 3], [6, 7]]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_environments_of_other_processes_are_told_their_places_there(context):
    envs = [gym.make("oreo/GSM8K-v0", order="shuffled") for _ in range(2)]
    SyncVectorEnv([lambda env=env: env for env in envs]).reset(seed=3)
    for makers in (
        [partial(gym.make, "oreo/GSM8K-v0", order="shuffled")] * 2,
        [lambda env=env: env for env in envs[::-1]],
    ):
        vector = AsyncVectorEnv(makers, context=context)
        try:
            played = [vector.reset(seed=7)[1]["index"], vector.reset()[1]["index"]]
            assert len(set(np.concatenate(played).tolist())) == 4
            single = gym.make("oreo/GSM8K-v0", order="shuffled")
            alone = [single.reset(seed=seed)[1]["index"] for seed in (7, None, None, None)]
            assert np.concatenate(played).tolist() == alone
            assert vector.reset(options={"index": [3, 2]})[1]["index"].tolist() == [3, 2]
        finally:
            vector.close()


def test_a_place_that_was_given_is_kept_in_another_process():
    vector = AsyncVectorEnv([partial(_made, order="sequential", place=(at, 4)) for at in (2, 3)], context="fork")
    try:
        assert [vector.reset()[1]["index"].tolist() for _ in range(2)] == [[2, 3], [6, 7]]
    finally:
        vector.close()


class Numbers(gym.Wrapper):
    """Numbers in the place of texts, both ways, as a policy over tokens has them."""

    def __init__(self, env):
        """Wrap."""
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 1e9, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, **how):
        text, info = self.env.reset(**how)
        return np.array([len(text)], np.float32), info

    def step(self, action):
        text, *rest = self.env.step(["", "#### 1"][action])
        return np.array([len(text)], np.float32), *rest


def test_environments_whose_spaces_a_wrapper_has_replaced_are_told_their_places():
    """All played the same tasks, since none of our spaces is batched."""
    vector = SyncVectorEnv([lambda: Numbers(_made(order="sequential"))] * 3)
    assert [vector.reset(seed=0)[1]["index"].tolist() for _ in range(2)] == [[0, 1, 2], [0, 1, 2]]
    assert vector.reset()[1]["index"].tolist() == [3, 4, 5]
    vector.step([1, 1, 1])
    assert vector.step([0, 0, 0])[-1]["index"].tolist() == [6, 7, 8]
    drawn = SyncVectorEnv([lambda: Numbers(_made())] * 3)
    assert drawn.reset(options={"index": [9, 2, 5]})[1]["index"].tolist() == [9, 2, 5]
    apart = AsyncVectorEnv([lambda: Numbers(_made(order="sequential"))] * 2, context="fork")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"does not know its place .* place=\(i, n\)"):
        apart.reset(seed=0)
    apart.close(terminate=True)


def test_wrappers_that_stack_or_delay_texts_work():
    stacked = gym.wrappers.FrameStackObservation(_made(), 2, padding_type="zero")
    assert stacked.reset(seed=0)[0][0] == ""
    assert gym.wrappers.DelayObservation(_made(), 1).reset(seed=0)[0] == ""


def test_two_vectors_made_one_after_the_other_have_each_their_places():
    first, second = (SyncVectorEnv([lambda: _made(order="sequential")] * n) for n in (2, 3))
    assert first.reset()[1]["index"].tolist() == [0, 1] and second.reset()[1]["index"].tolist() == [0, 1, 2]
    assert first.reset()[1]["index"].tolist() == [2, 3] and second.reset()[1]["index"].tolist() == [3, 4, 5]
