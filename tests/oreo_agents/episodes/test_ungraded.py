"""Answers without a verdict: graded again when the rest is done; what stays lost is in no buffer and in no number.

Verdicts are really lost here: the process that compares formulas dies as soon as it starts, so often as a test says.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import pytest
from tiny_models import make_model, make_tokenizer

from oreo_agents.episodes import sampler as sampler_module
from oreo_agents.episodes.collect import CollectSettings, collect, demonstrations, encode
from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.rollout import RolloutCounts
from oreo_agents.episodes.texts import text_episode
from oreo_agents.episodes.ungraded import only_graded
from oreo_agents.evaluation.evaluate import evaluate, summarize
from oreo_agents.evaluation.report import report
from oreo_agents.networks.policy import CausalPolicy
from oreo_agents.runs.data import import_solutions
from oreo_agents.search import Greedy
from oreo_algos import EpisodeBuffer
from oreo_envs.answers import AnswerEnv, Item
from oreo_envs.grading import grader, worker

ROOT_ENV = "oreo_test/Root-v0"
FORMAT = PromptFormat(make_tokenizer())
FOREVER = 1_000_000


class RootEnv(AnswerEnv):
    """Number ``index + 2`` times the root of 2: no text and no rational number decides."""

    splits: ClassVar[tuple[str, ...]] = ("train",)
    step_delimiters: ClassVar[tuple[str, ...]] = ("\n",)

    def __init__(self, *, split: str = "train") -> None:
        """Take short answers."""
        super().__init__(split=split, prompt="question", max_steps=8, max_chars=1000)

    @property
    def num_tasks(self) -> int:
        return 40

    def _make_item(self, index: int) -> Item:
        return Item(f"root/{index}", f"What is {index}?", rf"{index + 2}\sqrt{{2}}")

    def _index_of(self, task_id: str) -> int | None:
        return None

    def _solution(self, index: int, seed: int) -> tuple[str, dict]:
        return right(index), {"seed": seed}


def right(index: int) -> str:
    return r"so" + "\n" + rf"\boxed{{\sqrt{{{2 * (index + 2) ** 2}}}}}"


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    gym.register(ROOT_ENV, entry_point=RootEnv)
    yield
    del gym.registry[ROOT_ENV]


@pytest.fixture
def dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Let so many starts of the comparing process fail from now on; three of them lose a verdict."""
    count, core = tmp_path / "deaths", tmp_path / "core.py"
    core.write_text(
        f"import pathlib, runpy\ncount = pathlib.Path({str(count)!r})\nleft = int(count.read_text())\n"
        f"if left > 0:\n    count.write_text(str(left - 1))\n    raise SystemExit\n"
        f"runpy.run_path({str(worker._CORE)!r}, run_name='__main__')\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(worker, "_PAUSE_S", 0.0)

    def die(deaths: int) -> None:
        grader._compare.cache_clear()
        worker.WORKER._kill()
        monkeypatch.setattr(worker, "_CORE", core)
        count.write_text(str(deaths))

    yield die
    worker.WORKER._kill()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], None]:
    """Let the policy say these texts."""

    def install(texts: Sequence[str]) -> None:
        left = [FORMAT.encode(text) for text in texts]

        def say(policy, prompts, end_ids, sampling, generator=None, **options):
            said = [[*left.pop(0), FORMAT.end_of_turn] for _ in prompts]
            return [Sample(tokens, [0.0] * len(tokens), ended=True) for tokens in said]

        monkeypatch.setattr(sampler_module, "generate", say)

    return install


def make_env() -> gym.Env:
    return gym.make(ROOT_ENV, disable_env_checker=True)


def make_policy() -> CausalPolicy:
    return CausalPolicy(make_model("llama", context=256))


def gather(count: int) -> EpisodeBuffer:
    return collect(
        make_env,
        make_policy(),
        FORMAT,
        range(count),
        CollectSettings(samples=1, sampling=Sampling(max_new_tokens=64)),
        seed=0,
        selection_seed=0,
        provenance={},
    )


def answers(count: int, counts: RolloutCounts | None = None):
    limits = Sampling(max_new_tokens=64)
    found = evaluate(make_env, make_policy(), FORMAT, {"greedy": Greedy()}, range(count), limits, seed=0, counts=counts)
    return dict(found)["greedy"]


def test_a_lost_verdict_ends_an_episode_and_makes_up_no_reward_in_it(dying):
    dying(3)
    env = make_env()
    env.reset(options={"index": 0})
    _, reward, terminated, truncated, info = env.step(right(0))
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert (info["success"], info["grade_reason"], info["answer"]) == (False, "not_graded", r"\sqrt{8}")


def test_collected_answers_are_graded_again_when_the_rest_is_done(dying, script):
    texts = [right(0), right(1), right(0)]
    script(texts)
    before = gather(3)
    dying(3)
    script(texts)
    after = gather(3)
    assert [episode.success for episode in after] == [True, True, False]
    assert after.content_hash == before.content_hash and after.provenance["not_graded"] == 0


def test_what_stays_lost_is_in_no_buffer_and_is_counted(dying, script, caplog):
    dying(FOREVER)
    script([right(0), "no idea", right(2)])
    buffer = gather(3)
    assert [episode.task_id for episode in buffer] == ["root/1"]
    assert buffer.provenance["not_graded"] == 2 and buffer.provenance["collected"] == 1
    assert "collection: 2 of 3 answers were not graded and are left out" in caplog.text


def test_a_collection_of_lost_verdicts_alone_is_refused(dying, script):
    dying(FOREVER)
    script([right(0)])
    with pytest.raises(ValueError, match=r"collection: not one of 1 answers could be graded: .* fewer"):
        gather(1)


def test_held_out_answers_are_graded_again(dying, script):
    dying(3)
    script([right(0), right(0)])
    items = answers(2)
    assert [item.correct for item in items] == [True, False] and all(item.graded for item in items)


def test_what_stays_lost_is_in_no_result_and_is_counted(dying, script, caplog):
    dying(FOREVER)
    script([right(0), "no idea", right(2)])
    counts = RolloutCounts()
    items = answers(3, counts)
    assert [item.grade_reason for item in items] == ["not_graded", "no_answer", "not_graded"]
    summary = summarize(items)
    assert (summary["n"], summary["correct"], summary["not_graded"]) == (1, 0, 2)
    assert counts.not_graded == 2
    counts.report("evaluation")
    assert "evaluation: 2 answers were not graded and are left out" in caplog.text


def test_an_evaluation_of_lost_verdicts_alone_is_refused(dying, script):
    dying(FOREVER)
    script([right(0), right(1)])
    with pytest.raises(ValueError, match="search greedy: not one of 2 answers could be graded"):
        answers(2)


def test_a_report_leaves_out_answers_without_a_verdict_and_says_so(tmp_path, capsys):
    (tmp_path / "oreo").mkdir()
    items = [
        {"task_id": f"t{i}", "correct": i < 2, "tokens": 1, "answer": "1", "grade_reason": reason}
        for i, reason in enumerate(["exact", "exact", "different", "different", "not_graded", "not_graded"])
    ]
    lines = "".join(json.dumps(item) + "\n" for item in items)
    (tmp_path / "oreo" / "items-test-greedy.jsonl").write_text(lines, encoding="utf-8")
    row = {
        "algo": "oreo",
        "search": "greedy",
        "env": "oreo/MATH-v0",
        "split": "test",
        "seed": 0,
        "tokens_per_task": 1.0,
    }
    row |= {"n": 4, "correct": 2, "accuracy": 0.5, "not_graded": 2}
    (tmp_path / "results.json").write_text(json.dumps({"results": [row], "training": {}}), encoding="utf-8")
    report([tmp_path], tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| oreo | greedy | 1 | 4 | 50.0 |" in text
    assert "2 answers were not graded and are left out of n and of every number" in text
    assert "2 answers were not graded" in capsys.readouterr().out


def test_demonstrations_are_graded_again_and_left_out_where_that_fails(dying):
    dying(3)
    env = make_env()
    shown = demonstrations(env, range(3), [0, 1])
    assert [one.rewards[-1] for one in shown] == [1.0] * 6
    assert [(one.index, one.info["seed"]) for one in shown] == [(i, seed) for i in range(3) for seed in (0, 1)]
    dying(FOREVER)
    lost = demonstrations(env, [3], [0])
    assert encode([*shown, *lost], FORMAT, ROOT_ENV, {}).provenance["not_graded"] == 1


def test_a_buffer_that_others_made_is_learned_from_without_what_was_not_graded(caplog):
    episodes = [
        text_episode([{"role": "user", "content": "q"}], ["a"], [0.0], task_id=f"t{i}", env_id=ROOT_ENV, info=info)
        for i, info in enumerate([{"grade_reason": "not_graded"}, {"grade_reason": "different"}, {}])
    ]
    assert [episode.task_id for episode in only_graded(EpisodeBuffer(episodes), "data=x")] == ["t1", "t2"]
    assert "data=x: 1 of 3 answers were not graded" in caplog.text
    whole = EpisodeBuffer(episodes[1:])
    assert only_graded(whole, "data=x") is whole


@pytest.fixture
def formulas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A GSM8K of four questions whose answers are formulas."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("OREO_DATA", raising=False)
    rows = [{"question": f"What is {i}?", "answer": f"so\n#### {i + 2}\\sqrt{{2}}"} for i in range(4)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return str(tmp_path)


def imported(tmp_path: Path, formulas: str, rows: Sequence[dict]) -> tuple[EpisodeBuffer, object]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return import_solutions(file, "prompt-response", "gsm8k", path=formulas)


def test_imported_answers_are_graded_again(tmp_path, dying, formulas):
    dying(3)
    rows = [{"prompt": f"What is {i}?", "response": right(i if i else 9)} for i in (1, 0, 2)]
    buffer, counts = imported(tmp_path, formulas, rows)
    assert [episode.success for episode in buffer] == [True, False, True]
    assert (counts.graded, counts.not_graded) == (3, 0)


def test_imported_answers_that_stay_lost_are_left_out_and_labels_unchecked(tmp_path, dying, formulas):
    dying(FOREVER)
    rows = [
        {"prompt": "What is 0?", "response": right(0)},
        {"prompt": "What is 1?", "response": right(1), "correct": False},
        {"prompt": "What is 2?", "response": "no idea"},
    ]
    buffer, counts = imported(tmp_path, formulas, rows)
    assert [episode.messages[-1]["content"] for episode in buffer] == [right(1), "no idea"]
    assert (counts.episodes, counts.graded, counts.disagreements) == (2, 1, 0)
    assert (counts.not_graded, counts.unchecked) == (1, 1)
    with pytest.raises(ValueError, match="not one of 1 answers could be graded"):
        imported(tmp_path, formulas, rows[:1])


def test_an_imported_answer_that_a_limit_cut_is_truncated_and_not_graded(tmp_path, formulas):
    rows = [
        {"prompt": "What is 0?", "response": "so\n#### 2\\sqrt{2}", "finish_reason": reason}
        for reason in ("length", "stop", None)
    ]
    rows.append({"prompt": "What is 0?", "response": r"\boxed{2\sqrt{2}}", "finish_reason": "length"})
    rows.append({"prompt": "What is 0?", "response": "and then", "finish_reason": "length"})
    rows.append({"prompt": "What is 0?", "response": "#### 2", "finish_reason": "length", "correct": True})
    buffer, counts = imported(tmp_path, formulas, rows)
    assert [episode.truncated for episode in buffer] == [True, False, False, False, True, False]
    assert [episode.success for episode in buffer] == [False, True, True, True, False, True]
    assert (counts.cut_off, counts.graded) == (2, 3)
