"""What saving an episode computes, and that it says what the slow ways of computing it say."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from oreo_algos.episode import Episode
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.storage.content import Canonical
from oreo_algos.storage.rows import SCHEMA, to_batch

_LISTS = ("tokens", "step_id", "rewards", "loss_mask", "behavior_logprobs", "action_spans")


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    """Forty episodes, a fifth of which no tokenizer has encoded; what is optional is there and missing."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(40):
        steps = int(rng.integers(1, 30))
        step_id = np.concatenate([[-1, -1], np.sort(np.concatenate([np.arange(steps), rng.integers(0, steps, 50)]))])
        encoded, options = number % 5 != 0, {}
        if encoded and number % 2:
            options["behavior_logprobs"] = rng.normal(size=len(step_id)) * (step_id >= 0)
        if encoded and number % 3 == 0:
            options["loss_mask"] = rng.random(len(step_id)) < 0.5
        if number % 4 == 0:
            options["action_spans"] = [(1, k, k + 1) for k in range(steps)]
        found.append(
            Episode(
                tokens=rng.integers(2, 2000, len(step_id)) if encoded else [],
                step_id=step_id if encoded else [],
                rewards=rng.normal(size=steps),
                terminated=bool(number % 2),
                truncated=number % 3 == 0,
                task_id=f'"é{number // 4}',
                env_id="oreo/Arithmetic-v0",
                messages=[{"content": 'ü\n"\\', "role": "user"}, {"role": "assistant", "content": "→\x00" * 20}],
                info={"z": 1.5, "a": None, "seed": number, **({} if number % 2 else {"pair": number})},
                **options,
            )
        )
    return found


def test_columns_are_those_of_the_episodes_to_the_bit(episodes):
    batch = to_batch(episodes, [Canonical.of(episode).marks() for episode in episodes])
    for name in ("num_action_tokens", "total_reward", "highest_token", "success", "terminated", "truncated"):
        assert batch[name].to_pylist() == [getattr(episode, name) for episode in episodes]
    for name in _LISTS:
        values = [getattr(episode, name) for episode in episodes]
        assert batch[name].to_pylist() == [None if value is None else value.ravel().tolist() for value in values]
        assert batch[name].type == SCHEMA.field(name).type


@pytest.mark.parametrize("shape", ["none encoded", "none masked"])
def test_a_column_may_hold_nothing_at_all(episodes, shape):
    chosen = [e for e in episodes if (not e.encoded if shape == "none encoded" else e.loss_mask is None)]
    batch = to_batch(chosen, [Canonical.of(episode).marks() for episode in chosen])
    assert batch["highest_token"].to_pylist() == [episode.highest_token for episode in chosen]
    assert batch["loss_mask"].null_count == len(chosen)
    batch.validate(full=True)


def test_the_canonical_form_is_plain_json(episodes):
    for episode in episodes:
        form = Canonical.of(episode)
        fields = [
            episode.task_id,
            episode.env_id,
            episode.terminated,
            episode.truncated,
            episode.messages,
            episode.info,
        ]
        text = json.dumps(fields, sort_keys=True).encode()
        assert form.whole.startswith(len(text).to_bytes(8, "little") + text)
        assert form.told == json.dumps([episode.task_id, episode.info.get("pair"), episode.messages], sort_keys=True)
        assert form.info == json.dumps(episode.info, sort_keys=True)


def test_an_encoder_is_made_once_an_episode(episodes, monkeypatch):
    chosen, made = [episode for episode in episodes if "pair" not in episode.info], list[object]()
    make = json.JSONEncoder.iterencode

    def iterencode(self, o, _one_shot=False):
        made.append(o)
        return make(self, o, _one_shot=_one_shot)

    monkeypatch.setattr(json.JSONEncoder, "iterencode", iterencode)
    for episode in chosen:
        Canonical.of(episode)
    assert made == [episode.info for episode in chosen]


def test_what_repeats_stands_in_dictionaries_and_log_probabilities_do_not(episodes, tmp_path):
    EpisodeBuffer(episodes).save(tmp_path / "episodes")
    group = pq.read_metadata(tmp_path / "episodes" / "part-00000.parquet").row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    plain = {column.path_in_schema for column in columns if not column.has_dictionary_page}
    assert plain == {
        *("terminated", "truncated", "success", "loss_mask.list.element"),  # bools, which have none
        "behavior_logprobs.list.element",
    }
