"""Writing answers: what is drawn and what it is said to be worth, against a loop over one naive sequence at a time."""

from collections import Counter

import pytest
import torch
from scipy.stats import chi2
from small_policy import END, naive_logits, naive_score, random_prompts, small_policy, watch_tokens

from maxrl_lab.tokens import enumeration
from maxrl_lab.tokens.distributions import distribution, entropy
from maxrl_lab.tokens.sampling import sample
from maxrl_lab.tokens.scoring import check_prompts, read, score

EXACT = {"rtol": 1e-10, "atol": 1e-12}
PROMPT_LENGTHS = [3, 6, 2, 4]
ROLLOUTS, LONGEST = 5, 7


def uniforms(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draw(policy, prompts, numbers, **options):
    return sample(policy, read(policy, *prompts), numbers, end=END, **options)


def naive_answer(policy, prompt, numbers, temperature=1.0, greedy=False):
    """One answer, token by token, the whole sequence computed anew each time."""
    written = []
    for number in numbers.tolist():
        logits = naive_logits(policy, torch.cat([prompt, torch.tensor(written, dtype=torch.long)]))[-1]
        chances = (logits / temperature).softmax(-1).tolist()
        token, below = 0, chances[0]
        while number >= below and token < len(chances) - 1:
            token += 1
            below += chances[token]
        written.append(chances.index(max(chances)) if greedy else token)
        if written[-1] == END:
            break
    return written


@pytest.fixture(scope="module")
def policy():
    return small_policy()


@pytest.fixture(scope="module")
def prompts():
    return random_prompts(PROMPT_LENGTHS)


@pytest.fixture(scope="module", params=[1.0, 0.6, 2.5])
def temperature(request):
    return request.param


@pytest.fixture(scope="module")
def written(policy, prompts, temperature):
    return draw(policy, prompts, uniforms(4, ROLLOUTS, LONGEST), temperature=temperature)


class TestSampling:
    def test_every_answer_is_the_one_a_naive_loop_writes(self, policy, prompts, temperature, written):
        numbers = uniforms(4, ROLLOUTS, LONGEST)
        for row, (prompt, length) in enumerate(zip(*prompts, strict=True)):
            for place in range(ROLLOUTS):
                wanted = naive_answer(policy, prompt[:length], numbers[row, place], temperature)
                own = written.lengths[row, place]
                assert own == len(wanted)
                assert written.tokens[row, place, :own].tolist() == wanted
                assert bool(written.ended[row, place]) == (wanted[-1] == END)
                log_prob, entropy = naive_score(policy, prompt[:length], torch.tensor(wanted), temperature)
                assert written.log_probs[row, place].item() == pytest.approx(log_prob.item(), rel=1e-12)
                assert written.entropies[row, place].item() == pytest.approx(entropy.item(), rel=1e-12)

    def test_shapes_and_what_stands_behind_the_end(self, written):
        assert written.tokens.shape == (4, ROLLOUTS, LONGEST)
        assert all(each.shape == (4, ROLLOUTS) for each in written[1:])
        places = torch.arange(LONGEST)
        inside = places < written.lengths[..., None]
        assert bool((written.tokens[~inside] == 0).all())
        ends = (written.tokens == END) & inside
        assert torch.equal(ends.any(-1), written.ended)
        assert bool((ends.int().argmax(-1) == written.lengths - 1)[written.ended].all())
        assert bool((written.lengths[~written.ended] == LONGEST).all())
        assert 0 < int(written.ended.sum()) < written.ended.numel()  # both kinds are seen
        assert not written.log_probs.requires_grad

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
    def test_on_policy_the_ratio_is_1(self, prompts, temperature, dtype, tolerance):
        policy = small_policy(dtype=dtype)
        prefix = read(policy, *prompts)
        written = draw(policy, prompts, uniforms(4, 50, 20), temperature=temperature)
        log_probs, entropies = score(policy, prefix, written.tokens, written.lengths, temperature)
        assert written.log_probs.dtype == log_probs.dtype == dtype
        assert (log_probs - written.log_probs).abs().max().item() < 30 * tolerance  # up to 20 tokens
        assert torch.allclose(entropies, written.entropies, rtol=10 * tolerance)

    def test_nobody_depends_on_who_else_is_written(self, policy, prompts, temperature, written):
        numbers = uniforms(4, ROLLOUTS, LONGEST)
        for row in range(4):
            for place in range(ROLLOUTS):
                alone = draw(
                    policy,
                    [each[row : row + 1] for each in prompts],
                    numbers[row : row + 1, place : place + 1],
                    temperature=temperature,
                )
                assert torch.equal(alone.tokens[0, 0], written.tokens[row, place])
                assert torch.allclose(alone.log_probs[0, 0], written.log_probs[row, place], **EXACT)
                assert torch.allclose(alone.entropies[0, 0], written.entropies[row, place], **EXACT)

    def test_what_has_ended_stops_costing(self, policy, prompts, monkeypatch):
        seen = watch_tokens(policy, monkeypatch)
        found = draw(policy, prompts, uniforms(4, 50, 20))
        going_on = [int((found.lengths > time + 1).sum()) for time in range(19)]
        assert 0 < going_on[-1] < going_on[0]
        assert seen[0] == 4 * 6  # the prompts
        rows = seen[1:] + [0] * (19 - len(seen[1:]))
        # all that go on and, of a rectangle of prompts and answers, not many that do not
        assert all(needed <= paid for needed, paid in zip(going_on, rows, strict=True))
        assert sum(rows) < 0.5 * 19 * 4 * 50

    def test_writing_stops_when_all_have_ended(self, policy, prompts, monkeypatch):
        found = draw(policy, prompts, uniforms(4, 1, 20, seed=3))
        longest = int(found.lengths.max())
        assert bool(found.ended.all())
        assert longest < 20
        seen = watch_tokens(policy, monkeypatch)
        draw(policy, prompts, uniforms(4, 1, 20, seed=3))
        assert len(seen) == 1 + longest - 1  # the prompt gives the first token

    def test_one_token_needs_the_prompt_alone(self, policy, prompts, monkeypatch):
        prefix = read(policy, *prompts)
        seen = watch_tokens(policy, monkeypatch)
        found = sample(policy, prefix, uniforms(4, 3, 1), end=END)
        assert seen == []
        assert found.lengths.tolist() == [[1] * 3] * 4
        assert torch.equal(found.ended, found.tokens[..., 0] == END)

    def test_an_answer_that_never_ends_is_cut_off(self, policy, prompts):
        found = sample(policy, read(policy, *prompts), uniforms(4, 2, 5), end=99)
        assert not found.ended.any()
        assert bool((found.lengths == 5).all())


class TestFrequencies:
    """Pearson's chi-square over all answers; were the seed not fixed, one run in 10,000 would fail."""

    DRAWS, FALSE_ALARM = 4000, 1e-4

    def statistic(self, drawn_at, expected_at):
        policy, prompts = small_policy(4), random_prompts([3], 4)
        prefix = read(policy, *prompts)
        found = sample(policy, prefix, uniforms(1, self.DRAWS, 3), end=END, temperature=drawn_at)
        every = enumeration.enumerate_answers(policy, prefix, 3, end=END, temperature=expected_at)
        seen = Counter(map(tuple, found.tokens[0].tolist()))
        counts = torch.tensor([seen[tuple(each)] for each in every.tokens.tolist()], dtype=torch.float64)
        assert counts.sum() == self.DRAWS
        expected = every.log_probs[0].detach().exp() * self.DRAWS
        assert expected.min() > 5  # the usual condition for the approximation
        assert len(expected) == 40
        return float(((counts - expected) ** 2 / expected).sum()), float(chi2.isf(self.FALSE_ALARM, 39))

    @pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
    def test_answers_are_as_frequent_as_they_are_probable(self, temperature):
        found, bound = self.statistic(temperature, temperature)
        assert found < bound

    def test_the_test_above_can_tell_temperatures_apart(self):
        found, bound = self.statistic(0.8, 1.0)
        assert found > 2 * bound


class TestGreedy:
    def test_it_is_the_likeliest_token_at_every_step(self, policy, prompts):
        found = draw(policy, prompts, None, answers=(2, LONGEST))
        assert found.tokens.shape == (4, 2, LONGEST)
        for row, (prompt, length) in enumerate(zip(*prompts, strict=True)):
            wanted = naive_answer(policy, prompt[:length], torch.zeros(LONGEST), greedy=True)
            for place in range(2):
                own = found.lengths[row, place]
                assert found.tokens[row, place, :own].tolist() == wanted
                log_prob, _ = naive_score(policy, prompt[:length], torch.tensor(wanted))
                assert found.log_probs[row, place].item() == pytest.approx(log_prob.item(), rel=1e-12)

    def test_it_does_not_depend_on_the_temperature(self, policy, prompts):
        cold, hot = (draw(policy, prompts, None, answers=(1, 5), temperature=each) for each in (0.3, 3.0))
        assert torch.equal(cold.tokens, hot.tokens)
        assert not torch.allclose(cold.log_probs, hot.log_probs, rtol=1e-2)


class TestNucleus:
    def test_top_p_draws_are_scored_under_what_they_were_drawn_from(self, policy, prompts):
        found = draw(policy, prompts, uniforms(4, ROLLOUTS, 1), top_p=0.6)
        log_probs = distribution(read(policy, *prompts).logits, top_p=0.6)
        assert torch.allclose(found.log_probs, log_probs.gather(1, found.tokens[..., 0]), **EXACT)
        assert torch.allclose(found.entropies, entropy(log_probs)[:, None].expand(4, ROLLOUTS), **EXACT)


class TestRefused:
    @pytest.mark.parametrize(
        ("tokens", "lengths", "message"),
        [
            ([1, 2], [2], "prompts must have shape (B, P) and lengths (B,), got (2,) and (1,)"),
            ([[1, 2]], [2, 2], "prompts must have shape (B, P) and lengths (B,), got (1, 2) and (2,)"),
            ([[1, 5]], [2], "tokens must lie in 0..4, the policy's vocabulary, got 5"),
            ([[1, -1]], [2], "tokens must lie in 0..4, the policy's vocabulary, got -1"),
            ([[1, 2]], [0], "a prompt must have 1..2 tokens, the width it comes in, got 0"),
            ([[1, 2], [1, 2]], [2, 3], "a prompt must have 1..2 tokens, the width it comes in, got 3"),
            ([[1] * 33], [33], "the context holds 32 tokens, got a prompt of 33 and answers of up to 0"),
        ],
    )
    def test_prompts(self, refuses, policy, tokens, lengths, message):
        with refuses(message):
            read(policy, torch.tensor(tokens), torch.tensor(lengths))

    def test_answers_that_would_outgrow_the_context(self, refuses, policy):
        prompts = torch.ones(2, 30, dtype=torch.long), torch.tensor([20, 30])
        check_prompts(policy, *prompts, 2)
        with refuses("the context holds 32 tokens, got a prompt of 30 and answers of up to 3"):
            check_prompts(policy, *prompts, 3)
