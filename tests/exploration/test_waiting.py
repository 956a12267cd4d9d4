"""Silent groups that are counted and rollouts on a condition: against enumeration and against plain sampling."""

import math

import pytest
import torch
from small_worlds import WORLDS, corridor, random_policy, slippery

from maxrl_lab.errors import InputError
from maxrl_lab.exploration.waiting import Moves, next_group, score_sum, waits
from maxrl_lab.randomness import generator
from maxrl_lab.tabular.rollout import Paths


def policy_of(tasks, seed=0):
    """Probabilities (B, S, A)."""
    return random_policy(tasks, seed=seed)[0].exp()


@pytest.mark.parametrize("name", WORLDS)
def test_both_outcomes_add_up_and_give_the_pass_rate(name):
    tasks = WORLDS[name]
    policy, moves = policy_of(tasks), Moves(tasks)
    outcomes = moves.outcomes(policy)
    assert float((outcomes.success + outcomes.failure - 1).abs().max()) < 1e-12
    assert outcomes.pass_rate(tasks).tolist() == pytest.approx(tasks.pass_rate(policy.log()).tolist(), abs=1e-12)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_conditioned_paths_have_their_outcome_and_follow_the_table(name, reward):
    tasks = WORLDS[name]
    moves, policy = Moves(tasks), policy_of(tasks)
    paths = moves.walk(
        policy, torch.full((tasks.shape[0], 200), reward), moves.outcomes(policy), generator("conditioned", name)
    )
    last = tasks.success.gather(1, paths.states[..., -1])
    assert bool((last == (reward > 0)).all())
    for task in range(tasks.shape[0]):
        for states, actions in zip(paths.states[task].tolist(), paths.actions[task].tolist(), strict=True):
            for state, action, after in zip(states, actions, states[1:], strict=False):
                if action < 0:
                    assert after == state
                else:
                    assert after in tasks.successors[task, state, action].reshape(-1).tolist()


def test_conditioned_paths_are_as_frequent_as_bayes_says():
    """20,000 successes of each slippery task against plain rollouts that succeed: visits of 20 cells.

    All are within 5 standard errors, so that a correct walk fails with a chance of about 20 * 6e-7.
    """
    tasks, count = slippery(), 20_000
    moves, policy = Moves(tasks), policy_of(tasks)
    made = moves.walk(policy, torch.ones(2, count), moves.outcomes(policy), generator("bayes", 1))
    group, plain = tasks.paths(policy.log(), 4 * count, generator("bayes", 2))
    for task in range(2):
        right = group.rewards[task] > 0
        for state in range(5):
            for action in range(2):
                ours, theirs = (
                    ((paths.states[task][..., :-1] == state) & (paths.actions[task] == action)).double().sum(-1)
                    for paths in (made, Paths(plain.states[:, right], plain.actions[:, right]))
                )
                error = math.sqrt(float(ours.var() / len(ours) + theirs.var() / len(theirs)))
                assert abs(float(ours.mean() - theirs.mean())) <= 5 * error + 1e-12


def test_waits_have_the_geometric_law():
    """p = 0.01, N = 16: means of 200,000 waits and of the first success's position, within 5 standard errors."""
    p, rollouts, count = 0.01, 16, 200_000
    silent, first = waits(torch.full((count,), p, dtype=torch.float64), rollouts, generator("waits"))
    quiet = (1 - p) ** rollouts
    mean, spread = quiet / (1 - quiet), math.sqrt(quiet) / (1 - quiet)
    assert float(silent.mean()) == pytest.approx(mean, abs=5 * spread / math.sqrt(count))
    places = torch.arange(1, rollouts + 1, dtype=torch.float64)
    law = p * (1 - p) ** (places - 1) / (1 - quiet)
    expected = float((places * law).sum())
    spread = math.sqrt(float((places.square() * law).sum()) - expected**2)
    assert float(first.double().mean()) == pytest.approx(expected, abs=5 * spread / math.sqrt(count))
    assert (int(first.min()), int(first.max())) == (1, rollouts)


@pytest.mark.parametrize("p", [1e-12, 0.5, 1.0])
def test_waits_at_the_ends(p):
    silent, first = waits(torch.full((1000,), p, dtype=torch.float64), 4, generator("ends"))
    assert bool(silent.isfinite().all())
    assert bool(((first >= 1) & (first <= 4)).all())
    if p == 1:
        assert float(silent.max()) == 0
        assert int(first.max()) == 1
    if p == 1e-12:
        assert 0.8 < float(silent.mean()) * 4 * p < 1.2  # 1000 exponential waits: 6 standard errors


def test_a_group_that_was_waited_for_has_the_law_of_groups_that_count():
    """The number of successes given at least one: 40,000 groups of 4 at the corridor's p, within 5 standard errors."""
    tasks, count = corridor(), 40_000
    policy = policy_of(tasks)
    many = tasks.select([0] * count)
    moves = Moves(many)
    spread = policy.expand(count, -1, -1)
    group = next_group(moves, spread, moves.outcomes(spread), 4, generator("law"))
    p = float(tasks.pass_rate(policy.log()))
    shares = torch.bincount(group.rewards.sum(-1).long(), minlength=5) / count
    for successes in range(1, 5):
        chance = math.comb(4, successes) * p**successes * (1 - p) ** (4 - successes) / (1 - (1 - p) ** 4)
        assert float(shares[successes]) == pytest.approx(chance, abs=5 * math.sqrt(chance * (1 - chance) / count))
    assert float(shares[0]) == 0
    at_end = many.success.gather(1, group.paths.states[..., -1])
    assert torch.equal(at_end.double(), group.rewards)


def test_without_waiting_silent_groups_come_as_they_are():
    tasks, count = corridor(), 20_000
    policy = policy_of(tasks).expand(count, -1, -1)
    many = tasks.select([0] * count)
    moves = Moves(many)
    group = next_group(moves, policy, moves.outcomes(policy), 4, generator("plain"), wait=False)
    p = float(tasks.pass_rate(policy[:1].log()))
    assert float(group.silent.sum()) == 0
    assert float(group.rewards.mean()) == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / (4 * count)))


def test_the_sum_of_scores_is_the_gradient_of_the_log_probability():
    tasks = WORLDS["graphs"]
    logits = random_policy(tasks, seed=3)[0].clone().requires_grad_()
    group, paths = tasks.paths(logits.log_softmax(-1), 6, generator("scores"))
    weights = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (group.log_probs * weights).sum().backward()
    made = score_sum(logits.detach().softmax(-1), paths, weights)
    assert float((made - logits.grad).abs().max()) < 1e-12


def test_a_wait_without_an_end_is_refused():
    """Action 0 alone never leaves the start of the corridor."""
    tasks = corridor()
    policy = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(tasks.shape).contiguous()
    moves = Moves(tasks)
    with pytest.raises(InputError, match="the wait for a success has no end: the pass rate of task 0 is 0"):
        next_group(moves, policy, moves.outcomes(policy), 4, generator("never"))
