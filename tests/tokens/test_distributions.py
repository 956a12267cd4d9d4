"""The distribution of a token: temperature, nucleus and entropy by hand, and which token a number stands for."""

import math

import pytest
import torch

from maxrl_lab.tokens.distributions import distribution, entropy, nucleus, pick


class TestDistribution:
    LOGITS = torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64).log()

    @pytest.mark.parametrize(
        ("temperature", "chances"),
        [
            (1.0, [0.5, 0.25, 0.15, 0.1]),
            (0.5, [0.25 / 0.345, 0.0625 / 0.345, 0.0225 / 0.345, 0.01 / 0.345]),  # squares, 0.345 in all
        ],
    )
    def test_temperature_by_hand(self, temperature, chances):
        found = distribution(self.LOGITS + 3.0, temperature)
        assert found.exp().tolist() == pytest.approx(chances, rel=1e-12)

    @pytest.mark.parametrize(
        ("top_p", "chances"),
        [
            (1.0, [0.5, 0.25, 0.15, 0.1]),
            (0.95, [0.5, 0.25, 0.15, 0.1]),  # the first three hold 0.9 only
            (0.85, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
            (0.7, [2 / 3, 1 / 3, 0, 0]),
            (0.4, [1, 0, 0, 0]),
            (1e-9, [1, 0, 0, 0]),  # the likeliest always stays
        ],
    )
    @pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 0, 2, 1]])
    def test_top_p_by_hand(self, top_p, chances, order):
        found = distribution(self.LOGITS[order], top_p=top_p)
        assert found.exp().tolist() == pytest.approx([chances[each] for each in order], rel=1e-12)

    def test_just_enough_is_enough(self):
        assert distribution(torch.zeros(2), top_p=0.5).exp().sort().values.tolist() == [0, 1]

    def test_temperature_comes_before_top_p(self):
        # squared, the first holds 0.25 / 0.345 = 0.72: enough for 0.7, which took two at temperature 1
        assert distribution(self.LOGITS, 0.5, 0.7).exp().tolist() == [1, 0, 0, 0]

    def test_rows_are_cut_each_by_itself(self):
        rows = torch.stack([self.LOGITS, self.LOGITS.flip(0), torch.zeros(4, dtype=torch.float64)])
        found = distribution(rows, top_p=0.7).exp()
        assert (found > 0).sum(-1).tolist() == [2, 2, 3]
        assert found.sum(-1).tolist() == pytest.approx([1, 1, 1], rel=1e-12)

    def test_bfloat16_is_normalised_in_single_precision(self):
        found = distribution(torch.zeros(3, 7, dtype=torch.bfloat16))
        assert found.dtype == torch.float32
        assert found[0, 0].item() == pytest.approx(-math.log(7), rel=1e-6)

    def test_entropy_by_hand(self):
        rows = torch.tensor([[0.25] * 4, [0.5, 0.5, 0, 0], [1, 0, 0, 0]], dtype=torch.float64).log()
        assert entropy(rows).tolist() == pytest.approx([math.log(4), math.log(2), 0])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_entropy_of_an_all_but_certain_token_has_a_finite_gradient(self, dtype):
        # exp(-300) is 0 in single precision; p log p and its slope tend to 0 there
        logits = torch.tensor([0.0, -300, -1000], dtype=dtype, requires_grad=True)
        found = entropy(distribution(logits))
        found.backward()
        assert found.item() == pytest.approx(0, abs=1e-100)
        assert logits.grad.tolist() == pytest.approx([0, 0, 0], abs=1e-100)

    @pytest.mark.parametrize(
        ("number", "token"),
        [(0.0, 1), (0.249, 1), (0.25, 2), (0.749, 2), (0.75, 4), (0.999, 4), (1 - 2**-53, 4)],
    )
    def test_pick_by_hand(self, number, token):
        # 0, 1/4, 1/2, 0, 1/4, 0: a token without probability is never picked, first and last neither
        log_probs = torch.tensor([0, 0.25, 0.5, 0, 0.25, 0], dtype=torch.float64).log()
        assert pick(log_probs, torch.tensor(number, dtype=torch.float64)).item() == token

    def test_pick_never_leaves_the_vocabulary_or_the_support(self):
        log_probs = distribution(torch.randn(2000, 9, generator=torch.Generator().manual_seed(0)), top_p=0.8)
        almost_one = torch.full((2000,), 1 - 2**-24)
        for numbers in (almost_one, torch.zeros(2000)):
            chosen = pick(log_probs, numbers)
            assert bool(log_probs.gather(1, chosen[:, None]).isfinite().all())


class TestNucleus:
    """The likeliest 256 tokens are looked at first; a loop over the sorted vocabulary says what must come out."""

    WORDS = 1000

    def rows(self, spread):
        stream = torch.Generator().manual_seed(0)
        return (spread * torch.randn(20, self.WORDS, generator=stream, dtype=torch.float64)).log_softmax(-1)

    @pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.95])
    @pytest.mark.parametrize("spread", [0.1, 4.0])  # hundreds of tokens hold 0.3 of the probability, or a few do
    def test_is_the_shortest_beginning_of_the_sorted_vocabulary(self, spread, top_p):
        log_probs = self.rows(spread)
        kept, tokens = nucleus(log_probs, top_p)
        sizes = []
        for row, inside, names in zip(log_probs.tolist(), kept.tolist(), tokens.tolist(), strict=True):
            wanted, mass = set(), 0.0
            for token in sorted(range(self.WORDS), key=lambda token: -row[token]):
                if mass >= top_p:
                    break
                wanted.add(token)
                mass += math.exp(row[token])
            assert names == sorted(names)
            found = {token: value for token, value in zip(names, inside, strict=True) if value > -math.inf}
            assert found == {token: row[token] for token in wanted}
            sizes.append(len(wanted))
        is_sorted_whole = spread < 1 and top_p > 0.2
        assert (max(sizes) > 256) == (kept.shape[-1] == self.WORDS) == is_sorted_whole

    def test_the_distribution_is_the_same_over_all_words(self):
        log_probs = self.rows(4.0)
        kept, tokens = nucleus(log_probs, 0.9)
        found = distribution(log_probs, top_p=0.9)
        assert torch.allclose(found.gather(-1, tokens), kept.log_softmax(-1), rtol=1e-12)
        assert int(found.isfinite().sum()) == int(kept.isfinite().sum())

    def test_of_equally_likely_tokens_the_first_ones_are_taken(self):
        kept, tokens = nucleus(torch.zeros(8).log_softmax(-1), 0.5)
        assert tokens[kept.isfinite()].tolist() == [0, 1, 2, 3]
