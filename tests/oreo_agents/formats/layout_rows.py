"""Rows of every layout, of our own text, 5 to 20 each. Columns are facts of public schemas:

trl-*: "Dataset formats and types" of TRL 1.16; scores as in trl-lib/ultrafeedback_binarized.
sharegpt, sharegpt-preference: FastChat 0.2; AgentTraj-L of AgentGym (2024), whose messages have ``loss``; ETO (2024).
messages: OpenAI's chat completions (2025-06), ``tool_calls`` and ``weight``.
conversations-reward, prompt-response, chat-response: rows of the trainer of Wang et al. 2024 (arXiv:2412.16145).
labelled: this suite's own. alpaca: Stanford Alpaca (2023).
prm800k: phases 1 and 2 of PRM800K (2023-05). math-shepherd: peiyi9979/Math-Shepherd (2023).
verifiers: ``results.jsonl`` of ``vf-eval -s``, 0.1. lm-eval: ``--log_samples`` of lm-evaluation-harness 0.4.
reasoning-gym: results of its eval, 0.1. metamath: MetaMathQA (2023). openr1: OpenR1-Math-220k (2025-02).
"""

import json
from typing import Any

Row = dict[str, Any]


def ask(text: str) -> Row:
    return {"role": "user", "content": text}


def say(text: str) -> Row:
    return {"role": "assistant", "content": text}


Q = [f"Ana has {n} pears and buys 2 more. How many?" for n in range(5)]
RIGHT = [f"{n} + 2 = {n + 2}\nShe has {n + 2}." for n in range(5)]
WRONG = [f"{n} + 2 = {n + 3}\nShe has {n + 3}." for n in range(5)]


def game(n: int, last: str) -> list[Row]:
    return [ask(f"Room {n}. You see a desk 1."), say("go to desk 1"), ask("On it is a mug 1."), say(last)]


def so_far(messages: list[Row]) -> list[Row]:
    """As rLLM keeps them: each with the conversation so far."""
    ends = [at + 1 for at, message in enumerate(messages) if message["role"] == "assistant"]
    return [{"chat_completions": messages[:end], "reward": 0.0} for end in ends]


def shared(messages: list[Row]) -> list[Row]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[m["role"]], "value": m["content"]} for m in messages]


def each(make: Any) -> list[Row]:
    """A right and a wrong one of every question."""
    return [make(n, text, good) for n in range(5) for text, good in ((RIGHT[n], True), (WRONG[n], False))]


def shepherd(n: int, signs: str) -> Row:
    steps = [f"Step 1: {n} + 2 = {n + 2}", f"Step 2: The answer is: {n + 2}"]
    text = f"{Q[n]} " + " ки\n".join([*steps, ""]).rstrip()
    text = text if text.endswith("ки") else f"{text} ки"
    label = text
    for sign in signs:
        label = label.replace("ки", sign, 1)
    return {"input": text, "label": label, "task": "GSM8K"}


def prm(n: int, ratings: list[int], reason: str) -> Row:
    texts = [f"{n} + 2 is asked.", f"That is {n + 2}."]
    steps = [
        {
            "completions": [{"text": text, "rating": rating, "flagged": None}],
            "human_completion": None,
            "chosen_completion": None if rating < 0 else 0,
        }
        for text, rating in zip(texts, ratings, strict=False)
    ]
    return {
        "labeler": "l",
        "generation": None,
        "question": {"problem": Q[n], "ground_truth_answer": str(n + 2)},
        "label": {"steps": steps, "total_time": 9, "finish_reason": reason},
    }


CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
TOOL_TALK = [
    ask("What is 1 + 2?"),
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "3"},
    say("It is 3."),
]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]

ROWS: dict[str, list[Row]] = {
    "trl-text": [{"text": text} for text in RIGHT],
    "trl-messages": [{"messages": [ask(q), say(r)]} for q, r in zip(Q, RIGHT, strict=True)],
    "trl-completion": [{"prompt": q, "completion": r} for q, r in zip(Q, RIGHT, strict=True)],
    "trl-completion, chat": [{"prompt": [ask(q)], "completion": [say(r)]} for q, r in zip(Q, RIGHT, strict=True)],
    "trl-unpaired": each(lambda n, text, good: {"prompt": Q[n], "completion": text, "label": good}),
    "trl-unpaired, chat": each(lambda n, text, good: {"prompt": [ask(Q[n])], "completion": [say(text)], "label": good}),
    "trl-preference": [{"prompt": Q[n], "chosen": RIGHT[n], "rejected": WRONG[n]} for n in range(5)],
    "trl-preference, chat": [
        {"prompt": [ask(Q[n])], "chosen": [say(RIGHT[n])], "rejected": [say(WRONG[n])]} for n in range(5)
    ],
    "trl-preference, implicit": [
        {"chosen": f"{Q[n]} Answer: {RIGHT[n]}", "rejected": f"{Q[n]} Answer: No{WRONG[n]}"} for n in range(5)
    ],
    "trl-preference, implicit chat with scores": [
        # The scores are the other way round.
        {
            "chosen": [ask(Q[n]), say(WRONG[n])],
            "rejected": [ask(Q[n]), say(RIGHT[n])],
            "score_chosen": 2.5,
            "score_rejected": 7.0,
        }
        for n in range(5)
    ],
    "trl-stepwise": each(
        lambda n, text, good: {"prompt": Q[n], "completions": text.split("\n"), "labels": [True, good]}
    ),
    "sharegpt-preference": [
        {
            "conversations": shared([ask(Q[n])]),
            "chosen": {"from": "gpt", "value": RIGHT[n]},
            "rejected": {"from": "gpt", "value": WRONG[n]},
        }
        for n in range(5)
    ],
    "sharegpt": [{"id": f"g{n}", "conversations": shared(game(n, "take mug 1"))} for n in range(5)],
    "sharegpt, AgentTraj-L": [
        {
            "item_id": f"alfworld_{n}",
            "conversations": [
                {"from": "human", "loss": None, "value": "You play."},
                {"from": "gpt", "loss": False, "value": "OK."},
                *({**m, "loss": True} if m["from"] == "gpt" else m for m in shared(game(n, "take mug 1"))),
            ],
        }
        for n in range(5)
    ],
    "conversations-reward": [
        {"conversations": game(n, last), "reward": reward}
        for n in range(5)
        for last, reward in (("take mug 1", 1), ("look", -1))
    ],
    "messages": [
        {"messages": game(n, last), "correct": good, "task_id": f"room/{n}"}
        for n in range(5)
        for last, good in (("take mug 1", True), ("look", False))
    ],
    "trl-messages, tools": [{"messages": TOOL_TALK, "tools": TOOLS}] * 5,
    "labelled": each(lambda n, text, good: {"question": Q[n], "response": text, "correct": good}),
    "prompt-response": each(lambda n, text, good: {"prompt": Q[n], "response": text, "reward": 1 if good else -1}),
    "chat-response": each(lambda n, text, good: {"prompt": [ask(Q[n])], "response": text, "reward": float(good)}),
    "alpaca": [{"instruction": "Add.", "input": Q[n], "output": RIGHT[n]} for n in range(5)],
    "prm800k": [prm(n, [1, 1], "solution") for n in range(5)] + [prm(n, [1, -1], "found_error") for n in range(5)],
    "math-shepherd": [shepherd(n, signs) for n in range(5) for signs in ("++", "+-")],
    "verifiers": each(
        lambda n, text, good: {
            "example_id": n,
            "prompt": [{"role": "system", "content": "Think."}, ask(Q[n])],
            "completion": [say(text)],
            "answer": str(n + 2),
            "reward": float(good),
        }
    ),
    "lm-eval": [
        {
            "doc_id": n,
            "doc": {"question": Q[n]},
            "target": str(n + 2),
            "arguments": {"gen_args_0": {"arg_0": f"Question: {Q[n]}\nAnswer:", "arg_1": {"until": ["Question:"]}}},
            "resps": [[text]],
            "filtered_resps": [text],
            "filter": kind,
            "metrics": ["exact_match"],
            "exact_match": float(good),
        }
        for n in range(5)
        for text, good in ((RIGHT[n], True), (WRONG[n], False))
        for kind in ("strict-match", "flexible-extract")
    ],
    "lm-eval, chat": [
        {
            "doc_id": 0,
            "doc": {},
            "target": "2",
            "arguments": [[json.dumps([ask(Q[0])]), {"until": []}]],
            "resps": [[RIGHT[0]]],
            "exact_match": 1.0,
        }
    ]
    * 5,
    "metamath": [{"query": Q[n], "response": RIGHT[n], "type": "GSM_Rephrased"} for n in range(5)],
    "openr1": [
        {
            "problem": Q[n],
            "solution": "s",
            "answer": str(n + 2),
            "generations": [RIGHT[n], WRONG[n]],
            "correctness_math_verify": [True, False],
            "finish_reasons": ["stop", "length"],
            "messages": [ask(Q[n]), say(RIGHT[n])],
        }
        for n in range(5)
    ],
    "openai-preference": [
        {
            "input": {"messages": [ask(Q[n])], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [say(RIGHT[n])],
            "non_preferred_output": [say(WRONG[n])],
        }
        for n in range(5)
    ],
    "minari": [
        {
            "observations": [f"Room {n}. You see a desk 1.", "On it is a mug 1.", ""],
            "actions": ["go to desk 1", last],
            "rewards": [0.0, float(good)],
            "terminations": [False, True],
            "truncations": [False, False],
        }
        for n in range(5)
        for last, good in (("take mug 1", True), ("look", False))
    ],
    "ultrachat": [{"id": str(n), "data": [Q[n], RIGHT[n], "Sure?", "Yes."]} for n in range(5)],
    "rllm": [
        {
            "id": f"t{n}:0",
            "task": {"question": Q[n]},
            "is_correct": good,
            "termination_reason": "env_done" if good else "max_turns_exceeded",
            "trajectories": [{"name": "agent", "steps": so_far(game(n, "take mug 1")), "reward": float(good)}],
        }
        for n in range(5)
        for good in (True, False)
    ],
    "rllm-trajectory": [
        {"task": {"question": Q[n]}, "steps": so_far(game(n, last)), "reward": reward}
        for n in range(5)
        for last, reward in (("take mug 1", 1.0), ("look", 0.0))
    ],
    "answers": [{"question": Q[n], "responses": [RIGHT[n], WRONG[n]], "scores": [1, 0]} for n in range(5)],
    "answers, verl": [
        {
            "prompt": [ask(Q[n])],
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "responses": [RIGHT[n], WRONG[n]],
            "correct": [True, False],
        }
        for n in range(5)
    ],
    "problem-solution": [{"problem": Q[n], "solution": RIGHT[n], "answer": str(n + 2)} for n in range(5)],
    "problem-solution, OpenMathInstruct": each(
        lambda n, text, good: {"question": Q[n], "generated_solution": text, "is_correct": good}
    ),
    "input-output": [{"input": [ask(Q[n])], "output": RIGHT[n], "system_prompt": "Think."} for n in range(5)],
    "input-output, verl": each(
        lambda n, text, good: {"input": f"user\n{Q[n]}\nassistant\n", "output": text, "score": float(good), "step": 1}
    ),
    "reasoning-gym-eval": [
        {
            "categories": [
                {
                    "name": "algebra",
                    "datasets": [
                        {
                            "name": "pears",
                            "results": [
                                {
                                    "question": Q[n],
                                    "completions": [
                                        {"full_model_response": text, "score": score}
                                        for text, score in ((RIGHT[n], 1.0), (WRONG[n], 0.0))
                                    ],
                                }
                                for n in range(5)
                            ],
                        }
                    ],
                }
            ]
        }
    ],
    "reasoning-gym": each(
        lambda n, text, good: {
            "question": Q[n],
            "expected_answer": str(n + 2),
            "model_answer": text,
            "score": int(good),
        }
    ),
}
"""By name of the layout, after a comma its variant."""
