"""A run in a stack is the run alone: the same outputs, gradients, learning rate and fate."""

import pytest
import torch
from small_problem import SmallProblem

from maxrl_lab.policies.stack import Stack, mlp, seeded
from maxrl_lab.runs import checkpoint
from maxrl_lab.training.fit import Optimisation, fit, make_optimiser
from maxrl_lab.training.methods import Exact, Expected, Sampled
from maxrl_lab.training.step import run_losses, take_step

METHODS = [
    Sampled("maxrl", 8),
    Sampled("grpo", 8),
    Sampled("rloo", 4),
    Sampled("pkpo:k=2", 4),
    Expected("maxrl_leave_one_out", 8),
    Exact("maximum_likelihood"),
    Exact("pass_at_k:k=4"),
]
# 20 runs: 7 methods, 3 seeds and 4 learning rates in every mixture, interleaved.
RUNS = [(METHODS[run % 7], run % 3, (0.02, 0.05, 0.1, 0.3)[run % 4]) for run in range(20)]


def train_runs(chosen, optimisation, folder, dtype=torch.float64):
    """Train the chosen of RUNS together; return each one's rows without its place, and its parameters."""
    methods, seeds, rates = zip(*chosen, strict=True)
    problem = SmallProblem(seeds, dtype)
    tables = fit(
        problem.stack,
        methods,
        rates,
        optimisation,
        batch=problem.batch,
        measure=problem.measure,
        checkpoint=checkpoint.Checkpoint(folder).stage("fit"),
    )
    curves = [[row["log_pass_rate"] for row in tables["rows"] if row["run"] == run] for run in range(len(chosen))]
    return curves, [problem.parameters(run) for run in range(len(chosen))]


class TestTrainedAloneOrTogether:
    @pytest.mark.parametrize(
        ("dtype", "tolerance"),
        [
            # A stack of 20 and a stack of 1 may sum in another order inside a matrix product; nothing else differs.
            pytest.param(torch.float64, 1e-12, id="float64"),
            pytest.param(torch.float32, 1e-5, id="float32"),
        ],
    )
    @pytest.mark.parametrize(
        "optimisation",
        [
            pytest.param(
                Optimisation(steps=15, momentum=0.9, schedule="cosine", warmup=3, measure_every=5), id="momentum"
            ),
            pytest.param(Optimisation(steps=15, optimiser="adam", clip=0.3, measure_every=5), id="adam, clipped"),
        ],
    )
    def test_each_of_20_mixed_runs_gets_what_it_gets_alone(self, tmp_path, optimisation, dtype, tolerance):
        together, parameters = train_runs(RUNS, optimisation, tmp_path / "together", dtype)
        assert len({tuple(curve) for curve in together}) == 20  # all different, so that a mix-up shows
        for run, each in enumerate(RUNS):
            (curve,), (alone,) = train_runs([each], optimisation, tmp_path / f"alone-{run}", dtype)
            assert curve == pytest.approx(together[run], rel=tolerance, abs=0)
            assert torch.allclose(alone, parameters[run], rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("method", [METHODS[0], METHODS[4], METHODS[5]], ids=["sampled", "expected", "objective"])
    @pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "clip": 1.0}, {"optimiser": "adam"}], ids=str)
    def test_a_run_that_diverges_changes_no_other(self, tmp_path, method, options):
        optimisation = Optimisation(steps=6, measure_every=3, **options)
        calm = [*RUNS[:4], (method, 1, 0.1), *RUNS[4:8]]
        wild = [*RUNS[:4], (method, 1, 1e300), *RUNS[4:8]]
        curves, parameters = train_runs(calm, optimisation, tmp_path / "calm")
        beside, parameters_beside = train_runs(wild, optimisation, tmp_path / "wild")
        assert torch.isnan(parameters_beside[4]).any()
        for run in (0, 1, 2, 3, 5, 6, 7, 8):
            assert beside[run] == curves[run]
            assert torch.equal(parameters_beside[run], parameters[run])


class TestLearningRates:
    @pytest.mark.parametrize(
        ("optimisation", "optimiser"),
        [
            (Optimisation(steps=1), lambda parameters, rate: torch.optim.SGD(parameters, lr=rate)),
            (
                Optimisation(steps=1, momentum=0.9),
                lambda parameters, rate: torch.optim.SGD(parameters, lr=rate, momentum=0.9),
            ),
            (Optimisation(steps=1, optimiser="adam"), lambda parameters, rate: torch.optim.Adam(parameters, lr=rate)),
            (
                Optimisation(steps=1, optimiser="adamw"),
                lambda parameters, rate: torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0),
            ),
        ],
        ids=["sgd", "momentum", "adam", "adamw"],
    )
    def test_one_rate_per_run_is_one_optimiser_per_run(self, optimisation, optimiser):
        rates = [0.3, 0.01, 0.1]
        methods = [Exact("maximum_likelihood")] * 3
        stacked, separate = SmallProblem([0, 0, 1]), SmallProblem([0, 0, 1])
        together = make_optimiser(optimisation, stacked.stack.networks, rates)
        apart = [
            optimiser(list(network.parameters()), rate)
            for network, rate in zip(separate.stack.networks, rates, strict=True)
        ]
        for step in range(10):
            take_step(run_losses(stacked.batch(step), methods), together)
            for each in apart:
                each.zero_grad()
            run_losses(separate.batch(step), methods).sum().backward()
            for each in apart:
                each.step()
        for run in range(3):
            assert torch.allclose(stacked.parameters(run), separate.parameters(run), rtol=1e-12, atol=1e-14)
        assert not torch.allclose(stacked.parameters(0), stacked.parameters(1), rtol=0.01)  # same seed, other rate


class TestForward:
    def test_outputs_are_those_of_each_network_on_its_own_inputs(self):
        problem = SmallProblem([3, 1, 2])
        inputs = problem.inputs(0)
        outputs = problem.stack(inputs)
        assert outputs.shape == (3, 5, 7)
        for run, network in enumerate(problem.stack.networks):
            assert torch.allclose(outputs[run], network(inputs[run]), rtol=1e-13, atol=1e-15)

    def test_gradients_are_those_of_each_network_on_its_own_loss(self):
        stacked, separate = SmallProblem([3, 1, 2]), SmallProblem([3, 1, 2])
        inputs = stacked.inputs(0)
        stacked.stack(inputs).square().sum().backward()
        for run, network in enumerate(separate.stack.networks):
            network(inputs[run]).square().sum().backward()
            assert torch.allclose(stacked.gradient(run), separate.gradient(run), rtol=1e-12, atol=1e-14)

    def test_every_network_keeps_its_own_leaves(self):
        stack = SmallProblem([0, 0]).stack
        assert len(list(stack.parameters())) == 8  # 2 networks x 2 layers x (weight, bias)
        assert all(parameter.is_leaf for parameter in stack.parameters())

    def test_inputs_for_another_number_of_runs_are_refused(self):
        with pytest.raises(ValueError, match="3"):
            SmallProblem([0, 1]).stack(torch.zeros(3, 5, 4, dtype=torch.float64))


class TestMlp:
    def test_layers(self):
        network = mlp([4, 6, 5, 7])
        kinds = [type(layer).__name__ for layer in network]
        assert kinds == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]  # no ReLU on the logits
        assert [(layer.in_features, layer.out_features) for layer in network[::2]] == [(4, 6), (6, 5), (5, 7)]

    def test_a_single_layer_is_linear(self):
        assert [type(layer).__name__ for layer in mlp([4, 7])] == ["Linear"]


class TestSeeded:
    def make(self, *key):
        return torch.cat([parameter.flatten() for parameter in seeded(lambda: mlp([4, 6, 7]), *key).parameters()])

    def test_parameters_depend_on_the_key_alone(self):
        first = self.make(1, 2)
        torch.manual_seed(123)
        assert torch.equal(self.make(1, 2), first)
        assert not torch.equal(self.make(1, 3), first)

    def test_the_global_generator_is_left_where_it_was(self):
        torch.manual_seed(5)
        undisturbed = torch.rand(3)
        torch.manual_seed(5)
        self.make(1, 2)
        assert torch.equal(torch.rand(3), undisturbed)

    def test_two_networks_of_one_key_are_equal_and_separate(self):
        stack = Stack([seeded(lambda: mlp([4, 7]), 0), seeded(lambda: mlp([4, 7]), 0)])
        with torch.no_grad():
            stack.networks[0][0].weight.zero_()
        assert stack.networks[1][0].weight.abs().min() > 0
