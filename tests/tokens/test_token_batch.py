"""Token answers as groups: the mean and the variance of every estimator through the transformer, held to exactness.

The policy's answers are few enough to list, so nothing here is estimated but where a test says so.
"""

import itertools
import math
from functools import cache

import pytest
import torch
from small_policy import (
    END,
    gradient_of,
    naive_logits,
    naive_score,
    naive_scores,
    random_answers,
    random_prompts,
    small_policy,
    watch_tokens,
)

from maxrl_lab import estimators, exact
from maxrl_lab.policies.transformer import Shape
from maxrl_lab.randomness import generator
from maxrl_lab.tokens import enumeration, gradients, writing
from maxrl_lab.tokens.batch import TokenBatch, describe
from maxrl_lab.tokens.gradients import differentiable, parts
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.scoring import read, score
from maxrl_lab.tokens.writing import PRECISIONS, Prompts, Writing, at_once, write
from maxrl_lab.training import methods
from maxrl_lab.training.groups import DivergedError, Group
from maxrl_lab.training.methods import Exact, Expected, Sampled, parse_method
from maxrl_lab.training.step import run_losses

EXACT = {"rtol": 1e-10, "atol": 1e-12}
WORDS, LONGEST = 4, 2
SHORT = Writing(answer_length=LONGEST, temperature=0.8)
LONG = Writing(answer_length=6)


def odd(written, lengths):
    """Right is an answer whose ids sum to an odd number: 6 of the 13 answers of up to 2 tokens of 4 words."""
    counted = torch.arange(written.shape[-1]) < lengths[..., None]
    return (written * counted).sum(-1) % 2 == 1


def few_words(dtype=torch.float64):
    return small_policy(WORDS, layers=1, dtype=dtype)


def make(policy=None, lengths=(3, 5, 3, 2), verify=odd, writing=LONG, seed=1, step=0):
    policy = policy or small_policy()
    return TokenBatch(
        policy, Prompts(*random_prompts(list(lengths), policy.shape.vocabulary)), verify, writing, seed, step
    )


def backward(losses, policy):
    """What a step of the trainer finds on the parameters, one vector; 0 where there is none."""
    policy.zero_grad()
    losses.sum().backward()
    slopes = [torch.zeros_like(each) if each.grad is None else each.grad for each in policy.parameters()]
    return torch.cat([slope.flatten() for slope in slopes])


def close(found, wanted, tolerance=1e-10):
    return float((found - wanted).norm()) <= tolerance * float(wanted.norm())


def every_answer(policy, prompt):
    """(tokens (A, T), lengths (A,)) of all answers, in the lab's order."""
    prefix = read(policy, prompt[None], torch.tensor([len(prompt)]))
    found = enumeration.enumerate_answers(policy, prefix, LONGEST, end=END)
    return found.tokens, found.lengths


@cache
def listed():
    """Policy, prompt, and of all 13 answers: tokens, lengths, rewards, naive log-probabilities and scores (A, d)."""
    policy, prompt = few_words(), torch.tensor([1, 3, 3, 1])
    written, lengths = every_answer(policy, prompt)
    log_probs = [
        naive_score(policy, prompt, answer[:length], SHORT.temperature)[0]
        for answer, length in zip(written, lengths, strict=True)
    ]
    scores = torch.stack([gradient_of(each, policy) for each in log_probs])
    return policy, prompt, written, lengths, odd(written, lengths), torch.stack(log_probs).detach(), scores


def spec_of(name):
    options = {"maxrl_order": "order=2", "maclaurin": "order=2", "maxrl_centred": "order=1"}
    options |= {"pkpo": "k=2", "pkpo_centred": "k=1", "passk_training": "k=1", "constant_baseline": "value=0.3"}
    options |= {"power": "s=0.5,t=0", "tsallis": "q=0.5", "rs_grpo": "beta=2"}
    return f"{name}:{options[name]}" if name in options else name


class TestExpectedGradient:
    """Every group of N answers, however improbable, goes the way of a sampled one; the mean is then no estimate."""

    def groups(self, rollouts):
        """Answers of every multiset of N of the 13 (G, N), and its probability: of all its orders together."""
        *_, log_probs, _ = listed()
        chosen = list(itertools.combinations_with_replacement(range(13), rollouts))
        orders = [
            math.factorial(rollouts) / math.prod(math.factorial(each.count(answer)) for answer in set(each))
            for each in chosen
        ]
        chosen = torch.tensor(chosen)
        chances = torch.tensor(orders, dtype=torch.float64) * log_probs[chosen].sum(1).exp()
        assert float(chances.sum()) == pytest.approx(1, abs=1e-12)
        return chosen, chances

    @pytest.mark.parametrize("rollouts", [2, 3])
    @pytest.mark.parametrize("name", estimators.ESTIMATORS)
    def test_is_the_exact_weight_times_the_gradient_of_the_pass_rate(self, name, rollouts):
        policy, prompt, written, lengths, right, log_probs, scores = listed()
        chosen, chances = self.groups(rollouts)
        prompts = Prompts(prompt.expand(len(chosen), -1), torch.full((len(chosen),), len(prompt)))
        group = Answers(written[chosen], lengths[chosen], lengths[chosen] > 0, log_probs[chosen], log_probs[chosen])
        recomputed, _ = differentiable(policy, prompts, group, SHORT)
        losses = methods.sampled_loss(Group(right[chosen][:, None], recomputed[:, None]), spec_of(name))
        found = -backward(chances * losses, policy)
        probabilities = log_probs.exp()
        pass_rate = float(probabilities[right].sum())
        assert 0.2 < pass_rate < 0.8
        gradient = (probabilities * right) @ scores
        wanted = exact.weight(spec_of(name), rollouts=rollouts, pass_rate=pass_rate) * gradient
        assert close(found, wanted, 1e-9)  # far below the 1e-6 that the lab promises
        assert float(wanted.norm()) > 1e-2

    @pytest.mark.parametrize("name", estimators.ESTIMATORS)
    def test_expected_mode_of_the_trainer_is_the_same(self, name):
        policy, prompt, _, _, right, log_probs, scores = listed()
        batch = TokenBatch(policy, Prompts(prompt[None], torch.tensor([len(prompt)])), odd, SHORT, 0, 0)
        found = -backward(run_losses(batch, [Expected(spec_of(name), 3)]), policy)
        probabilities = log_probs.exp()
        pass_rate = float(probabilities[right].sum())
        wanted = exact.weight(spec_of(name), rollouts=3, pass_rate=pass_rate) * ((probabilities * right) @ scores)
        assert close(found, wanted)


class TestSecondMoment:
    """20,000 groups drawn by the real sampler; were the seed not fixed, one test in 100,000 would fail."""

    GROUPS, DEVIATIONS = 20_000, 4.4

    @pytest.mark.parametrize(("name", "rollouts"), [("rloo", 4), ("grpo", 4), ("maxrl", 3), ("maxrl_leave_one_out", 2)])
    def test_of_sampled_gradients_is_the_exact_one(self, name, rollouts):
        policy, prompt, written, lengths, right, log_probs, scores = listed()
        prompts = Prompts(prompt.expand(self.GROUPS, -1), torch.full((self.GROUPS,), len(prompt)))
        stream = torch.Generator().manual_seed(5)
        drawn = write(policy, prompts, rollouts, SHORT, stream)
        code = torch.tensor([WORDS, 1]) + torch.zeros(LONGEST, dtype=torch.long)
        key = (written * code).sum(1) * (LONGEST + 1) + lengths
        own = (drawn.tokens * code).sum(2) * (LONGEST + 1) + drawn.lengths
        which = (own[..., None] == key).int().argmax(-1)  # (G, N): places in the list
        assert torch.allclose(log_probs[which], drawn.log_probs, **EXACT)
        advantages = estimators.make(name)(right[which].double())
        wanted = exact.moments(
            name, rollouts=rollouts, probabilities=log_probs.exp(), scores=scores, rewards=right.double()
        )
        # |g - mean|^2 without ever holding 20,000 gradients: all of them are sums of 13 centred scores
        weights = torch.zeros(self.GROUPS, 13, dtype=torch.float64).scatter_add_(1, which, advantages / rollouts)
        square = ((weights @ (scores @ scores.T)) * weights).sum(1) - 2 * weights @ (scores @ wanted.mean)
        distances = square + wanted.mean.square().sum()
        error = float(distances.mean() - wanted.variance) / float(distances.std() / self.GROUPS**0.5)
        assert abs(error) < self.DEVIATIONS
        assert float(distances.std() / self.GROUPS**0.5) < 0.03 * float(wanted.variance)  # and it is sharp
        along = weights @ (scores @ wanted.mean)
        bias = float(along.mean() - wanted.mean.square().sum()) / float(along.std() / self.GROUPS**0.5)
        assert abs(bias) < self.DEVIATIONS


class TestPassRate:
    def test_equals_brute_force_with_its_gradient(self):
        policy = few_words()
        batch = make(policy, (3, 5, 2), writing=SHORT)
        written, lengths = every_answer(policy, torch.tensor([1]))
        rates = []
        for prompt, ends in zip(*batch.prompts, strict=True):
            right = [
                naive_score(policy, prompt[:ends], answer[:length], SHORT.temperature)[0].exp()
                for answer, length in zip(written, lengths, strict=True)
                if int(answer[:length].sum()) % 2
            ]
            assert len(right) == 6
            rates.append(torch.stack(right).sum().log())
        found = batch.log_pass_rate([0])
        assert found.shape == (1, 3)
        assert torch.allclose(found[0], torch.stack(rates), **EXACT)
        weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        slopes = [gradient_of((weights * each).sum(), policy) for each in (found[0], torch.stack(rates))]
        assert close(*slopes)

    @pytest.mark.parametrize(
        ("target", "objective"),
        [
            ("expected_reward", lambda p: p),
            ("maximum_likelihood", lambda p: p.log()),
            ("pass_at_k:k=3", lambda p: 1 - (1 - p) ** 3),
        ],
    )
    def test_objective_mode_is_the_objectives_gradient(self, target, objective):
        policy = few_words()
        batch = make(policy, (3, 5, 2), writing=SHORT)
        wanted = gradient_of(objective(batch.log_pass_rate([0]).exp()).mean(), policy)
        assert close(-backward(run_losses(batch, [Exact(target)]), policy), wanted)

    @pytest.mark.parametrize("mode", ["expected", "objective"])
    def test_a_prompt_without_a_right_answer_has_pass_rate_0_and_no_gradient(self, mode):
        def solvable(written, lengths):
            return odd(written, lengths) & (torch.arange(len(written)) > 0)[:, None]

        method = Expected("maxrl", 3) if mode == "expected" else Exact("expected_reward")
        policy = few_words()
        batch = make(policy, (3, 5), verify=solvable, writing=SHORT)
        assert batch.log_pass_rate([0])[0].exp()[0] == 0
        found = backward(run_losses(batch, [method]), policy)
        alone = make(policy, (3, 5), writing=SHORT)
        alone.prompts = Prompts(*(each[1:] for each in alone.prompts))
        assert close(found, backward(run_losses(alone, [method]), policy) / 2)

    def test_too_many_answers_are_refused(self, refuses):
        batch = make(small_policy(12), writing=Writing(answer_length=8))
        with refuses("12 words and 8 tokens make 235794769 answers, at most 1000000 are enumerated"):
            batch.log_pass_rate([0])


def slow_loss(batch, group, estimator):
    """-(1/BN) sum A_i log m(z_i), one naive sequence at a time, of the answers that the batch draws."""
    written = drawn_by(batch, group.rollouts)
    log_probs, _ = naive_scores(batch.policy, *batch.prompts, written.tokens, written.lengths)
    rewards = batch.verify(written.tokens, written.lengths)
    assert torch.equal(group.rewards[0], rewards)
    total = 0.0
    for own, right in zip(log_probs, rewards, strict=True):
        total = total - (estimators.resolve(estimator, len(own))(right.double()) * own).sum() / len(own)
    return total / len(rewards)


def drawn_by(batch, rollouts):
    """The answers of `rollout`, drawn again from the stream that is documented by seed, step and N."""
    stream = generator("answers", batch.seed, batch.step, rollouts)
    return write(batch.policy, batch.prompts, rollouts, batch.writing, stream)


class TestSampledGradient:
    @pytest.mark.parametrize("lengths", [(4, 4, 4), (3, 5, 3, 2)])
    @pytest.mark.parametrize("estimator", ["rloo", "maxrl", "maxrl_no_baseline"])
    def test_is_that_of_a_slow_loop(self, estimator, lengths):
        batch = make(lengths=lengths)
        group = batch.rollout([0], 6)
        assert group.rewards.shape == group.log_probs.shape == group.lengths.shape == (1, len(lengths), 6)
        wanted = gradient_of(slow_loss(batch, group, estimator), batch.policy)
        losses = run_losses(batch, [Sampled(estimator, 6)])
        assert losses.shape == (1,)
        assert losses.item() == pytest.approx(slow_loss(batch, group, estimator).item(), rel=1e-10)
        assert close(backward(losses, batch.policy), wanted)

    def test_entropies_have_their_own_gradient(self):
        batch = make()
        group = batch.rollout([0], 4)
        written = drawn_by(batch, 4)
        log_probs, entropies = naive_scores(batch.policy, *batch.prompts, written.tokens, written.lengths)
        assert torch.allclose(group.entropies[0], entropies, **EXACT)
        wanted = gradient_of((entropies * 0.3 - log_probs.square()).sum(), batch.policy)
        found = backward((group.entropies * 0.3 - group.log_probs.square()).sum(), batch.policy)
        assert close(found, wanted)

    @pytest.mark.parametrize("signal", [True, False])
    def test_the_entropy_bonus_also_of_groups_without_signal(self, signal):
        batch = make(verify=odd if signal else lambda written, lengths: lengths < 0)
        group = batch.rollout([0], 4)
        written = drawn_by(batch, 4)
        _, entropies = naive_scores(batch.policy, *batch.prompts, written.tokens, written.lengths)
        plain = slow_loss(batch, group, "grpo")
        wanted = gradient_of(plain - 0.1 * entropies.sum() / written.lengths.sum(), batch.policy)
        losses = run_losses(batch, [Sampled("grpo", 4, "entropy_bonus:coefficient=0.1")])
        assert close(backward(losses, batch.policy), wanted)

    def test_frozen_parameters_are_left_alone(self):
        batch = make()
        wanted = backward(run_losses(batch, [Sampled("rloo", 4)]), batch.policy)
        batch.policy.zero_grad()
        batch.policy.embedding.requires_grad_(False)
        run_losses(batch, [Sampled("rloo", 4)]).sum().backward()
        assert batch.policy.embedding.grad is None
        own = torch.cat([each.grad.flatten() for each in batch.policy.parameters() if each.requires_grad])
        assert close(own, wanted[batch.policy.embedding.numel() :])


class TestGreedy:
    def test_which_prompts_the_likeliest_tokens_solve(self):
        batch = make(lengths=(3, 5, 3, 2, 4, 6, 2, 5))
        found = batch.greedy([0])
        wanted = []
        for prompt, ends in zip(*batch.prompts, strict=True):
            written = []
            while len(written) < 6 and END not in written:
                logits = naive_logits(batch.policy, torch.tensor([*prompt[:ends].tolist(), *written]))
                written.append(int(logits[-1].argmax()))
            wanted.append(sum(written) % 2 == 1)
        assert found.tolist() == [wanted]
        assert 0 < sum(wanted) < 8

    def test_the_gate_leaves_solved_prompts_out(self):
        batch = make(lengths=(3, 5, 3, 2, 4, 6, 2, 5))
        solved = batch.greedy([0])[0]
        group = batch.rollout([0], 4)
        written = drawn_by(batch, 4)
        log_probs, _ = naive_scores(batch.policy, *batch.prompts, written.tokens, written.lengths)
        advantages = estimators.make("grpo")(group.rewards[0].double()) * ~solved[:, None]
        assert bool(advantages.any())
        wanted = gradient_of(-(advantages * log_probs).mean(), batch.policy)
        losses = run_losses(batch, [parse_method("grpo | greedy_gate", 4)])
        assert close(backward(losses, batch.policy), wanted)


TINY = small_policy().shape
PER_TOKEN, PER_PAIR = 4 * TINY.layers * (10 * TINY.width + 5 * TINY.mlp), 4 * TINY.layers * TINY.heads * 2


def test_a_batch_is_one_policy(refuses):
    for ask in (lambda: make().rollout([0, 1], 4), lambda: make().log_pass_rate([0, 1])):
        with refuses("a token batch holds one policy, run 0; got runs [0, 1]"):
            ask()


def change_in_place(policy):
    with torch.no_grad():
        policy.norm.add_(1e-3)


def step_of_an_optimiser(policy):
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(policy.parameters(), lr=1e-3).step()


def other_weights(policy):
    policy.load_state_dict(small_policy(seed=5).state_dict())


class TestChangedParameters:
    """The gradient is computed in `backward`: parameters that have changed by then would give another one."""

    @pytest.mark.parametrize("change", [change_in_place, step_of_an_optimiser, other_weights])
    @pytest.mark.parametrize("what", ["log_probs", "entropies"])
    def test_between_loss_and_backward_are_refused(self, refuses, change, what):
        batch = make()
        loss = getattr(batch.rollout([0], 4), what).sum()
        change(batch.policy)
        with refuses(
            "the policy's parameters have changed since its answers were sampled: call backward before the next "
            "update, or sample again"
        ):
            loss.backward()
        batch.rollout([0], 4).log_probs.sum().backward()  # new answers of the new policy are fine

    def test_a_frozen_parameter_counts_too(self):
        batch = make()
        batch.policy.norm.requires_grad_(False)
        loss = batch.rollout([0], 4).log_probs.sum()
        with torch.no_grad():
            batch.policy.norm.add_(1e-3)
        with pytest.raises(ValueError, match="parameters have changed"):
            loss.backward()


@pytest.mark.parametrize("runs", [[1], [0, 1], []])
def test_greedy_answers_are_those_of_run_0_alone(refuses, runs):
    with refuses(f"a token batch holds one policy, run 0; got runs {runs}"):
        make().greedy(runs)


class TestMemory:
    """Bytes of the policies below: 4 a number; see `parts` and `at_once`."""

    @pytest.mark.parametrize("kib", [600, 120, 60, 34])
    def test_parts_change_nothing(self, kib, monkeypatch):
        whole, parted = make(lengths=(3, 5, 3, 2, 4, 6)), make(lengths=(3, 5, 3, 2, 4, 6))
        parted.writing = Writing(answer_length=6, memory=kib / 2**20)
        outcomes, reads = [], []
        for module in (writing, gradients):
            monkeypatch.setattr(module, "read", lambda *parts: reads.append(1) or read(*parts))
        for batch in (whole, parted):
            group = batch.rollout([0], 8)
            drawn = len(reads)
            losses = methods.sampled_loss(group, "rloo") - 0.1 * group.entropies.mean((-2, -1))
            outcomes.append((group, backward(losses, batch.policy), len(reads) - drawn, drawn))
            reads.clear()
        (first, wanted, once, _), (second, found, often, _) = outcomes
        assert torch.equal(first.rewards, second.rewards)
        assert torch.allclose(first.log_probs, second.log_probs, **EXACT)
        assert close(found, wanted, 1e-12)
        assert once == 1
        assert often > {600: 0, 120: 3, 60: 6, 34: 20}[kib]

    @pytest.mark.parametrize(("bytes_", "fits"), [(10**9, (10**9 // 27_136, 8)), (60_000, (2, 8)), (13_000, (1, 2))])
    def test_answers_do_not_depend_on_how_many_are_written_at_once(self, bytes_, fits):
        # keys and values of 2 layers x 2 heads x 4 numbers: 32 a token; hidden numbers of a token: 4 (16 + 24)
        per_prompt, per_answer = 4 * 6 * (32 + 160), 4 * (2 * 32 * 6 + 2 * 160)
        assert per_prompt + 8 * per_answer == 27_136
        batch = make(lengths=(3, 5, 3, 2, 4, 6))
        narrow = Writing(answer_length=6, memory=bytes_ / 2**30)
        assert at_once(batch.policy.shape, 6, 8, narrow) == fits
        wanted = drawn_by(batch, 8)
        batch.writing = narrow
        found = drawn_by(batch, 8)
        assert torch.equal(found.tokens, wanted.tokens)
        assert torch.equal(found.ended, wanted.ended)
        assert torch.allclose(found.log_probs, wanted.log_probs, **EXACT)

    def test_greedy_answers_are_as_many_as_asked_for_in_parts_too(self):
        batch = make(lengths=(3, 5, 3))
        whole = write(batch.policy, batch.prompts, 8, Writing(answer_length=6), None)
        parted = write(batch.policy, batch.prompts, 8, Writing(answer_length=6, memory=13_000 / 2**30), None)
        assert whole.tokens.shape == (3, 8, 6)
        assert torch.equal(whole.tokens, parted.tokens)
        assert bool((whole.tokens == whole.tokens[:, :1]).all())

    def test_parts_cover_each_wanted_answer_once_and_fit(self):
        random = torch.Generator().manual_seed(0)
        wanted = torch.rand(7, 9, generator=random) < torch.tensor([0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])[:, None]
        lengths = torch.randint(1, 12, (7, 9), generator=random)
        for kib in (10**6, 500, 100, 60):
            memory = kib / 2**20
            seen = torch.zeros(7, 9, dtype=torch.long)
            for rows, places in parts(TINY, 5, wanted, lengths, memory):
                seen[rows[:, None], places] += 1
                longest = int((lengths * wanted)[rows[:, None], places].max())
                count = len(rows) * (5 + places.shape[1] * longest)
                pairs = len(rows) * (25 + places.shape[1] * longest * (5 + longest))
                assert count * PER_TOKEN + pairs * PER_PAIR <= memory * 2**30
            assert bool((seen[wanted] == 1).all())
            assert bool((seen <= 1).all())
            assert not seen[0].any()

    def test_writing_that_does_not_fit_is_refused(self, refuses):
        # the paper's policy: a prompt of 310 (1024 + 5120) numbers, an answer of 2 (1024 60 + 5120)
        assert at_once(Shape(), 310, 128, Writing(60, memory=1.0)) == (14, 128)
        with refuses("an answer of 60 tokens to a prompt of 310 needs 0.0076 GiB, memory is 0.007 GiB"):
            at_once(Shape(), 310, 128, Writing(60, memory=0.007))
        batch = make(writing=Writing(answer_length=6, memory=1e-6))
        with pytest.raises(ValueError, match="an answer of 6 tokens to a prompt of 5 needs"):
            batch.rollout([0], 8)

    def test_a_gradient_that_does_not_fit_is_refused(self, refuses):
        # the paper's policy: 310 + 60 tokens of 4 * 4 * (2560 + 5120) bytes, 310^2 + 60 * 370 pairs of 128 bytes
        one, longest = torch.ones(1, 3, dtype=torch.bool), torch.full((1, 3), 60)
        with refuses("the gradient of one answer of 60 tokens needs 0.056 GiB, memory is 0.05 GiB"):
            list(parts(Shape(), 310, one, longest, 0.05))
        found = list(parts(Shape(), 310, one, longest, 0.057))
        assert [places.tolist() for _, places in found] == [[[0]], [[1]], [[2]]]


class TestCost:
    """Tokens that are run through the policy."""

    @pytest.mark.parametrize("estimator", ["maxrl_no_baseline", "maxrl", "rloo", "reinforce"])
    def test_only_answers_with_an_advantage_are_scored(self, estimator, monkeypatch):
        batch = make(lengths=(4, 4, 4, 4, 4, 4))
        group = batch.rollout([0], 3)
        advantages = estimators.make(estimator)(group.rewards[0].double())
        losses = methods.sampled_loss(group, estimator)
        seen = watch_tokens(batch.policy, monkeypatch)
        backward(losses, batch.policy)
        scored = advantages != 0
        assert 0 < int(scored.sum()) < 18
        prompts = int(scored.any(1).sum())
        # the prompts once, and every token of the answers but the last; an answer of one token needs none
        assert seen == [4 * prompts, int((group.lengths[0] - 1)[scored].sum())]

    def test_equal_answers_are_scored_once(self, monkeypatch):
        batch, twin = (make(few_words(), lengths=(4, 2, 4), writing=SHORT) for _ in range(2))
        group, rollout = batch.rollout([0], 40), drawn_by(batch, 40)
        bonus = 0.1 * group.entropies.mean((-2, -1))
        seen = watch_tokens(batch.policy, monkeypatch)
        found = backward(methods.sampled_loss(group, "reinforce") - bonus, batch.policy)
        distinct = [
            {tuple(answer[:length]) for answer, length in zip(answers, lengths, strict=True)}
            for answers, lengths in zip(rollout.tokens.tolist(), rollout.lengths.tolist(), strict=True)
        ]
        assert max(map(len, distinct)) <= 13  # that many there are, and 40 were drawn
        assert seen == [12, sum(len(answer) - 1 for answers in distinct for answer in answers)]
        monkeypatch.setattr(gradients, "merge_equal", lambda _, *slopes: slopes)
        group = twin.rollout([0], 40)
        bonus = 0.1 * group.entropies.mean((-2, -1))
        assert close(found, backward(methods.sampled_loss(group, "reinforce") - bonus, twin.policy), 1e-12)

    def test_what_is_merged_by_hand(self):
        # within a prompt: the first and third are one answer, what stands behind its end does not count; the second
        # goes on where these end, the fourth is another; the other prompt's answers are its own
        tokens = torch.tensor(
            [[[3, 0, 7], [3, 0, 7], [3, 0, 9], [4, 0, 7]], [[3, 0, 7], [3, 0, 7], [3, 0, 7], [4, 0, 7]]]
        )
        lengths = torch.tensor([[2, 3, 2, 2], [2, 2, 2, 3]])
        none = torch.zeros(2, 4, dtype=torch.float64)
        slopes = torch.tensor([[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, -3.0, 8.0]], dtype=torch.float64)
        (merged,) = gradients.merge_equal(Answers(tokens, lengths, lengths > 0, none, none), slopes)
        assert merged.tolist() == [[5, 2, 0, 8], [0, 0, 0, 8]]

    @pytest.mark.parametrize("right", [False, True])
    def test_groups_without_signal_cost_nothing(self, right, monkeypatch):
        batch = make(verify=lambda written, lengths: torch.full(lengths.shape, right))
        losses = run_losses(batch, [Sampled("maxrl", 4)])
        seen = watch_tokens(batch.policy, monkeypatch)
        assert not backward(losses, batch.policy).any()
        assert seen == []

    def test_the_policy_is_not_run_again_before_the_gradient_is_asked_for(self, monkeypatch):
        batch = make()
        seen = watch_tokens(batch.policy, monkeypatch)
        drawn_by(batch, 4)
        drawing = list(seen)
        seen.clear()
        run_losses(batch, [Sampled("rloo", 4)])
        assert seen == drawing


class TestRandomNumbers:
    def test_seed_and_step_decide(self):
        first, again = (make(seed=3, step=7).rollout([0], 6) for _ in range(2))
        assert torch.equal(first.log_probs, again.log_probs)
        assert torch.equal(first.rewards, again.rewards)
        for other in (make(seed=4, step=7), make(seed=3, step=8)):
            assert not torch.equal(first.log_probs, other.rollout([0], 6).log_probs)

    def test_the_global_generator_is_left_alone(self):
        torch.manual_seed(0)
        wanted = torch.rand(3)
        torch.manual_seed(0)
        batch = make()
        backward(run_losses(batch, [Sampled("rloo", 4)]), batch.policy)
        assert torch.equal(torch.rand(3), wanted)

    def test_a_prompt_has_its_answers_whoever_stands_behind_it(self):
        batch = make(lengths=(3, 5, 3))
        longer = make(lengths=(3, 5, 3))
        longer.prompts = Prompts(*(torch.cat([each, each[:1]]) for each in batch.prompts))
        assert torch.equal(drawn_by(longer, 4).tokens[:3], drawn_by(batch, 4).tokens)


class TestDescribe:
    def test_by_hand(self):
        written = Answers(
            tokens=torch.zeros(2, 2, 4, dtype=torch.long),
            lengths=torch.tensor([[1, 4], [2, 3]]),
            ended=torch.tensor([[True, False], [True, True]]),
            log_probs=torch.zeros(2, 2),
            entropies=torch.tensor([[0.5, 2.0], [1.0, 1.5]]),
        )
        assert describe(written, torch.tensor([[True, False], [False, False]])) == {
            "pass_rate": 0.25,
            "signal": 0.5,
            "length": 2.5,
            "cut_off": 0.25,
            "entropy": 0.5,  # 5 nats over 10 tokens
            "tokens": 10.0,
        }

    def test_a_batch_remembers_its_last_rollout(self):
        batch = make()
        group = batch.rollout([0], 6)
        written = drawn_by(batch, 6)
        assert batch.seen == describe(written, group.rewards[0])
        assert 0 < batch.seen["cut_off"] < 1
        assert set(batch.seconds) == {"seconds_sample", "seconds_verify"}
        assert all(each >= 0 for each in batch.seconds.values())


class TestPrecision:
    def test_bfloat16_is_close(self):
        policy = small_policy(dtype=torch.float32, width=64, mlp=128)
        exactly, nearly = (make(policy, (5, 5, 5, 5), writing=Writing(6, precision=each)) for each in PRECISIONS)
        written = drawn_by(exactly, 16)
        rewards = odd(written.tokens, written.lengths)[None]
        slopes = []
        for batch in (exactly, nearly):
            log_probs, _ = differentiable(policy, batch.prompts, written, batch.writing)
            slopes.append(backward(methods.sampled_loss(Group(rewards, log_probs[None]), "rloo"), policy))
        assert slopes[1].dtype == torch.float32
        assert not torch.equal(*slopes)
        assert close(slopes[1], slopes[0], 0.05)  # 8 bits: 2^-9 an operation

    def test_bfloat16_answers_are_worth_nearly_what_they_are_said_to_be(self):
        policy = small_policy(dtype=torch.float32, width=64, mlp=128)
        batch = make(policy, writing=Writing(6, precision="bfloat16"))
        group = batch.rollout([0], 16)
        written = drawn_by(batch, 16)
        log_probs, _ = score(policy, read(policy, *batch.prompts), written.tokens, written.lengths)
        assert group.log_probs.dtype == torch.float32
        gap = (group.log_probs[0] - log_probs.detach()).abs()
        assert 0 < gap.mean().item() < 0.1
        assert gap.max().item() < 1
        losses = run_losses(batch, [Sampled("rloo", 16)])
        assert bool(backward(losses, policy).isfinite().all())

    def test_single_precision(self):
        single, double = make(small_policy(dtype=torch.float32)), make()
        assert torch.equal(drawn_by(single, 6).tokens, drawn_by(double, 6).tokens)
        wanted = gradient_of(slow_loss(double, double.rollout([0], 6), "rloo"), double.policy)
        found = backward(run_losses(single, [Sampled("rloo", 6)]), single.policy)
        assert close(found.double(), wanted, 1e-4)


class TestRefused:
    @pytest.mark.parametrize("weight", ["embedding", "norm"])
    def test_a_policy_that_is_nan(self, refuses, weight):
        batch = make(step=3)
        with torch.no_grad():
            getattr(batch.policy, weight)[0] = torch.nan
        with refuses("the policy of run 0 is NaN after 3 updates: it has diverged") as caught:
            batch.rollout([0], 4)
        assert isinstance(caught.value, DivergedError)
        assert (caught.value.run, caught.value.step) == (0, 3)

    def test_learning_from_part_of_the_distribution(self, refuses):
        with refuses("a policy learns from its whole distribution, expected top_p 1, got 0.9"):
            make(writing=Writing(answer_length=6, top_p=0.9))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"answer_length": 0}, "answer_length must be a whole number >= 1, got 0"),
            ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
            ({"temperature": math.inf}, "temperature must be positive and finite, got inf"),
            ({"temperature": math.nan}, "temperature must be positive and finite, got nan"),
            ({"memory": -1.0}, "memory must be positive and finite, got -1.0"),
            ({"top_p": 0.0}, "top_p must lie in (0, 1], got 0.0"),
            ({"top_p": 1.5}, "top_p must lie in (0, 1], got 1.5"),
            ({"precision": "float16"}, "unknown precision 'float16'; choose one of: float32, bfloat16"),
        ],
    )
    def test_writing(self, refuses, options, message):
        with refuses(message):
            Writing(**{"answer_length": 6, **options})

    def test_prompts_that_do_not_fit(self, refuses):
        batch = make(lengths=(3, 27))
        message = "the context holds 32 tokens, got a prompt of 27 and answers of up to 6"
        for ask in (lambda: batch.rollout([0], 4), lambda: batch.greedy([0]), lambda: batch.log_pass_rate([0])):
            with refuses(message):
                ask()

    def test_another_vocabulary(self, refuses):
        batch = make(small_policy(5))
        batch.policy = small_policy(4)
        with refuses("tokens must lie in 0..3, the policy's vocabulary, got 4"):
            batch.rollout([0], 4)


def test_answers_written_for_the_oracle_are_well_formed():
    written, lengths = random_answers([[3, 1], [2, 4]])
    assert (written == END).sum(-1).tolist() == [[1, 1], [1, 1]]
    assert ((written == END).int().argmax(-1) == lengths - 1).all()
