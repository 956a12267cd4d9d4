"""One step of many runs: each gets what it gets alone, rollouts are shared, and every run is clipped by itself."""

import math

import pytest
import torch
from small_problem import INPUTS, SmallProblem

from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.randomness import generator
from maxrl_lab.training.methods import Exact, Expected, Inverse, Sampled
from maxrl_lab.training.step import run_losses, take_step


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

    def test_the_address_of_the_random_numbers_is_seed_step_and_number_of_rollouts(self):
        # Published rows can be made again only while it stays what it is. No number is within a step of a threshold.
        batch = SmallProblem([9, 5]).batch(3)
        uniforms = torch.rand(INPUTS, 16, generator=generator("rollouts", 5, 3, 16))
        classes = torch.searchsorted(batch.log_probs[1].detach().exp().cumsum(-1).float(), uniforms, right=True)
        assert torch.equal(batch.rollout([1], 16).rewards[0], classes == batch.labels[1, :, None])

    def test_all_runs_with_one_n_are_rolled_out_at_once_and_exact_ones_not_at_all(self):
        batch = recording(SmallProblem(range(len(MIXED))))
        run_losses(batch, MIXED)
        assert sorted((sorted(runs), group.rollouts) for runs, group in batch.rolled_out) == [
            ([0, 3, 5], 8),
            ([2, 7], 4),
        ]

    def test_one_call_serves_every_method_with_the_same_number_of_rollouts(self):
        made = [
            Sampled("maxrl", 8, "token_mean"),
            Inverse(1, 8),
            Sampled("grpo", 8),
            Inverse(2, 8),
            Expected("rloo", 8),
        ]
        batch = recording(SmallProblem([5] * 5))
        losses = run_losses(batch, made)
        assert [(sorted(runs), group.rollouts) for runs, group in batch.rolled_out] == [([0, 1, 2, 3], 8)]
        alone = [run_losses(recording(SmallProblem([5])), [method]) for method in made]
        assert torch.allclose(losses, torch.cat(alone), rtol=1e-12)

    def test_a_family_without_pass_rates_can_still_be_sampled(self):
        class SampledOnly(RecordingBatch):
            def log_pass_rate(self, runs):
                raise ValueError(f"no exact pass rate for runs {list(runs)}")

        batch = recording(SmallProblem([0, 1]))
        batch = SampledOnly(batch.log_probs, batch.labels, batch.seeds, batch.step)
        assert run_losses(batch, [MIXED[0], MIXED[2]]).isfinite().all()
        with pytest.raises(ValueError, match=r"no exact pass rate for runs \[1\]"):
            run_losses(batch, [MIXED[0], MIXED[1]])


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
