r"""The reward of a text does not depend on how it is cut into actions, but for cuts inside an answer's own line."""

import gymnasium as gym
import pytest
from env_samples import ANSWER_ENV_IDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_envs.grading import Thoughts
from oreo_envs.wordproblems import solve

pytestmark = pytest.mark.usefixtures("data_folder")

RIGHT, WRONG = "@", "31337"
FREE = [  # may be cut anywhere
    "She has 3 and buys 4.\n",
    "so {x + 4\n",
    "The answer is 7.\n",
    "Answer: @\n",
    "\n\nQuestion: and with 31337?\n",
    "\\boxed{",
    "\n@\n",
    "<answer>\n",
    "<think>\nPerhaps \\boxed{31337}.\n#### 31337\n<answer>@</answer>\n</think>\n",
    "<thinking>#### Step 1: add\n",
    "</thinking>\n",
    "</think>",
    "[THINK]@\\boxed{@}[/THINK]",
    "$$x = 5$$ **@**\n",
    "<|channel|>analysis<|message|>\\boxed{31337}<|end|><|start|>assistant<|channel|>final<|message|>",
]
LINES = [  # hold a complete answer, or look so while they are written
    "#### @",
    "#### 31337",
    "So \\boxed{@}, not 31337.",
    "\\boxed{31337} or \\boxed{@}",
    "so \\fbox{31337}. Actually it is @.",
    "<answer>@</answer> Or 31337?",
    "<final_answer>31337</final_answer>",
    "####\n@",
    "}",
    "</answer>",
    "#### Step 1: add @",
    "\\boxed{@} hm </think>",
    "\\boxed{@} <think> hm",
]
pieces = st.lists(
    st.sampled_from(FREE).map(lambda text: (text, True)) | st.sampled_from(LINES).map(lambda text: (text, False)),
    min_size=1,
    max_size=9,
)


def outcome(env, actions: list[str]) -> tuple:
    """What an episode of these actions comes to; it ends with an empty action where it did not before."""
    env.reset(options={"index": 0})
    for action in [*actions, ""]:
        if not action and action is not actions and actions and env.unwrapped._over:
            break
        _, reward, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    assert terminated or truncated
    return (reward, info["answer"], info["grade_reason"], info["success"], info.get("sound"))


def answer_of(env) -> str:
    return env.unwrapped._make_item(0).reference


@pytest.fixture(params=ANSWER_ENV_IDS)
def env(request):
    return gym.make(request.param, max_steps=10_000, max_chars=10_000)


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), drawn=pieces, opened=st.booleans(), solved=st.booleans(), ends=st.booleans())
def test_any_cut_gives_the_same_reward(env, data, drawn, opened, solved, ends):
    env.unwrapped.thoughts = Thoughts(opened=opened)
    text, cuts = "", []
    if solved and "Arithmetic" in env.spec.id:
        text = solve(env.unwrapped.problem(0)).rpartition("\n")[0] + "\n"
        cuts = list(range(1, len(text) + 1))
    for piece, free in drawn:
        if not free and text and not text.endswith("\n"):
            text += "\n"
        start = len(text)
        text += piece.replace(RIGHT, answer_of(env)) + ("" if free else "\n")
        cuts += range(start + 1, len(text) + 1) if free else [start, len(text) - 1, len(text)]
    text = text.rstrip("\n") if ends else text
    chosen = sorted(set(data.draw(st.lists(st.sampled_from(cuts), max_size=6))) | {len(text)})
    chosen = [cut for cut in chosen if 0 < cut <= len(text)]
    actions = [text[a:b] for a, b in zip([0, *chosen], chosen, strict=False)]
    assert "".join(actions) == text
    if text:
        told = outcome(env, [text])
        assert outcome(env, actions) == told
        env.unwrapped.single_turn = True
        assert outcome(env, [text]) == told
        env.unwrapped.single_turn = False
        env.unwrapped.max_steps = len(actions)  # a limit says of the same text what its end would
        assert outcome(env, actions) == told
        env.unwrapped.max_steps = 10_000


@pytest.mark.parametrize(
    ("text", "reward", "answer"),
    [
        ("#### @\nWait.\n#### 31337", 1.0, "@"),
        ("#### 31337\nWait.\n#### @", 0.0, "31337"),
        ("#### @\n\nQuestion: and 3?\n#### 31337", 1.0, "@"),
        ("\\[\\boxed{\n@\n}\\]\nSo \\boxed{31337}.", 1.0, "@"),
        ("\\boxed{31337}, no, \\boxed{@}\n#### 31337", 1.0, "@"),
        ("\\boxed{31337}. It should be @.\n#### 31337", 1.0, "@"),
        ("\\boxed{@}\nIt should be 31337.", 1.0, "@"),
        ("\\boxed{@} or \\boxed{31337}", 0.0, "@, 31337"),
        ("<answer>\n@\n</answer>\n<answer>31337</answer>", 1.0, "@"),
        ("<answer>31337</answer>\nAnswer: @", 0.0, "31337"),
        ("<think>#### 31337\n</think>\n#### @\n<think>\\boxed{31337}", 1.0, "@"),
        ("#### @\n</think>\n#### 31337", 1.0, "@"),
        ("Answer: 31337\nAnswer: @", 1.0, "@"),
        ("#### Step 1: add\n####\n@\n", 1.0, "@"),
    ],
)
def test_the_response_ends_with_the_line_of_its_first_complete_answer(env, text, reward, answer):
    right = answer_of(env)
    text, answer = text.replace(RIGHT, right), answer.replace(RIGHT, right)
    for actions in ([text], text.splitlines(keepends=True)):
        assert outcome(env, actions)[:2] == (reward, answer)
        messages = env.unwrapped.clone_state().messages
        assert text.startswith(messages[-1]["content"]), "messages hold what was said"
    assert outcome(env, [text])[0] == reward and env.unwrapped.clone_state().messages[-1]["content"] == text


def test_what_follows_the_answer_may_be_longer_than_the_limit(env):
    right = f"#### {answer_of(env)}\n"
    told = outcome(env, [right])
    env.unwrapped.max_chars = len(right) - 1
    assert told[0] == 1.0 and outcome(env, [right + "x" * 100]) == told
    env.unwrapped.max_chars -= 1
    env.reset(options={"index": 0})
    _, reward, terminated, truncated, info = env.step(right + "x" * 100)
    assert (reward, terminated, truncated, info["grade_reason"]) == (0.0, False, True, "too_large")


def test_lines_after_the_answer_are_no_steps():
    env = gym.make("oreo/Arithmetic-v0").unwrapped
    task_id, solution = env.reset(options={"index": 0})[1]["task_id"], solve(env.problem(0))
    assert env.step_rightness(task_id, [solution]) == env.step_rightness(task_id, [solution + "\nI hope so."]) == [True]
    assert env.step_rightness(task_id, [solution, "\n#### 31337"]) == [True, False]
    assert env.step(solution + "\n#### 31337")[4]["sound"] is True
