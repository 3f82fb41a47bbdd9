"""Judged answers that are kept: which, with what, and that a kill loses none."""

import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import pytest
from reading_policy import FORMAT, MAKE_ENV, make_player, table  # noqa: F401 (a fixture)

from oreo_agents.episodes.collect import SftSettings
from oreo_agents.episodes.generate import Sampling
from oreo_agents.episodes.tasks import EnvSettings
from oreo_agents.evaluation.answers import keep_answers, kept_places
from oreo_agents.evaluation.evaluate import EvaluateSettings, evaluate
from oreo_agents.evaluation.kept import find_kept
from oreo_agents.networks.policy import PolicySettings
from oreo_agents.runs import scorebook
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import RunSettings
from oreo_agents.search import Greedy, Majority, StepBeam
from oreo_algos import EpisodeBuffer, stopping
from oreo_envs.grading import canonical


def test_a_bounded_part_is_kept_the_same_whoever_answers_and_not_the_beginning():
    places = kept_places(1000, 50)
    assert places == kept_places(1000, 50) == sorted(set(places)) and len(places) == 50
    assert places[0] > 0 and places[-1] > 900
    assert kept_places(3, 50) == kept_places(3, "all") == [0, 1, 2]
    assert kept_places(3, "none") == kept_places(3, 0) == []


@pytest.mark.parametrize("keep", [-1, True, None, "some", 1.5])
def test_what_is_kept_is_a_number_all_or_none(keep):
    with pytest.raises(ValueError, match=r"\.keep must be a (whole )?number.* all.* none"):
        EvaluateSettings(keep=keep)


def kept(folder: Path, search, player) -> tuple[EpisodeBuffer, list]:
    """Keep what a search answers, and read it back."""
    answers = search.answer(player)
    with MAKE_ENV() as env:
        count = keep_answers(
            *(folder, "test-x", answers, env, player.indices),
            tokenizer_fingerprint=FORMAT.fingerprint,
            provenance={"algo": "a", "search": "x", "split": "test"},
        )
    [found] = find_kept(folder)
    assert count == len(found.buffer) == len(answers) and found.facts["algo"] == "a"
    return found.buffer, [found.candidates(answer.episode.task_id) for answer in answers]


@pytest.mark.usefixtures("table")
def test_a_vote_is_kept_with_its_voters_as_text(tmp_path: Path):
    buffer, candidates = kept(tmp_path / "a", Majority(samples=5), make_player())
    with MAKE_ENV() as env:
        references = [env.unwrapped.reference(index) for index in range(len(buffer))]
    assert [episode.info["reference"] for episode in buffer] == references
    for episode, voters in zip(buffer, candidates, strict=True):
        assert len(voters) == episode.info["chosen_from"] == 5 and not any(voter.encoded for voter in voters)
        [chosen, *_] = [voter for voter in voters if voter.info["chosen"]]
        assert chosen.messages == episode.messages and chosen.success == episode.success
        said = [voter.info["answer"] and canonical(voter.info["answer"]) for voter in (episode, *voters)]
        assert episode.info["votes"] == said[1:].count(said[0])
        assert "value" not in episode.info and "score" not in episode.info, "a vote reads none"
    assert buffer.tokenizer_fingerprint == FORMAT.fingerprint and all(episode.encoded for episode in buffer)


@pytest.mark.usefixtures("table")
def test_a_beam_is_kept_with_the_finished_answers_and_their_values(tmp_path: Path):
    buffer, candidates = kept(tmp_path / "a", StepBeam(tau=0, keep=2, expand=4), make_player())
    several = [(episode, beams) for episode, beams in zip(buffer, candidates, strict=True) if beams]
    assert several
    for episode, beams in several:
        assert episode.info["value"] == max(beam.info["value"] for beam in beams)
        assert all(beam.info["score"] == beam.info["value"] for beam in beams), "tau is 0"
        assert sum(beam.info["chosen"] for beam in beams) == 1


@pytest.mark.usefixtures("table")
def test_greedy_answers_were_chosen_from_nothing(tmp_path: Path):
    buffer, candidates = kept(tmp_path / "a", Greedy(), make_player())
    assert not any(candidates) and not any("votes" in episode.info for episode in buffer)
    assert not list((tmp_path / "a").glob("candidates-*"))


def test_earlier_answers_go_where_nothing_is_kept_any_more(tmp_path: Path):
    (tmp_path / "answers-test-x").mkdir()
    (tmp_path / "candidates-test-x").mkdir()
    with MAKE_ENV() as env:
        assert keep_answers(tmp_path, "test-x", [], env, [], tokenizer_fingerprint="", provenance={}) == 0
        assert keep_answers(tmp_path, "test-x", [None], env, [0], tokenizer_fingerprint="", provenance={}) == 0
    assert not list(tmp_path.iterdir())


# --- runs


def evaluation(path: str, folder: Path, **how) -> Run:
    settings = RunSettings(
        env=EnvSettings(id="oreo/Arithmetic-v0"),
        policy=PolicySettings(path=path),
        sft=SftSettings(demonstrations=0),
        searches={"greedy": Greedy(), "majority": Majority(samples=2)},
        evaluate=EvaluateSettings(
            tasks=5, searches=("greedy", "majority"), sampling=Sampling(max_new_tokens=4, batch_size=8), **how
        ),
    )
    return Run(settings, folder)


@pytest.fixture(scope="module")
def long_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tiny_models import make_model, make_tokenizer

    folder = tmp_path_factory.mktemp("long")
    make_model("llama", context=256).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return str(folder)


def test_a_run_keeps_what_its_items_say_of_the_same_tasks_and_says_so(tmp_path: Path, long_checkpoint, caplog):
    caplog.set_level("INFO")
    run = evaluation(long_checkpoint, tmp_path, keep=3)
    rows = run.evaluate("mine", long_checkpoint, None)
    assert [row["n"] for row in rows] == [5, 5]
    found = find_kept(tmp_path)
    assert [(one.facts["search"], one.facts["evaluated"], one.facts["held_out"]) for one in found] == [
        ("greedy", 5, True),
        ("majority", 5, True),
    ]
    tasks = [[episode.task_id for episode in one.buffer] for one in found]
    assert tasks[0] == tasks[1] and len(tasks[0]) == 3
    for one in found:
        lines = (tmp_path / "mine" / f"items-test-{one.facts['search']}.jsonl").read_text(encoding="utf-8").splitlines()
        items = {item["task_id"]: item for item in map(json.loads, lines)}
        for episode in one.buffer:
            item = items[episode.task_id]
            assert (episode.success, episode.info["answer"]) == (item["correct"], item["answer"])
            assert episode.info["tokens_of_all"] == item["tokens"]
    assert f"mine on test: answers to 3 of 5 tasks are kept: oreo show {tmp_path / 'mine'}" in caplog.text


def test_a_kill_between_answers_and_items_loses_neither(tmp_path: Path, long_checkpoint, monkeypatch):
    real, killed = scorebook.write_text, []

    def write(path: Path, text: str) -> None:
        if path.name == "items-test-majority.jsonl" and not killed:
            killed.append(path)
            raise KeyboardInterrupt
        real(path, text)

    monkeypatch.setattr(scorebook, "write_text", write)
    with pytest.raises(KeyboardInterrupt):
        evaluation(long_checkpoint, tmp_path).evaluate("mine", long_checkpoint, None)
    first = {one.facts["search"]: one.buffer.content_hash for one in find_kept(tmp_path)}
    greedy = (tmp_path / "mine" / "answers-test-greedy" / "metadata.json").stat().st_mtime_ns
    assert len(evaluation(long_checkpoint, tmp_path).evaluate("mine", long_checkpoint, None)) == 2
    again = {one.facts["search"]: one.buffer.content_hash for one in find_kept(tmp_path)}
    assert again == first and set(again) == {"greedy", "majority"}
    assert (tmp_path / "mine" / "answers-test-greedy" / "metadata.json").stat().st_mtime_ns == greedy
    assert not [path for path in (tmp_path / "mine").iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("signals_restored")
def test_a_signal_ends_an_evaluation_when_its_search_is_done(tmp_path: Path, long_checkpoint, monkeypatch):
    def answer(search: Greedy, player) -> list:
        signal.raise_signal(signal.SIGINT)
        return real(search, player)

    real = Greedy.answer
    with monkeypatch.context() as patch, pytest.raises(stopping.Interrupted) as raised, stopping.listening():
        patch.setattr(Greedy, "answer", answer)
        evaluation(long_checkpoint, tmp_path).evaluate("mine", long_checkpoint, None)
    assert raised.value.number == signal.SIGINT
    assert raised.value.kept == f"the answers of mine by greedy are in {tmp_path / 'mine'}"
    assert [path.name for path in (tmp_path / "mine").glob("items-*")] == ["items-test-greedy.jsonl"]
    items = (tmp_path / "mine" / "items-test-greedy.jsonl").stat().st_mtime_ns
    assert len(evaluation(long_checkpoint, tmp_path).evaluate("mine", long_checkpoint, None)) == 2
    assert (tmp_path / "mine" / "items-test-greedy.jsonl").stat().st_mtime_ns == items


def test_nothing_is_kept_where_nothing_is_to_be(tmp_path: Path, long_checkpoint):
    evaluation(long_checkpoint, tmp_path, keep="none").evaluate("mine", long_checkpoint, None)
    with pytest.raises(FileNotFoundError, match=r"no answers were kept .*evaluate.keep=200"):
        find_kept(tmp_path)


def test_answers_of_a_held_out_split_are_not_learned_from(tmp_path: Path, long_checkpoint):
    run = evaluation(long_checkpoint, tmp_path / "a")
    run.evaluate("mine", long_checkpoint, None)
    learner = Run(replace(run.settings, data=str(tmp_path / "a" / "mine" / "answers-test-greedy")), tmp_path / "b")
    with pytest.raises(ValueError, match="judged answers to the split test, which is held out to measure with"):
        learner.episodes()


def test_equal_searches_each_keep_their_answers():
    seen: dict[str, list] = {}
    make_env = partial(gym.make, "oreo/Arithmetic-v0", split="test", disable_env_checker=True)
    from tiny_models import make_model

    from oreo_agents.networks.policy import CausalPolicy

    policy = CausalPolicy(make_model("llama", context=256))
    limits = Sampling(max_new_tokens=2, batch_size=4)
    found = evaluate(
        *(make_env, policy, FORMAT, {"a": Greedy(), "b": Greedy()}, range(2), limits),
        seed=0,
        keep=lambda name, answers: seen.update({name: list(answers)}),
    )
    assert next(found)[0] == "a" and set(seen) == {"a"}, "before the items are yielded"
    list(found)
    assert seen["a"] == seen["b"] and len(seen["a"]) == 2
