"""What the token experiments measure, against the trainer's own losses, finite differences, and every group."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_policy import gradient_of
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from envs.gridworld.mazes import MOVES
from envs.modular_sum import ModularSum
from experiments.exact import length_bias
from experiments.tokens import coverage, gradient_signal, maze_trajectories
from maxrl_lab import estimators, exact
from maxrl_lab.command import main
from maxrl_lab.randomness import generator
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import EVERY_ESTIMATOR as EVERY
from maxrl_lab.runs.context import Context
from maxrl_lab.tokens import batch as tokens
from maxrl_lab.tokens.study import FRESH, Workshop
from maxrl_lab.training import methods
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import Expected, parse_method
from maxrl_lab.training.step import run_losses

SIGNAL = replace(
    gradient_signal.PRESETS["smoke"],
    estimators=EVERY,
    rollouts=8,
    examples=6,
    sum_examples=6,
    sum_length=1,
    sum_pretrain_steps=60,
)


@pytest.fixture
def context(tmp_path):
    return Context(torch.device("cpu"), Checkpoint(tmp_path / "checkpoint" / "run"), quiet=True)


class TestGradientSignal:
    def sums(self, context):
        return Workshop(ModularSum(1, 10), replace(SIGNAL, pretrain_steps=60), context)

    def test_sampled_is_the_norm_of_the_trainers_gradient(self, context):
        """On sums, which a policy that has learnt little solves now and then: the function takes any task."""
        shop = self.sums(context)
        policy = shop.base()
        problems = shop.task.problems(SIGNAL.examples, seed=0, step=FRESH)
        rows = pd.DataFrame(gradient_signal._sampled(shop, problems, SIGNAL, context))
        assert len(rows) == SIGNAL.examples * len(EVERY)
        successes = []
        for place in range(SIGNAL.examples):
            problem = problems.select([place])
            prompts, writing = shop.prompts(problem), shop.writing()

            class OneGroup:
                """The group that was measured, as the trainer would see it."""

                def rollout(self, runs, rollouts, place=place, problem=problem, prompts=prompts, writing=writing):
                    stream = generator("gradient signal", place)
                    written = tokens.write(policy, prompts, rollouts, writing, stream)
                    rewards = shop.task.verify(problem.content, written.tokens, written.lengths)
                    successes.append(int(rewards.sum()))
                    log_probs, _ = tokens.differentiable(policy, prompts, written, writing)
                    return Group(rewards[None], log_probs[None], written.lengths[None])

            for name in EVERY:
                loss = run_losses(OneGroup(), [parse_method(name, SIGNAL.rollouts)]).sum()
                (found,) = rows[(rows.example == place) & (rows.estimator == name)].gradient_norm
                assert found == pytest.approx(float(gradient_of(loss, policy).norm()), rel=1e-4, abs=1e-7)
        assert 0 in successes
        assert any(0 < each < SIGNAL.rollouts for each in successes)
        assert ((rows.gradient_norm > 0).groupby(rows.estimator).sum() > 0).all()

    def test_pass_rates_of_mazes_come_from_other_samples(self, context):
        shop = self.sums(context)
        problems = shop.task.problems(SIGNAL.examples, seed=0, step=FRESH)
        rows = pd.DataFrame(gradient_signal._sampled(shop, problems, replace(SIGNAL, rate_samples=512), context))
        batch = shop.batch(shop.base(), problems, 0, 0)
        rates = batch.log_pass_rate([0])[0].detach().exp().double()
        found = torch.tensor(rows.groupby("example").pass_rate.first().to_numpy())
        # Bonferroni over 6 problems at a family rate of 1e-3: 3.8 standard errors; the seed is fixed
        assert bool(((found - rates).abs() < 3.8 * (rates * (1 - rates) / 512).sqrt()).all())

    def test_exact_is_the_trainers_expected_gradient_and_its_differences(self, context):
        shop = self.sums(context)
        rows = pd.DataFrame(gradient_signal._exact(shop, SIGNAL, context))
        assert len(rows) == SIGNAL.examples * len(EVERY)
        policy = shop.base().double()
        parameters = list(policy.parameters())
        problems = shop.task.problems(SIGNAL.sum_examples, seed=0, step=FRESH, distinct=True)
        for place in range(SIGNAL.examples):
            batch = shop.batch(policy, problems.select([place]), 0, 0)
            own = rows[rows.example == place].set_index("estimator")
            for name in EVERY:
                method = Expected(parse_method(name, 8).target, 8)
                expected = gradient_of(methods.exact_loss(batch.log_pass_rate([0]), method).sum(), policy)
                assert own.gradient_norm[name] == pytest.approx(float(expected.norm()), rel=1e-9)
            # RLOO's expected gradient is that of p: along it, p grows by the norm's square
            gradient = gradient_of(batch.log_pass_rate([0]).exp().sum(), policy)
            at, step, rates = parameters_to_vector(parameters).detach(), 1e-5, []
            for sign in (1, -1):
                vector_to_parameters(at + sign * step * gradient, parameters)
                rates.append(float(batch.log_pass_rate([0]).detach().exp()))
            vector_to_parameters(at, parameters)
            slope = (rates[0] - rates[1]) / (2 * step)
            assert own.gradient_norm["rloo"] ** 2 == pytest.approx(slope, rel=1e-6)
            assert own.pass_rate["rloo"] == pytest.approx(sum(rates) / 2, rel=1e-6)

    def test_rows(self, context):
        rows = pd.DataFrame(gradient_signal.run(gradient_signal.PRESETS["smoke"], context))
        settings = gradient_signal.PRESETS["smoke"]
        counts = rows["view"].value_counts()
        assert counts["maze"] == counts["sum"] == settings.examples * len(settings.estimators)
        assert counts["dynamics"] == settings.seeds * settings.steps * len(settings.estimators)
        # a group without success moves no mean-centred estimator, and pass rates are the prompt's, not the method's
        assert (rows[rows["view"] != "dynamics"].groupby(["view", "example"]).pass_rate.nunique() == 1).all()


# A corridor of three cells, then down: S at (1, 1), G at (3, 3).
WALLS = np.array([list(line) for line in ("#####", "#...#", "###.#", "#...#", "#####")]) == "#"


class TestTrajectories:
    @pytest.mark.parametrize(
        ("words", "cells"),
        [
            ("RIGHT RIGHT DOWN DOWN DONE <eos>", [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3)]),
            ("RIGHT LEFT UP RIGHT", [(1, 1), (1, 2), (1, 1), (0, 1)]),  # into the wall, and no further
            ("DOWN DOWN DOWN", [(1, 1), (2, 1)]),
            ("RIGHT DONE RIGHT", [(1, 1), (1, 2)]),
            ("WALL RIGHT", [(1, 1)]),
            ("", [(1, 1)]),
        ],
    )
    def test_walk_by_hand(self, words, cells):
        assert maze_trajectories.walk(WALLS, words.split()) == cells

    @pytest.mark.parametrize(
        ("correct", "count", "places"),
        [
            ((0, 5, 9, 2), 1, [2]),  # the easiest
            ((0, 5, 9, 2), 2, [2, 0]),
            ((0, 5, 9, 2), 4, [2, 1, 3, 0]),
            ((3, 1, 2, 5, 4), 3, [3, 0, 1]),  # 5, the middle one, 1
            ((4, 4, 4), 2, [0, 2]),  # equally easy: in their order
        ],
    )
    def test_spread_by_hand(self, correct, count, places):
        assert maze_trajectories._spread(np.array(correct), count) == places

    def test_paths_are_what_the_policies_wrote(self, context):
        settings = maze_trajectories.PRESETS["smoke"]
        rows = pd.DataFrame(maze_trajectories.run(settings, context))
        mazes, rates = (rows[rows["view"] == view] for view in ("maze", "rate"))
        assert len(mazes) == settings.mazes
        assert sorted(rates.estimator.unique()) == sorted(["base", *settings.estimators])
        assert len(rates) == settings.mazes * 4
        texts = mazes.set_index("maze").text
        steps = [tuple(move) for move in MOVES]
        for (maze, _, _, success), path in rows[rows["view"] == "path"].groupby(
            ["maze", "estimator", "path", "success"]
        ):
            cells = path.sort_values("time")[["row", "col"]].astype(int).to_numpy()
            text = texts[maze].split()
            assert tuple(cells[0]) == (1, 1)
            assert all(tuple(move) in steps for move in np.diff(cells, axis=0))
            assert all(text[row][col] != "#" for row, col in cells[:-1])
            assert not success or text[cells[-1][0]][cells[-1][1]] == "G"
        kept = rows[rows["view"] == "path"].groupby(["maze", "estimator", "success"]).path.nunique()
        assert kept.max() <= settings.kept


class TestCoverage:
    SETTINGS = replace(coverage.PRESETS["smoke"], estimators=("rloo", "maxrl"))

    def rows(self, context, **changes):
        return pd.DataFrame(coverage.run(replace(self.SETTINGS, **changes), context))

    def test_seeds_and_policies(self, context):
        rows = self.rows(context)
        assert rows.groupby("estimator").seed.unique().map(list).to_dict() == {
            "base": [0, 1],
            "rloo": [0, 1],
            "maxrl": [0, 1],
        }
        assert set(rows.samples) == {8}
        assert sorted(rows.k.unique()) == [1, 4]
        trained = rows[rows.estimator != "base"]
        assert (trained.step == self.SETTINGS.steps).all()
        assert (trained.rollouts == 4).all()
        assert rows[rows.estimator == "base"][["method", "rollouts", "learning_rate"]].isna().all(axis=None)

    def test_temperature_and_nucleus_reach_the_sampler(self, context, monkeypatch):
        honest, asked = tokens.write, []

        def spy(policy, prompts, rollouts, writing, stream):
            asked.append((rollouts, writing.temperature, writing.top_p))
            return honest(policy, prompts, rollouts, writing, stream)

        self.rows(context)  # trained now, so that what follows only samples
        monkeypatch.setattr(tokens, "write", spy)
        self.rows(context, temperature=0.6, top_p=0.95, coverage_samples=4)
        assert asked[-6:] == [(4, 0.6, 0.95)] * 6
        assert {each[1:] for each in asked[:-6]} <= {(1.0, 1.0)}  # training and its evaluation do not change

    def test_options_are_recorded(self, tmp_path):
        flags = ["--temperature", "0.6", "--top_p", "0.95", "--estimators", "rloo", "--quiet"]
        places = ["--out", str(tmp_path / "rows"), "--pictures", str(tmp_path / "pictures")]
        assert main(["run", "coverage", "--preset", "smoke", *flags, *places]) == 0
        settings = json.loads((tmp_path / "rows/smoke/coverage/settings.json").read_text())["settings"]
        assert (settings["temperature"], settings["top_p"]) == (0.6, 0.95)


def brute_force(estimator, surrogate, rollouts, lengths):
    """The expected ascent direction, one ordered group and one rollout at a time, with scores written out."""
    probabilities = np.full(3, 1 / 3)
    total = np.zeros(3)
    for group in itertools.product(range(3), repeat=rollouts):
        rewards = torch.tensor([answer != 2 for answer in group])
        advantages = estimators.resolve(estimator, rollouts)(rewards[None].double())[0].tolist()
        estimate = np.zeros(3)
        for answer, advantage in zip(group, advantages, strict=True):
            score = np.eye(3)[answer] - probabilities
            divisor = {
                "rollout_mean": rollouts * lengths[answer],
                "token_mean": sum(lengths[each] for each in group),
                "sequence_sum": rollouts,
            }[surrogate]
            estimate += advantage * score / divisor
        total += np.prod(probabilities[list(group)]) * estimate
    return total


class TestLengthBias:
    @pytest.mark.parametrize("rollouts", [2, 4, 8])
    @pytest.mark.parametrize("name", EVERY)
    def test_the_sum_over_tokens_keeps_the_objective(self, name, rollouts):
        weight = float(exact.weight(name, rollouts=rollouts, pass_rate=2 / 3))
        # p = 2/3 by answers 1/3, 1/3 and 1/3: dp/dlogits = 1/3 (1 - p), 1/3 (1 - p), -1/3 p
        expected = [weight / 9, weight / 9, -2 * weight / 9]
        for lengths in ((10, 10, 10), (10, 80, 3)):
            found = length_bias.expected_gradient(name, "sequence_sum", rollouts, lengths)
            assert found.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)

    @pytest.mark.parametrize("lengths", [(10, 10, 10), (10, 35, 7)])
    @pytest.mark.parametrize("rollouts", [2, 3])
    @pytest.mark.parametrize("surrogate", ["sequence_sum", "token_mean", "rollout_mean"])
    @pytest.mark.parametrize("name", ["rloo", "grpo", "maxrl", "maxrl_leave_one_out"])
    def test_against_every_ordered_group(self, name, surrogate, rollouts, lengths):
        found = length_bias.expected_gradient(name, surrogate, rollouts, lengths)
        assert found.tolist() == pytest.approx(brute_force(name, surrogate, rollouts, lengths).tolist(), abs=1e-14)

    def test_all_groups_by_hand(self):
        drawn, chances = length_bias.every_group(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log(), 2)
        assert drawn.tolist() == [[[0, 0]], [[0, 1]], [[0, 2]], [[1, 1]], [[1, 2]], [[2, 2]]]
        # squares once, mixed pairs in two orders
        assert chances.tolist() == pytest.approx([0.25, 0.3, 0.2, 0.09, 0.12, 0.04])

    def test_drift(self, context):
        settings = replace(length_bias.PRESETS["smoke"], rollouts=8, long=(10, 20, 40))
        rows = pd.DataFrame(length_bias.run(settings, context))
        equal = rows[(rows.long == 10) | (rows.surrogate == "sequence_sum")]
        assert equal.drift.abs().max() < 1e-12
        unequal = rows[(rows.long > 10) & (rows.surrogate != "sequence_sum")]
        assert len(unequal) == 3 * 2 * 2
        assert (unequal.drift < 0).all()  # the short answer is favoured, though both are right
        wide = rows.pivot_table(index=["estimator", "surrogate"], columns="long", values="drift")
        assert (wide.drop(index="sequence_sum", level=1).diff(axis=1).iloc[:, 1:] < 0).all(axis=None)
        # the three steps sum to 0, as logits do
        assert (rows.short_step + rows.long_step + rows.wrong_step).abs().max() < 1e-12
