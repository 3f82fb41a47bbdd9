"""Faults put into buffers, results and a small run: each is named once, and healthy ones are left in peace."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import CHATML, make_episode, make_model, make_tokenizer

from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import rollout
from oreo_agents.episodes.tasks import EnvSettings, make_env
from oreo_agents.episodes.texts import encode_episode, text_episode
from oreo_agents.evaluation.evaluate import EvaluateSettings, Item
from oreo_agents.evaluation.report import report
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.tiny import TinyConfig
from oreo_agents.runs import doctor as text_doctor
from oreo_agents.runs import run_data
from oreo_agents.runs.doctor import examine_episodes, examine_results, examine_rounds
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import RunSettings
from oreo_agents.search import Greedy
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.algos import Dpo, Oreo, RejectionSampling, Sft
from oreo_algos.training import doctor as buffer_doctor
from oreo_algos.training.doctor import Thresholds
from oreo_algos.training.warning_log import Finding, read_warnings

MATH = EnvSettings(id="oreo/Arithmetic-v0", options={"verbs_per_problem": [1, 1]})


@pytest.fixture(scope="module")
def chat() -> PromptFormat:
    return PromptFormat(make_tokenizer(template=CHATML, end_of_turn=True))


def examine(episodes: Sequence[Episode], chat: PromptFormat, **options: Any) -> list[str]:
    buffer = EpisodeBuffer(episodes, tokenizer_fingerprint=chat.fingerprint)
    return [finding.name for finding in examine_episodes(buffer, chat, Thresholds(), **{"compared": True} | options)]


def answer(chat: PromptFormat, number: int, *, reason: str = "exact", text: str = "21 + 5 = 26\n#### 26") -> Episode:
    """One of two answers to a task, of two steps; every second one is right."""
    right = number % 2 == 0
    steps = text.splitlines(keepends=True)
    episode = text_episode(
        [{"role": "user", "content": "Tom has 21 marbles."}],
        steps,
        [0.0] * (len(steps) - 1) + [float(right)],
        task_id=f"task-{number // 2}",
        env_id="oreo/Test-v0",
        info={"success": right, "grade_reason": reason},
    )
    return encode_episode(episode, chat)


def game(chat: PromptFormat, number: int) -> Episode:
    """A game of two turns, each ended by the player; every second one is won."""
    turns = ["look", "I see nothing.", "go to a"]
    messages = [{"role": "user", "content": "You are in a room."}]
    messages += [{"role": ("assistant", "user")[i % 2], "content": text} for i, text in enumerate(turns)]
    episode = Episode(
        tokens=np.zeros(0),
        step_id=np.zeros(0),
        rewards=np.array([0.0, float(number % 2)]),
        action_spans=np.array([[1, 0, 4], [3, 0, 7]]),
        terminated=True,
        truncated=False,
        task_id=f"game-{number // 2}",
        env_id="oreo/Test-v0",
        messages=messages,
        info={"success": bool(number % 2)},
    )
    return encode_episode(episode, chat)


# --- the text of a buffer


def test_answers_and_games_as_they_should_be_are_left_in_peace(chat):
    assert examine([answer(chat, i) for i in range(8)], chat) == []
    assert examine([game(chat, i) for i in range(8)], chat) == []
    assert examine([answer(chat, i, text="Größe ∑ 😀\n\nd e f. \n#### ½") for i in range(8)], chat) == []


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_samples_of_a_policy_say_what_their_tokens_say(family):
    """Random weights: blanks, halves of characters, special tokens, answers cut off."""
    policy, plain = CausalPolicy(make_model(family, context=512)), PromptFormat(make_tokenizer())
    drawn = rollout(lambda: make_env(MATH, "train"), policy, plain, [0] * 24, Sampling(max_new_tokens=24), seed=0)
    episodes = [episode for _, episode in drawn]
    assert len(episodes) == 24 and any("\ufffd" in episode.messages[-1]["content"] for episode in episodes)
    assert "observation_tokens_in_loss" not in examine(episodes, plain)


def test_an_observation_that_counts_as_action_is_named(chat):
    """The mask of a loader that forgets where a turn ends: what follows a command belongs to it."""
    episodes = [game(chat, i) for i in range(8)]
    first = int(np.flatnonzero(episodes[0].step_id == 0)[0])
    broken = [
        dataclasses.replace(e, step_id=np.where((e.step_id < 0) & (np.arange(e.num_tokens) > first), 0, e.step_id))
        for e in episodes
    ]
    assert examine(broken, chat) == ["observation_tokens_in_loss"]


def test_a_prompt_that_counts_as_action_is_named(chat):
    episodes = [answer(chat, i) for i in range(8)]
    broken = [
        dataclasses.replace(e, step_id=np.where(np.arange(e.num_tokens) > 0, e.step_id.clip(min=0), -1))
        for e in episodes
    ]
    assert examine(broken, chat) == ["observation_tokens_in_loss"]


def test_episodes_whose_actions_cannot_be_located_are_not_judged_by_their_text(chat):
    assert examine([make_episode([3], [4, 5], rewards=[float(i % 2)]) for i in range(4)], chat) == []


def test_rewards_that_are_all_equal_matter_to_algorithms_that_compare(chat):
    solved = [dataclasses.replace(answer(chat, 0), rewards=np.array([0.0, 1.0])) for _ in range(4)]
    assert examine(solved, chat) == ["equal_rewards"]
    assert examine(solved, chat, compared=False) == []


@pytest.mark.parametrize(("cut", "expected"), [(1, []), (2, ["truncated"])])
def test_more_than_one_in_twenty_cut_off_is_named(cut, expected, chat):
    episodes = [answer(chat, i) for i in range(30)]
    for i in range(cut):
        e = episodes[i]
        kept = slice(0, e.num_tokens - 1)
        episodes[i] = dataclasses.replace(
            e,
            tokens=e.tokens[kept],
            step_id=e.step_id[kept],
            terminated=False,
            truncated=True,
            success=False,
            info={},
        )
    assert examine(episodes, chat) == expected


def test_games_lost_at_their_limit_of_steps_are_no_accident(chat):
    lost = [dataclasses.replace(game(chat, i), terminated=False, truncated=True) for i in range(8)]
    assert examine(lost, chat) == []


@pytest.mark.parametrize("reason", ["no_answer", "unparsable", "too_large"])
def test_more_than_one_in_twenty_without_a_readable_answer_is_named(reason, chat):
    healthy = [answer(chat, i) for i in range(38)]
    assert examine([*healthy, answer(chat, 38, reason=reason)], chat) == []
    assert examine([*healthy, *(answer(chat, i, reason=reason) for i in (38, 39, 40))], chat) == ["unparsable"]


def test_a_single_answer_without_a_verdict_is_named(chat):
    assert examine([*(answer(chat, i) for i in range(38)), answer(chat, 38, reason="timeout")], chat) == [
        "grader_failures"
    ]


# --- results


def write_items(folder: Path, algo: str, items: Sequence[Item]) -> dict[str, Any]:
    (folder / algo).mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(dataclasses.asdict(item)) + "\n" for item in items]
    (folder / algo / "items-test-greedy.jsonl").write_text("".join(lines), encoding="utf-8")
    return {"algo": algo, "search": "greedy", "split": "test"}


def items(
    count: int, *, correct: int, sound: int | None = None, tokens: int = 20, reason: str | None = None
) -> list[Item]:
    """Items whose first ones are correct, and whose first ones are sound."""
    return [
        Item(f"task-{i}", i < correct, None if sound is None else i < sound, tokens, "1", grade_reason=reason)
        for i in range(count)
    ]


def compare(folder: Path, start: Sequence[Item], after: Sequence[Item]) -> list[tuple[str, str]]:
    rows = [write_items(folder, "sft", start), write_items(folder, "oreo", after)]
    return [(algo, finding.name) for algo, finding in examine_results(rows, folder, Thresholds())]


@pytest.mark.parametrize(("tokens", "expected"), [(29, []), (31, ["length_drift"]), (14, []), (13, ["length_drift"])])
def test_answers_half_as_long_again_or_two_thirds_as_long_are_named(tokens, expected, tmp_path):
    found = compare(tmp_path, items(30, correct=10), items(30, correct=10, tokens=tokens))
    assert found == [("oreo", name) for name in expected]


def test_lengths_of_few_tasks_or_of_tasks_solved_by_one_alone_say_nothing(tmp_path):
    assert compare(tmp_path, items(19, correct=9), items(19, correct=9, tokens=90)) == []
    # Games that are won end early, and 15 more of 30 are won.
    before = items(30, correct=0, tokens=100)
    after = [*items(15, correct=15, tokens=10), *before[15:]]
    assert compare(tmp_path, before, after) == []


@pytest.mark.parametrize(
    ("correct", "sound", "expected"),
    [
        (160, 20, ["accuracy_without_soundness"]),
        (160, 120, []),  # both rise
        (80, 20, []),  # accuracy as before
        (160, 79, []),  # one answer less is noise
        (160, None, []),  # an environment that cannot tell
    ],
)
def test_accuracy_that_rises_while_soundness_falls_is_named(correct, sound, expected, tmp_path):
    start = items(200, correct=80, sound=None if sound is None else 80)
    found = compare(tmp_path, start, items(200, correct=correct, sound=sound))
    assert found == [("oreo", name) for name in expected]


def test_an_evaluated_answer_without_a_verdict_is_named_also_without_a_start(tmp_path):
    row = write_items(tmp_path, "checkpoint", items(30, correct=10, reason="timeout"))
    found = [(algo, finding.name) for algo, finding in examine_results([row], tmp_path, Thresholds())]
    assert found == [("checkpoint", "grader_failures")]


@pytest.mark.parametrize("reason", ["no_answer", "unparsable", "too_large", None])
def test_a_policy_that_lost_the_form_of_an_answer_is_named(reason, tmp_path):
    """An answer without a verdict, where others have one, was cut off."""
    start = items(40, correct=20, reason="exact")
    lost = items(40, correct=0, reason=reason)
    assert compare(tmp_path, start, [*lost[:2], *start[2:]]) == []  # one in twenty
    assert compare(tmp_path, start, [*lost[:3], *start[3:]]) == [("oreo", "unread_answers")]
    assert compare(tmp_path, start, lost) == [("oreo", "unread_answers")]
    [row] = [write_items(tmp_path, "oreo", lost)]
    [(_, finding)] = examine_results([row], tmp_path, Thresholds())
    assert ("max_new_tokens" in finding.text) is (reason is None), "a limit is to blame for what it cut off alone"
    assert "the policy lost the" in finding.text and "lower policy_lr" in finding.text and "sft" not in finding.text
    if reason is not None:
        write_items(tmp_path, "sft", lost)
        [(_, finding)] = examine_results([row], tmp_path, Thresholds())
        assert "never learned the form of an answer" in finding.text and "lower policy_lr" not in finding.text


def test_answers_that_are_not_read_are_named_also_without_a_start(tmp_path):
    graded = items(40, correct=20, reason="exact")
    row = write_items(tmp_path, "checkpoint", [*items(3, correct=0), *graded[3:]])
    [(_, finding)] = examine_results([row], tmp_path, Thresholds())
    assert "3 of 40 answers were cut off, and 0 hold nothing" in finding.text


@pytest.mark.parametrize(("refused", "expected"), [(5, []), (6, ["refused_actions"])])
def test_a_policy_whose_actions_are_refused_is_named_with_the_reasons(refused, expected, tmp_path, chat):
    """Over a quarter of 20 actions."""
    reasons = [{"no_command": refused - 1}, {"closed": 1}, {}, {}]
    played = [
        Item(f"t{i}", False, None, 9, None, invalid=sum(why.values()), invalid_reasons=why, actions=5)
        for i, why in enumerate(reasons)
    ]
    found = list(examine_results([write_items(tmp_path, "oreo", played)], tmp_path, Thresholds()))
    assert [finding.name for _, finding in found] == expected
    if expected:
        assert "6 of 20 actions (30.0%) were refused (5 no_command, 1 closed)" in found[0][1].text
    infos = [{f"invalid_actions/{reason}": n for reason, n in why.items()} for why in reasons]
    games = [game(chat, i % 2) for i in range(10)]  # two actions each
    episodes = [
        dataclasses.replace(e, info={**e.info, "invalid_actions": 0, **(infos[i] if i < len(infos) else {})})
        for i, e in enumerate(games)
    ]
    assert examine(episodes, chat) == expected


def test_games_and_tasks_that_could_not_begin_are_not_taken_for_cut_off(tmp_path):
    assert compare(tmp_path, items(30, correct=10), items(30, correct=10)) == []
    graded = items(30, correct=10, reason="exact")
    assert compare(tmp_path, graded, [*graded[:20], *items(10, correct=0, tokens=0)]) == []


@pytest.mark.parametrize(("repeats", "expected"), [(1, []), (2, ["length_drift"])])
def test_rounds_whose_answers_grow_are_named(repeats, expected, chat):
    short = EpisodeBuffer(answer(chat, i) for i in range(50))
    long = EpisodeBuffer(answer(chat, i, text="21 + 5 = 26\n" * repeats * 2 + "#### 26") for i in range(50))
    before = short if repeats == 2 else long
    assert [finding.name for finding in examine_rounds(before, long, Thresholds())] == expected
    # Also where only those with one outcome do.
    for outcome in (True, False):
        after = EpisodeBuffer([now if now.success is outcome else then for then, now in zip(before, long, strict=True)])
        assert [finding.name for finding in examine_rounds(before, after, Thresholds())] == expected


# --- a whole run


def small_run(folder: Path, **changes: Any) -> Run:
    """A model that was hardly trained, whose samples are cut off at once."""
    settings = RunSettings(
        env=MATH,
        policy=PolicySettings(tiny=TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16)),
        sft=SftSettings(demonstrations=8, algorithm=Sft(batch_size=8, epochs=1, policy_lr=1e-3)),
        collect=CollectSettings(tasks=4, samples=2, sampling=Sampling(max_new_tokens=3)),
        searches={"greedy": Greedy()},
        evaluate=EvaluateSettings(tasks=4, sampling=Sampling(max_new_tokens=3)),
        workers=1,
    )
    return Run(dataclasses.replace(settings, **changes), folder)


def test_a_run_whose_grader_says_yes_to_everything_is_told_once(tmp_path, monkeypatch, caplog):
    def generous(*arguments, **options):
        collected = collect(*arguments, **options)
        right = [
            dataclasses.replace(
                e, rewards=np.eye(e.num_steps)[-1], truncated=False, terminated=True, success=True, info={}
            )
            for e in collected
        ]
        return EpisodeBuffer(right, tokenizer_fingerprint=collected.tokenizer_fingerprint)

    collect = run_data.collect
    monkeypatch.setattr(run_data, "collect", generous)
    for _ in range(2):  # the second continues
        small_run(tmp_path, algorithms={"oreo": Oreo(batch_size=4)}).train_and_evaluate(["sft", "oreo"])
    [finding] = read_warnings(tmp_path)
    assert finding.name == "equal_rewards"
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("doctor:")]
    assert told == [f"doctor: {tmp_path}: equal_rewards: {finding.text}"]


def test_imitation_of_good_episodes_alone_is_no_fault(tmp_path):
    for name, algorithm, expected in (("imitate", RejectionSampling(), []), ("compare", Oreo(), ["equal_rewards"])):
        shown = CollectSettings(source="demonstrations", tasks=8)
        run = small_run(tmp_path / name, collect=shown, algorithms={name: algorithm})
        good = run.episodes().filter(lambda episode: episode.success)
        good.save(run.layout.offline)
        run.prepare(episodes=True)
        assert good and [finding.name for finding in read_warnings(tmp_path / name)] == expected


def test_a_run_whose_samples_are_cut_off_is_told_in_its_folder(tmp_path):
    run = small_run(tmp_path, algorithms={"dpo": Dpo()})
    run.prepare(episodes=True)
    assert "truncated" in [finding.name for finding in read_warnings(tmp_path)]


# --- the report


def test_the_report_lists_the_warnings_of_episodes_and_algorithms(tmp_path, capsys):
    rows = [
        write_items(tmp_path, algo, items(30, correct=correct))
        | {"env": "oreo/Test-v0", "seed": 0, "n": 30, "correct": correct, "accuracy": correct / 30}
        for algo, correct in (("sft", 10), ("oreo", 20))
    ]
    (tmp_path / "results.json").write_text(json.dumps({"results": rows, "training": {}}))
    report([tmp_path], tmp_path)
    assert "Warnings" not in capsys.readouterr().out + (tmp_path / "report.md").read_text()
    for folder, finding in (("", Finding("equal_rewards", "all [1]")), ("oreo", Finding("flat_value", "V is flat"))):
        line = json.dumps(dataclasses.asdict(finding)) + "\n"
        (tmp_path / folder / "warnings.jsonl").write_text(line, encoding="utf-8")
    report([tmp_path], tmp_path)
    expected = ["episodes: equal_rewards: all [1]", "oreo: flat_value: V is flat"]
    assert "## Warnings\n\n" + "".join(f"- {line}\n" for line in expected) in (tmp_path / "report.md").read_text()
    printed = capsys.readouterr().out
    assert all(line in printed for line in ["Warnings", *expected])


def test_every_warning_is_documented_and_nothing_else():
    root = Path(__file__).resolve().parents[3]
    code = "".join(Path(module.__file__).read_text(encoding="utf-8") for module in (buffer_doctor, text_doctor))
    named = re.findall(r'Finding\(\s+"(\w+)"', code)
    documented = re.findall(r"^\| `(\w+)`", (root / "docs" / "doctor.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(documented) == sorted(named) and len(documented) == 17
