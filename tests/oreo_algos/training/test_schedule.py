"""Which step trains what on which examples."""

from collections import Counter

import pytest

from oreo_algos.training.schedule import Schedule


def schedule(**options):
    return Schedule(**({"examples": 14, "batch_size": 4, "epochs": 2, "seed": 0} | options))


def flat(plan, steps):
    return Counter(index for step in steps for index in plan.batch(step))


def test_steps_add_up():
    plan = schedule(value_warmup_steps=3, value_updates=3)
    assert (plan.steps_per_epoch, plan.policy_steps, plan.total_steps) == (4, 8, 3 + 24)
    assert [step for step in range(27) if plan.trains_policy(step)] == list(range(5, 27, 3))
    assert plan.epoch(2) == plan.epoch(4) == 0
    assert plan.epoch(5) == 0.25
    assert plan.epoch(26) == 2


def test_value_only_has_the_epochs_of_the_value():
    plan = schedule(value_only=True, value_warmup_steps=2)
    assert (plan.policy_steps, plan.total_steps) == (0, 10)
    assert not any(plan.trains_policy(step) for step in range(10))
    assert flat(plan, range(2, 6)) == Counter(range(14))


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_every_pass_of_every_kind_of_step_sees_each_example_once(updates):
    plan = schedule(value_updates=updates, value_warmup_steps=4)
    joint = [step for step in range(plan.total_steps) if plan.trains_policy(step)]
    extra = [step for step in range(4, plan.total_steps) if not plan.trains_policy(step)]
    for steps in (range(4), joint, extra):
        for start in range(0, len(steps), 4):
            assert flat(plan, steps[start : start + 4]) == Counter(range(14))


def test_the_policy_sees_the_same_batches_whatever_the_value_does():
    plain = [schedule().batch(step) for step in range(8)]
    other = schedule(value_updates=3, value_warmup_steps=5)
    assert [other.batch(step) for step in range(other.total_steps) if other.trains_policy(step)] == plain
