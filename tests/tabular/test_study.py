"""Training on worlds: runs in a batched program are the runs alone, divergence is named, gradients by differences."""

import dataclasses
import itertools

import pytest
import torch
from small_navigation import GRID, doubled
from small_worlds import corridor
from torch import nn
from torch.func import functional_call, jvp
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from experiments.navigation._shared import minigrid_world
from maxrl_lab.randomness import generator
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.tabular.batch import TabularBatch
from maxrl_lab.tabular.study import Split, World, compare_on, pass_rates, train
from maxrl_lab.training import fit
from maxrl_lab.training.fit import Optimisation
from maxrl_lab.training.methods import Exact, Expected, Inverse, Sampled
from maxrl_lab.training.step import run_losses
from maxrl_lab.training.sweep import Run


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXRL_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def corridor_world():
    """The corridor of small_worlds with states as one-hot observations, and a table of logits for them."""
    tasks = corridor()
    seen = dataclasses.replace(tasks, observations=torch.arange(4)[None], features=torch.eye(4, dtype=torch.uint8))
    return World({"train": Split.observed(seen)}, lambda: nn.Linear(4, 2, bias=False))


class TestOwnWorld:
    def test_observed_tasks_are_fed_their_features(self):
        split = corridor_world().train
        assert torch.equal(split.inputs, torch.eye(4))
        assert split.inputs.dtype == torch.float32
        assert split.rows.tolist() == [[0, 1, 2, 3]]
        assert split.difficulty == ("all",)
        named = Split.observed(split.tables, ["near"], lambda features: 2 * features.double())
        assert torch.equal(named.inputs, 2 * torch.eye(4, dtype=torch.float64))
        assert named.difficulty == ("near",)

    def test_tasks_without_observations_are_refused(self, refuses):
        with refuses("expected tasks with observations, got tasks without"):
            Split.observed(corridor())

    def test_the_exact_gradient_learns_the_only_way(self, tmp_path):
        # Always ahead is right with probability 1; at the start the way of 3 steps is found by luck.
        world = corridor_world()
        run = Run(Exact("maximum_likelihood"), 0.3, 0)
        stack, tables = train(
            [run], world, Optimisation(steps=200, optimiser="adam"), checkpoint=Checkpoint(tmp_path / "run")
        )
        assert tables == {}
        assert pass_rates(world.stack([0]), world.train).item() < 0.9
        assert pass_rates(stack, world.train).item() > 0.999

    def test_a_world_moves_with_all_that_it_holds(self):
        world = corridor_world()
        splits = {"train": dataclasses.replace(world.train, rows_per_input=4), "held_out": world.train}
        world = dataclasses.replace(world, splits=splits, tasks_per_update=1, seed=9)
        moved = world.to(torch.device("meta"))
        assert list(moved.splits) == ["train", "held_out"]
        for split in moved.splits.values():
            assert all(value.is_meta for value in (split.tables.successors, split.inputs, split.rows))
        assert (moved.train.difficulty, moved.train.rows_per_input) == (("all",), 4)
        assert (moved.network, moved.tasks_per_update, moved.seed) == (world.network, 1, 9)
        assert all(parameter.is_meta for parameter in moved.stack([0, 1]).parameters())

    def test_pass_rates_of_a_network_that_has_diverged_name_the_updates(self, refuses):
        world = corridor_world()
        stack = world.stack([0, 1])
        with torch.no_grad():
            stack.networks[1].weight[0, 2] = torch.nan
        for step in (0, 7):
            for rates in (world.pass_rates, lambda stack, *step: pass_rates(stack, world.train, *step)):
                with refuses(f"the policy of run 1 is NaN after {step} updates: it has diverged"):
                    rates(stack, *([step] if step else []))  # 0 if it is not told

    def test_a_comparison_chooses_the_better_rate_and_measures_the_reported_runs(self, tmp_path):
        # By hand: one step of SGD on log p at a rate of 0 nearly leaves the policy as it was, at 1 it improves it.
        world = corridor_world()
        made, bars = [], []

        def worlds(seed):
            made.append(seed)
            return world

        class Named(Context):
            def progress(self, name):
                return lambda steps: bars.append((name, list(steps))) or steps

        compared = compare_on(
            worlds,
            [Exact("maximum_likelihood"), Expected("rloo", 4)],
            (1e-9, 1.0),
            Optimisation(steps=1),
            seeds=2,
            sweep_seeds=3,
            score="pass_at_1",
            final=lambda run, rates: {"pass_at_1": float(rates.mean())},
            measure=lambda world, runs, step, stack: {
                "curves": [
                    {**run.row(step), "rate": float(rates)}
                    for run, rates in zip(runs, world.pass_rates(stack, step)["train"], strict=True)
                ]
            },
            name="corridor",
            at_once=3,
            context=Named(torch.device("cpu"), Checkpoint(tmp_path / "unfinished")),
        )
        assert made == [2, 3, 4, 0, 1]  # a world for each seed, made when it is needed
        blocks = [f"sweep-seed-{seed}-{block}" for seed in (2, 3, 4) for block in (1, 2)]  # 4 runs, 3 at once
        blocks = [f"corridor-{block}" for block in (*blocks, "report-seed-0-1", "report-seed-1-1")]
        assert bars == [(block, [0]) for block in blocks]
        assert {file.name for file in (tmp_path / "unfinished").iterdir()} == {f"{block}.pt" for block in blocks}
        assert {row["step"] for row in compared.sweep} == {1}
        assert len(compared.sweep) == 2 * 2 * 3
        assert {row["seed"] for row in compared.sweep} == {2, 3, 4}
        assert set(compared.best.values()) == {1.0}
        curves = compared.report["curves"]
        assert [(row["seed"], row["step"]) for row in curves if row["method"] == "rloo"] == [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
        ]
        for seed in (0, 1):
            before, after = [row["rate"] for row in curves if row["seed"] == seed and row["rollouts"] is None]
            assert before == pytest.approx(pass_rates(world.stack([seed]), world.train).item(), rel=1e-6)
            assert after > before


class TestTasksOfAnUpdate:
    WORLD = dataclasses.replace(GRID, levels=5, levels_per_update=4).world(3)

    def batches(self, world):
        return [world.batch(step) for step in range(60)]

    def test_are_sampled_without_replacement_by_seed_and_step(self):
        # Chance that a task is in none of 60 batches: 10 (6/10)^60 < 1e-12.
        pictures = list(self.WORLD.train.inputs)
        indices = [
            [next(i for i, known in enumerate(pictures) if torch.equal(known, picture)) for picture in batch.inputs]
            for batch in self.batches(self.WORLD)
        ]
        assert all(len(set(batch)) == 4 and batch == sorted(batch) for batch in indices)
        assert set().union(*indices) == set(range(10))
        assert len({tuple(batch) for batch in indices}) > 30
        other = [batch.inputs for batch in self.batches(dataclasses.replace(self.WORLD, seed=4))]
        assert not all(
            torch.equal(mine.inputs, theirs) for mine, theirs in zip(self.batches(self.WORLD), other, strict=True)
        )
        again = [batch.inputs for batch in self.batches(self.WORLD)]
        assert all(torch.equal(mine.inputs, same) for mine, same in zip(self.batches(self.WORLD), again, strict=True))

    def test_the_address_of_the_sample_is_seed_and_step(self):
        # Published rows can be made again only while it stays what it is.
        order = torch.randperm(10, generator=generator("tasks", self.WORLD.seed, 7))
        wanted = self.WORLD.train.select(sorted(order[:4].tolist()))
        batch = self.WORLD.batch(7)
        assert torch.equal(
            batch.inputs[batch.rows // batch.rows_per_input], wanted.inputs[wanted.rows // wanted.rows_per_input]
        )
        assert batch.difficulty == wanted.difficulty

    @pytest.mark.parametrize("policy", ["convolutional", "perceptron"])
    def test_have_the_pass_rates_that_they_have_among_all(self, policy):
        world = dataclasses.replace(GRID, levels=5, policy=policy).world()
        stack, tasks = world.stack([0, 1]), [7, 2, 8]
        chosen = world.train.select(tasks)
        assert chosen.difficulty == tuple(world.train.difficulty[task] for task in tasks)
        assert len(chosen.inputs) < len(world.train.inputs)
        assert torch.allclose(pass_rates(stack, chosen), pass_rates(stack, world.train)[:, tasks], rtol=1e-5)

    @pytest.mark.parametrize("count", [None, 10, 11])
    def test_are_all_tasks_if_there_are_no_more(self, count):
        world = dataclasses.replace(self.WORLD, tasks_per_update=count)
        assert world.batch(5) is world.train

    def test_are_what_is_trained_on(self, tmp_path):
        # One step of SGD on the exact gradient, by hand from the tasks of step 0 alone.
        runs, world = [Run(Exact("expected_reward"), 0.5, 3)], self.WORLD
        stack, _ = train(runs, world, Optimisation(steps=1), checkpoint=Checkpoint(tmp_path / "run"))
        (network,) = world.stack([3]).networks
        tasks = world.batch(0)
        log_policy = network(tasks.inputs).log_softmax(-1)[tasks.rows]
        (-tasks.tables.pass_rate(log_policy).mean()).backward()
        for mine, start in zip(stack.networks[0].parameters(), network.parameters(), strict=True):
            assert torch.allclose(mine, start - 0.5 * start.grad, atol=1e-7)


# Twenty runs: no two have all of method, N, learning rate and seed in common.
MANY = [
    Run(method, rate, seed)
    for (method, rate), seed in itertools.product(
        [
            (Sampled("reinforce", 4), 0.003),
            (Sampled("rloo", 8), 0.01),
            (Sampled("grpo", 4), 0.01),
            (Sampled("maxrl", 4), 0.01),
            (Sampled("maxrl", 8), 0.003),
            (Sampled("maxrl_cross_fitted", 8), 0.01),
            (Sampled("pkpo:k=2", 4), 0.003),
            (Inverse(2, 8), 0.01),
            (Expected("maxrl", 8), 0.01),
            (Exact("maximum_likelihood"), 0.003),
        ],
        (0, 1),
    )
]


def trained(runs, world, folder, steps=4):
    """Pass rates of every training task after every step, (measurements, R, B), with Adam."""

    def measure(world, runs, step, stack):
        return {"rates": [{"rates": pass_rates(stack, world.train, step).tolist()}]}

    optimisation = Optimisation(steps=steps, optimiser="adam", measure_every=1)
    _, tables = train(runs, world, optimisation, checkpoint=Checkpoint(folder / "checkpoint"), measure=measure)
    return torch.tensor([row["rates"] for row in tables["rates"]], dtype=torch.float64)


class TestSweep:
    """A sweep is one program, and nothing of that shows in its results."""

    @pytest.mark.parametrize("precision", ["double", "single"])
    def test_a_run_alone_is_the_run_in_a_sweep_of_twenty(self, tmp_path, precision):
        # Measured: 0 in double precision, 6e-7 in single. A draw may in principle fall between thresholds that differ
        # by a rounding error; with 1e5 draws that is a chance of 1% in single precision, once per machine.
        world = dataclasses.replace(GRID, levels=4).world()
        world = world if precision == "single" else doubled(world)
        tolerance = 1e-4 if precision == "single" else 1e-10
        together = trained(MANY, world, tmp_path / "together")
        assert together.shape == (5, 20, 8)
        for index in range(20) if precision == "double" else range(0, 20, 3):
            alone = trained([MANY[index]], world, tmp_path / str(index))[:, 0]
            assert torch.allclose(alone, together[:, index], rtol=tolerance, atol=0)
        # The runs do differ, by far more than that.
        last = together[-1]
        twins = [any(torch.allclose(last[i], last[j], rtol=1e-4) for j in range(i)) for i in range(20)]
        assert not any(twins)
        assert bool(((together[-1] / together[0] - 1).abs().amax(1) > 1e-2).all())

    def test_runs_that_differ_only_in_the_estimator_see_the_same_rollouts_at_first(self):
        world = GRID.world(held_out=1)
        runs = [Run(Sampled(name, 8), 0.01, seed) for seed in (0, 1) for name in ("reinforce", "rloo", "grpo", "maxrl")]
        runs += [Run(Inverse(1, 8), 0.1, 0)]
        seeds = [run.seed for run in runs]
        stack = world.stack(seeds)
        batch = TabularBatch(world.train.tables, stack.log_policy(world.train.inputs, world.train.rows), seeds, 0)
        groups = []
        roll_out = batch.rollout

        def spy(asked, rollouts):
            groups.append((list(asked), roll_out(asked, rollouts)))
            return groups[-1][1]

        batch.rollout = spy
        run_losses(batch, [run.method for run in runs])
        ((asked, group),) = groups
        rewards = {run: group.rewards[index] for index, run in enumerate(asked)}
        log_probs = {run: group.log_probs[index].detach() for index, run in enumerate(asked)}
        for run in (1, 2, 3, 8):
            assert torch.equal(rewards[run], rewards[0])
            assert torch.allclose(log_probs[run], log_probs[0], rtol=1e-5)
        for run in (5, 6, 7):
            assert torch.equal(rewards[run], rewards[4])
        assert not torch.equal(log_probs[4], log_probs[0])


class TestDiverged:
    RUNS = (Run(Sampled("maxrl", 4), 0.01, 5), Run(Sampled("rloo", 4), 0.01, 3))

    def fitted(self, folder, poison_at=None, rates=(0.01, 0.01)):
        world = GRID.world(held_out=1)
        seeds = [run.seed for run in self.RUNS]
        stack = world.stack(seeds)

        def batch(step):
            if step == poison_at:
                with torch.no_grad():
                    next(stack.networks[1].parameters()).fill_(torch.nan)
            return TabularBatch(world.train.tables, stack.log_policy(world.train.inputs, world.train.rows), seeds, step)

        methods = [run.method for run in self.RUNS]
        optimisation = Optimisation(steps=20, measure_every=20, checkpoint_every=5)
        checkpoint = Checkpoint(folder / "checkpoint")
        fit.fit(stack, methods, rates, optimisation, batch=batch, checkpoint=checkpoint)

    def test_the_error_names_run_seed_and_step_and_the_last_checkpoint_remains(self, tmp_path, refuses):
        with refuses("the policy of run 1 is NaN after 12 updates: it has diverged"):
            self.fitted(tmp_path, poison_at=12)
        state = Checkpoint(tmp_path / "checkpoint").load()
        assert state["step"] == 10
        assert all(bool(value.isfinite().all()) for value in state["stack"].values())
        self.fitted(tmp_path)  # and can be continued from

    def test_a_learning_rate_beyond_all_bounds(self, tmp_path):
        with pytest.raises(ValueError, match=r"\Athe policy of run 1 is NaN after \d+ updates: it has") as e:
            self.fitted(tmp_path, rates=(0.01, 1e38))
        assert "\n" not in str(e.value)

    def test_training_on_a_world_names_the_run(self, tmp_path, refuses):
        runs = [Run(Sampled("rloo", 4), 0.01, 5), Run(Sampled("rloo", 4), 1e38, 3)]
        message = "rloo, N = 4, learning rate 1e+38, seed 3 has diverged: its policy is NaN after 1 updates; "
        with refuses(message + "leave that rate out, with --out or --force (the last checkpoint is kept)"):
            train(runs, GRID.world(), Optimisation(steps=1), checkpoint=Checkpoint(tmp_path / "checkpoint"))


MINIGRID_METHODS = {
    "likelihood": (Exact("maximum_likelihood"), lambda p: 1 / p),
    # Algorithm 1 at N = 4 is truncated at order 3 (theory.md), and in expectation nothing of N is left but that
    "maxrl": (Expected("maxrl", 4), lambda p: (1 - (1 - p) ** 3) / p),
    "maxrl_leave_one_out": (Expected("maxrl_leave_one_out", 4), lambda p: (1 - (1 - p) ** 4) / p),
    "rloo": (Expected("rloo", 4), torch.ones_like),
}


@pytest.fixture(scope="module")
def setting(cache):
    world = doubled(
        minigrid_world(("Empty-Random-5x5", "LavaGapS6", "DoorKey-5x5"), 2, 1, horizon=14, policy="perceptron", width=8)
    )
    return world.stack([0]), world.train


class TestRealLevels:
    """An engineer's check: the gradient of the trainer's loss on MiniGrid, through a network, from end to end."""

    def gradient(self, setting, method):
        stack, tasks = setting
        stack.zero_grad()
        batch = TabularBatch(tasks.tables, stack.log_policy(tasks.inputs, tasks.rows), [0], 0)
        (-run_losses(batch, [method]).sum()).backward()
        return torch.cat([parameter.grad.flatten() for parameter in stack.parameters()])

    def slopes(self, setting):
        """Pass rates (B,) and their gradients (B, d), one backward pass a level."""
        stack, tasks = setting
        rates = tasks.tables.pass_rate(stack.log_policy(tasks.inputs, tasks.rows))[0]
        rows = [torch.autograd.grad(rate, tuple(stack.parameters()), retain_graph=True) for rate in rates]
        return rates.detach(), torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])

    def differences(self, setting, function, directions, size):
        """Central differences of `function(pass rates)` along each direction."""
        stack, tasks = setting
        origin = parameters_to_vector(stack.parameters()).detach().clone()
        slopes = []
        for direction in directions:
            ends = []
            for sign in (1, -1):
                vector_to_parameters(origin + sign * size * direction, stack.parameters())
                ends.append(float(function(pass_rates(stack, tasks)[0])))
            slopes.append((ends[0] - ends[1]) / (2 * size))
        vector_to_parameters(origin, stack.parameters())
        return slopes

    def test_levels_are_hard_enough_to_tell_objectives_apart(self, setting):
        rates, slopes = self.slopes(setting)
        assert rates.shape == (6,)
        assert float(rates.min()) < 1e-3
        assert float(rates.max()) > 1e-2
        assert bool((slopes.abs().amax(1) > 0).all())

    def test_likelihood_gradient_equals_finite_differences_of_exact_pass_rates(self, setting):
        # Steps of 1e-5: truncation about 1e-10, rounding about 1e-16 / 1e-5 = 1e-11.
        gradient = self.gradient(setting, Exact("maximum_likelihood"))
        random = torch.Generator().manual_seed(0)
        directions = torch.randn(8, len(gradient), generator=random, dtype=torch.float64)
        directions = torch.cat([directions / directions.norm(dim=1, keepdim=True), gradient[None] / gradient.norm()])
        found = self.differences(setting, lambda rates: rates.log().mean(), directions, 1e-5)
        assert found == pytest.approx((directions @ gradient).tolist(), rel=1e-6, abs=1e-8)
        assert found[-1] == pytest.approx(float(gradient.norm()), rel=1e-6)  # uphill, at full slope

    @pytest.mark.parametrize("name", MINIGRID_METHODS)
    def test_gradient_is_the_weighted_gradient_of_the_pass_rates(self, setting, name):
        method, weight = MINIGRID_METHODS[name]
        rates, slopes = self.slopes(setting)
        wanted = (weight(rates)[:, None] * slopes).mean(0)
        assert torch.allclose(self.gradient(setting, method), wanted, rtol=1e-9, atol=1e-13)

    def test_sampled_gradients_average_to_the_expected_one(self, setting):
        # 600 runs with one policy and seeds of their own: their gradients along the expected one. |z| < 4.5, 7e-6.
        _, tasks = setting
        expected = self.gradient(setting, Expected("maxrl", 4))
        policy, slope = self.slope_of_the_policy(setting, expected / expected.norm())
        copies = policy.expand(600, *policy.shape[1:]).clone().requires_grad_()
        batch = TabularBatch(tasks.tables, copies, range(600), 0)
        (-run_losses(batch, [Sampled("maxrl", 4)] * 600).sum()).backward()
        along = (copies.grad * slope).flatten(1).sum(1)
        error = float(along.std()) / 600**0.5
        assert abs(float(along.mean()) - float(expected.norm())) < 4.5 * error
        assert error < 0.2 * float(expected.norm())  # it has power

    def slope_of_the_policy(self, setting, direction):
        """The policy table and its derivative along a direction of the parameters."""
        stack, tasks = setting
        parameters = dict(stack.named_parameters())
        parts = direction.split([value.numel() for value in parameters.values()])
        tangents = {name: part.view_as(value) for (name, value), part in zip(parameters.items(), parts, strict=True)}

        def table(values):
            network = {name.removeprefix("networks.0."): value for name, value in values.items()}
            return functional_call(stack.networks[0], network, (tasks.inputs,)).log_softmax(-1)[tasks.rows][None, None]

        values = {name: value.detach() for name, value in parameters.items()}
        return jvp(table, (values,), (tangents,))
