"""What the token experiments measure, against the trainer's own losses, finite differences, and every group."""

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
from experiments._shared import EVERY_ESTIMATOR as EVERY
from experiments.tokens import coverage, gradient_signal, maze_trajectories
from maxrl_lab.command import main
from maxrl_lab.randomness import generator
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.tokens import study as rooms
from maxrl_lab.tokens.gradients import differentiable
from maxrl_lab.tokens.study import FRESH, Study
from maxrl_lab.tokens.trained import base
from maxrl_lab.tokens.writing import write
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
    seeds=1,
)


@pytest.fixture
def context(tmp_path):
    return Context(torch.device("cpu"), Checkpoint(tmp_path / "checkpoint" / "run"), quiet=True)


class TestGradientSignal:
    def sums(self, context):
        return Study(ModularSum(1, 10), replace(SIGNAL, pretrain_steps=60), context)

    def test_sampled_is_the_norm_of_the_trainers_gradient(self, context):
        """On sums, which a policy that has learnt little solves now and then: the function takes any task."""
        study = self.sums(context)
        policy = base(study, 0)
        problems = study.task.problems(SIGNAL.examples, seed=0, step=FRESH)
        rows = pd.DataFrame(gradient_signal.measure_sampled(study, SIGNAL, context))
        assert len(rows) == SIGNAL.examples * len(EVERY)
        successes = []
        for place in range(SIGNAL.examples):
            problem = problems.select([place])
            prompts, writing = study.prompts(problem), study.writing()

            class OneGroup:
                """The group that was measured, as the trainer would see it."""

                def rollout(self, runs, rollouts, place=place, problem=problem, prompts=prompts, writing=writing):
                    stream = generator("gradient signal", 0, place)
                    written = write(policy, prompts, rollouts, writing, stream)
                    rewards = study.task.verify(problem.content, written.tokens, written.lengths)
                    successes.append(int(rewards.sum()))
                    log_probs, _ = differentiable(policy, prompts, written, writing)
                    return Group(rewards[None], log_probs[None], written.lengths[None])

            for name in EVERY:
                loss = run_losses(OneGroup(), [parse_method(name, SIGNAL.rollouts)]).sum()
                (found,) = rows[(rows.example == place) & (rows.estimator == name)].gradient_norm
                assert found == pytest.approx(float(gradient_of(loss, policy).norm()), rel=1e-4, abs=1e-7)
        assert 0 in successes
        assert any(0 < each < SIGNAL.rollouts for each in successes)
        assert ((rows.gradient_norm > 0).groupby(rows.estimator).sum() > 0).all()

    def test_pass_rates_of_mazes_come_from_other_samples(self, context):
        study = self.sums(context)
        problems = study.task.problems(SIGNAL.examples, seed=0, step=FRESH)
        rows = pd.DataFrame(gradient_signal.measure_sampled(study, replace(SIGNAL, rate_samples=512), context))
        batch = study.batch(base(study, 0), problems, 0, 0)
        rates = batch.log_pass_rate([0])[0].detach().exp().double()
        found = torch.tensor(rows.groupby("example").pass_rate.first().to_numpy())
        # Bonferroni over 6 problems at a family rate of 1e-3: 3.8 standard errors; the seed is fixed
        assert bool(((found - rates).abs() < 3.8 * (rates * (1 - rates) / 512).sqrt()).all())

    def test_exact_is_the_trainers_expected_gradient_and_its_differences(self, context):
        study = self.sums(context)
        rows = pd.DataFrame(gradient_signal.measure_exact(study, SIGNAL, context))
        assert len(rows) == SIGNAL.examples * len(EVERY)
        policy = base(study, 0).double()
        parameters = list(policy.parameters())
        problems = study.task.problems(SIGNAL.sum_examples, seed=0, step=FRESH, distinct=True)
        for place in range(SIGNAL.examples):
            batch = study.batch(policy, problems.select([place]), 0, 0)
            own = rows[rows.example == place].set_index("estimator")
            for name in EVERY:
                expected = gradient_of(run_losses(batch, [Expected(name, 8)]).sum(), policy)
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
        settings = gradient_signal.PRESETS["smoke"]
        tables = {name: pd.DataFrame(rows) for name, rows in gradient_signal.run(settings, context).items()}
        methods, updates = len(settings.estimators), settings.seeds * settings.steps * len(settings.estimators)
        assert {name: len(rows) for name, rows in tables.items()} == {
            "mazes": settings.seeds * settings.examples * methods,
            "sums": settings.sum_examples * methods,
            "sweep": methods,
            "dynamics": updates,
            "timings": updates,
        }
        for name in ("mazes", "sums"):  # pass rates are the prompt's, not the method's
            assert (tables[name].groupby(["seed", "example"]).pass_rate.nunique() == 1).all()


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
        tables = {name: pd.DataFrame(rows) for name, rows in maze_trajectories.run(settings, context).items()}
        mazes, rates, paths = (tables[name] for name in ("mazes", "rates", "paths"))
        assert len(mazes) == settings.mazes
        assert sorted(rates.estimator.unique()) == sorted(["base", *settings.estimators])
        assert len(rates) == settings.mazes * 4
        texts = mazes.set_index("maze").text
        steps = [tuple(move) for move in MOVES]
        for (maze, _, _, success), path in paths.groupby(["maze", "estimator", "path", "success"]):
            cells = path.sort_values("time")[["row", "col"]].astype(int).to_numpy()
            text = texts[maze].split()
            assert tuple(cells[0]) == (1, 1)
            assert all(tuple(move) in steps for move in np.diff(cells, axis=0))
            assert all(text[row][col] != "#" for row, col in cells[:-1])
            assert not success or text[cells[-1][0]][cells[-1][1]] == "G"
        kept = paths.groupby(["maze", "estimator", "success"]).path.nunique()
        assert kept.max() <= settings.kept
        assert len(tables["sweep"]) == len(settings.estimators)


class TestCoverage:
    SETTINGS = replace(coverage.PRESETS["smoke"], estimators=("rloo", "maxrl"))

    def tables(self, context, **changes):
        tables = coverage.run(replace(self.SETTINGS, **changes), context)
        return {name: pd.DataFrame(rows) for name, rows in tables.items()}

    def test_seeds_and_policies(self, context):
        tables = self.tables(context)
        for name in ("coverage", "votes"):
            seeds = tables[name].groupby("estimator").seed.unique().map(list).to_dict()
            assert seeds == {"base": [0, 1], "rloo": [0, 1], "maxrl": [0, 1]}
        assert sorted(tables["coverage"].k.unique()) == [1, 4]
        assert len(tables["coverage"]) == 2 * len(tables["votes"]) == 2 * 3 * 2
        assert list(tables["sweep"].method) == ["rloo", "maxrl"]

    def test_temperature_and_nucleus_reach_the_sampler(self, context, monkeypatch):
        honest, asked = rooms.write, []

        def spy(policy, prompts, rollouts, writing, stream):
            asked.append((rollouts, writing.temperature, writing.top_p))
            return honest(policy, prompts, rollouts, writing, stream)

        self.tables(context)  # trained now, so that what follows only samples
        monkeypatch.setattr(rooms, "write", spy)
        self.tables(context, temperature=0.6, top_p=0.95, coverage_samples=4)
        assert asked[-6:] == [(4, 0.6, 0.95)] * 6
        assert {each[1:] for each in asked[:-6]} <= {(1.0, 1.0)}  # training and its evaluation do not change

    def test_options_are_recorded(self, tmp_path):
        flags = ["--temperature", "0.6", "--top_p", "0.95", "--estimators", "rloo", "--quiet"]
        places = ["--out", str(tmp_path / "rows"), "--pictures", str(tmp_path / "pictures")]
        assert main(["run", "coverage", "--preset", "smoke", *flags, *places]) == 0
        settings = json.loads((tmp_path / "rows/smoke/coverage/settings.json").read_text())["settings"]
        assert (settings["temperature"], settings["top_p"]) == (0.6, 0.95)
