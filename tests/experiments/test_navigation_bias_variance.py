"""Bias and variance in mazes: against every path through small levels, in both precisions, and what is refused."""

import dataclasses
import itertools
import math

import pandas as pd
import pytest
import torch
from small_navigation import GRID, context_in, doubled, frames
from small_worlds import every_path
from torch.nn.utils import parameters_to_vector

from experiments.navigation import navigation_bias_variance
from maxrl_lab import exact, specs
from maxrl_lab.policies.jacobian import score_gram
from maxrl_lab.tabular.study import pass_rates

SMOKE = navigation_bias_variance.PRESETS["smoke"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("navigation_bias_variance")


@pytest.fixture(scope="module")
def tables(folder):
    """The smoke preset's tables; the checkpoints stay in `folder`."""
    return frames(navigation_bias_variance.run(SMOKE, context_in(folder)))


class TestScoreGram:
    @pytest.mark.parametrize("policy", ["convolutional", "perceptron"])
    def test_moments_through_it_are_the_experiments(self, policy):
        world = doubled(dataclasses.replace(GRID, policy=policy).world())
        (network,) = world.stack([0]).networks
        tasks = world.train
        moments = tasks.tables.moments(
            network(tasks.inputs).detach().log_softmax(-1).view(-1, 4)[tasks.rows],
            score_gram(network, tasks.inputs, tasks.rows),
        )
        wanted = navigation_bias_variance.network_moments(network, tasks)
        for mine, theirs in zip(moments, wanted, strict=True):
            assert mine.shape == (4,)
            assert torch.allclose(mine, theirs, rtol=1e-9, atol=0)
        rates = tasks.tables.pass_rate(world.stack([0]).log_policy(tasks.inputs, tasks.rows))[0]
        assert torch.allclose(moments.pass_rate, rates, rtol=1e-12)


@dataclasses.dataclass(frozen=True)
class Double(navigation_bias_variance.Settings):
    """In double precision throughout."""

    def world(self, seed=0, **counts):
        return doubled(super().world(seed, **counts))


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
    return pd.DataFrame(navigation_bias_variance.run(TINY, context_in(tmp_path_factory.mktemp("tiny")))["rows"])


@pytest.fixture(scope="module")
def followed():
    """Per level: probability, score through the network (one backward pass a path) and reward of every path."""
    world = TINY.world(1)
    (network,) = world.stack([1]).networks
    levels = []
    for level in range(3):
        paths = every_path(world.train.tables, level)
        log_policy = network(world.train.inputs[level : level + 1]).log_softmax(-1)
        totals = paths.counts[:, 0].flatten(1) @ log_policy.flatten()
        scores = [
            parameters_to_vector(torch.autograd.grad(total, tuple(network.parameters()), retain_graph=True))
            for total in totals
        ]
        levels.append((totals.detach().exp(), torch.stack(scores), paths.rewards.double()))
    return levels


class TestNavigationBiasVariance:
    def test_columns_and_counts(self, tables):
        (table,) = tables.values()
        assert list(table.columns) == [
            *("seed", "step", "estimator", "rollouts", "level", "distance", "pass_rate"),
            *("squared_bias", "variance", "mean_squared_error", "budget_mean_squared_error"),
        ]
        # 2 seeds, 2 measurements, 2 levels, 14 estimators and inverse sampling at m = 1 and 4
        assert len(table) == 2 * 2 * 2 * 16
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
        single = pd.DataFrame(navigation_bias_variance.run(plain, context_in(tmp_path))["rows"])
        first, exactly = (table[table.step == 0].reset_index(drop=True) for table in (single, tiny))
        pd.testing.assert_frame_equal(first, exactly, rtol=1e-4, atol=1e-9)

    def test_rows_after_training_are_those_of_the_trained_policy(self, tables, folder):
        for seed in range(2):
            world = SMOKE.world(seed)
            stack = world.stack([seed])
            state = context_in(folder).checkpoint.stage(f"navigation_bias_variance-seed-{seed}-1").load()
            assert state["step"] == 4
            stack.load_state_dict(state["stack"])
            (rates,) = pass_rates(stack, world.train)
            for row in tables["rows"].query(f"step == 4 and seed == {seed}").itertuples():
                assert row.pass_rate == pytest.approx(float(rates[row.level]), rel=1e-5)

    def test_a_budget_that_is_not_shared_evenly_is_refused(self, refuses):
        with refuses("budget must be a multiple of every N, got budget 9 with N = 2"):
            dataclasses.replace(TINY, budget=9)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
            ({"successes": (1, 9)}, "successes must be at most the budget of 8 rollouts, got 9"),
        ],
    )
    def test_settings_that_are_refused(self, refuses, changes, message):
        with refuses(message):
            dataclasses.replace(SMOKE, **changes)
