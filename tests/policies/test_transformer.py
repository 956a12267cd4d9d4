"""The transformer that shares its prompt, against the same one written out naively: values, gradients, padding."""

import pytest
import torch
from small_policy import (
    gradient_of,
    naive_logits,
    naive_scores,
    random_answers,
    random_prompts,
    small_policy,
)

from maxrl_lab.policies.stack import seeded
from maxrl_lab.policies.transformer import Shape, Transformer, rotary, rotate
from maxrl_lab.tokens import attention
from maxrl_lab.tokens.scoring import read, score

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestShape:
    def test_parameters_of_the_papers_policy_by_hand(self):
        # a layer: 256 (4 + 2 + 2) 64 + 512 of queries, keys and values, 256^2 out, 3 * 256 * 1024 SwiGLU, 2 norms
        layer = 256 * 512 + 512 + 256**2 + 3 * 256 * 1024 + 2 * 256
        found = sum(each.numel() for each in Transformer(Shape()).parameters())
        assert found == 4 * layer + 32 * 256 + 256 == 3_944_704

    def test_an_untied_head_is_one_more_matrix(self):
        tied, untied = (small_policy(7, tied=tied) for tied in (True, False))
        sizes = [sum(each.numel() for each in policy.parameters()) for policy in (tied, untied)]
        assert sizes[1] - sizes[0] == 7 * 16

    def test_first_values(self):
        policy = seeded(lambda: Transformer(Shape()), 0)
        for name, parameter in policy.named_parameters():
            if name.endswith("norm"):
                assert bool((parameter == 1).all()), name
            elif name.endswith("bias"):
                assert bool((parameter == 0).all()), name
            else:  # 5 standard errors of the smallest, 8192 numbers
                assert float(parameter.detach().std()) == pytest.approx(0.02, rel=5 / (2 * 8192) ** 0.5), name

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"vocabulary": 0}, "vocabulary must be a whole number >= 1, got 0"),
            ({"width": 2.5}, "width must be a whole number >= 1, got 2.5"),
            ({"layers": 0}, "layers must be a whole number >= 1, got 0"),
            ({"heads": -1}, "heads must be a whole number >= 1, got -1"),
            ({"kv_heads": 0}, "kv_heads must be a whole number >= 1, got 0"),
            ({"mlp": 0}, "mlp must be a whole number >= 1, got 0"),
            ({"context": 0}, "context must be a whole number >= 1, got 0"),
            ({"width": 20}, "width must be a multiple of twice the heads, got 20 with 4 heads"),
            ({"kv_heads": 3}, "heads must be a multiple of kv_heads, got 4 and 3"),
        ],
    )
    def test_refused(self, refuses, options, message):
        with refuses(message):
            Shape(**options)


class TestRotary:
    SHAPE = Shape(width=16, heads=4, rope_theta=100.0)  # D = 4: frequencies 1 and 100^(-2/4) = 1/10

    def test_angles_by_hand(self):
        cosine, sine = rotary(torch.tensor([0, 3]), self.SHAPE, torch.float64)
        angles = torch.tensor([[[0.0, 0.0]], [[3.0, 0.3]]], dtype=torch.float64)
        assert torch.allclose(cosine, angles.cos(), rtol=1e-15)
        assert torch.allclose(sine, angles.sin(), rtol=1e-15)

    def test_number_i_pairs_with_number_i_plus_half(self):
        # the first pair a quarter turn, the second none
        quarter = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
        assert rotate(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), quarter).tolist() == [[-3.0, 2.0, 1.0, 4.0]]

    def test_position_0_changes_nothing(self):
        heads = random(1, 2, 4)
        assert torch.equal(rotate(heads, rotary(torch.tensor([0]), self.SHAPE, torch.float64)), heads)

    def test_products_depend_on_differences_only(self):
        query, key = random(2, 1, 1, 4)

        def product(at, to):
            places = (rotary(torch.tensor([place]), self.SHAPE, torch.float64) for place in (at, to))
            turned = [rotate(head, place) for head, place in zip((query, key), places, strict=True)]
            return float((turned[0] * turned[1]).sum())

        for distance in (0, 1, 5):
            wanted = product(distance, 0)
            for start in (1, 7, 300):
                assert product(start + distance, start) == pytest.approx(wanted, rel=1e-12)
        assert product(1, 0) != pytest.approx(product(0, 1), rel=1e-3)  # but on their sign too

    def test_a_shifted_sequence_has_the_same_outputs(self):
        policy, tokens = small_policy(), torch.tensor([[1, 3, 4, 3, 1]])
        found, shifted = (policy.hidden(tokens, torch.arange(5) + by, attention.Causal()) for by in (0, 11))
        assert torch.allclose(found, shifted, **EXACT)
        stretched = policy.hidden(tokens, 2 * torch.arange(5), attention.Causal())
        assert not torch.allclose(found, stretched, rtol=1e-3)


class TestReading:
    @pytest.mark.parametrize("options", [{}, {"tied": False}, {"heads": 2, "kv_heads": 2}, {"kv_heads": 1}], ids=str)
    def test_equals_the_naive_policy_at_every_place(self, options):
        policy = small_policy(**options)
        tokens, _ = random_prompts([6, 6])
        hidden = policy.hidden(tokens, torch.arange(6), attention.Causal())
        assert hidden.shape == (2, 6, 16)
        wanted = torch.stack([naive_logits(policy, prompt) for prompt in tokens])
        assert torch.allclose(policy.logits(hidden), wanted, **EXACT)

    def test_prompts_of_a_batch_do_not_see_each_other(self):
        policy = small_policy()
        tokens, lengths = random_prompts([4, 7, 2])
        together = read(policy, tokens, lengths)
        assert together.logits.shape == (3, 5)
        assert together.keys[0].shape == together.values[1].shape == (3, 2, 7, 4)
        for row, own in enumerate(lengths):
            alone = read(policy, tokens[row : row + 1, :own], lengths[row : row + 1])
            assert torch.allclose(together.logits[row], alone.logits[0], **EXACT)
            for layer in range(2):
                assert torch.allclose(together.keys[layer][row, :, :own], alone.keys[layer][0], **EXACT)
                assert torch.allclose(together.values[layer][row, :, :own], alone.values[layer][0], **EXACT)

    def test_nobody_sees_what_comes_later(self):
        policy, (tokens, _) = small_policy(), random_prompts([6])
        changed = tokens.clone()
        changed[0, 4] = 5 - changed[0, 4]
        first, second = (policy.hidden(each, torch.arange(6), attention.Causal()) for each in (tokens, changed))
        assert torch.equal(first[:, :4], second[:, :4])
        assert not torch.allclose(first[:, 4:], second[:, 4:], rtol=1e-3)

    def test_some_of_the_prompts(self):
        prefix = read(small_policy(), *random_prompts([4, 7, 2]))
        some = prefix.select(torch.tensor([2, 0]))
        assert some.lengths.tolist() == [2, 4]
        assert torch.equal(some.logits, prefix.logits[[2, 0]])
        assert torch.equal(some.keys[1], prefix.keys[1][[2, 0]])
        assert torch.equal(some.values[0], prefix.values[0][[2, 0]])

    def test_padding_is_where_a_prompt_has_ended(self):
        prefix = read(small_policy(), *random_prompts([3, 2]))
        assert prefix.padding[:, 0, 0].tolist() == [[False, False, False], [False, False, True]]
        assert read(small_policy(), *random_prompts([3, 3])).padding is None


PROMPTS = {"equal": [5, 5, 5], "padded": [3, 7, 5]}
LENGTHS = [[6, 1, 3, 4], [2, 2, 6, 1], [1, 5, 1, 3]]


@pytest.fixture(params=[True, False], ids=["merged", "plain"])
def merged(request, monkeypatch):
    """With and without the kernels that never hold a matrix of weights; counts how often they are used."""
    used = []
    apply = attention.Merged.apply
    monkeypatch.setattr(attention.Merged, "apply", lambda *parts: used.append(1) or apply(*parts))
    if not request.param:
        monkeypatch.setattr(attention, "can_merge", lambda queries: False)
    return request.param, used


class TestScoring:
    @pytest.mark.parametrize("kind", PROMPTS)
    @pytest.mark.parametrize("temperature", [1.0, 0.7])
    @pytest.mark.parametrize("options", [{}, {"tied": False, "kv_heads": 4}, {"layers": 1, "kv_heads": 1}], ids=str)
    def test_values_and_gradients_are_those_of_whole_unshared_sequences(self, merged, kind, temperature, options):
        policy = small_policy(**options)
        prompts, written = random_prompts(PROMPTS[kind]), random_answers(LENGTHS)
        log_probs, entropies = score(policy, read(policy, *prompts), *written, temperature)
        wanted, naive_entropies = naive_scores(policy, *prompts, *written, temperature)
        assert log_probs.shape == entropies.shape == (3, 4)
        assert torch.allclose(log_probs, wanted, **EXACT)
        assert torch.allclose(entropies, naive_entropies, **EXACT)
        weights = random(2, 3, 4)
        found = gradient_of((weights[0] * log_probs + weights[1] * entropies).sum(), policy)
        expected = gradient_of((weights[0] * wanted + weights[1] * naive_entropies).sum(), policy)
        assert expected.norm() > 1
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-11 * float(expected.norm()))
        may, used = merged
        assert bool(used) == (may and kind == "equal")

    @pytest.mark.parametrize("kind", PROMPTS)
    def test_single_precision_at_the_papers_size(self, kind):
        # 1e-4 relative, of every parameter by itself; equal prompts take the merged kernels, padded ones the plain way
        policy = seeded(lambda: Transformer(Shape()), 0)
        prompts = random_prompts([length + 20 for length in PROMPTS[kind]], 32)
        written = random_answers([[5 * length for length in row] for row in LENGTHS], 32)
        weights = random(3, 4).float()
        log_probs, _ = score(policy, read(policy, *prompts), *written)
        exact = seeded(lambda: Transformer(Shape()), 0).double()
        wanted, _ = naive_scores(exact, *prompts, *written)
        assert torch.allclose(log_probs.double(), wanted, rtol=1e-5)
        found = torch.autograd.grad((weights * log_probs).sum(), list(policy.parameters()))
        expected = torch.autograd.grad((weights.double() * wanted).sum(), list(exact.parameters()))
        for (name, _), own, slope in zip(policy.named_parameters(), found, expected, strict=True):
            assert float((own - slope).norm()) <= 1e-4 * float(slope.norm()), name

    def test_answers_of_one_token_need_no_second_look(self):
        policy, prompts = small_policy(), random_prompts([3, 5])
        tokens = torch.tensor([[[2], [4]], [[0], [2]]])
        log_probs, entropies = score(policy, read(policy, *prompts), tokens, torch.ones(2, 2, dtype=torch.long))
        wanted = naive_scores(policy, *prompts, tokens, torch.ones(2, 2, dtype=torch.long))
        assert torch.allclose(log_probs, wanted[0], **EXACT)
        assert torch.allclose(entropies, wanted[1], **EXACT)

    @pytest.mark.parametrize("kind", PROMPTS)
    def test_what_stands_in_the_padding_changes_not_one_bit(self, merged, kind):
        policy = small_policy()
        (prompts, lengths), (tokens, own) = random_prompts(PROMPTS[kind]), random_answers(LENGTHS)
        weights = random(3, 4)
        outcomes = []
        for seed in range(3):
            noise = torch.Generator().manual_seed(seed)
            behind = torch.arange(prompts.shape[1]) >= lengths[:, None]
            rubbish = torch.where(behind, torch.randint(5, prompts.shape, generator=noise), prompts)
            behind = torch.arange(tokens.shape[2]) >= own[..., None]
            written = torch.where(behind, torch.randint(5, tokens.shape, generator=noise), tokens)
            assert not torch.equal(written, tokens)
            log_probs, entropies = score(policy, read(policy, rubbish, lengths), written, own)
            slope = gradient_of((weights * (log_probs - entropies)).sum(), policy)
            outcomes.append((log_probs, entropies, slope))
        for other in outcomes[1:]:
            for first, second in zip(outcomes[0], other, strict=True):
                assert torch.equal(first, second)

    def test_answers_of_a_batch_do_not_see_each_other(self, merged):
        policy, prompts, (tokens, lengths) = small_policy(), random_prompts([5, 5, 5]), random_answers(LENGTHS)
        together, _ = score(policy, read(policy, *prompts), tokens, lengths)
        for row in range(3):
            own = read(policy, *(each[row : row + 1] for each in prompts))
            for place in range(4):
                alone, _ = score(
                    policy, own, tokens[row : row + 1, place : place + 1], lengths[row : row + 1, place : place + 1]
                )
                assert alone.item() == pytest.approx(together[row, place].item(), rel=1e-12)


SIZES = [
    # prompts, answers, tokens, query heads, heads of keys, numbers a head, tokens of the prompt
    (2, 3, 4, 4, 2, 4, 5),
    (1, 1, 1, 1, 1, 2, 1),
    (2, 1, 5, 4, 1, 6, 3),
    (1, 4, 1, 2, 2, 4, 7),
    (3, 2, 3, 6, 3, 8, 1),
]


def parts_of(size, dtype=torch.float64):
    """Queries, the prompt's keys and values, the answers' own keys and values (B, N, T, K, D)."""
    prompts, rollouts, tokens, heads, kv_heads, head, width = size
    shapes = [
        (prompts, rollouts, tokens, heads, head),
        *[(prompts, kv_heads, width, head)] * 2,
        *[(prompts, rollouts, tokens, kv_heads, head)] * 2,
    ]
    return [random(*shape, seed=seed).to(dtype).requires_grad_() for seed, shape in enumerate(shapes)]


def slow_attention(queries, prefix_keys, prefix_values, keys, values, seen=None):
    """One query at a time: the prompt's first `seen` tokens, then the answer's own up to itself."""
    prompts, rollouts, tokens, heads, head = queries.shape
    group = heads // prefix_keys.shape[1]
    rows = []
    for prompt in range(prompts):
        seen_here = prefix_keys.shape[2] if seen is None else seen[prompt]
        for answer in range(rollouts):
            for token in range(tokens):
                for each in range(heads):
                    own = prompt, answer, slice(token + 1), each // group
                    shared = prompt, each // group, slice(seen_here)
                    reach = torch.cat([prefix_keys[shared], keys[own]])
                    weights = (reach @ queries[prompt, answer, token, each] / head**0.5).softmax(0)
                    rows.append(weights @ torch.cat([prefix_values[shared], values[own]]))
    return torch.stack(rows).view(prompts, rollouts, tokens, heads * head)


def both(queries, prefix_keys, prefix_values, keys, values, padding=None):
    """`attend_to_both` as whole answers use it."""
    later = torch.ones(queries.shape[2], queries.shape[2], dtype=torch.bool).triu(1)
    later = later.repeat(queries.shape[3] // keys.shape[3], 1)
    keys, values = (each.permute(0, 3, 1, 2, 4) for each in (keys, values))
    return attention.attend_to_both(queries, prefix_keys, prefix_values, keys, values, padding, later)


class TestAttention:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    @pytest.mark.parametrize("attend", [attention.Merged.apply, both], ids=["merged", "both"])
    def test_value_and_all_five_gradients_are_the_slow_loops(self, attend, size):
        parts = parts_of(size)
        found, wanted = attend(*parts), slow_attention(*parts)
        assert torch.allclose(found, wanted, **EXACT)
        slope = random(*wanted.shape, seed=9)
        slopes = (torch.autograd.grad((slope * each).sum(), parts) for each in (found, wanted))
        for own, other in zip(*slopes, strict=True):
            assert torch.allclose(own, other, **EXACT)

    def test_merged_by_finite_differences(self):
        assert torch.autograd.gradcheck(attention.Merged.apply, parts_of((1, 2, 3, 2, 1, 2, 3)))

    @pytest.mark.parametrize("size", [(2, 5, 33, 4, 2, 16, 70), (1, 3, 70, 2, 1, 64, 40)], ids=str)
    def test_merged_equals_one_softmax_in_single_precision(self, size):
        # longer than one block of the kernels
        parts = parts_of(size, torch.float32)
        slope = random(*size[:3], size[3] * size[5], seed=9).float()
        outcomes = []
        for attend in (attention.Merged.apply, both):
            value = attend(*parts)
            outcomes.append((value, *torch.autograd.grad((slope * value).sum(), parts)))
        for found, wanted in zip(*outcomes, strict=True):
            assert (found - wanted).norm().item() <= 1e-5 * wanted.norm().item()

    def test_a_great_difference_between_prompt_and_answer_does_not_overflow(self):
        for scale in (60.0, -60.0):  # scores of several hundreds: all weight on one side
            parts = parts_of((1, 2, 3, 2, 1, 4, 3))
            with torch.no_grad():
                parts[1].mul_(scale)
            found, wanted = attention.Merged.apply(*parts), slow_attention(*parts)
            assert torch.allclose(found, wanted, **EXACT)
            slopes = (torch.autograd.grad(each.square().sum(), parts) for each in (found, wanted))
            for own, other in zip(*slopes, strict=True):
                assert torch.allclose(own, other, rtol=1e-8, atol=1e-10)

    def test_padding_of_the_prompt_is_not_attended_to(self):
        parts = parts_of((3, 2, 3, 4, 2, 4, 5))
        lengths = torch.tensor([5, 1, 3])
        padding = (torch.arange(5) >= lengths[:, None])[:, None, None]
        found, wanted = both(*parts, padding), slow_attention(*parts, seen=lengths.tolist())
        assert torch.allclose(found, wanted, **EXACT)
        slopes = [torch.autograd.grad(each.square().sum(), parts) for each in (found, wanted)]
        for own, other in zip(*slopes, strict=True):
            assert torch.allclose(own, other, **EXACT)
        for own in slopes[0][1:3]:
            assert bool((own[1, :, 1:] == 0).all())
            assert bool((own[2, :, 3:] == 0).all())
