"""The training step does what its three modes promise, through a real network, by enumeration and by sampling."""

import itertools
import math

import pytest
import torch
from small_problem import CLASSES, INPUTS, SmallProblem

from maxrl_lab import objectives
from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.training import methods
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Exact, Expected, Sampled
from maxrl_lab.training.step import Method, run_losses, take_step

EXACT = {"rtol": 1e-10, "atol": 1e-13}
"""Float64 through a network: the largest rounding error seen is below 1e-14."""


def one_run(seed=0, step=0):
    problem = SmallProblem([seed])
    return problem, problem.batch(step)


def gradient_of(loss, problem, run=0):
    problem.stack.zero_grad()
    loss.backward(retain_graph=True)
    return problem.gradient(run)


# What autograd must find: each objective written as its textbook formula in p, with no help from the library.
def log_likelihood(p):
    return p.log()


def truncated_likelihood(order):
    return lambda p: -sum((1 - p) ** k / k for k in range(1, order + 1))


def pass_at_k(k):
    return lambda p: 1 - (1 - p) ** k


def expected_reward(p):
    return p


def ascent_direction(objective, problem, batch, scale=1.0):
    """The gradient of the mean objective over the batch's inputs, by autograd of its formula."""
    pass_rate = batch.log_probs.softmax(-1).gather(-1, batch.labels[..., None])
    return gradient_of(scale * objective(pass_rate).mean(), problem)


def enumerated_loss(batch, rollouts, estimator):
    """The mean of `sampled_loss` over every group of N rollouts of every input: V^N groups, weighted by probability."""
    classes = torch.tensor(list(itertools.product(range(CLASSES), repeat=rollouts)))
    log_probs = batch.log_probs[0][:, classes]  # (B, V^N, N)
    rewards = (classes == batch.labels[0, :, None, None]).double()
    losses = methods.sampled_loss(Group(rewards[:, :, None], log_probs[:, :, None]), estimator)  # (B, V^N)
    probabilities = log_probs.detach().sum(-1).exp()
    assert torch.allclose(probabilities.sum(-1), torch.ones(INPUTS, dtype=torch.float64), rtol=1e-12)
    return (probabilities * losses).sum(-1).mean()


UNBIASED = [
    # estimator, N, its objective, factor (theory.md, "The estimators")
    ("reinforce", 1, expected_reward, 1.0),
    ("reinforce", 3, expected_reward, 1.0),
    ("mean_centred", 4, expected_reward, 1 - 1 / 4),
    ("rloo", 3, expected_reward, 1.0),
    ("grpo", 2, expected_reward, 1.0),  # at N = 2 the only mixed group has deviation 1/2: RL, exactly
    ("maxrl_no_baseline", 4, truncated_likelihood(4), 1.0),
    ("maxrl_control_variate", 4, truncated_likelihood(4), 1.0),
    ("maxrl_leave_one_out", 1, truncated_likelihood(1), 1.0),
    ("maxrl_leave_one_out", 2, truncated_likelihood(2), 1.0),
    ("maxrl_leave_one_out", 4, truncated_likelihood(4), 1.0),
    ("maxrl_cross_fitted", 4, truncated_likelihood(4), 1.0),
    ("maxrl_order:order=1", 4, truncated_likelihood(1), 1.0),
    ("maxrl_order:order=3", 4, truncated_likelihood(3), 1.0),
    ("maxrl_order:order=N", 4, truncated_likelihood(4), 1.0),
    ("pkpo:k=1", 3, pass_at_k(1), 1.0),
    ("pkpo:k=2", 4, pass_at_k(2), 1.0),
    ("pkpo:k=N", 4, pass_at_k(4), 1.0),
    # Algorithm 1, the form that everybody ships, is of order N-1: plain RL at N = 2.
    ("maxrl", 2, expected_reward, 1.0),
    ("maxrl", 3, truncated_likelihood(2), 1.0),
    ("maxrl", 4, truncated_likelihood(3), 1.0),
]


class TestAutogradThroughTheClassifier:
    @pytest.mark.parametrize(("estimator", "rollouts", "objective", "factor"), UNBIASED)
    def test_the_mean_over_all_groups_is_the_objectives_gradient(self, estimator, rollouts, objective, factor):
        problem, batch = one_run()
        wanted = ascent_direction(objective, problem, batch, factor)
        assert wanted.abs().max() > 1e-3
        assert torch.allclose(-gradient_of(enumerated_loss(batch, rollouts, estimator), problem), wanted, **EXACT)

    @pytest.mark.parametrize(("estimator", "rollouts", "objective", "factor"), UNBIASED)
    def test_expected_mode_is_the_same_gradient(self, estimator, rollouts, objective, factor):
        problem, batch = one_run()
        wanted = ascent_direction(objective, problem, batch, factor)
        loss = run_losses(batch, [Expected(estimator, rollouts)]).sum()
        assert torch.allclose(-gradient_of(loss, problem), wanted, **EXACT)

    @pytest.mark.parametrize("estimator", ["grpo", "grpo:ddof=1", "grpo:epsilon=0.1"])
    def test_expected_mode_is_the_mean_over_all_groups_where_no_objective_has_a_name(self, estimator):
        problem, batch = one_run()
        loss = run_losses(batch, [Expected(estimator, 4)]).sum()
        wanted = gradient_of(enumerated_loss(batch, 4, estimator), problem)
        assert torch.allclose(gradient_of(loss, problem), wanted, **EXACT)

    @pytest.mark.parametrize(
        ("target", "objective"),
        [
            ("expected_reward", expected_reward),
            ("maximum_likelihood", log_likelihood),
            ("truncated_likelihood:order=5", truncated_likelihood(5)),
            ("pass_at_k:k=3", pass_at_k(3)),
            ("grpo_limit", lambda p: 2 * p.sqrt().arcsin()),
        ],
    )
    def test_objective_mode_is_the_objectives_gradient(self, target, objective):
        problem, batch = one_run()
        wanted = ascent_direction(objective, problem, batch)
        loss = run_losses(batch, [Exact(target)]).sum()
        assert torch.allclose(-gradient_of(loss, problem), wanted, **EXACT)

    def test_maximum_likelihood_is_cross_entropy(self):
        problem, batch = one_run()
        logits = problem.stack(problem.inputs(0))[0]
        wanted = gradient_of(torch.nn.functional.cross_entropy(logits, batch.labels[0]), problem)
        loss = run_losses(batch, [Exact("maximum_likelihood")]).sum()
        assert torch.allclose(gradient_of(loss, problem), wanted, **EXACT)

    def test_order_n_falls_short_of_log_p_by_the_chance_that_all_rollouts_fail(self):
        # One input: grad J^(T) = (1 - (1-p)^T) grad log p, so the relative distance to the likelihood is fail@T.
        problem, batch = one_run()
        single = ClassificationBatch(batch.log_probs[:, :1], batch.labels[:, :1], batch.seeds, batch.step)
        log_pass_rate = single.log_pass_rate([0])
        fail_at_4 = (1 - log_pass_rate.detach().exp().item()) ** 4
        likelihood = gradient_of(log_pass_rate.sum(), problem)
        classes = torch.tensor(list(itertools.product(range(CLASSES), repeat=4)))
        group = Group((classes == single.labels[0, 0]).double()[:, None], single.log_probs[0, 0][classes][:, None])
        loss = group.log_probs.detach().sum((-1, -2)).exp() @ methods.sampled_loss(group, "maxrl_leave_one_out")
        assert torch.allclose(-gradient_of(loss, problem), (1 - fail_at_4) * likelihood, **EXACT)

    def test_algorithm_1_is_not_of_order_n(self):
        problem, batch = one_run()
        found = -gradient_of(enumerated_loss(batch, 4, "maxrl"), problem)
        claimed = ascent_direction(truncated_likelihood(4), problem, batch)
        # What is missing is (1-p)^3 grad p: never small while p is not near 1.
        missing = ascent_direction(lambda p: -((1 - p) ** 4) / 4, problem, batch)
        assert torch.allclose(claimed - found, missing, **EXACT)
        assert missing.norm() > 0.05 * claimed.norm()

    def test_algorithm_1_learns_nothing_from_single_rollouts(self):
        problem, batch = one_run()
        assert gradient_of(enumerated_loss(batch, 1, "maxrl"), problem).eq(0).all()
        assert gradient_of(run_losses(batch, [Expected("maxrl", 1)]).sum(), problem).eq(0).all()


class TestSampledLoss:
    @pytest.mark.parametrize(
        ("estimator", "advantages"),
        [
            # Rewards of the three tasks below: 1 0 0, 1 1 0 and 0 0 0. r - mean of the others; N/K - 1 and -1.
            ("rloo", [[1, -1 / 2, -1 / 2], [1 / 2, 1 / 2, -1], [0, 0, 0]]),
            ("maxrl", [[2, -1, -1], [1 / 2, 1 / 2, -1], [0, 0, 0]]),
            ("maxrl_no_baseline", [[3, 0, 0], [3 / 2, 3 / 2, 0], [0, 0, 0]]),
        ],
    )
    def test_its_gradient_is_a_slow_loop_over_rollouts(self, estimator, advantages):
        problem, batch = one_run()
        classes = [[2, 5, 1], [3, 3, 6], [0, 1, 0]]
        rewards = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=torch.float64)
        log_probs = torch.stack([batch.log_probs[0, task, drawn] for task, drawn in enumerate(classes)])
        loss = methods.sampled_loss(Group(rewards, log_probs), estimator)
        assert loss.shape == ()
        wanted = 0.0
        for task, drawn in enumerate(classes):
            estimate = 0.0
            for rollout, label in enumerate(drawn):
                score = gradient_of(batch.log_probs[0, task, label], problem)
                estimate = estimate + advantages[task][rollout] * score
            wanted = wanted + estimate / 3  # (1/N) sum_i A_i S_i
        assert torch.allclose(-gradient_of(loss, problem), wanted / 3, **EXACT)  # the mean over tasks

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


def exact_weight(estimator_table, rollouts, p):
    """w_N(p) from theory.md, as a sum over K of floats: E_K[(K/N) a(K)/p - ((N-K)/N) b(K)/(1-p)]."""
    total = 0.0
    for successes in range(rollouts + 1):
        probability = math.comb(rollouts, successes) * p**successes * (1 - p) ** (rollouts - successes)
        a, b = estimator_table(successes)
        total += probability * (successes * a / p - (rollouts - successes) * b / (1 - p)) / rollouts
    return total


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
    def test_expected_modes_gradient_is_the_weight_times_the_gradient_of_p(self, estimator, table):
        log_pass_rate = torch.tensor([[0.01, 0.3, 0.9]], dtype=torch.float64).log().requires_grad_()
        methods.exact_loss(log_pass_rate, Expected(estimator, 5)).sum().backward()
        # grad with respect to log p is p times that with respect to p; the mean is over 3 tasks.
        wanted = [-exact_weight(table, 5, p) * p / 3 for p in (0.01, 0.3, 0.9)]
        assert log_pass_rate.grad[0].tolist() == pytest.approx(wanted, rel=1e-12)

    @pytest.mark.parametrize("name", objectives.OBJECTIVES)
    def test_objective_modes_gradient_is_that_of_the_objectives_value(self, name):
        spec = name + {"truncated_likelihood": ":order=16", "pass_at_k": ":k=16"}.get(name, "")
        log_pass_rate = torch.linspace(-8, -0.01, 12, dtype=torch.float64).reshape(2, 6).requires_grad_()
        losses = methods.exact_loss(log_pass_rate, Exact(spec))
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
        }

    def test_a_log_pass_rate_rounded_above_zero_is_taken_as_certain(self):
        # log_softmax in float32 may return +1e-8.
        log_pass_rate = torch.tensor([[1e-7]], requires_grad=True)
        methods.exact_loss(log_pass_rate, Exact("pass_at_k:k=1")).sum().backward()
        assert log_pass_rate.grad.item() == -1.0

    def test_a_diverged_run_is_nan_and_the_others_are_not(self):
        log_pass_rate = torch.tensor([[math.nan, -1.0], [-1.0, -2.0]], dtype=torch.float64)
        for method in (Expected("maxrl", 4), Exact("maximum_likelihood")):
            losses = methods.exact_loss(log_pass_rate, method)
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
    def test_objective_mode_works_wherever_log_p_is_known(self, target, log_p, wanted):
        log_pass_rate = torch.tensor([[log_p]], dtype=torch.float64, requires_grad=True)
        methods.exact_loss(log_pass_rate, Exact(target)).sum().backward()
        assert -log_pass_rate.grad.item() == pytest.approx(wanted, rel=1e-9)


class RecordingBatch(ClassificationBatch):
    """Keeps what was rolled out, by run."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rolled_out = []

    def rollout(self, runs, rollouts):
        group = super().rollout(runs, rollouts)
        self.rolled_out.append((list(runs), group))
        return group

    def of_run(self, run):
        (found,) = [group.rewards[runs.index(run)] for runs, group in self.rolled_out if run in runs]
        return found


def recording(problem, step=0):
    batch = problem.batch(step)
    return RecordingBatch(batch.log_probs, batch.labels, batch.seeds, batch.step)


MIXED = [
    Sampled("maxrl", 8),
    Exact("maximum_likelihood"),
    Sampled("rloo", 4),
    Sampled("maxrl", 8),
    Expected("grpo", 8),
    Sampled("grpo", 8),
    Exact("maximum_likelihood"),
    Sampled("maxrl", 4),
]


class TestLosses:
    def test_mixed_methods_keep_the_order_of_the_runs(self):
        problem = SmallProblem(range(len(MIXED)))
        batch = problem.batch(3)
        together = run_losses(batch, MIXED)
        alone = [
            run_losses(
                ClassificationBatch(batch.log_probs[[run]], batch.labels[[run]], [batch.seeds[run]], batch.step), [each]
            )
            for run, each in enumerate(MIXED)
        ]
        assert together.shape == (len(MIXED),)
        assert len({loss.item() for loss in alone}) == len(MIXED)  # so that a wrong order shows
        assert torch.allclose(together, torch.cat(alone), rtol=1e-12)

    def test_runs_that_differ_only_in_the_estimator_share_their_rollouts(self):
        problem = SmallProblem([5, 5, 6, 5])
        batch = recording(problem)
        run_losses(batch, [Sampled(name, 32) for name in ("reinforce", "maxrl", "maxrl", "grpo")])
        assert torch.equal(batch.of_run(0), batch.of_run(1))
        assert torch.equal(batch.of_run(0), batch.of_run(3))
        assert not torch.equal(batch.of_run(0), batch.of_run(2))
        assert 0 < batch.of_run(0).double().mean() < 1

    def test_rollouts_do_not_depend_on_who_trains_beside_a_run(self):
        alone, among_others = recording(SmallProblem([5])), recording(SmallProblem([9, 5, 3, 5]))
        run_losses(alone, [Sampled("maxrl", 16)])
        others = [Sampled("grpo", 16), Sampled("maxrl", 16), Sampled("rloo", 4), MIXED[1]]
        run_losses(among_others, others)
        assert torch.equal(alone.of_run(0), among_others.of_run(1))

    def test_all_runs_with_one_n_are_rolled_out_at_once_and_exact_ones_not_at_all(self):
        batch = recording(SmallProblem(range(len(MIXED))))
        run_losses(batch, MIXED)
        assert sorted((sorted(runs), group.rollouts) for runs, group in batch.rolled_out) == [
            ([0, 3, 5], 8),
            ([2, 7], 4),
        ]

    def test_a_family_without_pass_rates_can_still_be_sampled(self):
        class SampledOnly(RecordingBatch):
            def log_pass_rate(self, runs):
                raise ValueError(f"no exact pass rate for runs {list(runs)}")

        batch = recording(SmallProblem([0, 1]))
        batch = SampledOnly(batch.log_probs, batch.labels, batch.seeds, batch.step)
        assert run_losses(batch, [MIXED[0], MIXED[2]]).isfinite().all()
        with pytest.raises(ValueError, match=r"no exact pass rate for runs \[1\]"):
            run_losses(batch, [MIXED[0], MIXED[1]])


class TestUnbiasedSampling:
    """The code that trains, `ClassificationBatch.rollout` and `sampled_loss`, has the mean that theory gives it."""

    TASKS, ROLLOUTS = 40_000, 4
    LOGITS = torch.tensor([0.3, -1.0, 0.8, -0.4, 0.0, 0.5, -2.0], dtype=torch.float64)
    LABEL = 3  # p = 0.0894

    def estimates(self, estimator):
        """One gradient estimate with respect to the 7 logits from each of 40,000 groups, (B, V)."""
        logits = self.LOGITS.repeat(1, self.TASKS, 1).requires_grad_()
        labels = torch.full((1, self.TASKS), self.LABEL)
        batch = ClassificationBatch(logits.log_softmax(-1), labels, seeds=[11], step=0)
        run_losses(batch, [Sampled(estimator, self.ROLLOUTS)]).sum().backward()
        return -logits.grad[0] * self.TASKS  # the loss is a mean over tasks

    def exact(self, objective):
        logits = self.LOGITS.clone().requires_grad_()
        objective(logits.softmax(-1)[self.LABEL]).backward()
        return logits.grad

    @pytest.mark.parametrize(
        ("estimator", "objective"),
        [
            ("reinforce", expected_reward),
            ("rloo", expected_reward),
            ("maxrl", truncated_likelihood(3)),
            ("maxrl_leave_one_out", truncated_likelihood(4)),
            ("pkpo:k=2", pass_at_k(2)),
        ],
    )
    def test_the_sampled_gradient_is_unbiased(self, estimator, objective):
        # 7 z-scores a case, |z| < 4.5 each: false-alarm rate 7 x 6.8e-6 = 5e-5 a case; the seed is fixed.
        estimates = self.estimates(estimator)
        standard_error = estimates.std(0) / math.sqrt(self.TASKS)
        z = (estimates.mean(0) - self.exact(objective)) / standard_error
        assert z.abs().max() < 4.5

    def test_the_test_above_can_tell_order_4_from_order_3(self):
        estimates = self.estimates("maxrl")
        standard_error = estimates.std(0) / math.sqrt(self.TASKS)
        z = (estimates.mean(0) - self.exact(truncated_likelihood(4))) / standard_error
        assert z.abs().max() > 10


class TestStep:
    def moved(self, clip, scales=(1.0, 1.0)):
        """How far each of two runs moves in one step of SGD with learning rates 0.5 and 0.25."""
        parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in scales]
        groups = [{"params": [each], "lr": rate} for each, rate in zip(parameters, (0.5, 0.25), strict=True)]
        slopes = [scale * torch.tensor([3.0, 4.0]) for scale in scales]  # norms 5 and 5, times scale
        losses = torch.stack([slope @ each for slope, each in zip(slopes, parameters, strict=True)])
        take_step(losses, torch.optim.SGD(groups, lr=0.0), clip)
        return [each.detach().tolist() for each in parameters]

    def test_without_a_clip_every_run_takes_its_own_step(self):
        assert self.moved(clip=None, scales=(1.0, 2.0)) == [[-1.5, -2.0], [-1.5, -2.0]]

    def test_a_clip_bounds_each_runs_own_norm(self):
        # Norms 50 and 0.5 against a bound of 1: the first becomes (0.6, 0.8), the second stays (0.3, 0.4).
        clipped, kept = self.moved(clip=1.0, scales=(10.0, 0.1))
        assert clipped == pytest.approx([-0.3, -0.4], rel=1e-5)
        assert kept == pytest.approx([-0.075, -0.1], rel=1e-6)
        assert kept == self.moved(clip=None, scales=(10.0, 0.1))[1]

    def test_a_run_whose_gradient_is_nan_does_not_change_another_ones_clip(self):
        diverged, kept = self.moved(clip=1.0, scales=(math.nan, 10.0))
        assert all(math.isnan(value) for value in diverged)
        assert kept == pytest.approx([-0.15, -0.2], rel=1e-5)

    def test_gradients_do_not_add_up_over_steps(self):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimiser = torch.optim.SGD([parameter], lr=1.0)
        for _ in range(3):
            take_step(parameter.clone(), optimiser)
        assert parameter.item() == -3.0  # 1 + 2 + 3 if they did


class TestMethod:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("sample", "maxrl", 4), "mode must be sampled, expected, objective or inverse, got 'sample'"),
            (("sampled", "maxlr", 4), "unknown estimator 'maxlr'"),
            (("expected", "maximum_likelihood", 4), "unknown estimator 'maximum_likelihood'"),
            (("objective", "maxrl", None), "unknown objective 'maxrl'"),
            (("objective", "expected_reward", 4), "mode 'objective' takes no rollouts, got 4"),
            (("objective", "truncated_likelihood:order=N-1", None), "got 'N-1'"),
            (("sampled", "maxrl", None), "rollouts must be a whole number >= 1, got None"),
            (("expected", "maxrl", 0), "rollouts must be a whole number >= 1, got 0"),
            (("sampled", "maxrl", 4.0), "rollouts must be a whole number >= 1, got 4.0"),
            (("sampled", "rloo", 1), "rloo needs at least 2 rollouts in a group, got N = 1"),
            (("expected", "pkpo:k=5", 4), "pkpo with k=5 needs at least 5 rollouts"),
            (("sampled", "maxrl_order:order=N+1", 4), "maxrl_order of order 5 needs at least 5 rollouts"),
            (("sampled", "pkpo", 4), "needs the option 'k'"),
        ],
    )
    def test_what_cannot_be_trained_is_refused_when_it_is_made(self, arguments, message):
        with pytest.raises(ValueError, match=message.replace("+", r"\+")):
            Method(*arguments)

    def test_methods_are_equal_by_value_so_that_runs_can_be_grouped(self):
        assert len({Sampled("maxrl", 4), Sampled("maxrl", 4), Expected("maxrl", 4)}) == 2


def test_a_callable_written_for_one_group_does_not_pool_the_tasks():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    log_probs = torch.zeros(2, 4, requires_grad=True)
    methods.sampled_loss(Group(rewards, log_probs), lambda group: group - group.mean()).backward()
    # each task's own mean, 1/4 and 3/4, over the 8 rollouts of the batch
    assert (-8 * log_probs.grad).tolist() == [[0.75, -0.25, -0.25, -0.25], [0.25, 0.25, 0.25, -0.75]]
