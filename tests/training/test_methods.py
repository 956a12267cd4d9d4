"""The ways to take a step: their losses by hand, what they refuse, and what an estimator may be."""

import math

import pytest
import torch

from maxrl_lab import objectives, specs
from maxrl_lab.errors import InputError
from maxrl_lab.training import methods
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Exact, Expected, Inverse, Sampled, parse_method
from maxrl_lab.training.step import run_losses


class TestSampledLoss:
    def test_its_value_by_hand(self):
        # maxrl on rewards 1 0 0 0: advantages 3 -1 -1 -1, log-probabilities -1 -2 -3 -4.
        # -(3*(-1) + 2 + 3 + 4) / 4 = -1.5
        group = Group(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[-1.0, -2, -3, -4]]))
        assert methods.sampled_loss(group, "maxrl").item() == -1.5

    def test_runs_and_tasks_do_not_mix(self):
        # The second run has no success: pooled with the first one's K, its rollouts would get advantages.
        rewards = torch.tensor([[[1.0, 0], [1, 1]], [[0, 0], [0, 0]]])
        log_probs = torch.full((2, 2, 2), -1.0, requires_grad=True)
        losses = methods.sampled_loss(Group(rewards, log_probs), "maxrl")
        assert losses.shape == (2,)
        losses.sum().backward()
        # Run 0, task 0: advantages 1 and -1, divided by B N = 4; task 1 has no spread.
        assert log_probs.grad.tolist() == [[[-0.25, 0.25], [0, 0]], [[0, 0], [0, 0]]]

    def test_lengths_do_not_matter(self):
        rewards, log_probs = torch.tensor([[1.0, 0, 0]]), torch.tensor([[-1.0, -2, -3]])
        with_lengths = Group(rewards, log_probs, lengths=torch.tensor([[1, 20, 300]]))
        assert methods.sampled_loss(with_lengths, "maxrl") == methods.sampled_loss(Group(rewards, log_probs), "maxrl")

    def test_no_gradient_flows_through_the_advantages(self):
        def differentiable(rewards):
            return rewards * weight

        weight = torch.tensor(2.0, requires_grad=True)
        log_probs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
        methods.sampled_loss(Group(torch.tensor([[1.0, 0.0]]), log_probs), differentiable).backward()
        assert weight.grad is None
        assert log_probs.grad.tolist() == [[-1.0, 0.0]]

    def test_bool_rewards_give_advantages_as_exact_as_the_log_probabilities(self):
        log_probs = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
        rewards = torch.tensor([[True, True, True, False, False]])
        methods.sampled_loss(Group(rewards, log_probs), "maxrl_no_baseline").backward()
        # a(3) = 5/3, divided by N = 5.
        assert log_probs.grad[0, 0].item() == pytest.approx(-1 / 3, rel=1e-12)


class Known:
    """A batch of which only the log pass rates (R, B) are known."""

    def __init__(self, log_pass_rate):
        self.known = log_pass_rate

    def log_pass_rate(self, runs):
        return self.known[list(runs)]


def loss(method, log_pass_rate):
    return method.loss(Known(log_pass_rate), range(len(log_pass_rate)))


def exact_weight(estimator_table, rollouts, p):
    """w_N(p) from theory.md, as a sum over K of floats: E_K[(K/N) a(K)/p - ((N-K)/N) b(K)/(1-p)]."""
    total = 0.0
    for successes in range(rollouts + 1):
        probability = math.comb(rollouts, successes) * p**successes * (1 - p) ** (rollouts - successes)
        a, b = estimator_table(successes)
        total += probability * (successes * a / p - (rollouts - successes) * b / (1 - p)) / rollouts
    return total


OPTIONS = {
    "truncated_likelihood": ":order=16",
    "pass_at_k": ":k=16",
    "power": ":s=0.5,t=0.25",
    "tilted": ":beta=2",
    "tsallis": ":q=0.5",
    "arcsine_pass_at_k": ":k=4",
    "resampled_grpo": ":rollouts=4",
}
"""The options of the objectives that take some."""


class TestExactLoss:
    @pytest.mark.parametrize(
        ("estimator", "table"),
        [
            ("maxrl", lambda k: (5 / k - 1, -1) if k else (0, 0)),
            ("rloo", lambda k: (1 - (k - 1) / 4, -k / 4)),
            (
                "grpo",
                lambda k: (
                    ((1 - k / 5) / math.sqrt(k / 5 * (1 - k / 5)), -math.sqrt(k / (5 - k))) if 0 < k < 5 else (0, 0)
                ),
            ),
        ],
    )
    def test_expecteds_gradient_is_the_weight_times_the_gradient_of_p(self, estimator, table):
        log_pass_rate = torch.tensor([[0.01, 0.3, 0.9]], dtype=torch.float64).log().requires_grad_()
        loss(Expected(estimator, 5), log_pass_rate).sum().backward()
        # grad with respect to log p is p times that with respect to p; the mean is over 3 tasks.
        wanted = [-exact_weight(table, 5, p) * p / 3 for p in (0.01, 0.3, 0.9)]
        assert log_pass_rate.grad[0].tolist() == pytest.approx(wanted, rel=1e-12)

    @pytest.mark.parametrize("name", objectives.OBJECTIVES)
    def test_exacts_gradient_is_that_of_the_objectives_value(self, name):
        spec = name + OPTIONS.get(name, "")
        log_pass_rate = torch.linspace(-8, -0.01, 12, dtype=torch.float64).reshape(2, 6).requires_grad_()
        losses = loss(Exact(spec), log_pass_rate)
        assert losses.shape == (2,)
        (found,) = torch.autograd.grad(losses.sum(), log_pass_rate)
        value = -objectives.resolve(spec).value(log_pass_rate.exp()).mean(-1)
        (wanted,) = torch.autograd.grad(value.sum(), log_pass_rate)
        assert torch.allclose(found, wanted, rtol=1e-12, atol=0)

    def test_every_objective_is_tested_above(self):
        assert set(objectives.OBJECTIVES) == {
            "expected_reward",
            "maximum_likelihood",
            "truncated_likelihood",
            "pass_at_k",
            "grpo_limit",
            "power",
            "tilted",
            "tsallis",
            "arcsine_pass_at_k",
            "resampled_grpo",
        }

    @pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
    def test_tasks_are_the_last_axis_whatever_leads(self, leading):
        # slopes 1 and 3 at log p = -1 and -2: -(-1 - 6) / 2
        log_pass_rate = torch.tensor([-1.0, -2.0]).expand(*leading, 2)
        slope = torch.tensor([1.0, 3.0], dtype=torch.float64).expand(*leading, 2)
        assert torch.equal(methods.exact_loss(log_pass_rate, slope), torch.full(leading, 3.5))

    @pytest.mark.parametrize("method", [Exact("pass_at_k:k=1"), Expected("rloo", 4)], ids=["exact", "expected"])
    def test_a_log_pass_rate_rounded_above_zero_is_taken_as_certain(self, method):
        # log_softmax in float32 may return +1e-8.
        log_pass_rate = torch.tensor([[1e-7]], requires_grad=True)
        loss(method, log_pass_rate).sum().backward()
        assert log_pass_rate.grad.item() == -1.0

    def test_a_diverged_run_is_nan_and_the_others_are_not(self):
        log_pass_rate = torch.tensor([[math.nan, -1.0], [-1.0, -2.0]], dtype=torch.float64)
        for method in (Expected("maxrl", 4), Exact("maximum_likelihood")):
            losses = loss(method, log_pass_rate)
            assert losses.isnan().tolist() == [True, False]

    @pytest.mark.parametrize(
        ("target", "log_p", "wanted"),
        [
            # d log p / d log p = 1 at every p; p itself underflows below log p = -745.
            pytest.param("maximum_likelihood", -800.0, 1.0, id="likelihood of a hopeless task"),
            # d 2 arcsin sqrt(p) / d log p = sqrt(p / (1-p)), and 1-p is 1e-20 here.
            pytest.param("grpo_limit", -1e-20, 1e10, id="GRPO's limit at a mastered task"),
        ],
    )
    def test_exact_works_wherever_log_p_is_known(self, target, log_p, wanted):
        log_pass_rate = torch.tensor([[log_p]], dtype=torch.float64, requires_grad=True)
        loss(Exact(target), log_pass_rate).sum().backward()
        assert -log_pass_rate.grad.item() == pytest.approx(wanted, rel=1e-9)


class TestMethod:
    @pytest.mark.parametrize(
        ("kind", "arguments", "message"),
        [
            (Sampled, ("maxlr", 4), "unknown estimator 'maxlr'"),
            (Expected, ("maximum_likelihood", 4), "unknown estimator 'maximum_likelihood'"),
            (Exact, ("maxrl",), "unknown objective 'maxrl'"),
            (Exact, ("truncated_likelihood:order=N-1",), "got 'N-1'"),
            (Sampled, ("maxrl", None), "rollouts must be a whole number >= 1, got None"),
            (Expected, ("maxrl", 0), "rollouts must be a whole number >= 1, got 0"),
            (Sampled, ("maxrl", 4.0), "rollouts must be a whole number >= 1, got 4.0"),
            (Sampled, ("rloo", 1), "rloo needs at least 2 rollouts in a group, got N = 1"),
            (Expected, ("pkpo:k=5", 4), "pkpo with k=5 needs at least 5 rollouts"),
            (Sampled, ("maxrl_order:order=N+1", 4), r"maxrl_order of order 5 needs at least 5 rollouts"),
            (Sampled, ("pkpo", 4), "needs the option 'k'"),
            (Sampled, ("maxrl", 4, "mean"), "unknown surrogate 'mean'"),
            (Inverse, (0, 4), "successes must be a whole number >= 1, got 0"),
            (Inverse, (1, 2.0), "cap must be a whole number >= 1, got 2.0"),
        ],
    )
    def test_what_cannot_be_trained_is_refused_when_it_is_made(self, kind, arguments, message):
        with pytest.raises(InputError, match=message):
            kind(*arguments)

    def test_methods_are_equal_by_value_so_that_runs_can_be_grouped(self):
        assert len({Sampled("maxrl", 4), Sampled("maxrl", 4), Expected("maxrl", 4)}) == 2
        assert Sampled("pkpo:k=N/2", 8) == Sampled("pkpo:k=4", 8) != Sampled("pkpo:k=4", 4)

    @pytest.mark.parametrize(
        ("method", "name", "kind", "rollouts", "drawn"),
        [
            (Sampled("pkpo:k=N/2", 8), "pkpo:k=4", "sampled", 8, 8),
            (Sampled("grpo", 8, "greedy_gate"), "grpo | greedy_gate", "sampled", 8, 8),
            (Expected("grpo:epsilon=0.1", 8), "grpo:epsilon=0.1", "expected", 8, None),
            (Exact("pass_at_k:k=3"), "pass_at_k:k=3", "exact", None, None),
            (Inverse(2, 64), "inverse_sampling:successes=2", "inverse", 64, 64),
        ],
    )
    def test_what_rows_and_the_step_ask_a_method(self, method, name, kind, rollouts, drawn):
        assert (method.name, method.kind, method.rollouts, method.drawn) == (name, kind, rollouts, drawn)

    @pytest.mark.parametrize("name", ["grpo:epsilon=1e+20", "grpo:epsilon=1e-07", "grpo:ddof=1 | token_mean"])
    def test_a_name_is_read_back_as_the_same_method(self, name):
        # "+" once separated the surrogate: "grpo:epsilon=1e+20" became the estimator "grpo:epsilon=1e".
        method = parse_method(name, 8)
        assert method.name == name
        assert parse_method(method.name, 8) == method

    def test_text_is_read_when_a_method_is_made_and_never_in_a_step(self, monkeypatch):
        made = [Sampled("pkpo:k=N/2", 4, "entropy_bonus:coefficient=0.1"), Expected("grpo:ddof=1", 4)]
        made.append(Exact("pass_at_k:k=2"))
        rates = torch.tensor([[-1.0, -2.0]], requires_grad=True)

        class Batch(Known):
            def rollout(self, runs, rollouts):
                values = torch.full((len(runs), 2, rollouts), -1.0)
                return Group(torch.ones_like(values), values, entropies=values)

        for method in made:
            method.loss(Batch(rates), [0])  # tables of named estimators are looked up once
        monkeypatch.setattr(specs, "parse", lambda *_text: pytest.fail("a text was parsed in a step"))
        for method in made:
            assert method.loss(Batch(rates), [0]).shape == (1,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rewards", [torch.bool, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "method", [Inverse(1, 4), Sampled("maxrl", 4), Expected("maxrl", 4), Exact("maximum_likelihood")]
)
def test_a_loss_is_as_exact_as_the_log_probabilities(method, rewards, dtype):
    class Batch(Known):
        def rollout(self, runs, rollouts):
            outcomes = torch.arange(rollouts).remainder(2).to(rewards).expand(len(runs), 2, -1)
            return Group(outcomes, torch.full(outcomes.shape, -1.0, dtype=dtype))

    losses = method.loss(Batch(torch.tensor([[-1.0, -2.0]], dtype=dtype)), [0])
    assert (losses.dtype, losses.shape) == (dtype, (1,))


class Scaled:
    """Mean-centred advantages times a factor that may change; equal to others by value, so it has no hash."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, rewards):
        return self.factor * (rewards - rewards.mean())

    def __eq__(self, other):
        return isinstance(other, Scaled) and self.factor == other.factor

    __hash__ = None


class TestCallables:
    """An estimator may be any callable from rewards to advantages."""

    REWARDS = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]])

    def batch(self, log_probs):
        class Batch:
            def rollout(_, runs, rollouts):  # noqa: N805
                assert rollouts == 4
                return Group(self.REWARDS.expand(len(runs), -1, -1), log_probs[list(runs)])

        return Batch()

    def gradients(self, made):
        """Advantages of each run's first task, which the gradient shows over the 8 rollouts of the batch."""
        log_probs = torch.zeros(len(made), 2, 4, requires_grad=True)
        run_losses(self.batch(log_probs), made).sum().backward()
        return (-8 * log_probs.grad[:, 0]).tolist()

    def test_one_that_cannot_be_hashed(self):
        with pytest.raises(TypeError, match="unhashable"):
            hash(Scaled(1.0))
        made = [Sampled(Scaled(factor), 4) for factor in (1.0, 2.0, 1.0)]
        one, two = [0.75, -0.25, -0.25, -0.25], [1.5, -0.5, -0.5, -0.5]
        assert self.gradients(made) == [one, two, one]
        rates = torch.tensor([[-1.0]], requires_grad=True)
        of_class, by_name = (loss(Expected(given, 4), rates).item() for given in (Scaled(1.0), "mean_centred"))
        assert of_class == pytest.approx(by_name, rel=1e-12)

    def test_what_its_table_depends_on_may_change_between_steps(self):
        scaled = Scaled(1.0)
        sampled, expected = Sampled(scaled, 4), Expected(scaled, 4)
        rates = torch.tensor([[-1.0]], requires_grad=True)
        before = loss(expected, rates).item()
        assert self.gradients([sampled]) == [[0.75, -0.25, -0.25, -0.25]]
        scaled.factor = 4.0
        assert self.gradients([sampled]) == [[3.0, -1.0, -1.0, -1.0]]
        assert loss(expected, rates).item() == pytest.approx(4 * before)

    @pytest.mark.parametrize("kind", [Sampled, Expected])
    def test_one_that_answers_differently_when_it_is_asked_twice_is_refused(self, kind):
        asked = []

        def counting(rewards):
            asked.append(rewards)
            return rewards * len(asked)

        with pytest.raises(InputError, match="counting"):
            kind(counting, 1)  # at N = 1 there is one arrangement for each K, so order cannot give it away
        with pytest.raises(InputError, match="counting depends on the order of rollouts"):
            kind(counting, 4)

    def test_its_name(self):
        def mine(rewards):
            return rewards

        assert Sampled(mine, 4, "token_mean").name == "mine | token_mean"


def test_a_callable_written_for_one_group_does_not_pool_the_tasks():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    log_probs = torch.zeros(2, 4, requires_grad=True)
    methods.sampled_loss(Group(rewards, log_probs), lambda group: group - group.mean()).backward()
    # each task's own mean, 1/4 and 3/4, over the 8 rollouts of the batch
    assert (-8 * log_probs.grad).tolist() == [[0.75, -0.25, -0.25, -0.25], [0.25, 0.25, 0.25, -0.75]]
