"""The batch that trains on denoised answers: every method, unbiased through the path, and what it refuses."""

import pytest
import torch

from maxrl_lab import exact
from maxrl_lab.denoising.batch import DenoisingBatch, score
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.moments import Problem
from maxrl_lab.denoising.samplers import Blocks, EntropyBounded
from maxrl_lab.errors import InputError
from maxrl_lab.policies.masked import PairwiseDenoiser
from maxrl_lab.training.groups import DivergedError
from maxrl_lab.training.methods import Exact, Expected, Sampled
from maxrl_lab.training.step import run_losses

PROMPTS = torch.zeros(3, 1, dtype=torch.long)


def equal(prompts, answers):
    return answers[..., 0] == answers[..., 1]


def batch(policy, prompts=PROMPTS, **options):
    return DenoisingBatch(policy, prompts, equal, 2, 2, **options)


def gradient(loss, policy):
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(policy.parameters()))])


@pytest.fixture
def policy():
    return PairwiseDenoiser(2, 2, seed=7)


@pytest.mark.parametrize("name", ["path", "own_step", "elbo:samples=2", "two_times", "mean_field", "coupled", "spg"])
def test_sampled_gradients_have_the_exact_means(policy, name):
    """Projected on the exact mean, 60 batches of 100 groups: |t| < 4.5, so a right one fails with chance below 1e-4."""
    lattice = Lattice(2, 2)
    problem = Problem(policy, PROMPTS[0], equal(None, lattice.answers), lattice)
    wanted = problem.moments(name).estimate("maxrl_no_baseline", 3).mean
    prompts = PROMPTS[:1].expand(100, -1)
    values = []
    for step in range(60):
        loss = Sampled("maxrl_no_baseline", 3).loss(batch(policy, prompts, surrogate=name, step=step), [0]).sum()
        values.append(-gradient(loss, policy) @ wanted / wanted.square().sum())
    estimates = torch.stack(values)
    error = estimates.std() / len(estimates) ** 0.5
    assert error < 0.1  # the test has power
    assert abs(float((estimates.mean() - 1) / error)) < 4.5


def test_expected_and_exact_follow_the_exact_pass_rate(policy):
    losses = run_losses(batch(policy), [Expected("maxrl", 4)])
    lattice = Lattice(2, 2)
    problem = Problem(policy, PROMPTS[0], equal(None, lattice.answers), lattice)
    mean = problem.moments("path").estimate("maxrl", 4).mean
    torch.testing.assert_close(-gradient(losses.sum(), policy), mean, rtol=0, atol=1e-12)
    likelihood = -gradient(run_losses(batch(policy), [Exact("maximum_likelihood")]).sum(), policy)
    weight = exact.weight("maxrl", rollouts=4, pass_rate=problem.pass_rate)
    torch.testing.assert_close(likelihood * weight * problem.pass_rate, mean, rtol=0, atol=1e-12)


def test_a_run_is_addressed_by_its_seed_and_step(policy):
    def rewards(**address):
        return batch(policy, **address).rollout([0], 32).rewards

    assert torch.equal(rewards(seed=1, step=2), rewards(seed=1, step=2, surrogate="elbo"))
    assert not torch.equal(rewards(seed=1, step=2), rewards(seed=1, step=3))


def test_what_was_sampled_is_told(policy):
    made = batch(policy)
    group = made.rollout([0], 8)
    assert group.rewards.shape == group.log_probs.shape == (1, 3, 8)
    assert made.seen == {"pass_rate": pytest.approx(float(group.rewards.double().mean()))}


def test_scores_are_read_where_the_mask_leaves_them(policy):
    answers = torch.tensor([[[0, 1]]])
    empty = torch.tensor([[[[True, False], [True, True]]]])
    made = score(policy, PROMPTS[:1], answers, empty, 2)
    given = policy.log_probs(PROMPTS[:1], torch.tensor([[[2, 1], [2, 2]]]))
    assert made[0, 0, 0, 0] == given[0, 0, 0, 0]
    assert made[0, 0, 1].tolist() == [given[0, 1, 0, 0], given[0, 1, 1, 1]]


def test_blocks_are_sampled_from_left_to_right(policy):
    made = batch(policy, sampler=Blocks(1))
    assert float(made.log_pass_rate([0]).detach().exp()[0, 0]) != pytest.approx(
        float(batch(policy).log_pass_rate([0]).detach().exp()[0, 0])
    )
    made.rollout([0], 4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda policy: batch(policy, surrogate="likelihood"), "unknown surrogate 'likelihood'"),
        (lambda policy: batch(policy, surrogate="anchors:count=3"), "1 to 2 anchors for 2 places"),
        (lambda policy: batch(policy, sampler=EntropyBounded(1.0)), "fills one place at a time"),
        (lambda policy: batch(policy).rollout([1], 4), "run 0; got runs"),
        (lambda policy: batch(policy, sampler=Blocks(3)).rollout([0], 4), "must divide the length 2, got 3"),
        (lambda policy: Sampled("pkpo:k=8", 4), "k"),
    ],
)
def test_bad_input_is_named_in_one_line(policy, make, words):
    with pytest.raises(InputError, match=words) as caught:
        make(policy)
    assert "\n" not in str(caught.value)


def test_a_policy_that_is_nan_is_refused(policy):
    with torch.no_grad():
        policy.bias.fill_(torch.nan)
    with pytest.raises(DivergedError, match="run 0 is NaN after 5 updates"):
        batch(policy, step=5).rollout([0], 2)
    with pytest.raises(DivergedError):
        batch(policy).log_pass_rate([0])
