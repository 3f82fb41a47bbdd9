"""Any agent, evaluated: a function from messages to a reply, for single answers and for games.

Replace ``calculator`` by a call of your model; a coroutine function is awaited, ``num_envs`` of them at once.
"""

import asyncio
import itertools
import re

import oreo_envs

Messages = list[dict[str, str]]


async def calculator(messages: Messages) -> str:
    """Try all orders of the numbers, with + and - only: an agent that solves some tasks and gives up on others."""
    await asyncio.sleep(0)  # a model would be asked here
    target, *numbers = map(int, re.findall(r"\d+", messages[-1]["content"]))
    for order in itertools.permutations(numbers):
        for signs in itertools.product("+-", repeat=len(order) - 1):
            text = str(order[0]) + "".join(f" {sign} {number}" for sign, number in zip(signs, order[1:], strict=True))
            if eval(text) == target:  # digits, + and - only
                return f"I tried them all.\n#### {text}"
    return "It cannot be done with + and - alone."


def explorer(messages: Messages, info: dict[str, object]) -> str:
    """Play a game: the first admissible command not tried yet. Whoever takes a second argument gets ``info`` there."""
    tried = {message["content"] for message in messages if message["role"] == "assistant"}
    commands = [text for text in info["admissible_commands"] if text not in tried]
    return commands[0] if commands else "look"


def main() -> None:
    """Evaluate both."""
    result = oreo_envs.evaluate(
        calculator, "oreo/Countdown-v0", split="test", episodes=200, num_envs=8, prompt="question"
    )
    print(result)
    wrong = next(row for row in result.rows if not row.success)
    print("for instance", wrong.task_id, wrong.info["grade_reason"], wrong.messages[-1])

    games = oreo_envs.evaluate(explorer, "oreo/ALFWorld-v0", split="valid_seen", episodes=20, path="generated")
    print(games)


if __name__ == "__main__":
    main()
