"""Losses made of advantages: each by hand, the bias of those that average over tokens, and who is told what."""

import itertools
from fractions import Fraction

import pytest
import torch
from small_policy import gradient_of, naive_scores, random_answers, random_prompts, small_policy

from maxrl_lab.tokens.scoring import read, score
from maxrl_lab.training import methods, surrogates
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Sampled, parse_method
from maxrl_lab.training.step import run_losses

EXACT = {"rel": 1e-12}
ADVANTAGES = torch.tensor([[2.0, -1, -1], [0.5, 0.5, -1]], dtype=torch.float64)


def group(**changes):
    """Two tasks of three rollouts: advantages as above belong to rewards 1 0 0 and 1 1 0."""
    parts = {
        "rewards": torch.tensor([[1, 0, 0], [1, 1, 0]]),
        "log_probs": torch.tensor([[-1.0, -2, -3], [-4, -5, -6]], dtype=torch.float64),
        "lengths": torch.tensor([[1, 2, 4], [2, 5, 6]]),
        "entropies": torch.tensor([[0.5, 1.0, 1.5], [2.0, 3.0, 2.0]], dtype=torch.float64),
        "greedy": torch.tensor([False, True]),
    }
    return Group(**{**parts, **changes})


def loss(text, **changes):
    return surrogates.resolve(text)(ADVANTAGES, group(**changes)).item()


# sum A log m: task 1: -2 + 2 + 3 = 3, task 2: -2 - 5/2 + 6 = 3/2
class TestByHand:
    def test_sequence_sum(self):
        assert loss("sequence_sum") == pytest.approx(-4.5 / 6, **EXACT)

    def test_token_mean(self):
        assert loss("token_mean") == pytest.approx(-4.5 / 20, **EXACT)  # 20 tokens

    def test_rollout_mean(self):
        # -2/1 + 2/2 + 3/4 = -1/4 and -2/2 - (5/2)/5 + 6/6 = -1/2
        assert loss("rollout_mean") == pytest.approx(0.75 / 6, **EXACT)

    def test_entropy_bonus(self):
        assert loss("entropy_bonus:coefficient=0.1") == pytest.approx(-4.5 / 6 - 0.1 * 10 / 20, **EXACT)
        assert loss("entropy_bonus:coefficient=0") == loss("sequence_sum")

    def test_differential_smoothing(self):
        # mean log-probabilities of the tokens: -1 -1 -3/4 and -2 -1 -1; with gamma 0.1 the advantages become
        # 2 + .1, -1 - .1, -1 - .075 and .5 + .2, .5 + .1, -1 - .1
        shifted = torch.tensor([[2.1, -1.1, -1.075], [0.7, 0.6, -1.1]], dtype=torch.float64)
        wanted = -(shifted * group().log_probs).sum() / 6
        assert loss("differential_smoothing:gamma=0.1") == pytest.approx(wanted.item(), **EXACT)
        assert loss("differential_smoothing:gamma=0") == loss("sequence_sum")

    def test_greedy_gate(self):
        assert loss("greedy_gate") == pytest.approx(-3 / 6, **EXACT)  # the second task is solved
        assert loss("greedy_gate", greedy=torch.tensor([True, True])) == 0
        assert loss("greedy_gate", greedy=torch.tensor([False, False])) == loss("sequence_sum")

    @pytest.mark.parametrize("text", ["token_mean", "rollout_mean"])
    def test_without_lengths_every_rollout_is_one_token(self, text):
        assert loss(text, lengths=None) == pytest.approx(loss("sequence_sum"), **EXACT)

    @pytest.mark.parametrize("name", surrogates.SURROGATES)
    def test_runs_do_not_mix(self, name):
        text = name + {"entropy_bonus": ":coefficient=0.1", "differential_smoothing": ":gamma=0.1"}.get(name, "")
        first, second = group(), group(lengths=group().lengths * 2, greedy=~group().greedy)
        parts = [part for part, value in vars(first).items() if value is not None]
        stacked = Group(**{part: torch.stack([getattr(first, part), getattr(second, part)]) for part in parts})  # R = 2
        found = surrogates.resolve(text)(torch.stack([ADVANTAGES, 3 * ADVANTAGES]), stacked)
        alone = [surrogates.resolve(text)(scale * ADVANTAGES, each) for scale, each in ((1, first), (3, second))]
        assert found.tolist() == pytest.approx([each.item() for each in alone], **EXACT)

    @pytest.mark.parametrize("name", surrogates.SURROGATES)
    def test_an_entry_with_a_count_is_so_many_equal_rollouts(self, name):
        text = name + {"entropy_bonus": ":coefficient=0.1", "differential_smoothing": ":gamma=0.1"}.get(name, "")
        counts = torch.tensor([[3, 0, 4], [1, 4, 2]])  # N = 7 in both tasks; one entry stands for none
        counted = group(counts=counts)
        parts = {part: value for part, value in vars(group()).items() if value is not None and part != "greedy"}
        repeated = {
            part: torch.stack([row.repeat_interleave(count) for row, count in zip(value, counts, strict=True)])
            for part, value in parts.items()
        }
        every = Group(**repeated, greedy=counted.greedy)
        for estimator in ("rloo", "maxrl", "grpo"):  # K is 3 of 7 and 5 of 7, not 1 and 2 of 3
            found = methods.sampled_loss(counted, estimator, text)
            assert found.item() == pytest.approx(methods.sampled_loss(every, estimator, text).item(), **EXACT)


class TestDifferentialSmoothing:
    def slope(self, log_prob, reward):
        """By how much the loss pulls on one rollout's log-probability, of advantage 0 and 2 tokens."""
        log_probs = torch.tensor([[float(log_prob)]], requires_grad=True)
        one = Group(torch.tensor([[reward]]), log_probs, torch.tensor([[2]]))
        surrogates.resolve("differential_smoothing:gamma=0.5")(torch.zeros(1, 1), one).backward()
        return -log_probs.grad.item()

    def test_rare_right_answers_gain_more_than_frequent_ones(self):
        assert self.slope(-8, 1) == 0.5 * 8 / 2
        assert self.slope(-2, 1) == 0.5 * 2 / 2

    def test_wrong_answers_lose_more_the_rarer_they_are(self):
        assert self.slope(-8, 0) == -0.5 * 8 / 2
        assert self.slope(-2, 0) == -0.5 * 2 / 2

    def test_the_shift_is_held_fixed(self):
        # a gradient through it would double the slope above
        assert self.slope(-8, 1) != 0.5 * 8


class TestBias:
    """Three answers of 1, 2 and 4 tokens under a uniform policy, the first two right; z's score is e_z - 1/3."""

    LENGTHS, RIGHT = (1, 2, 4), (1, 1, 0)
    THIRD = Fraction(1, 3)

    def mean_gradient(self, text, rollouts):
        """Of the estimate of `reinforce`, over all 3^N groups."""
        logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        groups = torch.tensor(list(itertools.product(range(3), repeat=rollouts)))[:, None]  # (3^N, 1, N)
        rewards, lengths = torch.tensor(self.RIGHT)[groups], torch.tensor(self.LENGTHS)[groups]
        losses = methods.sampled_loss(Group(rewards, logits.log_softmax(-1)[groups], lengths), "reinforce", text)
        assert losses.shape == (3**rollouts,)
        losses.mean().backward()
        return (-logits.grad).tolist()

    def score(self, answer):
        return [Fraction(int(answer == other)) - self.THIRD for other in range(3)]

    @pytest.mark.parametrize("rollouts", [1, 2, 3])
    def test_the_sum_over_tokens_is_unbiased(self, rollouts):
        # pi_z (r_z - p) with p = 2/3
        assert self.mean_gradient("sequence_sum", rollouts) == pytest.approx([1 / 9, 1 / 9, -2 / 9], **EXACT)

    @pytest.mark.parametrize("rollouts", [1, 2, 3])
    def test_a_mean_per_rollout_optimises_the_reward_per_token(self, rollouts):
        # r / length is 1, 1/2, 0, its mean 1/2: pi_z (r_z / length_z - 1/2); the second right answer gains nothing
        assert self.mean_gradient("rollout_mean", rollouts) == pytest.approx([1 / 6, 0, -1 / 6], rel=1e-12, abs=1e-15)

    @pytest.mark.parametrize("rollouts", [1, 2, 3])
    def test_a_mean_over_the_batchs_tokens_favours_short_batches(self, rollouts):
        wanted = [Fraction(0)] * 3
        for drawn in itertools.product(range(3), repeat=rollouts):
            own = sum(self.LENGTHS[each] for each in drawn)
            for each in drawn:
                for place, value in enumerate(self.score(each)):
                    wanted[place] += self.THIRD**rollouts * self.RIGHT[each] * value / own
        found = self.mean_gradient("token_mean", rollouts)
        assert found == pytest.approx([float(each) for each in wanted], rel=1e-12, abs=1e-15)
        assert found[0] - found[1] > 0.02  # unbiased, the two right answers gain equally

    def test_with_equal_lengths_both_are_the_sum_scaled(self):
        parts = {"lengths": torch.full((2, 3), 4)}
        for text in ("token_mean", "rollout_mean"):
            assert loss(text, **parts) == pytest.approx(loss("sequence_sum") / 4, **EXACT)


class TestThroughThePolicy:
    @pytest.mark.parametrize("lengths", [(4, 4), (5, 3)])
    def test_gradient_of_the_entropy_bonus_is_autograds(self, lengths):
        policy, prompts = small_policy(), random_prompts(list(lengths))
        written = random_answers([[3, 1, 4], [2, 5, 2]])
        log_probs, entropies = score(policy, read(policy, *prompts), *written)
        naive = naive_scores(policy, *prompts, *written)
        found = surrogates.resolve("entropy_bonus:coefficient=0.2")(
            ADVANTAGES, Group(group().rewards, log_probs, written[1], entropies)
        )
        wanted = -(ADVANTAGES * naive[0]).mean() - 0.2 * naive[1].sum() / 17
        assert found.item() == pytest.approx(wanted.item(), rel=1e-10)
        slopes = [gradient_of(each, policy) for each in (found, wanted)]
        assert torch.allclose(*slopes, rtol=1e-9, atol=1e-11)


class TestNeeds:
    def test_only_the_gate_reads_greedy_answers(self):
        options = {"entropy_bonus": ":coefficient=1", "differential_smoothing": ":gamma=1"}
        made = [surrogates.resolve(name + options.get(name, "")) for name in surrogates.SURROGATES]
        assert [each.name for each in made if each.needs_greedy] == ["greedy_gate"]

    def test_what_is_missing_is_named(self, refuses):
        with refuses("an entropy bonus needs the entropies of the rollouts' tokens, got none"):
            loss("entropy_bonus:coefficient=0.1", entropies=None)
        with refuses("the greedy gate needs to know which tasks greedy decoding solves, got nothing"):
            loss("greedy_gate", greedy=None)


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "ppo",
                "unknown surrogate 'ppo'; choose one of: sequence_sum, token_mean, rollout_mean, entropy_bonus, "
                "differential_smoothing, greedy_gate",
            ),
            ("token_mean:k=2", "surrogate 'token_mean' has no option 'k'; its options: none"),
            (
                "entropy_bonus",
                "surrogate 'entropy_bonus' needs the option 'coefficient', as in 'entropy_bonus:coefficient=4'",
            ),
            (
                "differential_smoothing:beta=1",
                "surrogate 'differential_smoothing' has no option 'beta'; its options: gamma",
            ),
            *[
                (f"{name}={value}", f"{name.partition(':')[2]} must be finite, got {value}")
                for name in ("entropy_bonus:coefficient", "differential_smoothing:gamma")
                for value in ("nan", "inf", "-inf")
            ],
            ("entropy_bonus:coefficient", "expected 'name:option=value', got 'entropy_bonus:coefficient'"),
        ],
    )
    def test_text_forms_also_by_method(self, refuses, text, message):
        with refuses(message):
            surrogates.resolve(text)
        with refuses(message):
            Sampled("grpo", 4, text)


class TestNames:
    @pytest.mark.parametrize(
        ("text", "target", "surrogate", "name"),
        [
            ("grpo", "grpo", "sequence_sum", "grpo"),
            ("grpo | greedy_gate", "grpo", "greedy_gate", "grpo | greedy_gate"),
            ("grpo|greedy_gate", "grpo", "greedy_gate", "grpo | greedy_gate"),
            (
                "pkpo:k=N/2 | entropy_bonus:coefficient=0.01",
                "pkpo:k=4",
                "entropy_bonus:coefficient=0.01",
                "pkpo:k=4 | entropy_bonus:coefficient=0.01",
            ),
            ("maxrl | sequence_sum", "maxrl", "sequence_sum", "maxrl"),
        ],
    )
    def test_a_method_is_read_from_text_and_says_its_name(self, text, target, surrogate, name):
        method = parse_method(text, 8)
        assert method == Sampled(target, 8, surrogate)
        assert method.name == name
        assert parse_method(method.name, 8) == method

    def test_a_half_written_text_is_refused(self):
        with pytest.raises(ValueError, match=r"\Aunknown surrogate ''; choose one of"):
            parse_method("grpo |", 8)
        with pytest.raises(ValueError, match=r"\Aunknown estimator ''; choose one of"):
            parse_method("| greedy_gate", 8)


class Decoded:
    """A batch of 2 tasks for each of R runs whose first task is solved greedily by run 0, the second by run 1."""

    def __init__(self):
        self.log_probs = torch.full((2, 2, 2), -1.0, dtype=torch.float64, requires_grad=True)
        self.asked = []

    def rollout(self, runs, rollouts):
        rewards = torch.tensor([[1, 0], [0, 1]]).expand(len(runs), -1, -1)
        return Group(rewards, self.log_probs[list(runs)])

    def greedy(self, runs):
        self.asked.append(list(runs))
        return torch.eye(2, dtype=torch.bool)[list(runs)]


class TestGreedyGateInTheStep:
    def test_every_run_has_its_own_gate(self):
        batch = Decoded()
        run_losses(batch, [parse_method("rloo | greedy_gate", 2)] * 2).sum().backward()
        assert batch.asked == [[0, 1]]
        # advantages 1 -1 and -1 1, over B N = 4; run 0 has solved task 0, run 1 task 1
        assert batch.log_probs.grad.tolist() == [[[0, 0], [0.25, -0.25]], [[-0.25, 0.25], [0, 0]]]

    def test_only_who_needs_it_is_decoded(self):
        batch = Decoded()
        run_losses(batch, [parse_method("rloo", 2), parse_method("rloo | greedy_gate", 2)]).sum().backward()
        assert batch.asked == [[1]]
        assert batch.log_probs.grad.tolist() == [[[-0.25, 0.25], [0.25, -0.25]], [[-0.25, 0.25], [0, 0]]]

    def test_a_family_that_cannot_be_decoded_is_named(self, refuses):
        class Undecodable:
            def rollout(self, runs, rollouts):
                return Decoded().rollout(runs, rollouts)

        with refuses("the greedy gate needs tasks that can be decoded greedily, got Undecodable"):
            run_losses(Undecodable(), [parse_method("rloo | greedy_gate", 2)])
