"""DPO with the likelihood of the chosen, and on pairs that share their first steps, against numbers by hand."""

import itertools
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from tabular import tiny_models

from oreo_algos.algos import Dpo
from oreo_algos.algos.selection import NothingToLearnError, shared_steps, step_pairs
from oreo_algos.batch import collate
from oreo_algos.storage.buffer import EpisodeBuffer
from oreo_algos.training.micro_batches import episodes_of

BETA = 0.7


@pytest.fixture
def game(make_episode):
    """Build an episode of one task from prompt, actions and observations between them."""

    def build(prompt, *turns, reward=0.0, **fields):
        tokens, step_id = list(prompt), [-1] * len(prompt)
        for number, turn in enumerate(turns):
            tokens += turn
            step_id += [-1 if number % 2 else number // 2] * len(turn)
        steps = (len(turns) + 1) // 2
        return make_episode(step_id, [0.0] * (steps - 1) + [reward], tokens=tokens, **fields)

    return build


@pytest.fixture
def branches(game):
    """Two right and three wrong games: both right ones share two actions with the first wrong one, one with the
    second, none with the third.
    """
    right = [
        game([1, 2], [3, 4], [5], [6, 7], [8], [9, 10], reward=1.0),
        game([1, 2], [3, 4], [5], [6, 7], [8], [11], reward=1.0),
    ]
    wrong = [
        game([1, 2], [3, 4], [5], [6, 7], [8], [9, 12, 13], [14], [15]),
        game([1, 2], [3, 4], [5], [6, 16]),
        game([1, 2], [17], [5], [6, 7]),
    ]
    return right, wrong


def test_shared_steps_are_those_before_the_first_action_that_differs(branches):
    right, wrong = branches
    assert [[shared_steps(one, other) for other in wrong] for one in right] == [[2, 1, 0], [2, 1, 0]]
    assert [shared_steps(wrong[0], one) for one in right] == [2, 2]


def test_episodes_that_part_elsewhere_than_in_an_action_share_nothing(game):
    one = game([1, 2], [3, 4], [5], [6])
    others = {
        "prompt": game([1, 9], [3, 4], [5], [6]),
        "observation": game([1, 2], [3, 4], [9], [6]),
        "beginning": game([1, 2], [3, 4], [5], [6, 7]),
        "equal": game([1, 2], [3, 4], [5], [6]),
        "an action that has ended": game([1, 2], [3], [4], [6]),
    }
    assert {name: shared_steps(one, other) for name, other in others.items()} == dict.fromkeys(others)


@pytest.mark.parametrize("least", [0, 1, 2])
def test_all_pairs_that_fit_are_found_and_at_most_so_many_drawn(branches, least):
    right, wrong = branches
    buffer = EpisodeBuffer([*right, *wrong])
    fitting = {(i, 2 + j) for i, j in itertools.product(range(2), range(3)) if 2 - j >= least}
    found = step_pairs(buffer, 100, least, np.random.default_rng(0)).indices.tolist()
    assert set(map(tuple, found)) == fitting and len(found) == len(fitting)
    assert len(step_pairs(buffer, 1, least, np.random.default_rng(0))) == 1


def test_pairs_that_the_data_names_are_left_out_where_they_do_not_fit(branches, caplog):
    right, wrong = branches
    pairs = {"a": (right[0], wrong[1]), "b": (right[1], wrong[2])}
    named = [replace(episode, info={"pair": name}) for name, pair in pairs.items() for episode in pair]
    with caplog.at_level(logging.WARNING):
        found = step_pairs(EpisodeBuffer(named), 6, 1, np.random.default_rng(0))
    assert found.indices.tolist() == [[0, 1]]
    assert "1 of the 2 pairs that the data names do not part in an action after at least 1 shared steps" in caplog.text


def test_without_such_a_pair_it_is_said_what_to_do(branches):
    right, wrong = branches
    with pytest.raises(
        NothingToLearnError, match=r"in none of the 1 tasks .* at least 3, .* \(shared_steps\), or .*algo=dpo"
    ):
        Dpo(shared_steps=3).select(EpisodeBuffer([*right, *wrong]), np.random.default_rng(0))


def token_numbers(models, episode):
    """Log pi and log ratio of each token, [T]."""
    own, ref = (net.score(collate([episode])).logprobs[0].detach().numpy() for net in (models.policy, models.reference))
    return own, own - ref


def losses_of(pairs, models, **options):
    return Dpo(beta=BETA, **options).losses(collate(episodes_of(pairs)), models)


def test_what_is_shared_has_no_part_in_the_margin_so_the_loss_is_that_of_whole_responses(branches):
    right, wrong = branches
    pairs, models = [(right[0], wrong[0]), (right[1], wrong[1])], tiny_models()
    rest, whole = losses_of(pairs, models, shared_steps=1), losses_of(pairs, models)
    assert rest.terms["policy"].item() == pytest.approx(whole.terms["policy"].item(), rel=1e-12)
    assert rest.metrics["rewards/margins"] == pytest.approx(whole.metrics["rewards/margins"], rel=1e-9)
    assert rest.metrics["pairs/shared_steps"] == 1.5 and "pairs/shared_steps" not in whole.metrics
    expected = np.mean(
        [BETA * token_numbers(models, right[0])[1][8:].sum(), BETA * token_numbers(models, right[1])[1][5:].sum()]
    )
    assert rest.metrics["rewards/chosen"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo"])
def test_one_step_is_compared_alone(branches, loss_type):
    """The third action of the first pair, the second of the other: by hand."""
    right, wrong = branches
    pairs, models = [(right[0], wrong[0]), (right[1], wrong[1])], tiny_models()
    columns = [((8, 10), (8, 11)), ((5, 7), (5, 7))]
    terms = []
    for pair, spans in zip(pairs, columns, strict=True):
        rows = [token_numbers(models, episode)[1][a:b] for episode, (a, b) in zip(pair, spans, strict=True)]
        if loss_type == "ipo":
            terms.append((rows[0].mean() - rows[1].mean() - 1 / (2 * BETA)) ** 2)
        else:
            terms.append(math.log(1 + math.exp(-BETA * (rows[0].sum() - rows[1].sum()))))
    found = losses_of(pairs, models, compared="step", loss_type=loss_type).terms["policy"].item()
    assert found == pytest.approx(np.mean(terms), rel=1e-6)


@pytest.mark.parametrize(("options", "start"), [({}, 0), ({"shared_steps": 1}, 5)])
def test_the_likelihood_of_the_chosen_is_a_mean_over_its_tokens_and_over_pairs(branches, game, options, start):
    right, wrong = branches
    mistaken = game([1, 2], [3, 4], [5], [6, 7], reward=1.0, loss_mask=[0, 0, 1, 1, 0, 1, 0])
    pairs, models = [(right[0], wrong[1]), (mistaken, wrong[1])], tiny_models()
    plain, found = losses_of(pairs, models, **options), losses_of(pairs, models, nll_weight=0.3, **options)
    surprises = []
    for chosen, _ in pairs:
        imitated = (chosen.step_id >= 0) & (np.arange(chosen.num_tokens) >= start)
        imitated &= True if chosen.loss_mask is None else chosen.loss_mask
        surprises.append(-token_numbers(models, chosen)[0][imitated])
    expected = plain.terms["policy"].item() + 0.3 * np.mean([own.mean() for own in surprises])
    assert found.terms["policy"].item() == pytest.approx(expected, rel=1e-6)
    assert found.metrics["nll/chosen"] == pytest.approx(np.concatenate(surprises).mean(), rel=1e-6)
