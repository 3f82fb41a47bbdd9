"""Games played turn by turn, on generated houses: demonstrations, tokens, what a policy may say, items."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_models import CHATML, make_model, make_tokenizer

import oreo_envs  # noqa: F401 (registers the ids)
from oreo_agents.episodes.collect import CollectSettings, SftSettings
from oreo_agents.episodes.generate import Sample, Sampling
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.record import Record
from oreo_agents.episodes.rollout import rollout
from oreo_agents.episodes.tasks import EnvSettings, identity
from oreo_agents.episodes.texts import demonstration_episode, encode_episode
from oreo_agents.evaluation.evaluate import EvaluateSettings, Item, evaluate, refusals, summarize
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.tiny import TinyConfig, word_tokenizer
from oreo_agents.runs.pipeline import Run
from oreo_agents.runs.settings import RunSettings
from oreo_agents.search import Admissible, BestOfKActions, Greedy, MajorityOfKActions
from oreo_algos.algos import Kto, Oreo, Sft
from oreo_algos.batch import collate
from oreo_algos.models import Models
from oreo_envs.alfworld.house_files import write_games

ENV = "oreo/ALFWorld-v0"
OPTIONS = {"prompt": "question", "max_steps": 4}
MAKE = partial(gym.make, ENV, path="generated", disable_env_checker=True)
WORDS = PromptFormat(word_tokenizer(MAKE(action_format="tags").unwrapped.vocabulary()))
CHAT = PromptFormat(make_tokenizer(template=CHATML, end_of_turn=True))
FORMATS = pytest.mark.parametrize("prompt_format", [WORDS, CHAT], ids=["words", "chatml"])


def make_policy(prompt_format: PromptFormat, context: int = 2048) -> CausalPolicy:
    return CausalPolicy(make_model("llama", context=context, vocabulary=len(prompt_format.tokenizer)))


def encode(shown, prompt_format: PromptFormat):
    return encode_episode(
        demonstration_episode(shown, ENV), prompt_format, masked_steps=np.flatnonzero(shown.mistaken).tolist()
    )


@FORMATS
@pytest.mark.parametrize("action_format", ["command", "react", "tags"])
def test_imitation_learns_from_the_right_actions_and_nothing_else(prompt_format, action_format):
    """What the loss sees is the text of the actions that are no mistakes, each with its end token."""
    env = MAKE(mistakes=0.4, action_format=action_format).unwrapped
    shown = next(d for d in (env.demonstration(i) for i in range(20)) if d.info["success"] and any(d.mistaken))
    episode = encode(shown, prompt_format)
    batch = collate([episode])
    ends = prompt_format.end_of_turn
    for mask, steps in (
        (batch.loss_mask, [s for s, wrong in zip(shown.steps, shown.mistaken, strict=True) if not wrong]),
        (batch.action_mask, list(shown.steps)),
    ):
        seen = batch.tokens[mask].tolist()
        assert prompt_format.decode(seen) == "".join(steps) and seen.count(ends) == len(steps)
    assert episode.num_steps == len(shown.steps) and episode.total_reward == 1.0
    observations = prompt_format.tokenizer.decode(batch.tokens[0][~batch.action_mask[0]])
    # The last answer comes after everything that the policy says.
    assert all(m["content"] in observations for m in shown.messages[:-1] if m["role"] == "user")


def test_an_encoded_demonstration_keeps_its_mask_for_another_tokenizer():
    shown = MAKE(mistakes=0.5).unwrapped.demonstration(0)
    assert any(shown.mistaken)
    assert encode_episode(encode(shown, WORDS), CHAT).equals(encode(shown, CHAT))


@pytest.mark.parametrize("style", ["native", "paper"])
@pytest.mark.parametrize("action_format", ["command", "react", "tags"])
def test_games_are_read_thing_by_thing_without_loss(style, action_format):
    env = MAKE(text_style=style, mistakes=0.3, action_format=action_format, renumber=1.0).unwrapped
    unknown = WORDS.tokenizer.unk_token_id
    for index in range(0, 60, 3):
        for message in env.demonstration(index).messages:
            tokens = WORDS.encode(message["content"])
            assert WORDS.decode(tokens) == message["content"] and unknown not in tokens
            pieces = [WORDS.tokenizer.decode([token]) for token in tokens]
            things = re.findall(r" [a-z]+ \d+", message["content"])
            assert [piece for piece in pieces if re.fullmatch(r" [a-z]+ \d+", piece)] == things
            assert not any(len(piece) == 1 and piece.isalpha() and piece not in "aI" for piece in pieces)


def test_numbers_beyond_those_of_the_games_are_read_too():
    things = [" cabinet 1", " cabinet 12", " cabinet 30", " mug 8"]
    beyond = [" cabinet 31", " cabinet 123", " mug 9", " mug 12", " mug 80", " cabinet 1a"]
    for text in (*things, *beyond):
        tokens = WORDS.encode(f"go to{text}, and a{text}.")
        assert WORDS.decode(tokens) == f"go to{text}, and a{text}."
        pieces = [WORDS.tokenizer.decode([token]) for token in tokens]
        assert pieces.count(text) == (2 if text in things else 0)
        # Nor is another thing the beginning of it.
        assert not any(text.startswith(piece) for piece in pieces if re.search(r"\d", piece) and piece != text)


def test_a_turn_of_a_game_is_a_handful_of_tokens():
    """The opening names every receptacle; after that a thing is a token, and so is what stands between two."""

    def pieces(text):
        return [WORDS.tokenizer.decode([token]) for token in WORDS.encode(text)]

    assert pieces("put mug 1 in/on shelf 12") == ["put", " mug 1", " in/on", " shelf 12"]
    assert pieces("On the desk 1, you see a cd 3, and a mug 2.") == [
        "On the",
        " desk 1",
        ", you see a",
        " cd 3",
        ", and a",
        " mug 2",
        ".",
    ]
    assert pieces("You open the drawer 9. The drawer 9 is open. In it, you see nothing.") == [
        "You open the",
        " drawer 9",
        ".",
        " The",
        " drawer 9",
        " is open. In it, you see nothing.",
    ]
    assert pieces("Nothing happens.") == ["Nothing happens."]


@FORMATS
def test_a_rollout_writes_down_what_its_text_encodes_to(prompt_format):
    limits = Sampling(max_new_tokens=24, batch_size=3)
    # "help" answers at length: four times in a row it still fits.
    policy = make_policy(prompt_format, context=4096)
    played = rollout(partial(MAKE, **OPTIONS), policy, prompt_format, range(3), limits, seed=0, constrained=True)
    for _, episode in played:
        assert episode.num_steps == 4 and episode.truncated and episode.info["invalid_actions"] == 0
        assert "command_executed" not in episode.info and "invalid_action" not in episode.info
        tokens, step_id = prompt_format.encode_episode(episode.messages, episode.action_spans.tolist(), ended=True)
        # An untrained model may spell a command in other tokens than the tokenizer, but not in other text.
        assert prompt_format.decode(tokens) == prompt_format.decode(episode.tokens)
        assert step_id[-1] == 3


@pytest.mark.parametrize("action_format", ["command", "react", "tags"])
def test_a_constrained_policy_says_only_what_is_admissible(action_format):
    options = {**OPTIONS, "action_format": action_format}
    searches = {"free": Greedy(), "admissible": Admissible()}
    limits = Sampling(max_new_tokens=16 if action_format != "tags" else 32, batch_size=8)
    found = dict(
        evaluate(
            partial(MAKE, split="valid_seen", **options), make_policy(WORDS), WORDS, searches, range(6), limits, seed=0
        )
    )
    assert [item.invalid for item in found["admissible"]] == [0] * 6
    assert sum(item.invalid or 0 for item in found["free"]) > 0
    for item in (*found["admissible"], *found["free"]):
        assert item.actions in range(1, 5) and sum((item.invalid_reasons or {}).values()) == item.invalid
    assert all(item.kind and item.kind in item.task_id for item in found["admissible"])


def test_an_episode_says_how_many_actions_were_refused_for_which_reason():
    record = Record.begin(MAKE(action_format="tags", prompt="question"), 0, 0, WORDS)
    for text in ("look", "<think></think>\n<action>fly</action>", "<think></think>\n<action>look</action>", "fly"):
        tokens = WORDS.reply(text)
        twin = record.fork()
        twin.advance(Sample(tokens, [0.0] * len(tokens), ended=True), WORDS, 10_000)
        record = twin
    info = record.episode({}).info
    assert {key: count for key, count in info.items() if "actions" in key} == {
        "invalid_actions": 2,
        "invalid_actions/unknown_command": 2,
        "malformed_actions": 2,
    }
    assert refusals(info) == {"unknown_command": 2} and info["goal_progress"] == 0.0
    assert not {"action_rest", "action_valid", "invalid_reason"} & set(info)


def test_commands_are_read_from_tokens():
    for action_format in ("command", "react", "tags"):
        env = MAKE(action_format=action_format, prompt="question")
        record = Record.begin(env, 0, 0, WORDS)
        write = env.unwrapped.action_text
        for text, command in [
            (write("Look", "I look."), "look"),
            (write("go to the desk 1"), "go to desk 1"),
            ("", None),
        ]:
            tokens = WORDS.reply(text)
            sample = Sample(tokens, [0.0] * len(tokens), ended=True)
            assert record.command(sample, WORDS) == command
            assert record.command(replace(sample, ended=False), WORDS) is None


def test_an_environment_that_admits_any_text_cannot_constrain():
    make = partial(gym.make, "oreo/Arithmetic-v0", split="test", disable_env_checker=True)
    with pytest.raises(ValueError, match="this environment admits any text"):
        dict(evaluate(make, make_policy(CHAT), CHAT, {"a": Admissible()}, [0], Sampling(), seed=0))


def test_the_observation_weight_counts_the_texts_of_the_game_for_a_real_policy():
    """By hand from the model's logits: 1 for a token to imitate, 1/4 for one of the game, 0 for the first."""
    env = MAKE(mistakes=0.4).unwrapped
    batch = collate([encode(env.demonstration(index), WORDS) for index in (0, 1)])
    policy = make_policy(WORDS)
    with torch.no_grad():
        losses = Sft(observation_weight=0.25).losses(batch, Models(policy=policy))
        logprobs = policy.model(batch.tokens, attention_mask=batch.attention.long()).logits.log_softmax(-1)
    surprise = -logprobs[:, :-1].gather(-1, batch.tokens[:, 1:, None])[..., 0]
    imitated, observed = surprise[batch.loss_mask[:, 1:]], surprise[(batch.attention & ~batch.action_mask)[:, 1:]]
    assert len(imitated) < batch.num_action_tokens
    expected = (imitated.sum() + observed.sum() / 4) / (len(imitated) + len(observed) / 4)
    assert losses.terms["policy"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses.metrics["nll/actions"] == pytest.approx(imitated.mean().item(), rel=1e-4)
    assert losses.metrics["nll/observations"] == pytest.approx(observed.mean().item(), rel=1e-4)


def test_games_are_told_apart_by_name_and_questions_by_text():
    messages = [{"role": "user", "content": "text"}]
    assert identity(MAKE(), "train/a/b", messages) == "train/a/b"
    assert identity(gym.make("oreo/Arithmetic-v0"), "arithmetic/0", messages) == "text"


def test_kinds_of_tasks_are_counted_apart():
    items = [Item("a", True, None, 4, None, "heat", 1), Item("b", False, None, 2, None, "heat", 4)]
    summary = summarize([*items, Item("c", False, None, 0, None, "cool", 1)])
    assert (summary["n"], summary["invalid_per_task"]) == (3, 2.0)
    heat = summary["kinds"]["heat"]
    assert "invalid_reasons" not in summary
    assert (heat["n"], heat["correct"], heat["invalid_per_task"]) == (2, 1, 2.5)
    assert heat["wilson_low"] < 0.5 < heat["wilson_high"] and summary["kinds"]["cool"]["accuracy"] == 0.0


def test_reasons_are_counted_by_task():
    told = [{"closed": 2, "no_command": 1}, {}, {"closed": 1}, None]
    items = [
        Item("a", False, None, 1, None, invalid=None if why is None else sum(why.values()), invalid_reasons=why)
        for why in told
    ]
    summary = summarize(items)
    assert summary["invalid_reasons"] == {"closed": 1.0, "no_command": 1 / 3} and summary["invalid_per_task"] == 4 / 3


def tiny_run(folder: Path, **changes) -> Run:
    settings = {
        "env": EnvSettings(id=ENV, path="generated", options={**OPTIONS, "mistakes": 0.3}),
        "policy": PolicySettings(
            tiny=TinyConfig(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=1024)
        ),
        "sft": SftSettings(demonstrations=0),
        "searches": {"greedy": Greedy(), "admissible": Admissible()},
        **changes,
    }
    return Run(RunSettings(**settings), folder)


def test_demonstrations_are_collected_without_a_policy(tmp_path: Path):
    run = tiny_run(tmp_path, collect=CollectSettings(source="demonstrations", tasks=5, samples=2))
    buffer = run.episodes()
    assert len(buffer) == 10 and len(buffer.by_task()) == 5 and not (tmp_path / "sft").exists()
    assert all(episode.encoded and episode.info["source"] == "expert" for episode in buffer)
    assert len({episode.info["seed"] for episode in buffer}) == 2
    masked = [episode for episode in buffer if episode.loss_mask is not None]
    assert masked and all((e.step_id[e.loss_mask] >= 0).all() for e in masked)


@pytest.mark.parametrize("split", ["train", "train_and_houses"])
def test_collection_on_demonstrated_tasks_stays_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str):
    monkeypatch.setenv("OREO_CACHE", str(tmp_path / "cache"))
    write_games(tmp_path / "games", "train", 9, seed=1)
    run = tiny_run(
        tmp_path / "run",
        env=EnvSettings(id=ENV, path=str(tmp_path / "games"), options={**OPTIONS, "houses": 9}),
        sft=SftSettings(split=split, demonstrations=4, algorithm=Sft(epochs=1, batch_size=4, policy_lr=1e-3)),
        collect=CollectSettings(tasks=3, samples=1, demonstrated=True, sampling=Sampling(max_new_tokens=4)),
    )
    assert {e.task_id for e in run.episodes()} <= {e.task_id for e in run.data.demonstrations(run.start()).buffer}


def test_collection_stays_on_its_split(tmp_path: Path):
    run = tiny_run(
        tmp_path,
        env=EnvSettings(id=ENV, path="generated", options={**OPTIONS, "renumber": 1.0}),
        sft=SftSettings(demonstrations=4, algorithm=Sft(epochs=1, batch_size=4, policy_lr=1e-3)),
        collect=CollectSettings(split="train_renumbered", tasks=3, samples=2, sampling=Sampling(max_new_tokens=4)),
    )
    episodes = run.episodes()
    env = run.make_env("train_renumbered")()
    for episode in episodes:
        opening, _ = env.reset(options={"task_id": episode.task_id})
        assert episode.messages[0]["content"] == opening
    assert len(episodes) == 6 and len(episodes.by_task()) == 3


@pytest.mark.parametrize("source", ["policy", "demonstrations"])
def test_nothing_is_collected_on_a_held_out_split(tmp_path: Path, source: str):
    run = tiny_run(
        tmp_path,
        collect=CollectSettings(source=source, split="valid_seen", tasks=1, samples=1),
        algorithms={"oreo": Oreo()},
        evaluate=EvaluateSettings(splits=("valid_unseen",)),
    )
    with pytest.raises(ValueError, match="split 'valid_seen' is held out: nothing may learn from it"):
        run.train_and_evaluate(["oreo"])
    assert not (tmp_path / "sft").exists() and not (tmp_path / "data").exists()


def test_a_run_evaluates_every_split_by_kind(tmp_path: Path):
    run = tiny_run(
        tmp_path,
        sft=SftSettings(demonstrations=4, algorithm=Sft(epochs=1, batch_size=4, policy_lr=1e-3)),
        collect=CollectSettings(tasks=3, samples=1, sampling=Sampling(max_new_tokens=8)),
        algorithms={"oreo": Oreo(batch_size=2, granularity="step")},
        evaluate=EvaluateSettings(
            splits=("valid_seen", "valid_unseen"),
            tasks=2,
            searches=("greedy", "admissible"),
            sampling=Sampling(max_new_tokens=8),
        ),
        workers=1,
    )
    rows = run.train_and_evaluate(["sft", "oreo"])
    found = [(row["algo"], row["split"], row["search"]) for row in rows]
    splits, searches = ("valid_seen", "valid_unseen"), ("greedy", "admissible")
    assert found == [(algo, split, search) for algo in ("sft", "oreo") for split in splits for search in searches]
    assert all(sum(kind["n"] for kind in row["kinds"].values()) == row["n"] == 2 for row in rows)
    assert all("seen_in_training" not in row for row in rows)
    assert (tmp_path / "oreo" / "items-valid_unseen-admissible.jsonl").exists()


def on_gpu(folder: Path, **changes) -> Run:
    """A run whose policy has heads that the kernels of a GPU know."""
    tiny = TinyConfig(hidden_size=64, layers=2, heads=2, intermediate_size=128, context=1024, tied=True, init_std=0.02)
    options = {**OPTIONS, "text_style": "paper", "mistakes": 0.1, "max_steps": 16}
    return tiny_run(
        folder,
        env=EnvSettings(id=ENV, path="generated", options=options),
        policy=PolicySettings(tiny=tiny, device="cuda"),
        sft=SftSettings(
            demonstrations=8,
            samples=2,
            algorithm=Sft(epochs=100, batch_size=8, policy_lr=5e-3, optimizer="muon", observation_weight=0.3),
        ),
        collect=CollectSettings(tasks=8, demonstrated=True, samples=8, sampling=Sampling(max_new_tokens=16)),
        **changes,
    )


@pytest.mark.gpu
def test_games_are_played_learned_from_and_searched_on_a_gpu(tmp_path: Path):
    searches = {"greedy": Greedy(), "best": BestOfKActions(actions=3), "majority": MajorityOfKActions(actions=3)}
    run = on_gpu(
        tmp_path,
        algorithms={
            "kto": Kto(batch_size=8, epochs=1, policy_lr=1e-5),
            "oreo": Oreo(batch_size=8, value_warmup_steps=4, policy_lr=1e-4, value_lr=1e-3),
        },
        searches=searches,
        evaluate=EvaluateSettings(
            splits=("valid_seen",), tasks=8, searches=list(searches)[:1], value_searches=list(searches)[1:]
        ),
        workers=1,
    )
    rows = run.train_and_evaluate(["sft", *run.settings.algorithms])
    assert len(rows) == 5 and all(np.isfinite(row["accuracy"]) for row in rows)
    # By heart, so that it is known to have learned.
    assert run.episodes().stats()["success_rate"] > 0.3


@pytest.mark.gpu
def test_a_gpu_gives_episodes_the_scores_that_a_cpu_gives_them(tmp_path: Path):
    """In bfloat16, packed, by the kernel, against float32: the log-probabilities of what was sampled."""
    run = on_gpu(tmp_path)
    episodes = list(run.episodes())[:12]
    batch = collate(episodes)
    policy = run.load.policy(run.sft())
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        on_device = policy.score(batch.to("cuda")).logprobs.cpu()
    assert policy.resumes and policy.documents.longest_packed > 0
    exact = CausalPolicy.from_pretrained(run.sft()).score(batch).logprobs
    torch.testing.assert_close(on_device, exact, atol=0.15, rtol=0.05)
    # Sampled turn by turn, from keys and values that were kept.
    sampled = torch.zeros_like(exact)
    for row, episode in zip(sampled, episodes, strict=True):
        row[: episode.num_tokens] = torch.tensor(episode.behavior_logprobs)
    torch.testing.assert_close(sampled, exact, atol=0.15, rtol=0.05)
