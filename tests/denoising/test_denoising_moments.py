"""Exact moments through every surrogate, against all groups of all rollouts, and against gradients of pass rates."""

from itertools import product

import pytest
import torch

from maxrl_lab import exact
from maxrl_lab.denoising.forms import Forms
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.moments import Problem, mask_sets, slopes, tabulate
from maxrl_lab.denoising.samplers import EntropyBounded, Uniform
from maxrl_lab.denoising.surrogates import renyi_bound, resolve
from maxrl_lab.errors import InputError
from maxrl_lab.policies.masked import MaskedPolicy, PairwiseDenoiser
from maxrl_lab.policies.masked_mlp import MaskedMlp
from maxrl_lab.policies.stack import seeded
from maxrl_lab.policies.transformer import Shape

ESTIMATORS = (
    "reinforce",
    "rloo",
    "grpo",
    "maxrl",
    "maxrl_no_baseline",
    "maxrl_control_variate",
    "maxrl_centred:order=1",
)
CENTRED = ("rloo", "grpo", "maxrl", "maxrl_centred:order=1")
SURROGATES = ("path", "own_step", "elbo", "elbo:samples=2", "two_times", "mean_field", "spg", "spg:samples=2")
PROMPT = torch.zeros(1, dtype=torch.long)


@pytest.fixture(scope="module")
def small():
    """Two places of two digits: 4 answers, 8 rollouts; equal digits are right."""
    lattice = Lattice(2, 2)
    return Problem(PairwiseDenoiser(2, 2, seed=4), PROMPT, lattice.answers[:, 0] == lattice.answers[:, 1], lattice)


@pytest.fixture(scope="module")
def pairs():
    """Three places of three digits, of which the first two must be equal."""
    lattice = Lattice(3, 3)
    return Problem(PairwiseDenoiser(3, 3, seed=2), PROMPT, lattice.answers[:, 0] == lattice.answers[:, 1], lattice)


def outcomes(problem, name):
    """Every rollout with every set of masks: probability, gradient of the surrogate by autograd, and reward."""
    surrogate, forms, policy = resolve(name), problem.forms, problem.policy
    law = surrogate.law(forms.length)
    table = policy.log_probs(PROMPT[None], problem.lattice.states)
    tokens = forms.tokens(problem.lattice, table)[0]
    made = []
    for answer, order in product(range(len(tokens)), range(len(forms.orders))):
        chance = float(problem.answers[answer] * problem.posterior[answer, order])
        rank = forms.orders[order].argsort()
        for masks in product(range(len(law.weights)), repeat=surrogate.samples):
            empty = torch.cat([law.empty[mask][:, rank] for mask in masks])
            values = torch.cat([law.coefficients[mask][:, rank] for mask in masks]) / surrogate.samples
            padded = torch.cat([tokens[answer], tokens.new_zeros(1)])
            cells = padded[forms.cell_numbers(empty)]
            value = (cells * values).sum()
            if surrogate.beta is not None and not problem.right[answer]:
                value = renyi_bound(cells[None], empty[None], surrogate.beta)[0]
            gradient = torch.autograd.grad(value, list(policy.parameters()), retain_graph=True)
            flat = torch.cat([part.flatten() for part in gradient])
            weight = float(law.weights[list(masks)].prod())
            made.append((chance * weight, flat, float(problem.right[answer])))
    chances, gradients, rewards = zip(*made, strict=True)
    return torch.tensor(chances, dtype=torch.float64), torch.stack(gradients), torch.tensor(rewards)


@pytest.mark.parametrize("name", SURROGATES)
def test_moments_are_those_of_all_pairs_of_rollouts(small, name):
    """N = 2: mean and variance over every pair of rollouts with every mask, for every estimator."""
    chances, gradients, rewards = outcomes(small, name)
    assert float(chances.sum()) == pytest.approx(1)
    products = gradients @ gradients.T
    joint = chances[:, None] * chances
    for estimator in ESTIMATORS:
        success, failure = exact.coefficients(estimator, rollouts=2)
        count = (rewards[:, None] + rewards).long()
        first = torch.where(rewards[:, None] == 1, success[count], failure[count])
        mean = torch.einsum("ij,ij,id->d", joint, first, gradients)  # both rollouts alike
        square = first**2 * products.diag()[:, None] + first * first.T * products
        second = (joint * square).sum() / 2
        made = small.moments(name).estimate(estimator, 2)
        torch.testing.assert_close(made.mean, mean, rtol=0, atol=1e-12)
        assert float(made.variance) == pytest.approx(float(second - mean @ mean), abs=1e-11)


@pytest.mark.parametrize("name", ["path", "own_step"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_own_path_is_unbiased(pairs, name, estimator):
    """E[g] = w_N(p) grad p for every estimator, with grad p through the lattice."""
    made = pairs.moments(name).estimate(estimator, 4)
    torch.testing.assert_close(made.mean, _true(pairs, estimator, 4), rtol=0, atol=1e-12)


def _true(problem, estimator, rollouts):
    table = problem.policy.log_probs(PROMPT[None], problem.lattice.states)
    rate = problem.lattice.pass_rate(table, Uniform(), problem.right[None])[0]
    assert float(rate.detach()) == pytest.approx(float(problem.pass_rate), abs=1e-12)
    gradient = torch.autograd.grad(rate, list(problem.policy.parameters()))
    weight = exact.weight(estimator, rollouts=rollouts, pass_rate=float(rate.detach()))
    return weight * torch.cat([part.flatten() for part in gradient])


@pytest.mark.parametrize("name", ["elbo", "two_times", "mean_field", "coupled"])
def test_the_weight_outlives_a_surrogate_and_centred_tables_lose_the_drift(pairs, name):
    """E[g] = w_N(p) p (1-p) (s1 - s0) + m E[grad l]; m = 0 for tables that sum to zero."""
    moments = pairs.moments(name)
    p, (right, wrong) = float(moments.pass_rate), moments.means
    drift = p * right + (1 - p) * wrong
    assert drift.norm() > 1e-3  # E[grad l] is not 0, as that of a log-likelihood is
    contrast = p * (1 - p) * (right - wrong)
    mean_advantage = {"reinforce": p, "maxrl_no_baseline": 1 - (1 - p) ** 4, "maxrl_control_variate": -((1 - p) ** 4)}
    for estimator in ESTIMATORS:
        weight = exact.weight(estimator, rollouts=4, pass_rate=p)
        wanted = weight * contrast + mean_advantage.get(estimator, 0.0) * drift
        torch.testing.assert_close(moments.estimate(estimator, 4).mean, wanted, rtol=0, atol=1e-12)
    assert set(ESTIMATORS) == {*mean_advantage, *CENTRED}


def test_answers_sum_to_one_and_are_the_lattices(pairs):
    table = tabulate(pairs.policy, PROMPT[None], pairs.lattice)
    assert float(pairs.answers.sum()) == pytest.approx(1, abs=1e-12)
    wanted = pairs.lattice.answer_log_probs(table, Uniform())[0].exp()
    torch.testing.assert_close(pairs.answers, wanted, rtol=0, atol=1e-12)


def test_the_sampler_that_writes_all_places_at_once_is_the_mean_field(pairs):
    """With gamma = infinity d1's surrogate is the log-likelihood: no bias for that sampler."""
    table = pairs.policy.log_probs(PROMPT[None], pairs.lattice.states)
    rate = pairs.lattice.pass_rate(table, EntropyBounded(torch.inf), pairs.right[None])[0]
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(rate, list(pairs.policy.parameters()))])
    at_once = Problem(pairs.policy, PROMPT, pairs.right, pairs.lattice)
    coefficients = at_once.forms.moments(resolve("mean_field"))[0][0]
    at_once.answers = (at_once.tokens @ coefficients).exp()  # of the product of the digits' probabilities
    assert float(at_once.answers.sum()) == pytest.approx(1, abs=1e-12)
    made = at_once.moments("mean_field").estimate("maxrl", 4)
    weight = exact.weight("maxrl", rollouts=4, pass_rate=float(rate.detach()))
    torch.testing.assert_close(made.mean, weight * gradient, rtol=0, atol=1e-12)


def test_the_mean_field_does_not_see_a_sum():
    """At the uniform policy its contrast is exactly 0 on sums, while the bound's is exactly right."""
    lattice = Lattice(3, 2)
    policy = seeded(lambda: MaskedMlp(base=2, length=3, words=3, prompt_length=1, width=16), "uniform")
    for parameter in policy.out.parameters():
        torch.nn.init.zeros_(parameter)
    problem = Problem(policy, PROMPT, lattice.answers.sum(1) % 2 == 0, lattice)
    contrasts = {name: problem.moments(name).means.diff(dim=0).norm() for name in ("path", "elbo", "mean_field")}
    assert contrasts["path"] > 0.01
    assert contrasts["mean_field"] < 1e-12
    off = problem.moments("elbo").means.diff(dim=0) - problem.moments("path").means.diff(dim=0)
    assert off.norm() < 1e-12


@pytest.mark.parametrize("kind", ["pairwise", "mlp", "transformer"])
def test_slopes_are_the_gradients_of_log_probabilities(kind):
    shape = Shape(width=8, layers=1, heads=2, kv_heads=1, mlp=8, context=8)
    policy = {
        "pairwise": lambda: PairwiseDenoiser(3, 2),
        "mlp": lambda: seeded(lambda: MaskedMlp(base=2, length=3, words=4, prompt_length=2, width=8), "mlp").double(),
        "transformer": lambda: MaskedPolicy(shape, base=2, words=4, seed=0).double(),
    }[kind]()
    prompt, states = torch.tensor([3, 1]), torch.tensor([[2, 0, 2], [2, 2, 2], [1, 2, 0]])
    places, digits = torch.tensor([0, 2, 1]), torch.tensor([1, 0, 1])
    made = slopes(policy, prompt, states, places, digits)
    for row in range(3):
        value = policy.log_probs(prompt[None], states[row][None])[0, 0, places[row], digits[row]]
        gradient = torch.autograd.grad(value, list(policy.parameters()))
        torch.testing.assert_close(made[row], torch.cat([part.flatten() for part in gradient]), rtol=0, atol=1e-10)


def test_sets_of_masks_are_counted_as_often_as_they_are_drawn():
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    sets, chances = mask_sets(weights, 3)
    assert len(sets) == 10
    assert float(chances.sum()) == pytest.approx(1)
    rows = {tuple(row): chance for row, chance in zip(sets.tolist(), chances.tolist(), strict=True)}
    assert rows[0, 1, 2] == pytest.approx(6 * 0.2 * 0.3 * 0.5)
    assert rows[0, 0, 2] == pytest.approx(3 * 0.2**2 * 0.5)


def test_too_much_is_refused_with_the_numbers(monkeypatch, small):
    with pytest.raises(InputError, match="8 masks of 15 make 319770 sets, at most 5000 are listed"):
        mask_sets(torch.full((15,), 1 / 15), 8)
    monkeypatch.setattr("maxrl_lab.denoising.moments.MOST_SLOPES", 10)
    with pytest.raises(InputError, match="at most 10 numbers, 12 cells and 20 parameters have 240"):
        Problem(small.policy, PROMPT, small.right, small.lattice, Forms(2)).moments("elbo")
