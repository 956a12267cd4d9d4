"""The training loop: what is measured when, at which learning rate, and that a resumed run is the same run."""

from itertools import pairwise

import pytest
import torch
from small_problem import SmallProblem

from maxrl_lab.policies.stack import Stack
from maxrl_lab.runs import checkpoint
from maxrl_lab.training import fit
from maxrl_lab.training.fit import Optimisation
from maxrl_lab.training.methods import Exact, Expected, Sampled

METHODS = [
    Sampled("maxrl", 4),
    Sampled("grpo", 4),
    Expected("rloo", 4),
    Exact("maximum_likelihood"),
]
RATES = [0.1, 0.05, 0.05, 0.1]
OPTIMISATIONS = {
    "sgd with momentum": Optimisation(steps=11, momentum=0.9, measure_every=4, checkpoint_every=3),
    "adam": Optimisation(steps=11, optimiser="adam", schedule="cosine", warmup=4, measure_every=4, checkpoint_every=3),
    "adamw": Optimisation(
        steps=11, optimiser="adamw", schedule="cosine", clip=0.5, measure_every=4, checkpoint_every=3
    ),
}


class Stopped(Exception):  # noqa: N818
    """Stands for a kill."""


def train(folder, optimisation, *, interrupt_before=None, steps=None, seeds=(0, 0, 1, 2), **changes):
    """Fit the small problem; return its rows and its parameters. `steps` collects the steps that were taken."""
    problem = SmallProblem(seeds)

    def batch(step):
        if step == interrupt_before:
            raise Stopped
        if steps is not None:
            steps.append(step)
        return problem.batch(step)

    options = {
        "batch": batch,
        "measure": problem.measure,
        "checkpoint": checkpoint.Checkpoint(folder).stage("fit"),
        **changes,
    }
    tables = fit.fit(problem.stack, METHODS[: len(seeds)], RATES[: len(seeds)], optimisation, **options)
    return tables["rows"], torch.stack([problem.parameters(run) for run in range(len(seeds))])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Rows and parameters of each optimisation's run without interruption."""
    return {name: train(tmp_path_factory.mktemp("whole"), one) for name, one in OPTIMISATIONS.items()}


class TestSameResults:
    @pytest.mark.parametrize("name", OPTIMISATIONS)
    def test_two_calls_give_identical_rows_and_parameters(self, tmp_path, whole, name):
        rows, parameters = whole[name]
        torch.manual_seed(2602)  # the global generator plays no part
        again, parameters_again = train(tmp_path, OPTIMISATIONS[name])
        assert rows == again
        assert torch.equal(parameters, parameters_again)

    @pytest.mark.parametrize("name", OPTIMISATIONS)
    def test_every_method_moves_its_policy(self, whole, name):
        # Otherwise identical rows would prove little.
        rows, _ = whole[name]
        for first, last in zip(rows[:4], rows[-4:], strict=True):
            assert (first["step"], last["step"]) == (0, 11)
            assert abs(last["log_pass_rate"] - first["log_pass_rate"]) > 1e-3

    @pytest.mark.parametrize("name", OPTIMISATIONS)
    @pytest.mark.parametrize(("interrupt_before", "resumes_at"), [(0, 0), (2, 0), (3, 3), (8, 6), (10, 9)])
    def test_a_resumed_run_ends_with_identical_rows_and_parameters(
        self, tmp_path, whole, name, interrupt_before, resumes_at
    ):
        # A checkpoint every 3 steps, rows at 0, 4, 8 and 11. Before step 8 the rows of step 8 are measured and lost.
        rows, parameters = whole[name]
        with pytest.raises(Stopped):
            train(tmp_path, OPTIMISATIONS[name], interrupt_before=interrupt_before)
        steps = []
        resumed, resumed_parameters = train(tmp_path, OPTIMISATIONS[name], steps=steps)
        assert steps == list(range(resumes_at, 11))
        assert resumed == rows
        assert torch.equal(resumed_parameters, parameters)

    def test_interrupted_again_and_again(self, tmp_path, whole):
        rows, parameters = whole["adam"]
        for step in (4, 7, 10):
            with pytest.raises(Stopped):
                train(tmp_path, OPTIMISATIONS["adam"], interrupt_before=step)
        resumed, resumed_parameters = train(tmp_path, OPTIMISATIONS["adam"])
        assert resumed == rows
        assert torch.equal(resumed_parameters, parameters)

    def test_a_finished_fit_takes_no_further_step(self, tmp_path, whole):
        rows, parameters = whole["adam"]
        train(tmp_path, OPTIMISATIONS["adam"])
        steps = []
        again, parameters_again = train(tmp_path, OPTIMISATIONS["adam"], steps=steps)
        assert steps == []
        assert again == rows
        assert torch.equal(parameters_again, parameters)


class TestMeasuring:
    @pytest.mark.parametrize(
        ("steps", "every", "measured"),
        [
            (7, 3, [0, 3, 6, 7]),
            (6, 3, [0, 3, 6]),  # the last step is not measured twice
            (2, 10, [0, 2]),
            (1, 1, [0, 1]),
            (3, 1, [0, 1, 2, 3]),
        ],
    )
    def test_the_first_and_the_last_step_are_always_measured(self, tmp_path, steps, every, measured):
        rows, _ = train(tmp_path, Optimisation(steps=steps, measure_every=every), seeds=(0,))
        assert [row["step"] for row in rows] == measured

    def test_a_measurement_sees_the_parameters_after_as_many_updates_as_it_says(self, tmp_path):
        # Constant gradient 1 and learning rate 0.5: after s updates the parameter is -s/2.
        problem = Counting()
        tables = fit.fit(
            problem.stack,
            [METHODS[3]],
            [0.5],
            Optimisation(steps=5, measure_every=2),
            batch=lambda _step: problem,
            measure=lambda step: {"rows": [{"step": step, "parameter": problem.parameter.item()}]},
            checkpoint=checkpoint.Checkpoint(tmp_path).stage("fit"),
        )
        assert [(row["step"], row["parameter"]) for row in tables["rows"]] == [
            (0, 0.0),
            (2, -1.0),
            (4, -2.0),
            (5, -2.5),
        ]

    def test_progress_is_given_the_steps_that_are_left(self, tmp_path):
        seen = []

        def progress(steps):
            seen.append(list(steps))
            return steps

        with pytest.raises(Stopped):
            train(tmp_path, OPTIMISATIONS["adam"], interrupt_before=7, progress=progress)
        train(tmp_path, OPTIMISATIONS["adam"], progress=progress)
        assert seen == [list(range(11)), list(range(6, 11))]


class TestLogging:
    def fit(self, folder, problem, steps=4, log=None, batch=None):
        return fit.fit(
            problem.stack,
            [METHODS[3]],
            [0.5],
            Optimisation(steps=steps, measure_every=2, checkpoint_every=2),
            batch=batch or (lambda _step: problem),
            measure=lambda step: {"measured": [{"step": step}]},
            checkpoint=checkpoint.Checkpoint(folder).stage("fit"),
            log=log,
        )

    def test_every_update_is_logged_after_it_was_made_while_its_gradient_is_there(self, tmp_path):
        problem = Counting()

        def log(step):
            row = {"step": step, "parameter": problem.parameter.item(), "slope": problem.parameter.grad.item()}
            return {"logged": [row]}

        rows = self.fit(tmp_path, problem, log=log)["logged"]
        assert [(row["step"], row["parameter"], row["slope"]) for row in rows] == [
            (0, -0.5, 1.0),
            (1, -1.0, 1.0),
            (2, -1.5, 1.0),
            (3, -2.0, 1.0),
        ]

    def test_rows_are_in_the_order_of_training(self, tmp_path):
        # `log` adds rows to the table of measurements too: an update's stand between the measurements around it.
        def log(step):
            return {"logged": [{"step": step}, {"again": step}], "measured": [{"update": step}]}

        assert self.fit(tmp_path, Counting(), log=log) == {
            "measured": [
                {"step": 0}, {"update": 0}, {"update": 1}, {"step": 2}, {"update": 2}, {"update": 3}, {"step": 4},
            ],
            "logged": [{name: step} for step in range(4) for name in ("step", "again")],
        }  # fmt: skip

    def test_a_resumed_run_has_logged_every_update_once(self, tmp_path):
        def stop_at_3(step):
            if step == 3:
                raise Stopped
            return problem

        problem = Counting()
        with pytest.raises(Stopped):
            self.fit(tmp_path / "stopped", problem, log=lambda step: {"logged": [{"step": step}]}, batch=stop_at_3)
        problem = Counting()
        resumed = self.fit(tmp_path / "stopped", problem, log=lambda step: {"logged": [{"step": step}]})
        assert resumed == self.fit(tmp_path / "whole", Counting(), log=lambda step: {"logged": [{"step": step}]})

    def test_without_a_log_there_are_measurements_alone(self, tmp_path):
        assert self.fit(tmp_path, Counting()) == {"measured": [{"step": 0}, {"step": 2}, {"step": 4}]}


class Counting:
    """One run whose loss is its only parameter."""

    def __init__(self):
        network = torch.nn.Module()
        network.parameter = self.parameter = torch.nn.Parameter(torch.zeros(()))
        self.stack = Stack([network])

    def log_pass_rate(self, _runs):
        return -self.parameter[None, None]  # maximum likelihood: loss = -log p


class TestLearningRates:
    @pytest.mark.parametrize(
        ("schedule", "steps", "warmup", "factors"),
        [
            ("constant", 4, 0, [1, 1, 1, 1]),
            ("constant", 5, 3, [1 / 3, 2 / 3, 1, 1, 1]),
            # (1 + cos(pi s/4)) / 2 for s = 0..3: 1, (2 + sqrt 2)/4, 1/2, (2 - sqrt 2)/4.
            ("cosine", 4, 0, [1, (2 + 2**0.5) / 4, 1 / 2, (2 - 2**0.5) / 4]),
            # Two steps up, then the same four steps down.
            ("cosine", 6, 2, [1 / 2, 1, 1, (2 + 2**0.5) / 4, 1 / 2, (2 - 2**0.5) / 4]),
            # A warm-up longer than the run is all there is.
            ("cosine", 2, 4, [1 / 4, 1 / 2]),
        ],
    )
    def test_schedules_by_hand(self, tmp_path, schedule, steps, warmup, factors):
        assert [fit.SCHEDULES[schedule](step, steps, warmup) for step in range(steps)] == pytest.approx(factors)
        # And as fit applies them: the gradient is 1, so each step moves the parameter by rate x factor.
        problem = Counting()
        tables = fit.fit(
            problem.stack,
            [METHODS[3]],
            [0.5],
            Optimisation(steps=steps, schedule=schedule, warmup=warmup, measure_every=1),
            batch=lambda _step: problem,
            measure=lambda _step: {"rows": [{"parameter": problem.parameter.item()}]},
            checkpoint=checkpoint.Checkpoint(tmp_path).stage("fit"),
        )
        moves = [before["parameter"] - after["parameter"] for before, after in pairwise(tables["rows"])]
        assert moves == pytest.approx([0.5 * factor for factor in factors], rel=1e-5)

    def test_clip_bounds_the_gradient(self, tmp_path):
        # The gradient is 1; bounded by 1/4, two steps at rate 1/2 move the parameter by 1/4 instead of 1.
        problem = Counting()
        fit.fit(
            problem.stack,
            [METHODS[3]],
            [0.5],
            Optimisation(steps=2, clip=0.25),
            batch=lambda _step: problem,
            checkpoint=checkpoint.Checkpoint(tmp_path).stage("fit"),
        )
        assert problem.parameter.item() == pytest.approx(-0.25, rel=1e-5)

    def test_cosine_ends_at_zero_after_the_last_update(self):
        assert fit.cosine(10, 10, 3) == pytest.approx(0, abs=1e-15)

    def test_rates_must_match_the_networks(self):
        problem = SmallProblem([0, 1])
        with pytest.raises(ValueError, match="zip"):
            fit.make_optimiser(Optimisation(steps=1), problem.stack.networks, [0.1])
        with pytest.raises(ValueError, match="zip"):
            fit.make_optimiser(Optimisation(steps=1), problem.stack.networks, [0.1, 0.1, 0.1])

    def test_methods_must_match_the_networks(self, tmp_path):
        problem = SmallProblem([0, 1])
        with pytest.raises(ValueError, match="method"):
            fit.fit(
                problem.stack,
                METHODS[:1],
                RATES[:2],
                Optimisation(steps=1),
                batch=problem.batch,
                measure=problem.measure,
                checkpoint=checkpoint.Checkpoint(tmp_path).stage("fit"),
            )


class TestOptimisation:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
            ({"steps": 1.0}, "steps must be a whole number >= 1, got 1.0"),
            ({"measure_every": 0}, "measure_every must be a whole number >= 1, got 0"),
            ({"checkpoint_every": -1}, "checkpoint_every must be a whole number >= 1, got -1"),
            ({"warmup": -1}, "warmup must be a whole number >= 0, got -1"),
            ({"optimiser": "rmsprop"}, "unknown optimiser 'rmsprop'; choose one of: sgd, adam, adamw"),
            ({"schedule": "linear"}, "unknown schedule 'linear'; choose one of: constant, cosine"),
            ({"optimiser": "adam", "momentum": 0.9}, "momentum belongs to sgd, got momentum 0.9 with adam"),
            pytest.param({"clip": 0.0}, "clip"),
            pytest.param({"clip": -1.0}, "clip"),
            pytest.param({"momentum": -0.5}, "momentum"),
        ],
    )
    def test_what_cannot_be_trained_is_refused_when_it_is_made(self, options, message):
        with pytest.raises(ValueError, match=message):
            Optimisation(**{"steps": 5, **options})

    def test_every_optimiser_can_be_made(self):
        network = torch.nn.Linear(2, 2)
        for name, kind in fit.OPTIMISERS.items():
            optimiser = fit.make_optimiser(Optimisation(steps=1, optimiser=name), [network], [0.25])
            assert type(optimiser) is kind
            assert optimiser.param_groups[0]["lr"] == 0.25


def test_one_thread_trains_and_the_others_come_back(tmp_path):
    threads = []
    problem = SmallProblem((0,))

    def batch(step):
        threads.append(torch.get_num_threads())
        return problem.batch(step)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(tmp_path, Optimisation(steps=1), seeds=(0,), batch=batch)
        assert threads == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
