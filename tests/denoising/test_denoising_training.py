"""Pretraining, training at equal backward passes, and what is kept and worth off-policy."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from envs.canvas import Canvas
from maxrl_lab import exact
from maxrl_lab.bernstein import binomial_mean
from maxrl_lab.denoising import likelihoods
from maxrl_lab.denoising.forms import Forms
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.moments import tabulate
from maxrl_lab.denoising.off_policy import Kept, kept_bytes, values_after
from maxrl_lab.denoising.pretraining import Pretraining, Solutions, pretrain
from maxrl_lab.denoising.study import Network, Trial, pass_rates, train
from maxrl_lab.errors import InputError
from maxrl_lab.policies.masked import PairwiseDenoiser
from maxrl_lab.runs.checkpoint import Checkpoint

CANVAS = Canvas(length=2, base=2)
PROMPTS = CANVAS.problems(6)
SETTINGS = Pretraining(pretrain_steps=40, pretrain_copies=2, pretrain_rate=0.05, noise=0.1)


@pytest.fixture
def base():
    return Network(width=8).make(CANVAS, CANVAS.words, CANVAS.prompt_length, seed=1)


@pytest.mark.parametrize("architecture", ["mlp", "transformer"])
def test_a_network_is_the_seeds(architecture):
    network = Network(architecture=architecture, width=8)
    first, again, other = (network.make(CANVAS, CANVAS.words, CANVAS.prompt_length, seed) for seed in (1, 1, 2))
    rows = [policy.log_probs(PROMPTS, torch.full((1, 2), 2)).detach() for policy in (first, again, other)]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_pretraining_raises_the_bound_of_solutions_and_resumes(base, tmp_path):
    lattice = Lattice(2, 2)
    right = CANVAS.right(PROMPTS, lattice.answers.expand(len(PROMPTS), -1, -1))

    def bound():
        values = likelihoods.elbo(lattice, tabulate(base, PROMPTS, lattice))
        return float((values * right).sum() / right.sum())

    before, rates = bound(), pass_rates(base, CANVAS, PROMPTS).mean()
    pretrain(base, CANVAS, PROMPTS, SETTINGS, 0, Checkpoint(tmp_path / "base"))
    assert bound() > before
    assert pass_rates(base, CANVAS, PROMPTS).mean() > rates + 0.1
    again = Network(width=8).make(CANVAS, CANVAS.words, CANVAS.prompt_length, seed=1)
    pretrain(again, CANVAS, PROMPTS, SETTINGS, 0, Checkpoint(tmp_path / "base"))  # from the checkpoint of its end
    for name, value in base.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_solutions_are_known_ones_and_are_not_sampled_from(base):
    solutions = Solutions(base, CANVAS, PROMPTS, SETTINGS, seed=0, step=0)
    assert solutions.log_pass_rate([0]).shape == (1, len(PROMPTS))
    with pytest.raises(InputError, match="pretraining samples nothing"):
        solutions.rollout([0], 4)


def test_equal_backward_passes():
    """24 updates through the path of 4 places are 96 passes: 96 of one mask, 24 of four, 48 of two, 32 of three."""
    wanted = {"path": 24, "own_step": 96, "elbo": 96, "elbo:samples=4": 24, "two_times": 48, "coupled": 32}
    for name, updates in wanted.items():
        assert Trial(name, 4, 0.1, 0).updates(4, 24) == updates
    with pytest.raises(InputError, match="1 updates of the path pay for none of elbo:samples=16"):
        Trial("elbo:samples=16", 4, 0.1, 0).updates(4, 1)


def test_training_raises_pass_rates_and_its_rows_say_what_was_spent(base, tmp_path):
    trial = Trial("elbo", 8, 0.03, 0)
    rows = train(base, CANVAS, PROMPTS, trial, path_updates=20, measurements=4, save=Checkpoint(tmp_path / "run"))
    assert [row["updates"] for row in rows] == [0, 10, 20, 30, 40]
    assert [row["share"] for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    assert rows[-1]["pass_rate"] > rows[0]["pass_rate"] + 0.1
    assert rows[-1]["pass_rate"] == pytest.approx(float(pass_rates(base, CANVAS, PROMPTS).mean()))
    assert {row["method"] for row in rows} == {"elbo"}


def test_a_run_that_diverges_is_named(base, tmp_path):
    with torch.no_grad():
        base.out.bias.fill_(torch.nan)
    trial = Trial("path", 2, 0.1, 3)
    with pytest.raises(InputError, match=r"seed=3.* has diverged: its policy is NaN after 0 updates"):
        train(base, CANVAS, PROMPTS, trial, path_updates=1, measurements=1, save=Checkpoint(tmp_path / "run"))


def kept(policy, samples):
    answers = torch.tensor([[[0, 1], [1, 1], [0, 0]]])
    advantages = torch.tensor([[1.0, -0.5, 2.0]], dtype=torch.float64)
    stream = torch.Generator().manual_seed(0)
    return Kept(policy, torch.zeros(1, 1).long(), answers, advantages, samples, 2, stream)


def gradient_of(losses, policy):
    policy.zero_grad()
    for make in losses:
        make().backward()
    return torch.cat([parameter.grad.flatten() for parameter in policy.parameters()])


def test_on_policy_the_gradients_of_bgpo_and_vrpo_are_one():
    policy = PairwiseDenoiser(2, 2, seed=1)
    made = kept(policy, 4)
    together = gradient_of([made.vrpo_loss], policy)
    torch.testing.assert_close(gradient_of(made.bgpo_losses(), policy), together, rtol=0, atol=1e-12)
    with torch.no_grad():
        policy.bias += 0.5 * torch.randn(policy.bias.shape, generator=torch.Generator().manual_seed(2))
    moved = gradient_of(made.bgpo_losses(), policy) - gradient_of([made.vrpo_loss], policy)
    assert moved.norm() > 1e-3


def test_bgpo_keeps_one_graph_and_vrpo_keeps_all():
    policy = PairwiseDenoiser(2, 2, seed=1)
    sizes = {}
    for samples in (1, 2, 8):
        made = kept(policy, samples)
        sizes[samples] = kept_bytes(made.vrpo_loss), max(map(kept_bytes, made.bgpo_losses()))
        assert sizes[samples][0] == kept_bytes(made.vrpo_loss)  # deterministic
    coefficients = 3 * 2 * 8  # bytes of one mask of 3 answers with 2 places, which the rollouts hold anyhow
    for samples in (2, 8):
        assert sizes[samples][1] - sizes[1][1] == coefficients * (samples - 1)
    assert sizes[8][0] > 2 * sizes[2][0] > 2 * sizes[1][0]


def test_values_after_steps_are_sums_over_answers_and_masks():
    lattice, forms = Lattice(2, 2), Forms(2)
    old, new = (tabulate(PairwiseDenoiser(2, 2, seed=seed), torch.zeros(1, 1).long(), lattice) for seed in (0, 1))
    right = (lattice.answers[:, 0] == lattice.answers[:, 1])[None]
    values = values_after(
        forms,
        forms.tokens(lattice, old),
        forms.tokens(lattice, new),
        right,
        estimator="maxrl",
        rollouts=4,
        samples=(1, 2),
    )
    chances, moved = (forms.path_log_probs(forms.tokens(lattice, table)).logsumexp(-1)[0] for table in (old, new))
    rate = (chances.exp() * right[0]).sum()
    success, failure = exact.coefficients("maxrl", rollouts=4)
    advantages = torch.where(right[0], binomial_mean(success[1:], rate), binomial_mean(failure[:-1], rate))
    assert float(values["true"]) == pytest.approx(float((moved.exp() * advantages).sum()))
    terms = [likelihoods.combine(lattice, new - old, mask)[0] for mask in _masks()]
    weights = [0.25, 0.25, 0.5]
    slow = dict.fromkeys(("bgpo", "vrpo:samples=1", "vrpo:samples=2"), 0.0)
    for answer in range(4):
        scale, d = float(chances[answer].exp()), [float(term[answer]) for term in terms]
        advantage = float(advantages[answer])
        for first, second in product(range(3), repeat=2):
            share = scale * weights[first] * weights[second]
            one, two = torch.tensor(d[first]), torch.tensor([d[first], d[second]])
            slow["vrpo:samples=1"] += share * advantage * float(one.exp())
            slow["vrpo:samples=2"] += share * advantage * float(two.mean().exp())
            slow["bgpo"] += share * advantage * float(1 + one if advantage >= 0 else one.exp())
    for name, value in slow.items():
        assert float(values[name]) == pytest.approx(value, rel=1e-5)
    assert float(values["spread"]) > 0


def _masks():
    """Coefficients (2^L, L) of the two masks of one place, which weigh 2, and of the mask of both."""
    made = torch.zeros(3, 4, 2, dtype=torch.float64)
    made[0, 0b10, 0] = 2  # place 0 is empty, place 1 visible
    made[1, 0b01, 1] = 2
    made[2, 0] = 1
    return made


def test_settings_are_bounded():
    with pytest.raises(InputError, match=r"noise must lie in \[0, 1\], got 1.5"):
        replace(SETTINGS, noise=1.5)
    with pytest.raises(InputError, match="unknown architecture 'rnn'"):
        Network(architecture="rnn")
