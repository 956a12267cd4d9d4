"""The navigation experiments end to end: sweeps, resuming, rows against enumeration, and gradients by differences."""

import dataclasses
import itertools
import math
from collections import Counter

import pandas as pd
import pytest
import torch
from small_worlds import every_path
from torch.func import functional_call, jvp
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from envs.gridworld import levels
from envs.gridworld.mazes import MOVES
from experiments.navigation import _shared as worlds
from experiments.navigation import navigation, navigation_bias_variance, navigation_likelihood, trajectories
from experiments.navigation._shared import GridSettings, World, minigrid_world, pass_rates
from maxrl_lab import exact, specs
from maxrl_lab.policies.jacobian import score_gram
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.tabular.batch import TabularBatch
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Exact, Expected, Inverse, Sampled
from maxrl_lab.training.step import run_losses
from maxrl_lab.training.sweep import Run

EXPERIMENTS = {
    each.__name__.rpartition(".")[2]: each
    for each in (navigation, navigation_likelihood, navigation_bias_variance, trajectories)
}
GRID = GridSettings(size=7, distances=(2, 4), levels=2, horizon=8, width=4)
SMOKE = navigation.PRESETS["smoke"]


def context_in(folder):
    return Context(torch.device("cpu"), Checkpoint(folder / "checkpoint" / "run"), quiet=True)


def doubled(world):
    """The same world in double precision, where rounding cannot be mistaken for a difference."""
    splits = {split: dataclasses.replace(each, inputs=each.inputs.double()) for split, each in world.splits.items()}
    return World(splits, lambda: world.network().double())


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXRL_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: tmp_path_factory.mktemp(name) for name in EXPERIMENTS}


@pytest.fixture(scope="module")
def rows(folders):
    """The smoke preset's rows of every experiment; the checkpoints stay in `folders`."""
    return {
        name: pd.DataFrame(module.run(module.PRESETS["smoke"], context_in(folders[name])))
        for name, module in EXPERIMENTS.items()
    }


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
    """Pass rates of every training level after every step, (measurements, R, B), of `fit.fit` with Adam."""
    seeds = [each.seed for each in runs]
    stack = world.stack(seeds)

    def batch(step):
        return TabularBatch(world.train.tables, stack.log_policy(world.train.inputs, world.train.rows), seeds, step)

    found = fit.fit(
        stack,
        [each.method for each in runs],
        [each.learning_rate for each in runs],
        fit.Optimisation(steps=steps, optimiser="adam", measure_every=1),
        batch=batch,
        measure=lambda step: {"rates": [{"rates": pass_rates(stack, world.train).tolist()}]},
        checkpoint=Checkpoint(folder / "checkpoint"),
    )
    return torch.tensor([row["rates"] for row in found["rates"]], dtype=torch.float64)


class TestSweep:
    """A sweep is one program, and nothing of that shows in its results."""

    @pytest.mark.parametrize("precision", ["double", "single"])
    def test_a_run_alone_is_the_run_in_a_sweep_of_twenty(self, tmp_path, precision):
        # Measured: 0 in double precision, 6e-7 in single. A draw may in principle fall between thresholds that differ
        # by a rounding error; with 1e5 draws that is a chance of 1% in single precision, once per machine.
        world = GRID.world(1) if precision == "single" else doubled(GRID.world(1))
        tolerance = 1e-4 if precision == "single" else 1e-10
        together = trained(MANY, world, tmp_path / "together")
        assert together.shape == (5, 20, 4)
        chosen = range(20) if precision == "double" else range(0, 20, 3)
        for place in chosen:
            alone = trained([MANY[place]], world, tmp_path / str(place))[:, 0]
            assert torch.allclose(alone, together[:, place], rtol=tolerance, atol=0)
        # The runs do differ, by far more than that.
        last = together[-1]
        twins = [any(torch.allclose(last[i], last[j], rtol=1e-4) for j in range(i)) for i in range(20)]
        assert not any(twins)
        assert bool(((together[-1] / together[0] - 1).abs().amax(1) > 1e-2).all())

    def test_who_trains_beside_changes_no_row_of_the_experiment(self, tmp_path):
        section = navigation.Section("equal steps", "gridworld", "adam", (0.01,), (4, 8), SMOKE.estimators, SMOKE.steps)
        world, settings = GRID.world(1), SMOKE
        runs = [each for each in MANY if each.method.kind == "sampled"]
        block = navigation._train(runs, "report", section, world, settings, context_in(tmp_path))
        both = pd.DataFrame(block)
        for place in (3, 10):
            own = navigation._train(
                [runs[place]], "report", section, world, settings, context_in(tmp_path / str(place))
            )
            name = runs[place].row(0)
            keys = ["method", "rollouts", "learning_rate", "seed"]
            same = both[(both[keys] == pd.Series({key: name[key] for key in keys})).all(axis=1)]
            pd.testing.assert_frame_equal(same.reset_index(drop=True), pd.DataFrame(own), rtol=1e-3, check_dtype=False)

    def test_blocks_of_runs_change_no_result(self, tmp_path, rows):
        settings = dataclasses.replace(navigation_likelihood.PRESETS["smoke"], runs_at_once=2)
        found = pd.DataFrame(navigation_likelihood.run(settings, context_in(tmp_path)))
        key = ["stage", "method", "rollouts", "learning_rate", "seed", "step", "split"]
        whole, parts = (each.sort_values(key, ignore_index=True) for each in (rows["navigation_likelihood"], found))
        pd.testing.assert_frame_equal(whole, parts, rtol=1e-3)

    def test_runs_that_differ_only_in_the_estimator_see_the_same_rollouts_at_first(self):
        world = GRID.world(1)
        runs = [Run(Sampled(name, 8), 0.01, seed) for seed in (0, 1) for name in ("reinforce", "rloo", "grpo", "maxrl")]
        runs += [Run(Inverse(1, 8), 0.1, 0)]
        seeds = [each.seed for each in runs]
        stack = world.stack(seeds)
        batch = TabularBatch(world.train.tables, stack.log_policy(world.train.inputs, world.train.rows), seeds, 0)
        groups = []
        roll_out = batch.rollout

        def spy(asked, rollouts):
            groups.append((list(asked), roll_out(asked, rollouts)))
            return groups[-1][1]

        batch.rollout = spy
        run_losses(batch, [each.method for each in runs])
        ((asked, group),) = groups
        rewards = {run: group.rewards[place] for place, run in enumerate(asked)}
        log_probs = {run: group.log_probs[place].detach() for place, run in enumerate(asked)}
        for run in (1, 2, 3, 8):
            assert torch.equal(rewards[run], rewards[0])
            assert torch.allclose(log_probs[run], log_probs[0], rtol=1e-5)
        for run in (5, 6, 7):
            assert torch.equal(rewards[run], rewards[4])
        assert not torch.equal(log_probs[4], log_probs[0])


class TestResuming:
    SETTINGS = dataclasses.replace(
        SMOKE,
        estimators=("rloo", "maxrl"),
        rollouts=(4,),
        sgd_rollouts=(),
        minigrid_names=(),
        steps=56,
        seeds=1,
        equal_estimators=(),
    )

    # A checkpoint after 50 steps of each stage; two stages of 56 steps, so 112 batches.
    @pytest.mark.parametrize("stops", [[53], [3, 8, 60], [112]], ids=["in the sweep", "again and again", "at the end"])
    def test_a_killed_run_ends_with_identical_rows(self, tmp_path, monkeypatch, stops):
        whole = navigation.run(self.SETTINGS, context_in(tmp_path / "whole"))
        honest, made = worlds.TabularBatch, []

        def counted(*arguments):
            made.append(arguments[-1])
            if len(made) == stop:
                raise KeyboardInterrupt
            return honest(*arguments)

        monkeypatch.setattr(worlds, "TabularBatch", counted)
        for stop in stops:  # noqa: B007 read by `counted`
            made.clear()
            with pytest.raises(KeyboardInterrupt):
                navigation.run(self.SETTINGS, context_in(tmp_path / "killed"))
        made.clear()
        stop = None
        resumed = navigation.run(self.SETTINGS, context_in(tmp_path / "killed"))
        assert len(made) < 112  # it did continue
        pd.testing.assert_frame_equal(pd.DataFrame(resumed), pd.DataFrame(whole), check_exact=True)

    def test_killed_while_measuring(self, tmp_path, monkeypatch):
        settings = navigation_likelihood.PRESETS["smoke"]
        whole = navigation_likelihood.run(settings, context_in(tmp_path / "whole"))
        honest, calls = worlds.pass_rates, []

        def killed(*arguments):
            calls.append(None)
            if len(calls) == 7:  # the sweep measures twice, two splits each; the second measurement of the report
                raise KeyboardInterrupt
            return honest(*arguments)

        monkeypatch.setattr(worlds, "pass_rates", killed)
        with pytest.raises(KeyboardInterrupt):
            navigation_likelihood.run(settings, context_in(tmp_path / "killed"))
        before = len(calls)
        resumed = navigation_likelihood.run(settings, context_in(tmp_path / "killed"))
        assert len(calls) - before == 6  # the report's three measurements only
        assert resumed == whole


class TestDiverged:
    RUNS = (Run(Sampled("maxrl", 4), 0.01, 5), Run(Sampled("rloo", 4), 0.01, 3))

    def fitted(self, folder, poison_at=None, rates=(0.01, 0.01)):
        world = GRID.world(1)
        seeds = [each.seed for each in self.RUNS]
        stack = world.stack(seeds)

        def batch(step):
            if step == poison_at:
                with torch.no_grad():
                    next(stack.networks[1].parameters()).fill_(torch.nan)
            return TabularBatch(world.train.tables, stack.log_policy(world.train.inputs, world.train.rows), seeds, step)

        methods = [each.method for each in self.RUNS]
        recipe = fit.Optimisation(steps=20, measure_every=20, checkpoint_every=5)
        checkpoint = Checkpoint(folder / "checkpoint")
        fit.fit(stack, methods, rates, recipe, batch=batch, checkpoint=checkpoint)

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

    def test_the_experiment_says_so_too(self, tmp_path, refuses):
        settings = dataclasses.replace(
            SMOKE, sgd_rates=(1e38,), estimators=("rloo",), rollouts=(4,), adam_rates=(0.01,), steps=1, measurements=1
        )
        message = "rloo with learning rate 1e+38 and seed 2 has diverged: its policy is NaN after 1 updates; "
        with refuses(message + "leave that rate out (the last checkpoint is kept)"):
            navigation.run(settings, context_in(tmp_path))


def last_step(table):
    """Of each row's comparison and N."""
    return table.groupby(["comparison", "world", "optimiser", "rollouts"]).step.transform("max")


class TestNavigation:
    def test_columns(self, rows):
        assert list(rows["navigation"].columns) == [
            *("comparison", "world", "optimiser", "split", "estimator", "stage", "method", "rollouts", "learning_rate"),
            *("seed", "step", "total_rollouts", "pass_at_1", "pass_at_8", "pass_at_64", "pass_at_512", "signal"),
            *("k", "coverage", "difficulty", "pass_rate"),
        ]

    def test_counts_of_rows(self, rows):
        # gridworld with Adam has 7 x 2 methods, at equal rollouts 1 x 2, the others 7; 2 rates, 1 swept and 2 reported
        # seeds
        found = rows["navigation"].groupby(["comparison", "world", "optimiser", "stage"]).size()
        for comparison, world, optimiser, methods, names in (
            ("equal steps", "gridworld", "adam", 14, 2),
            ("equal steps", "gridworld", "sgd", 7, 2),
            ("equal steps", "minigrid", "adam", 7, 1),
            ("equal rollouts", "gridworld", "adam", 2, 2),
        ):
            counts = found[comparison, world, optimiser]
            assert counts["sweep"] == methods * 2  # final rows on the training levels
            assert counts["report"] == methods * 2 * 3 * 2  # seeds, steps 0 2 4, splits
            assert counts["coverage"] == methods * 2 * 2 * 2
            assert counts["difficulty"] == methods * 2 * 2 * names

    def test_what_a_row_lacks_it_lacks_entirely(self, rows):
        table = rows["navigation"]
        detail = {"k": "coverage", "coverage": "coverage", "difficulty": "difficulty", "pass_rate": "difficulty"}
        for column, stage in detail.items():
            assert (table[column].notna() == (table.stage == stage)).all()
        curves = table[table.stage.isin(["sweep", "report"])]
        assert curves.drop(columns=list(detail)).notna().all(axis=None)
        numbers = table.select_dtypes("number")
        assert not (numbers.abs() == math.inf).any(axis=None)

    def test_pass_at_k_is_monotone_and_probable(self, rows):
        table = rows["navigation"]
        curves = table.loc[table.stage.isin(["sweep", "report"]), [f"pass_at_{k}" for k in navigation.KS]]
        assert (curves.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
        assert ((curves >= 0) & (curves <= 1)).all(axis=None)
        # equal only where a policy has become deterministic, which SGD at a rate of 1 can do
        assert (curves.pass_at_8 > curves.pass_at_1).mean() > 0.95

    def test_total_rollouts(self, rows):
        table = rows["navigation"]
        assert (table.total_rollouts == table.step * table.rollouts).all()  # of each level

    def test_signal_lies_where_pass_at_n_does(self, rows):
        report = rows["navigation"].query("stage == 'report' and rollouts == 8")
        assert len(report)
        assert report.signal.tolist() == report.pass_at_8.tolist()

    def test_swept_rates_are_chosen_by_the_sweep_and_its_seeds_are_not_reported(self, rows):
        table = rows["navigation"]
        key = ["comparison", "world", "optimiser", "method", "rollouts"]
        sweep, report = table[table.stage == "sweep"], table[table.stage != "sweep"]
        assert set(sweep.seed) == {2}
        assert set(report.seed) == {0, 1}
        assert set(sweep.split) == {"train"}
        best = sweep.loc[sweep.groupby(key).pass_at_1.idxmax()].set_index(key).learning_rate
        used = report.groupby(key).learning_rate.unique()
        assert all(rates.tolist() == [best[each]] for each, rates in used.items())

    def test_all_methods_of_a_seed_start_alike(self, rows):
        start = rows["navigation"].query("stage == 'report' and step == 0")
        # single precision, in stacks of different sizes
        spread = start.groupby(["world", "seed", "split"]).pass_at_1.agg(["min", "max"])
        assert (spread["max"] / spread["min"] - 1 < 1e-4).all()
        assert start.groupby(["world", "split"]).pass_at_1.nunique().min() > 1

    def test_difficulties_average_to_pass_at_1(self, rows):
        # As many levels of every difficulty, so the mean of the means.
        table = rows["navigation"]
        key = ["comparison", "world", "optimiser", "split", "method", "rollouts", "seed"]
        final = (
            table[(table.stage == "report") & (table.step == last_step(table))].set_index(key).pass_at_1.sort_index()
        )
        means = table[table.stage == "difficulty"].groupby(key).pass_rate.mean().sort_index()
        pd.testing.assert_series_equal(final, means, check_names=False, rtol=1e-12)

    def test_final_rows_are_recomputed_from_the_saved_policies(self, rows, folders):
        checkpoint = context_in(folders["navigation"]).checkpoint
        table = rows["navigation"].query("comparison == 'equal steps' and optimiser == 'adam' and world == 'gridworld'")
        world = SMOKE.world(SMOKE.held_out)
        state = checkpoint.stage("equal-steps-gridworld-adam-N-4-8-report-1").load()["stack"]
        stack = world.stack(range(28))
        stack.load_state_dict(state)
        section = SMOKE.sections()[0]
        named = [(seed, method) for seed in (0, 1) for method in section.methods()]
        for split, tasks in world.splits.items():
            rates = pass_rates(stack, tasks)
            for (seed, method), own in zip(named, rates, strict=True):
                mine = table[(table.method == method.name) & (table.rollouts == method.rollouts)]
                mine = mine[(mine.seed == seed) & (mine.split == split) & (mine.step == 4) & (mine.stage != "sweep")]
                coverage = mine[mine.stage == "coverage"].set_index("k").coverage
                for k in (1, 8):
                    wanted = float((1 - (1 - own) ** k).mean())
                    assert coverage[k] == pytest.approx(wanted, rel=1e-9)
                    assert float(mine[mine.stage == "report"][f"pass_at_{k}"].iloc[0]) == pytest.approx(
                        wanted, rel=1e-9
                    )
                near, far = own[:2].mean(), own[2:].mean()
                difficulty = mine[mine.stage == "difficulty"].set_index("difficulty").pass_rate
                assert difficulty[["2", "4"]].tolist() == pytest.approx([float(near), float(far)], rel=1e-9)


class TestEqualRollouts:
    @pytest.mark.parametrize(("total", "counts"), [(16, (2, 4, 16)), (50, (4, 8, 13)), (1600, (4, 16, 64))])
    def test_every_n_draws_the_total_up_to_rounding(self, total, counts):
        settings = dataclasses.replace(SMOKE, equal_total=total, equal_rollouts=counts, equal_estimators=("rloo",))
        sections = [each for each in settings.sections() if each.comparison == "equal rollouts"]
        assert [each.rollouts for each in sections] == [(count,) for count in counts]
        for each, count in zip(sections, counts, strict=True):
            assert total - count < each.steps * count <= total
            assert each.estimators == ("rloo",)
            assert (each.world, each.optimiser, each.rates) == ("gridworld", "adam", settings.adam_rates)

    @pytest.mark.parametrize("name", ["quick", "full"])
    def test_presets_draw_nearly_the_same(self, name):
        settings = navigation.PRESETS[name]
        for each in settings.sections():
            if each.comparison == "equal rollouts":
                (count,) = each.rollouts
                assert 0.95 * settings.equal_total <= each.steps * count <= settings.equal_total
        names = [each.name for each in settings.sections()]
        assert len(set(names)) == len(names)  # of checkpoints

    def test_rows_end_at_the_total(self, rows):
        table = rows["navigation"].query("comparison == 'equal rollouts'")
        final = table[table.step == last_step(table)]
        assert (final.total_rollouts == SMOKE.equal_total).all()
        assert final.groupby("rollouts").step.unique().map(list).to_dict() == {4: [4], 8: [2]}
        assert set(table.estimator) == set(SMOKE.equal_estimators)
        assert set(table[table.step == 0].total_rollouts) == {0}

    @pytest.mark.parametrize("changes", [{"equal_estimators": ()}, {"equal_rollouts": ()}])
    def test_none(self, changes):
        sections = dataclasses.replace(SMOKE, **changes).sections()
        assert {each.comparison for each in sections} == {"equal steps"}

    def test_estimators_are_named_as_in_the_settings(self, rows):
        table = rows["navigation"]
        pkpo = table[table.estimator == "pkpo:k=N/2"]
        assert set(zip(pkpo.method, pkpo.rollouts, strict=True)) == {("pkpo:k=2", 4), ("pkpo:k=4", 8)}
        assert (table.estimator == table.method)[table.estimator != "pkpo:k=N/2"].all()
        assert set(table.estimator) == set(SMOKE.estimators)


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "changes", "message"),
        [
            ("navigation", {"rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
            ("navigation", {"sgd_rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
            ("navigation", {"minigrid_rollouts": (4, 8, 4)}, "rollouts must be distinct, got 4 8 4"),
            ("navigation", {"adam_rates": (0.1, 0.1)}, "adam_rates must be distinct, got 0.1 0.1"),
            ("navigation", {"coverage_ks": (1, 1)}, "coverage_ks must be distinct, got 1 1"),
            ("navigation", {"estimators": ("rloo", "rloo")}, "estimators must be distinct, got rloo rloo"),
            ("navigation", {"equal_estimators": ("rloo",) * 2}, "estimators must be distinct, got rloo rloo"),
            (
                "navigation",
                {"estimators": ("pkpo:k=2", "pkpo:k=N/2")},  # the same at N = 4
                "estimators must be distinct, got pkpo:k=2 pkpo:k=2",
            ),
            ("navigation", {"held_out": 0}, "held_out must be a whole number >= 1, got 0"),
            ("navigation", {"equal_total": 0}, "equal_total must be a whole number >= 1, got 0"),
            ("navigation", {"rollouts": ()}, "rollouts needs at least one value, got none"),
            ("navigation", {"distances": (2, 2)}, "distances must be distinct, got 2 2"),
            ("navigation_likelihood", {"rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
            ("navigation_likelihood", {"held_out": 0}, "held_out must be a whole number >= 1, got 0"),
            ("navigation_likelihood", {"successes": (1, 9)}, "successes must be at most the cap of 8 rollouts, got 9"),
            ("navigation_likelihood", {"successes": (0,)}, "successes must be a whole number >= 1, got 0"),
            ("navigation_bias_variance", {"rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
            (
                "navigation_bias_variance",
                {"successes": (1, 9)},
                "successes must be at most the budget of 8 rollouts, got 9",
            ),
            ("trajectories", {"learning_rates": (0.1, 0.1)}, "learning_rates must be distinct, got 0.1 0.1"),
        ],
    )
    def test_settings(self, refuses, name, changes, message):
        with refuses(message):
            dataclasses.replace(EXPERIMENTS[name].PRESETS["smoke"], **changes)

    def test_worlds_are_made_before_anything_is_trained(self, tmp_path, monkeypatch, refuses):
        settings = dataclasses.replace(SMOKE, minigrid_names=("Empty-5x5",))
        monkeypatch.setattr(navigation, "fit_in_blocks", None)  # would be a TypeError
        with refuses("Empty-5x5 has too few distinct levels: expected 2, got 1 in 10 seeds"):
            navigation.run(settings, context_in(tmp_path))


class TestScoreGram:
    @pytest.mark.parametrize("policy", ["convolutional", "perceptron"])
    def test_moments_through_it_are_the_experiments(self, policy):
        world = doubled(dataclasses.replace(GRID, policy=policy).world())
        (network,) = world.stack([0]).networks
        tasks = world.train
        found = tasks.tables.moments(
            network(tasks.inputs).detach().log_softmax(-1).view(-1, 4)[tasks.rows],
            score_gram(network, tasks.inputs, tasks.rows),
        )
        wanted = navigation_bias_variance.network_moments(network, tasks)
        for mine, theirs in zip(found, wanted, strict=True):
            assert mine.shape == (4,)
            assert torch.allclose(mine, theirs, rtol=1e-9, atol=0)
        rates = tasks.tables.pass_rate(world.stack([0]).log_policy(tasks.inputs, tasks.rows))[0]
        assert torch.allclose(found.pass_rate, rates, rtol=1e-12)


class TestNavigationLikelihood:
    SMOKE = navigation_likelihood.PRESETS["smoke"]

    def test_columns_and_counts(self, rows):
        table = rows["navigation_likelihood"]
        assert list(table.columns) == [
            *("stage", "method", "rollouts", "learning_rate", "seed", "step"),
            *("split", "cost", "pass_at_1", "pass_at_64", "log_pass_rate"),
        ]
        assert table.stage.value_counts().to_dict() == {"sweep": 3 * 2, "report": 3 * 2 * 3 * 2}
        assert table.drop(columns=["rollouts", "cost"]).notna().all(axis=None)
        assert not (table.select_dtypes("number").abs() == math.inf).any(axis=None)
        assert (table.pass_at_1 < table.pass_at_64).all()
        assert (table.log_pass_rate <= table.pass_at_1.map(math.log)).all()  # Jensen

    def test_cost(self, rows):
        table = rows["navigation_likelihood"]
        assert table[table.method == "maximum_likelihood"].cost.isna().all()
        assert (table[table.method == "maxrl_leave_one_out"].cost == 4).all()
        inverse = table[table.method == "inverse_sampling:successes=1"]
        assert ((inverse.cost > 1) & (inverse.cost < 8)).all()
        # the cost is that of training, whatever split the row measures
        assert (inverse.groupby(["stage", "seed", "step", "learning_rate"]).cost.nunique() == 1).all()

    def test_mean_cost_by_hand(self):
        # m = 1, cap 3: 1 + (1-p) + (1-p)^2, so 1.75 at p = 1/2 and 3 at p = 0
        method = Inverse(1, 3)
        rates = torch.tensor([0.5, 0.0], dtype=torch.float64)
        assert navigation_likelihood.mean_cost(method, rates) == pytest.approx((1.75 + 3) / 2, rel=1e-14)
        assert navigation_likelihood.mean_cost(Sampled("rloo", 3), rates) == 3.0
        assert navigation_likelihood.mean_cost(Exact("maximum_likelihood"), rates) is None

    def test_rows_at_the_start_are_those_of_fresh_policies(self, rows):
        world = self.SMOKE.world()
        rates = pass_rates(world.stack([0, 1]), world.train)
        start = rows["navigation_likelihood"].query("stage == 'report' and step == 0 and split == 'train'")
        for seed, own in enumerate(rates):
            mine = start[start.seed == seed].set_index("method")
            assert mine.pass_at_1.tolist() == pytest.approx([float(own.mean())] * 3, rel=1e-5)
            assert mine.log_pass_rate.tolist() == pytest.approx([float(own.log().mean())] * 3, rel=1e-5)
            cost = float(((1 - (1 - own) ** 8) / own).mean())
            assert mine.cost["inverse_sampling:successes=1"] == pytest.approx(cost, rel=1e-5)

    def test_the_exact_gradient_climbs(self, rows):
        report = rows["navigation_likelihood"].query("stage == 'report' and split == 'train'")
        exactly = report[report.method == "maximum_likelihood"].pivot_table(
            index="seed", columns="step", values="log_pass_rate"
        )
        assert (exactly.diff(axis=1)[[2, 4]] > 0).all(axis=None)


@dataclasses.dataclass(frozen=True)
class Double(navigation_bias_variance.Settings):
    """In double precision throughout."""

    def world(self, held_out=0):
        return doubled(super().world(held_out))


TINY = Double(
    layout="open",
    size=5,
    distances=(1, 2, 3),
    levels=1,
    horizon=4,
    width=2,
    rollouts=(2, 4),
    estimators=("reinforce", "rloo", "grpo", "maxrl", "maxrl_leave_one_out", "pkpo:k=N/2"),
    successes=(1, 3),
    budget=8,
    trained_rollouts=4,
    steps=2,
    checkpoints=1,
    seeds=2,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return pd.DataFrame(navigation_bias_variance.run(TINY, context_in(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def followed():
    """Per level: probability, score through the network (one backward pass a path) and reward of every path."""
    world = TINY.world()
    (network,) = world.stack([1]).networks
    found = []
    for level in range(3):
        paths = every_path(world.train.tables, level)
        log_policy = network(world.train.inputs[level : level + 1]).log_softmax(-1)
        totals = paths.counts[:, 0].flatten(1) @ log_policy.flatten()
        scores = [
            parameters_to_vector(torch.autograd.grad(each, tuple(network.parameters()), retain_graph=True))
            for each in totals
        ]
        found.append((totals.detach().exp(), torch.stack(scores), paths.rewards.double()))
    return found


class TestNavigationBiasVariance:
    def test_columns_and_counts(self, rows):
        table = rows["navigation_bias_variance"]
        assert list(table.columns) == [
            *("seed", "step", "estimator", "rollouts", "level", "distance", "budget", "pass_rate"),
            *("squared_bias", "variance", "mean_squared_error", "budget_mean_squared_error"),
        ]
        # 2 seeds, 2 measurements, 2 levels, 11 estimators and inverse sampling at m = 1 and 4
        assert len(table) == 2 * 2 * 2 * 13
        numbers = table.drop(columns=["rollouts"]).select_dtypes("number")
        assert numbers.notna().all(axis=None)
        assert not (numbers.abs() == math.inf).any(axis=None)
        assert (table.variance >= 0).all()
        assert (table.squared_bias >= 0).all()
        total = table.squared_bias + table.variance
        assert total.tolist() == pytest.approx(table.mean_squared_error.tolist())

    def test_every_path_is_followed(self, followed):
        for probabilities, scores, _ in followed:
            assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-12)
            assert (probabilities @ scores).abs().max() < 1e-12

    @pytest.mark.parametrize("level", range(3))
    def test_estimators_against_every_path(self, tiny, followed, level):
        probabilities, scores, rewards = followed[level]
        mine = tiny[(tiny.seed == 1) & (tiny.step == 0) & (tiny.level == level)]
        gradient = (probabilities * rewards) @ scores
        likelihood = gradient / (probabilities @ rewards)
        unit = float(likelihood.square().sum())
        assert mine.pass_rate.tolist() == pytest.approx([float(probabilities @ rewards)] * len(mine), rel=1e-10)
        assert mine.distance.unique().tolist() == [level + 1]
        for name, count in itertools.product(TINY.estimators, TINY.rollouts):
            (row,) = mine[(mine.estimator == specs.format_at(name, count)) & (mine.rollouts == count)].itertuples()
            mean, variance = exact.moments(
                name, rollouts=count, probabilities=probabilities, scores=scores, rewards=rewards
            )
            bias = float((mean - likelihood).square().sum()) / unit
            assert row.squared_bias == pytest.approx(bias, rel=1e-8, abs=1e-12)
            assert row.variance == pytest.approx(float(variance) / unit, rel=1e-8)
            assert row.mean_squared_error == pytest.approx(bias + float(variance) / unit, rel=1e-8)
            budget = bias + float(variance) / unit * count / 8
            assert row.budget_mean_squared_error == pytest.approx(budget, rel=1e-8)

    @pytest.mark.parametrize("level", range(3))
    @pytest.mark.parametrize("successes", [1, 3])
    def test_inverse_sampling_against_every_path(self, tiny, followed, level, successes):
        # Given K successes the mean of K scores: law of total variance over K = min(m, Binomial(8, p)).
        probabilities, scores, rewards = followed[level]
        p = float(probabilities @ rewards)
        given = probabilities * rewards / p
        mean = given @ scores
        unit = float(mean.square().sum())
        spread = float(given @ scores.square().sum(1)) - unit
        chances = [math.comb(8, k) * p**k * (1 - p) ** (8 - k) for k in range(9)]
        variance = sum(chance * spread / min(k, successes) for k, chance in enumerate(chances) if k)
        variance += unit * chances[0] * (1 - chances[0])
        cost = sum(chance * min(k, successes) for k, chance in enumerate(chances)) / p
        mine = tiny[(tiny.seed == 1) & (tiny.step == 0) & (tiny.level == level)]
        (row,) = mine[mine.estimator == f"inverse_sampling:successes={successes}"].itertuples()
        assert row.squared_bias == pytest.approx((1 - p) ** 16, rel=1e-8)
        assert row.variance == pytest.approx(variance / unit, rel=1e-8)
        assert row.budget_mean_squared_error == pytest.approx((1 - p) ** 16 + variance / unit * cost / 8, rel=1e-8)

    def test_in_single_precision_to_five_digits(self, tiny, tmp_path):
        settings = {field.name: getattr(TINY, field.name) for field in dataclasses.fields(TINY)}
        plain = navigation_bias_variance.Settings(**settings)
        table = pd.DataFrame(navigation_bias_variance.run(plain, context_in(tmp_path)))
        first, exactly = (each[each.step == 0].reset_index(drop=True) for each in (table, tiny))
        pd.testing.assert_frame_equal(first, exactly, rtol=1e-4, atol=1e-9)

    def test_rows_after_training_are_those_of_the_trained_policy(self, rows, folders):
        smoke = navigation_bias_variance.PRESETS["smoke"]
        world = smoke.world()
        stack = world.stack(range(2))
        state = context_in(folders["navigation_bias_variance"]).checkpoint.stage("training").load()
        assert state["step"] == 4
        stack.load_state_dict(state["stack"])
        rates = pass_rates(stack, world.train)
        table = rows["navigation_bias_variance"].query("step == 4")
        for row in table.itertuples():
            assert row.pass_rate == pytest.approx(float(rates[row.seed, row.level]), rel=1e-5)

    def test_a_budget_that_is_not_shared_evenly_is_refused(self, refuses):
        with refuses("budget must be a multiple of every N, got budget 9 with N = 2"):
            dataclasses.replace(TINY, budget=9)


@pytest.fixture(scope="module")
def policies(folders, rows):
    """The reported policies, from the checkpoint, and their names."""
    world = trajectories.PRESETS["smoke"].world()
    stack = world.stack([0, 0, 0])
    state = context_in(folders["trajectories"]).checkpoint.stage("training-0").load()
    stack.load_state_dict(state["stack"])
    return stack, world, [method.name for method in trajectories.PRESETS["smoke"].methods()]


class TestTrajectories:
    SMOKE = trajectories.PRESETS["smoke"]

    def test_columns(self, rows):
        table = rows["trajectories"]
        assert list(table.columns) == [
            *("view", "level", "distance", "text", "method", "rollouts", "learning_rate", "pass_rate"),
            *("path", "success", "time", "row", "col", "visits"),
        ]
        filled = {
            "level": {"text"},
            "visits": {"method", "rollouts", "learning_rate", "pass_rate", "row", "col", "visits"},
            "path": {
                *("method", "rollouts", "learning_rate", "pass_rate", "path", "success", "time", "row", "col"),
            },
        }
        assert set(table["view"]) == set(filled)
        for view, columns in filled.items():
            part = table[table["view"] == view]
            assert part[["view", "level", "distance", *columns]].notna().all(axis=None)
            assert part.drop(columns=["view", "level", "distance", *columns]).isna().all(axis=None)

    def test_levels_are_one_of_each_distance(self, rows):
        table = rows["trajectories"].query("view == 'level'")
        assert table.distance.tolist() == [2, 4]
        made = self.SMOKE.make_levels("train", self.SMOKE.levels)
        assert table.text.tolist() == [made[level].text() for level in table.level]
        assert [levels.parse(text).distance for text in table.text] == [2, 4]

    def test_pass_rates_are_the_policies_own(self, rows, policies):
        stack, world, names = policies
        rates = pass_rates(stack, world.train)
        table = rows["trajectories"].query("view != 'level'")
        for (method, level), part in table.groupby(["method", "level"]):
            wanted = float(rates[names.index(method), int(level)])
            assert part.pass_rate.unique().tolist() == pytest.approx([wanted], rel=1e-9)

    def test_visits_of_a_level_sum_to_the_mean_length(self, rows, policies):
        # Six comparisons at |z| < 4.5: false-alarm rate 4e-5; the stream is fixed.
        stack, world, names = policies
        stream = torch.Generator().manual_seed(2602)
        group = world.train.tables.rollout(
            stack.log_policy(world.train.inputs, world.train.rows).detach(), 20_000, stream
        )
        lengths = group.lengths.double()
        table = rows["trajectories"].query("view == 'visits'")
        sums = table.groupby(["method", "level"]).visits.sum()
        assert len(sums) == 6
        for (method, level), expected in sums.items():
            own = lengths[names.index(method), int(level)]
            assert abs(float(own.mean()) - expected) < 4.5 * float(own.std()) / 20_000**0.5
            assert 0 < expected <= self.SMOKE.horizon

    def test_visits_are_listed_for_every_free_cell_and_none_on_the_goal(self, rows):
        table = rows["trajectories"]
        for row in table[table["view"] == "level"].itertuples():
            level = levels.parse(row.text)
            visits = table[(table["view"] == "visits") & (table.level == row.level)]
            free = {(int(r), int(c)) for r, c in zip(*(~level.walls).nonzero(), strict=True)}
            for _, part in visits.groupby("method"):
                assert Counter(zip(part.row, part.col, strict=True)) == Counter(free)
                by_cell = part.set_index(["row", "col"]).visits
                assert by_cell[level.goal] == 0
                assert by_cell[level.start] >= 1
                assert (by_cell >= 0).all()

    def test_paths_are_legal_and_end_on_the_goal_if_and_only_if_right(self, rows):
        table = rows["trajectories"]
        texts = table[table["view"] == "level"].set_index("level").text
        paths = table[table["view"] == "path"].groupby(["method", "level", "path"])
        outcomes = Counter()
        for (method, number, _), part in paths:
            level = levels.parse(texts[number])
            cells = list(zip(part.row.astype(int), part.col.astype(int), strict=True))
            assert part.time.tolist() == list(range(self.SMOKE.horizon + 1))
            assert cells[0] == level.start
            for (row, col), after in itertools.pairwise(cells):
                nexts = [(row + down, col + right) for down, right in MOVES]
                assert not level.walls[after]
                if after == (row, col):  # bumped into a wall, or is there
                    assert (row, col) == level.goal or any(level.walls[cell] for cell in nexts)
                else:
                    assert (row, col) != level.goal
                    assert after in nexts
            (success,) = part.success.unique()
            assert (cells[-1] == level.goal) == success
            outcomes[method, number, bool(success)] += 1
        assert max(outcomes.values()) == self.SMOKE.kept
        assert {success for _, _, success in outcomes} == {True, False}


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
        found = []
        for direction in directions:
            ends = []
            for sign in (1, -1):
                vector_to_parameters(origin + sign * size * direction, stack.parameters())
                ends.append(float(function(pass_rates(stack, tasks)[0])))
            found.append((ends[0] - ends[1]) / (2 * size))
        vector_to_parameters(origin, stack.parameters())
        return found

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
