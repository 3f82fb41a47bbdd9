"""How environments are played, on all ids and vector modes: orders, lists of tasks, limits, render modes."""

import copy
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from env_samples import ENDLESS_ENV_IDS, ENV_IDS, OPTIONAL_ENV_IDS, with_optional
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.reasoning_gym_tasks import ReasoningGymEnv

pytestmark = [
    pytest.mark.usefixtures("data_folder"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

BOUNDED_IDS = tuple(env_id for env_id in ENV_IDS if env_id not in ENDLESS_ENV_IDS)
each_env = pytest.mark.parametrize("env_id", with_optional(ENV_IDS, *OPTIONAL_ENV_IDS))
each_bounded = pytest.mark.parametrize("env_id", with_optional(BOUNDED_IDS, *OPTIONAL_ENV_IDS))


@pytest.fixture(autouse=True)
def few_tasks(monkeypatch):
    """Some of reasoning-gym's 10,000."""
    monkeypatch.setattr(ReasoningGymEnv, "num_tasks", 4)


def places(env_id, count, vector=SyncVectorEnv, **settings):
    return vector([partial(gym.make, env_id, place=(index, count), **settings) for index in range(count)])


MODES = {
    "default": gym.make_vec,
    "sync": partial(gym.make_vec, vectorization_mode="sync"),
    "given places": places,
    "processes": partial(gym.make_vec, vectorization_mode="async", vector_kwargs={"context": "fork"}),
}
each_mode = pytest.mark.parametrize("mode", MODES)


def indices(infos):
    return [int(index) for index in infos["index"]]


def rounds(envs, count, seed):
    """Indices of the tasks that a vector plays: the first, and ``count`` more by autoreset."""
    found = indices(envs.reset(seed=seed)[1])
    for _ in range(count):
        *_, truncated, _ = envs.step(["look"] * envs.num_envs)
        assert truncated.all()
        *_, infos = envs.step(["ignored"] * envs.num_envs)
        found += indices(infos)
    return found


# Coverage.


@each_bounded
def test_a_loop_of_resets_reaches_every_task(env_id):
    """ReAct, Reflexion and alfworld's own loop: as many resets as there are tasks (alfworld, WebShop#44)."""
    env = gym.make(env_id, order="sequential")
    count = env.unwrapped.num_tasks
    assert [env.reset(seed=3 if i == 0 else None)[1]["index"] for i in range(2 * count)] == [*range(count)] * 2
    shuffled = gym.make(env_id, order="shuffled")
    for seed in range(4):
        epochs = [[shuffled.reset(seed=seed)[1]["index"]] + [shuffled.reset()[1]["index"] for _ in range(count - 1)]]
        epochs.append([shuffled.reset()[1]["index"] for _ in range(count)])
        assert [sorted(epoch) for epoch in epochs] == [[*range(count)]] * 2
        again = [shuffled.reset(seed=seed)[1]["index"], *(shuffled.reset()[1]["index"] for _ in range(2 * count - 1))]
        assert again == epochs[0] + epochs[1]
    other = gym.make(env_id, order="random")
    assert [other.reset(seed=s)[1]["index"] for s in range(9)] == [
        gym.make(env_id).reset(seed=s)[1]["index"] for s in range(9)
    ]


def test_shuffled_epochs_differ():
    env = gym.make("oreo/ALFWorld-v0", order="shuffled")
    orders = {tuple(env.reset(seed=s if i == 0 else None)[1]["index"] for i in range(6)) for s in range(8)}
    orders.add(tuple(env.reset()[1]["index"] for _ in range(6)))
    assert len(orders) == 9


@pytest.mark.parametrize("env_id", ENDLESS_ENV_IDS)
def test_tasks_without_end_count_up_and_have_no_shuffled_order(env_id):
    env = gym.make(env_id, order="sequential")
    assert [env.reset()[1]["index"] for _ in range(3)] == [0, 1, 2]
    assert rounds(gym.make_vec(env_id, 2, order="sequential", max_steps=1), 1, 0) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"order='shuffled' needs an end.*'random' draws them, 'sequential' counts up"):
        gym.make(env_id, order="shuffled").reset(seed=0)


def test_a_named_task_leaves_the_order_where_it_is():
    env = gym.make("oreo/GSM8K-v0", order="sequential")
    assert [env.reset(options=options)[1]["index"] for options in (None, {"index": 3}, None)] == [0, 3, 1]
    state = copy.deepcopy(env)
    assert env.reset()[1]["index"] == state.reset()[1]["index"] == 2


@each_mode
@each_bounded
def test_a_vector_shares_one_order_without_overlap(env_id, mode):
    """Tasks of a split over the environments of a vector, autoreset included (Gymnasium#787)."""
    count = gym.make(env_id).unwrapped.num_tasks
    for order in ("sequential", "shuffled"):
        envs = MODES[mode](env_id, 2, order=order, max_steps=1)
        try:
            found = rounds(envs, count - 1, seed=11)
            assert sorted(found[:count]) == sorted(found[count:]) == [*range(count)]
            single = gym.make(env_id, order=order, max_steps=1)
            assert found[:count] == [single.reset(seed=11 if i == 0 else None)[1]["index"] for i in range(count)]
        finally:
            envs.close()


def test_both_ways_of_autoreset_go_on_in_the_same_order():
    for vector in (
        partial(SyncVectorEnv, autoreset_mode="SameStep"),
        partial(AsyncVectorEnv, autoreset_mode="SameStep"),
    ):
        envs = places("oreo/GSM8K-v0", 2, vector, order="sequential", max_steps=1)
        found = indices(envs.reset(seed=0)[1])
        for _ in range(2):
            found += indices(envs.step(["a", "b"])[-1])
        envs.close()
        assert found == [0, 1, 2, 3, 0, 1]
    own = gym.make_vec("oreo/ALFWorld-v0", 2, order="sequential", max_steps=1, autoreset_mode="SameStep")
    own.reset(seed=0)
    infos = own.step(["look", "look"])[-1]
    assert indices(infos) == [2, 3] and indices(infos["final_info"]) == [0, 1]


def test_more_environments_than_tasks_go_on_with_the_next_round():
    envs = gym.make_vec("oreo/MATH-v0", 5, order="sequential")
    assert indices(envs.reset(seed=0)[1]) == [0, 1, 0, 1, 0]


def test_seeds_that_would_overlap_are_refused():
    envs = gym.make_vec("oreo/GSM8K-v0", 3, order="shuffled")
    assert len(set(indices(envs.reset(seed=[7, 8, 9])[1]))) == 3
    with pytest.raises(ValueError, match=r"order='shuffled': .* reset the whole vector with one seed, reset\(seed=s\)"):
        envs.reset(seed=[7, 7, 7])
    with pytest.raises(ValueError, match="one seed"):
        envs.reset(seed=[9, 3, 5])
    gym.make_vec("oreo/GSM8K-v0", 3).reset(seed=[7, 7, 7])  # tasks that are drawn may be drawn twice


@each_mode
@each_env
def test_each_environment_of_a_vector_is_given_its_task(env_id, mode):
    """Lists of options (Gymnasium PR#113)."""
    envs = MODES[mode](env_id, 3)
    single = gym.make(env_id)
    names = [single.reset(options={"index": index})[1]["task_id"] for index in (1, 0, 1)]
    try:
        for options in (
            {"index": [1, 0, 1]},
            {"index": np.array([1, 0, 1])},
            {"task_id": names},
            [{"index": 1}, {"task_id": names[1]}, {"index": np.int64(1)}],
        ):
            infos = envs.reset(seed=0, options=options)[1]
            assert list(infos["task_id"]) == names and indices(infos) == [1, 0, 1]
        assert indices(envs.reset(options={"index": 1})[1]) == [1, 1, 1]
        some = [{"index": 1}, {}, None]
        assert indices(envs.reset(seed=4, options=some)[1])[1:] == indices(envs.reset(seed=4)[1])[1:]
    finally:
        envs.close()


def test_a_part_of_a_vector_is_reset_by_its_places():
    envs = gym.make_vec("oreo/GSM8K-v0", 3)
    envs.reset(options={"index": [0, 1, 2]})
    mask = np.array([False, True, True])
    infos = envs.reset(options={"index": [9, 3, 0], "reset_mask": mask})[1]
    assert indices(infos)[1:] == [3, 0] and infos["_index"].tolist() == mask.tolist()


@pytest.mark.parametrize("options", [{"index": [0, 1]}, {"task_id": ["a"]}, [{}], {"index": np.zeros((3, 3), int)}])
def test_lists_of_another_length_are_refused(options):
    with pytest.raises(ValueError, match="must hold one task for each of 3 environments"):
        gym.make_vec("oreo/GSM8K-v0", 3).reset(options=options)


def test_a_list_is_not_for_a_single_environment():
    with pytest.raises(ValueError, match=r"options\['index'\] is a list, and this environment does not know its place"):
        gym.make("oreo/GSM8K-v0").reset(options={"index": [0]})
    with pytest.raises(ValueError, match=r"options of reset must be a mapping or a list of mappings, got 'index'"):
        gym.make("oreo/GSM8K-v0").reset(options="index")


@pytest.mark.parametrize("place", [3, (1, 1), (-1, 2), (0, 0), "01", (0, 1, 2), (0.0, 2), (True, 2)])
def test_a_place_is_a_number_below_another(place):
    with pytest.raises(ValueError, match=r"place must be \(i, n\)"):
        gym.make("oreo/GSM8K-v0", place=place)


# Gymnasium's contract.


@each_env
def test_every_render_mode_is_taken(env_id, capsys):
    """`render_mode=None` was a TypeError on all ids."""
    assert gym.make(env_id, render_mode=None).unwrapped.render_mode is None
    env = gym.make(env_id, render_mode="ansi")
    observation, _ = env.reset(options={"index": 1})
    assert observation in env.render()
    answer = env.step("Größe?")[0]
    assert env.render().endswith(answer)
    assert "[assistant]\nGröße?" in env.render() and capsys.readouterr().out == ""
    human = gym.make(env_id, render_mode="human")
    human.reset(options={"index": 1})
    human.step("Größe?")
    assert human.render() is None
    shown = capsys.readouterr().out
    assert observation in shown and "> Größe?" in shown
    with pytest.raises(ValueError, match="unknown render_mode 'rgb_array'; known: ansi, human"), pytest.warns():
        gym.make(env_id, render_mode="rgb_array")


@each_env
def test_a_vector_renders_each_of_its_environments(env_id):
    for mode in (None, "sync"):
        envs = gym.make_vec(env_id, 2, render_mode="ansi", vectorization_mode=mode)
        observations, _ = envs.reset(seed=0)
        assert all(text in shown for text, shown in zip(observations, envs.render(), strict=True))
        assert envs.render_mode == "ansi"


def length(env, most):
    """Actions until the end of an episode, ``most`` of them at most."""
    env.reset(options={"index": 0})
    for step in range(1, most + 1):
        if any(env.step("look")[2:4]):
            return step
    return None


@each_env
def test_the_spec_says_when_an_episode_ends(env_id):
    """`gym.make(..., max_episode_steps=100)` ended at 50 while the spec said 100."""
    for settings, ends in (
        ({"max_steps": 5}, 5),
        ({"max_steps": 5, "max_episode_steps": 100}, 5),
        ({"max_steps": 5, "max_episode_steps": 3}, 3),
        ({"max_steps": None, "max_episode_steps": 7}, 7),
        ({"max_steps": 5, "max_episode_steps": -1}, 5),
    ):
        env = gym.make(env_id, **settings)
        assert env.spec.max_episode_steps == ends == length(env, 20)
        again = gym.make(env.spec)
        assert again.spec.max_episode_steps == ends == length(again, 20) and again.spec == env.spec
        assert gym.envs.registration.EnvSpec.from_json(env.spec.to_json()).max_episode_steps == ends
    unlimited = gym.make(env_id, max_steps=None)
    assert unlimited.spec.max_episode_steps is None and length(unlimited, 300) is None
    default = gym.make(env_id)
    assert default.spec.max_episode_steps == default.unwrapped.max_steps
    with pytest.raises(ValueError, match="max_steps must be an integer >= 1, got 0"):
        gym.make(env_id, max_steps=0)


@each_env
def test_vectors_take_a_limit_of_steps(env_id):
    for mode in (None, "sync"):
        envs = gym.make_vec(env_id, 2, max_episode_steps=2, vectorization_mode=mode)
        envs.reset(seed=0)
        ends = [envs.step(["look", "look"])[3].tolist() for _ in range(2)]
        assert ends == [[False, False], [True, True]]
    with pytest.raises(ValueError, match=r"positive|max_episode_steps must be an integer >= 1"):
        gym.make_vec(env_id, 2, max_episode_steps=0)


@each_env
def test_vectors_take_wrappers_and_arguments_of_their_own_in_gymnasiums_modes(env_id):
    limit = [partial(gym.wrappers.TimeLimit, max_episode_steps=1)]
    envs = gym.make_vec(env_id, 2, vectorization_mode="sync", wrappers=limit, vector_kwargs={"copy": False})
    envs.reset(seed=0)
    assert envs.step(["look", "look"])[3].all()
    assert indices(envs.reset(options={"index": [1, 0]})[1]) == [1, 0]


def test_alfworlds_own_vector_says_which_mode_takes_them():
    from oreo_envs.alfworld.vector import ALFWorldVectorEnv

    for name in ("wrappers", "vector_kwargs", "place"):
        with pytest.raises(ValueError, match=f"{name} is for Gymnasium's own vectors: .*vectorization_mode='sync'"):
            ALFWorldVectorEnv(2, **{name: ()})


@pytest.mark.parametrize(
    ("mode", "actions"),
    [
        *((mode, actions) for mode in ("default", "sync") for actions in (["look"], ["look"] * 3, 5, None, iter("ab"))),
        *((mode, "look") for mode in MODES),
    ],
)
@each_env
def test_a_vector_takes_one_text_for_each_environment(env_id, mode, actions):
    """`step("look")` on four environments played l, o, o, k."""
    envs = MODES[mode](env_id, 2)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="a step of 2 environments takes 2 texts, got"):
        envs.step(actions)
    assert envs.step(np.array(["a", "b"], object))[0] is not None
    envs.close()


BAD = {
    "oreo/Arithmetic-v0": [
        ("clean_share", "0.1"), ("clean_reliability", None), ("reliability", 0.5), ("reliability", "ab"),
        ("world", "0"),
        ("reliability", (0.5, "1")), ("world", np.array([1, 2])),
        ("verbs_per_problem", 4), ("start_range", ("1", 2)), ("box_size", 2.5),
        ("num_verbs", None), ("answer", 3),
    ],
    "oreo/Countdown-v0": [
        ("count_range", 3), ("count_range", "ab"), ("number_range", ("1", 2)), ("max_result", "9"), ("use_all", 1),
        ("mistakes", "0.1"),
    ],
    "oreo/GSM8K-v0": [("fields", "question"), ("max_unpacked_bytes", "1"), ("path", 5), ("allow_test_problems", "no")],
    "oreo/ALFWorld-v0": [
        ("mistakes", "0.1"), ("mistakes", True), ("mistakes", float("nan")), ("dev_scenes", 3), ("dev_scenes", "3"),
        ("dev_scenes", [3, "7"]), ("renumber", None), ("clean_share", [1]), ("engine", None), ("path", 5),
        ("expert", "yes"), ("text_style", 1), ("admissible_in_prompt", None), ("houses", np.array([1, 2])),
    ],
}  # fmt: skip
BAD |= {
    "oreo/ReasoningGym-v0": [("task", "sudokus"), ("config", 5), ("allow_flawed", "yes")],
    "oreo/TextWorld-v0": [("maker", "tw"), ("settings", 5), ("settings", "level=5"), ("num_games", "3")],
}
SHARED = [("max_steps", "50"), ("max_steps", 1.5), ("max_chars", None), ("split", None), ("split", ["train"]),
          ("order", "sorted"), ("order", None), ("thoughts", 5), ("prompt", 5),
          *((name, np.array([1, 2])) for name in ("max_steps", "max_chars", "split", "order", "prompt"))]  # fmt: skip


@each_env
@pytest.mark.filterwarnings("ignore:.*render_mode.*")
def test_a_bad_argument_is_a_value_error_that_names_it(env_id):
    """`mistakes="0.1"` and `dev_scenes=3` gave raw TypeErrors."""
    for name, value in (*SHARED, *BAD.get(env_id, [])):
        shown = [repr(value), *(map(repr, value) if isinstance(value, list | tuple) else ())]
        with pytest.raises(ValueError) as error:
            gym.make(env_id, **{name: value})
        assert name in str(error.value) and any(one in str(error.value) for one in shown), (name, value)


@pytest.mark.parametrize("split", ["valid_seen", "train", "train_and_houses"])
@pytest.mark.parametrize(
    ("name", "value", "works"),
    [
        ("houses", 3, ["train_and_houses"]),
        ("real_games", 2, ["train_and_houses"]),
        ("renumber", 0.5, ["train", "train_and_houses"]),
        ("mistakes", 0.5, ["train", "train_and_houses"]),
        ("clean_share", 0.5, ["train", "train_and_houses"]),
    ],
)
def test_an_option_that_does_nothing_on_a_split_is_refused(split, name, value, works):
    settings = {"split": split, name: value}
    if split == "valid_seen":
        with pytest.raises(
            ValueError, match=r"dev_scenes=\[2\] does nothing on split 'valid_seen', only on: train, dev"
        ):
            gym.make("oreo/ALFWorld-v0", split=split, dev_scenes=[2])
    if split == "train_and_houses":
        settings.setdefault("houses", 1)
    if split in works:
        gym.make("oreo/ALFWorld-v0", **settings)
        return
    with pytest.raises(ValueError, match=rf"{name}=.* does nothing on split '{split}', only on: .*train_and_houses"):
        gym.make("oreo/ALFWorld-v0", **settings)
    gym.make("oreo/ALFWorld-v0", **{**settings, name: type(value)()})  # an empty value asks for nothing


@pytest.mark.parametrize(("name", "ours"), [("in", "valid_seen"), ("out_of", "valid_unseen")])
def test_alfworlds_own_names_of_splits_are_hinted_at(name, ours):
    with pytest.raises(ValueError, match=f"unknown split 'eval_{name}_distribution'; did you mean '{ours}'"):
        gym.make("oreo/ALFWorld-v0", split=f"eval_{name}_distribution")
