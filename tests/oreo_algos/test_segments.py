import pytest
import torch

from oreo_algos import segments
from oreo_algos.batch import collate
from oreo_algos.losses import oreo_policy_loss, oreo_value_loss


@pytest.fixture
def interrupted(make_episode):
    """A prompt, action 0 with an observation inside it, action 1, an observation."""
    return make_episode([-1, -1, 0, 0, -1, 0, 1, -1], [0.25, 1.0])


def test_the_value_of_a_state_is_the_output_on_the_token_before_it():
    outputs = torch.tensor([[10.0, 11.0, 12.0]])
    assert segments.shift_values(outputs).tolist() == [[0.0, 10.0, 11.0, 12.0]]


def test_the_log_probability_of_a_token_comes_from_the_position_before_it():
    next_token = torch.tensor([[-1.0, -2.0]])
    assert segments.shift_logprobs(next_token).tolist() == [[0.0, -1.0, -2.0]]


def test_an_inserted_observation_leaves_sums_and_first_tokens_alone(make_episode, interrupted):
    batch = collate([interrupted, make_episode([-1, 0], [1.0])])
    x = 2.0 ** torch.arange(8).expand(2, 8)
    assert segments.sum_by_step(x, batch).tolist() == [[4 + 8 + 32, 64], [2, 0]]
    assert segments.first_token(batch).tolist() == [[2, 6], [1, 0]]
    assert segments.last_token(batch).tolist() == [[5, 6], [1, 0]]
    assert segments.prompt_lengths(batch).tolist() == [2, 1]


def test_value_is_read_before_the_step(make_episode, interrupted):
    batch = collate([interrupted, make_episode([-1, 0], [1.0])])
    token_values = torch.arange(100.0, 118.0).reshape(2, 9)
    assert segments.step_values(token_values, batch).tolist() == [[102.0, 106.0], [110.0, 0.0]]
    assert segments.final_values(token_values, batch).tolist() == [106.0, 110.0]


def test_the_final_value_is_read_before_the_end_token_of_a_long_answer(make_episode):
    batch = collate([make_episode([-1, 0, 0, 0, -1], [1.0])])
    assert segments.final_values(torch.arange(6.0)[None], batch).tolist() == [3.0]


def test_sums_values_and_tokens_agree_with_a_loop(random_episodes):
    episodes = random_episodes(30, seed=1)
    batch = collate(episodes)
    x = torch.randn(batch.tokens.shape, dtype=torch.float64)
    token_values = segments.shift_values(x)
    sums, values = segments.sum_by_step(x, batch), segments.step_values(token_values, batch)
    for row, episode in enumerate(episodes):
        for step in range(episode.num_steps):
            columns = [t for t, k in enumerate(episode.step_id) if k == step]
            total = sum(x[row, t].item() for t in columns)
            assert sums[row, step].item() == pytest.approx(total)
            assert segments.first_token(batch)[row, step] == columns[0]
            assert segments.last_token(batch)[row, step] == columns[-1]
            assert values[row, step] == x[row, columns[0] - 1]
        assert (sums[row, episode.num_steps :] == 0).all()
        assert (values[row, episode.num_steps :] == 0).all()


def test_the_gradient_of_a_sum_reaches_action_tokens_only(random_episodes):
    batch = collate(random_episodes(6, seed=2))
    x = torch.randn(batch.tokens.shape, dtype=torch.float64, requires_grad=True)
    segments.sum_by_step(x, batch).sum().backward()
    assert torch.equal(x.grad, batch.action_mask.double())


def test_the_gradient_of_a_value_reaches_the_position_before_the_step(interrupted):
    batch = collate([interrupted])
    outputs = torch.zeros(1, 8, requires_grad=True)
    segments.step_values(segments.shift_values(outputs), batch).sum().backward()
    assert outputs.grad.nonzero().tolist() == [[0, 1], [0, 5]]


def test_a_sum_ignores_what_stands_on_padding(make_episode, interrupted):
    batch = collate([interrupted, make_episode([-1, 0], [1.0])])
    x = torch.ones(2, 8).masked_fill(~batch.action_mask, torch.nan)
    assert segments.sum_by_step(x, batch).tolist() == [[3, 1], [1, 0]]


def test_reward_to_go_sums_from_the_step_on():
    rewards = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 99.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert segments.reward_to_go(rewards, mask).tolist() == [[7, 6, 4], [24, 16, 0]]


def test_suffix_sum_does_not_see_the_padding():
    x = torch.randn(4, 7)
    padded = torch.cat([x, torch.zeros(4, 3)], dim=1)
    assert torch.equal(segments.suffix_sum(padded)[:, :7], segments.suffix_sum(x))


def test_token_level_makes_each_action_token_a_step(make_episode, interrupted):
    batch = segments.regroup(collate([interrupted, make_episode([-1, 0], [1.0])]), "token")
    assert batch.step_id.tolist() == [[-1, -1, 0, 1, -1, 2, 3, -1], [-1, 0, *[-1] * 6]]
    assert batch.rewards.tolist() == [[0, 0, 0.25, 1.0], [1.0, 0, 0, 0]]
    assert batch.step_mask.tolist() == [[True] * 4, [True, False, False, False]]


def test_response_level_makes_one_step_with_the_sum(make_episode, interrupted):
    batch = segments.regroup(collate([interrupted, make_episode([-1, 0], [1.0])]), "response")
    assert batch.step_id.tolist() == [[-1, -1, 0, 0, -1, 0, 0, -1], [-1, 0, *[-1] * 6]]
    assert batch.rewards.tolist() == [[1.25], [1.0]]
    assert batch.step_mask.tolist() == [[True], [True]]


def test_step_level_is_the_batch_itself(random_episodes):
    batch = collate(random_episodes(3))
    assert segments.regroup(batch, "step") is batch


@pytest.mark.parametrize("granularity", ["token", "step", "response"])
def test_regrouping_keeps_actions_loss_mask_and_return(granularity, random_episodes):
    batch = collate(random_episodes(20, seed=3))
    grouped = segments.regroup(batch, granularity)
    assert torch.equal(grouped.action_mask, batch.action_mask)
    assert torch.equal(grouped.loss_mask, batch.loss_mask)
    torch.testing.assert_close(grouped.rewards.sum(1), batch.rewards.sum(1))
    assert torch.equal(grouped.step_mask.sum(1) - 1, grouped.step_id.amax(1))


def test_a_misspelt_granularity_offers_the_closest_name(random_episodes):
    batch = collate(random_episodes(1))
    with pytest.raises(ValueError, match="got 'tokens'; did you mean 'token'"):
        segments.regroup(batch, "tokens")


@pytest.mark.parametrize("granularity", ["token", "step", "response"])
def test_losses_at_each_granularity_equal_a_loop_over_tokens(granularity, random_episodes):
    """The loop follows the paper's sums on unpadded episodes and knows nothing of segments."""
    beta, episodes = 0.3, random_episodes(12, seed=4)
    batch = collate(episodes)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(batch.tokens.shape, generator=generator, dtype=torch.float64)
    log_ratio = torch.randn(batch.tokens.shape, generator=generator, dtype=torch.float64)

    grouped = segments.regroup(batch, granularity)
    arguments = (
        segments.step_values(segments.shift_values(outputs), grouped),
        segments.sum_by_step(log_ratio, grouped),
        segments.reward_to_go(grouped.rewards, grouped.step_mask).double(),
        grouped.step_mask,
    )

    total = 0.0
    for row, episode in enumerate(episodes):
        action = [t for t, k in enumerate(episode.step_id) if k >= 0]
        last = {k: max(t for t in action if episode.step_id[t] == k) for k in episode.step_id[action]}
        starts = {
            "token": action,
            "step": [min(t for t in action if episode.step_id[t] == k) for k in last],
            "response": action[:1],
        }[granularity]
        squares = []
        for start in starts:
            to_go = sum(r for k, r in enumerate(episode.rewards.tolist()) if last[k] >= start)
            penalty = beta * sum(log_ratio[row, t].item() for t in action if t >= start)
            squares.append((outputs[row, start - 1].item() + penalty - to_go) ** 2)
        total += sum(squares) / len(squares)
    expected = total / len(episodes)
    for loss in (oreo_value_loss, oreo_policy_loss):
        assert loss(*arguments, beta=beta).item() == pytest.approx(expected, rel=1e-5)


def test_batch_order_and_extra_padding_change_nothing(make_episode, random_episodes):
    episodes = random_episodes(8, seed=5)
    longer = make_episode([-1, *range(30)], [0.0] * 30)

    def losses(batch_episodes):
        batch = segments.regroup(collate(batch_episodes), "token")
        x = batch.tokens.double().sin()  # a function of the token, wherever it lies
        values = segments.step_values(segments.shift_values(x.cos()), batch)
        returns = segments.reward_to_go(batch.rewards, batch.step_mask).double()
        rows = slice(len(episodes))
        arguments = (values, segments.sum_by_step(x, batch), returns, batch.step_mask)
        arguments = tuple(argument[rows] for argument in arguments)
        return [loss(*arguments, beta=0.1) for loss in (oreo_value_loss, oreo_policy_loss)]

    torch.testing.assert_close(losses(episodes[::-1]), losses(episodes), rtol=1e-12, atol=0)
    torch.testing.assert_close(losses([*episodes, longer]), losses(episodes), rtol=1e-12, atol=0)
