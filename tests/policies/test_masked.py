"""Masked-diffusion policies: what they see, what they may write, and the log-linear one by a loop."""

import itertools

import pytest
import torch

from maxrl_lab.policies.masked import MaskedPolicy, PairwiseDenoiser

PROMPTS = torch.tensor([[6, 0, 1, 2], [4, 2, 2, 0]])
EMPTY = 3


def policy(seed=0):
    return MaskedPolicy(base=3, words=7, seed=seed).double()


class TestMaskedPolicy:
    def test_distributions_over_digits_alone(self):
        values = policy().log_probs(PROMPTS, torch.full((2, 5, 2), EMPTY))
        assert values.shape == (2, 5, 2, 3)
        assert torch.allclose(values.exp().sum(-1), torch.ones(2, 5, 2, dtype=torch.float64))

    def test_states_shared_by_prompts(self):
        states = torch.tensor(list(itertools.product(range(4), repeat=2)))
        assert torch.equal(policy().log_probs(PROMPTS, states), policy().log_probs(PROMPTS, states.expand(2, -1, -1)))

    def test_states_do_not_see_each_other(self):
        states = torch.tensor([[0, EMPTY], [1, 2], [EMPTY, EMPTY]])
        together = policy().log_probs(PROMPTS, states)
        for row in range(3):
            alone = policy().log_probs(PROMPTS, states[row : row + 1])
            assert torch.allclose(together[:, row : row + 1], alone, atol=1e-13)

    def test_every_place_sees_the_prompt_and_all_places(self):
        network, states = policy(), torch.tensor([[0, EMPTY, 1]])
        before = network.log_probs(PROMPTS, states)
        for place, digit in ((0, 2), (2, 0)):
            other = states.clone()
            other[0, place] = digit
            change = (network.log_probs(PROMPTS, other) - before).abs().amax((0, 1, 3))
            assert (change > 1e-6).all()
        for word in range(4):
            other = PROMPTS.clone()
            other[:, word] = 5
            change = (network.log_probs(other, states) - before).abs().amax((1, 3))
            assert (change > 1e-6).all()

    def test_order_matters(self):
        """Places have positions: the same digits elsewhere are another answer."""
        values = policy().log_probs(PROMPTS, torch.tensor([[0, 1, EMPTY], [1, 0, EMPTY]]))
        assert (values[:, 0, 2] - values[:, 1, 2]).abs().max() > 1e-6

    def test_the_seed_decides_and_leaves_the_global_stream_alone(self):
        torch.manual_seed(5)
        first = torch.rand(1)
        torch.manual_seed(5)
        one = policy(1)
        assert torch.equal(torch.rand(1), first)
        states = torch.full((1, 2), EMPTY)
        assert torch.equal(one.log_probs(PROMPTS, states), policy(1).log_probs(PROMPTS, states))
        assert not torch.equal(one.log_probs(PROMPTS, states), policy(2).log_probs(PROMPTS, states))

    def test_single_precision(self):
        states = torch.full((1, 2), EMPTY)
        single = MaskedPolicy(base=3, words=7, seed=0).log_probs(PROMPTS, states)
        assert single.dtype == torch.float32
        assert torch.allclose(single.double(), policy().log_probs(PROMPTS, states), atol=1e-5)

    def test_gradients_by_finite_differences(self):
        network, states = policy(), torch.tensor([[0, EMPTY], [EMPTY, EMPTY]])
        value = network.log_probs(PROMPTS, states)[:, :, 1, 0].sum()
        value.backward()
        for parameter in network.parameters():
            index = tuple(side // 2 for side in parameter.shape)
            slope = parameter.grad[index].item()
            with torch.no_grad():
                parameter[index] += 1e-5
                above = network.log_probs(PROMPTS, states)[:, :, 1, 0].sum().item()
                parameter[index] -= 2e-5
                below = network.log_probs(PROMPTS, states)[:, :, 1, 0].sum().item()
                parameter[index] += 1e-5
            assert slope == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-8)

    def test_bad_input(self, refuses):
        with refuses("words must be more than the 3 digits, got 3"):
            MaskedPolicy(base=3, words=3)
        with refuses("prompt and answer have at most 64 words, got 4 + 61"):
            policy().log_probs(PROMPTS, torch.full((1, 61), EMPTY))


class TestPairwiseDenoiser:
    def test_by_a_loop(self):
        denoiser = PairwiseDenoiser(3, 3, seed=1)
        states = torch.tensor(list(itertools.product(range(4), repeat=3)))
        values = denoiser.log_probs(PROMPTS, states)
        assert values.shape == (2, 64, 3, 3)
        for row, state in enumerate(states.tolist()):
            logits = denoiser.bias.clone()
            for place, digit in enumerate(state):
                if digit != EMPTY:
                    logits = logits + denoiser.weight[:, :, place, digit]
            assert torch.allclose(values[0, row], logits.log_softmax(-1), atol=1e-13)
        assert torch.equal(values[0], values[1])

    def test_states_of_every_prompt(self):
        denoiser = PairwiseDenoiser(3, 3)
        states = torch.randint(0, 4, (2, 5, 3), generator=torch.Generator().manual_seed(0))
        values = denoiser.log_probs(PROMPTS, states)
        for row in range(2):
            assert torch.allclose(values[row], denoiser.log_probs(PROMPTS[:1], states[row])[0], atol=1e-14)

    def test_size_and_scale(self):
        denoiser = PairwiseDenoiser(4, 5, scale=2.0, seed=3)
        assert sum(parameter.numel() for parameter in denoiser.parameters()) == 420
        assert denoiser.weight.std().item() == pytest.approx(2.0, rel=0.15)  # 400 numbers, four standard deviations
