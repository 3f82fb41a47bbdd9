r"""How an answer episode ends, and how text falls into steps."""

from random import Random

import gymnasium as gym
import pytest
from env_samples import ANSWER_ENV_IDS, with_optional

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.answers import index_after, rest_of_step, split_steps, step_goes_on

pytestmark = pytest.mark.usefixtures("data_folder")


def gsm8k(**arguments):
    env = gym.make("oreo/GSM8K-v0", **arguments)
    env.reset(options={"index": 0})  # the answer is 7
    return env


@pytest.mark.parametrize(
    "response",
    ["#### 7", "3+4=7\n#### 7\n", "so \\boxed{7}", "\\boxed{\n7}", "#### $7", "#### seven"],
)
def test_a_stated_answer_ends_the_episode(response):
    assert gsm8k().step(response)[2] is True


@pytest.mark.parametrize(
    "response",
    [
        "",
        "7\n",
        "####",
        "#### ",
        "####\n",
        "#### $",
        "\\boxed{7",
        "\\boxed",
        "#### Step 1: add\n",
        "##### 7",
    ],
)
def test_an_unfinished_answer_does_not(response):
    env = gsm8k()
    assert env.step("x" + response)[2] is False
    _, reward, terminated, _, info = env.step("")
    assert terminated is True
    # A short text that is nothing but an answer stands for itself: "x" and "x7" are, and are wrong.
    reason = "different" if response in ("", "7\n") else "no_answer"
    assert (reward, info["success"], info["grade_reason"]) == (0.0, False, reason)


def test_an_answer_may_be_spread_over_chunks():
    env = gsm8k()
    assert [env.step(chunk)[2] for chunk in ("3+4", "\n##", "## ", "7")] == [
        False,
        False,
        False,
        True,
    ]


def test_an_empty_action_has_the_whole_response_graded():
    env = gsm8k()
    env.step("3+4=7\n")
    env.step("The answer is 7.")
    _, reward, terminated, truncated, info = env.step("")
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["success"], info["answer"], info["grade_reason"]) == (True, "7", "exact")


def test_an_episode_that_a_limit_ends_without_an_answer_says_why_and_pays_nothing():
    env = gsm8k(max_steps=2)
    env.step("a")
    _, reward, terminated, truncated, info = env.step("\\boxed{7")
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert (info["success"], info["answer"], info["grade_reason"]) == (False, None, "no_answer")
    env = gsm8k(max_chars=20)
    _, reward, terminated, truncated, info = env.step("#### 7" + " " * 20)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["grade_reason"] == "too_large"


def test_prose_is_graded_when_a_limit_on_actions_ends_the_episode():
    env = gsm8k(max_steps=2)
    assert env.step("3 + 4 = 7.\n")[1:4] == (0.0, False, False)
    _, reward, terminated, truncated, info = env.step("The answer is 7.")
    assert (reward, terminated, truncated) == (1.0, False, True)
    assert (info["success"], info["answer"], info["grade_reason"]) == (True, "7", "exact")
    wrong = gsm8k(max_steps=2)
    wrong.step("The answer is 7.\n")
    assert wrong.step("No, the answer is 8.")[1] == 0.0, "what is said last counts, as in a text that ends by itself"


def test_prose_is_graded_when_a_limit_on_text_ends_the_episode_on_whole_lines():
    said = "The answer is 7.\n"
    for actions in ([said + "x" * 30], [said, "x" * 30], [*said, "x" * 30]):
        env = gsm8k(max_chars=40)
        for action in actions:
            _, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated, info["answer"]) == (1.0, False, True, "7")
    env = gsm8k(max_chars=16)  # cut inside "77": the 7 before the cut is no answer
    assert env.step("The answer is 77 boxes.\n")[1:4] == (0.0, False, True)


@pytest.mark.parametrize("env_id", with_optional(ANSWER_ENV_IDS, "oreo/ReasoningGym-v0"))
def test_a_single_turn_is_a_whole_answer_in_prose_as_well(env_id):
    env = gym.make(env_id, single_turn=True)
    right = env.unwrapped._make_item(0).reference
    told = {}
    for action in (f"The answer is {right}.", f"#### {right}", "I do not know.", ""):
        env.reset(options={"index": 0})
        _, reward, terminated, truncated, info = env.step(action)
        assert (terminated, truncated, info["success"]) == (True, False, reward == 1.0) and info["grade_reason"]
        told[action] = reward
    assert list(told.values()) == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="single_turn must be True or False, got 'yes'"):
        gym.make(env_id, single_turn="yes")


def test_a_text_has_one_reward_whether_it_is_one_turn_or_many():
    text = "So 3 + 4 = 7.\nThe answer is 7.\n#### 7\n#### 8"
    for actions, options in (
        ([text], {"single_turn": True}),
        ([text], {}),
        (text.splitlines(keepends=True), {}),
        (text.splitlines(keepends=True), {"max_steps": 3}),
    ):
        env = gsm8k(**options)
        for action in actions:
            _, reward, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                break
        assert (reward, info["answer"], info["grade_reason"]) == (1.0, "7", "exact")


def test_the_answer_on_the_last_allowed_step_counts():
    env = gsm8k(max_steps=2)
    env.step("a\n")
    assert env.step("#### 7")[1:4] == (1.0, True, False)


def test_prompts_are_named_and_versioned():
    boxed = gsm8k(prompt="boxed").reset(options={"index": 0})[1]["messages"]
    assert [message["role"] for message in boxed] == ["system", "user"]
    assert "\\boxed{}" in boxed[0]["content"]
    assert boxed == gsm8k(prompt="boxed@1").reset(options={"index": 0})[1]["messages"]
    bare = gsm8k(prompt="question").reset(options={"index": 0})
    assert bare[1]["messages"] == [{"role": "user", "content": bare[0]}]


MATH = ("\n", ". ", ".$ ")


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a. b", ["a. ", "b"]),
        ("a.\n\n b\nc", ["a.\n\n ", "b\n", "c"]),
        ("It is 3.5 cm. So", ["It is 3.5 cm. ", "So"]),
        ("$x=1.$ Then", ["$x=1.$ ", "Then"]),
        ("$f. g$. h", ["$f. g$. ", "h"]),
        ("so\n\\[a. b\n= c\\]\nend", ["so\n", "\\[a. b\n= c\\]\n", "end"]),
        ("$$a\nb$$\nc", ["$$a\nb$$\n", "c"]),
        ("costs $5. Then\n$6. ok", ["costs $5. ", "Then\n", "$6. ", "ok"]),
        ("costs \\$5. Then $x. y$", ["costs \\$5. ", "Then $x. y$"]),
        ("\\[ open. a\nb", ["\\[ open. ", "a\n", "b"]),
        ("[asy]\ndraw. x\n[/asy]\nz", ["[asy]\ndraw. x\n[/asy]\n", "z"]),
        ("\n\na\n", ["\n\na\n"]),
        ("", [""]),
        (" \n ", [" \n "]),
    ],
)
def test_steps_end_at_delimiters_outside_formulas(text, steps):
    assert list(split_steps(text, MATH)) == steps


def test_without_delimiters_a_text_is_one_step():
    assert split_steps("a\nb. c", ()) == ("a\nb. c",)


def test_task_numbers_have_one_spelling():
    assert index_after("a/b", "a/b/10") == 10
    for task_id in (
        "a/b/010",
        "a/b/-1",
        "a/b/",
        "a/b/1/",
        "a/c/1",
        "a/b/१",
        "a/b/" + "9" * 30,
        "a/b/1\n",
    ):
        assert index_after("a/b", task_id) is None


@pytest.mark.parametrize(
    "delimiters", [("\n",), MATH, (". ",), ("\n\n",), (" a", " so"), ("\\",), ("[",), ("$",)], ids=repr
)
def test_of_a_step_that_goes_on_little_needs_to_be_kept(delimiters):
    """Whatever follows, what is kept ends a step where the whole text does."""
    random, ended = Random(0), 0
    pieces = [
        *(
            "\n",
            "\n\n",
            " ",
            "  ",
            ". ",
            ".",
            ".$ ",
            "$",
            "$$",
            "\\",
            "\\[",
            "\\]",
            "\\(",
            "\\)",
            "[asy]",
            "[/asy]",
            "[",
        ),
        *("]", "asy", "a", "so we", "x = 3", "\\\\", "3.5", "\t", "/", "$ "),
    ]
    for _ in range(600):
        text = kept = ""
        for _ in range(random.randint(1, 30)):
            more = "".join(random.choices(pieces, k=random.randint(1, 3)))
            text, kept = text + more, kept + more
            assert step_goes_on(kept, delimiters) == step_goes_on(text, delimiters), (text, kept)
            if not step_goes_on(text, delimiters):
                ended += 1
                break
            kept = rest_of_step(kept, delimiters) if random.random() < 0.7 else kept
    assert ended > 50


@pytest.mark.parametrize("opening", ["\\[", "$$", "so we ", "", "\n"])
def test_of_a_step_that_never_ends_a_few_characters_are_kept(opening):
    kept = opening
    for number in range(200):
        kept = rest_of_step(f"{kept}{number} = {number}" + "\n" * (opening in ("\\[", "$$")), ("\n",))
        assert len(kept) < 30
