"""The experiment `feedback`: its worlds, its policies, and what its rows promise at any size."""

from itertools import product

import pandas as pd
import pytest
import torch
from panels import drawn, line_called, panel, smoke_tables

from experiments.feedback import _answers, _pairs, feedback
from experiments.feedback._answers import Answers, Trial, World, Writers
from experiments.feedback._pairs import Pairs
from experiments.feedback.claims import feedback as judged
from figures.feedback import feedback as figure
from maxrl_lab.errors import InputError

SMALL = Answers(prompts=2, digits=3, length=2, width=5, rounds=3, answers=4, coin_steps=1, coin_batch=8)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return smoke_tables(feedback, tmp_path_factory.mktemp("feedback"), processes=1)


class TestPairs:
    def test_mazes_end_dead_and_rollouts_go_on_at_the_goal(self):
        settings = Pairs(size=7, distance=5, horizon=10, mazes=2)
        tables, mazes = _pairs.worlds(settings, 2)
        for index, maze in enumerate(mazes):
            model = maze.model
            leaving = 1 - model.transitions[maze.goal, :, maze.goal]
            assert (leaving > 0.01).all()
            assert ((model.transitions.sum(1)[maze.goal] > 0).sum() == 2).item()  # itself, and one neighbour
            # reaching the goal in time is at least as likely as standing on it at the end
            uniform = torch.full((1, *tables.shape[1:]), 0.25, dtype=torch.float64).log()
            assert float(model.uniform_features()[maze.goal]) < float(tables.select([index]).pass_rate(uniform))

    def test_sweep_mazes_are_others(self):
        settings = Pairs(size=7, distance=5, horizon=10)
        first, _ = _pairs.worlds(settings, 2)
        both, _ = _pairs.worlds(settings, 3)
        later, _ = _pairs.worlds(settings, 1, skip=2)
        assert torch.equal(both.successors[:2], first.successors)
        assert torch.equal(both.successors[2:], later.successors)

    def test_wins_are_counted(self):
        wins = _pairs._wins(torch.tensor([[[0, 1], [0, 1], [2, 0]]]), 3)
        assert wins.tolist() == [[[0, 2, 0], [0, 0, 0], [1, 0, 0]]]
        assert _pairs.powers(10) == [1, 2, 4, 8, 10]
        assert _pairs.powers(8) == [1, 2, 4, 8]

    def test_the_regret_bound_holds_in_every_row(self, smoke):
        rows = smoke[0]["pairs"].dropna(subset=["bound"])
        assert len(rows) > 50
        assert (rows.regret >= -1e-9).all()
        assert (rows.regret <= rows.bound + 1e-9).all()

    def test_bad_settings_are_refused(self):
        with pytest.raises(InputError, match="within the horizon of 20 steps, got 30"):
            Pairs(distance=30)
        with pytest.raises(InputError, match=r"scales must be positive and finite, got -1"):
            Pairs(scales=(-1.0,))


class TestAnswers:
    def test_right_answers_share_a_prefix_or_nothing(self):
        for verifier in _answers.VERIFIERS:
            right = World(SMALL, verifier).right(0)
            assert right.sum(-1).tolist() == [3, 3]
        prefixes = World(SMALL, "prefix").right(1).nonzero()[:, 1] // 3
        assert prefixes.view(2, 3).eq(prefixes.view(2, 3)[:, :1]).all()

    def test_probabilities_are_products_over_the_digits(self):
        world = World(SMALL, "flat")
        writers = Writers(world.rows.shape[-1], SMALL, [0, 3])
        log_probs = world.log_probs(writers)
        assert torch.allclose(log_probs.exp().sum(-1), torch.ones(2, 2), atol=1e-5)
        for prompt, (index, digits) in product(range(2), enumerate(product(range(3), repeat=2))):
            total = torch.zeros(2)
            for depth, digit in enumerate(digits):
                row = torch.zeros(1, 2 + 6)
                row[0, prompt] = 1
                for place_before, known in enumerate(digits[:depth]):
                    row[0, 2 + 3 * place_before + known] = 1
                total = total + writers.logits(row).log_softmax(-1)[:, 0, digit]
            assert torch.allclose(log_probs[:, prompt, index], total, atol=1e-5)

    def test_the_step_is_adam_at_a_rate_of_each_run(self):
        writers = Writers(4, SMALL, [0, 1])
        copies = [parameter.detach().clone().requires_grad_() for parameter in writers.parameters]
        optimiser = torch.optim.Adam(copies, 0.02)
        rows, before = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), copies[0].detach().clone()
        for _ in range(3):
            writers.step(
                writers.logits(rows).square().sum((1, 2)), torch.tensor([0.02, 0.02]), torch.tensor([True, False])
            )
            optimiser.zero_grad()
            first = torch.baddbmm(copies[3], rows.expand(2, -1, -1), copies[0]).relu()
            hidden = torch.baddbmm(copies[4], first, copies[1]).relu()
            torch.baddbmm(copies[5], hidden, copies[2]).square().sum().backward()
            optimiser.step()
        for ours, theirs in zip(writers.parameters, copies, strict=True):
            assert torch.allclose(ours[0], theirs[0], atol=1e-6)
        assert torch.equal(writers.parameters[0][1].detach(), before[1])  # a run that is not active stays
        assert not torch.equal(writers.parameters[0][0].detach(), before[0])

    def test_runs_do_not_depend_on_their_neighbours(self):
        world = World(SMALL, "prefix")
        trials = [Trial("dpo", 0.01, 0.0, 0), Trial("copo_exact", 0.01, 0.3, 0), Trial("maxrl", 0.01, 0.0, 1)]
        together = pd.DataFrame(_answers._Training(world, trials).run(3)["answers"])
        for trial in trials:
            alone = pd.DataFrame(_answers._Training(world, [trial]).run(3)["answers"])
            same = together[(together.method == trial.method)]
            assert alone.pass_rate.tolist() == pytest.approx(same.pass_rate.tolist(), abs=1e-5)
            assert alone.coverage.tolist() == pytest.approx(same.coverage.tolist(), abs=1e-5)

    def test_too_many_answers_are_refused(self):
        with pytest.raises(InputError, match="10 digits and length 4 make 10000 answers, at most 4096"):
            Answers(digits=10, length=4)


class TestRows:
    def test_rates_are_probabilities_and_coverage_grows(self, smoke):
        tables, _ = smoke
        for name in ("pairs", "answers", "demonstrations"):
            assert tables[name].pass_rate.between(0, 1 + 1e-9).all()
        rows = tables["answers"].sort_values("round")
        keys = ["verifier", "method", "alpha", "seed"]
        assert (rows.groupby(keys).coverage.diff().dropna() >= -1e-9).all()

    def test_a_second_run_gives_the_same_rows(self, smoke, tmp_path):
        tables, settings = smoke
        again = pd.DataFrame(_pairs.rows_of_scale(settings, 4.0))
        first = tables["pairs"][tables["pairs"].scale == 4.0]
        first = first[first.model == "exact"].reset_index(drop=True)
        assert first.pass_rate.tolist() == pytest.approx(again.pass_rate.tolist())

    def test_labels_that_are_needed(self):
        rows = pd.DataFrame(
            [
                {"seed": seed, "labels": labels, "pass_rate": rate}
                for seed, rates in enumerate([(0.9, 0.2, 0.7), (0.1, 0.6, 0.5), (0.9, 0.9, 0.4)])
                for labels, rate in zip((1, 2, 4), rates, strict=True)
            ]
        )
        assert judged._needed(rows).tolist() == [4, 2, 8]

    def test_the_picture_shows_the_rows(self, smoke):
        tables, settings = smoke
        made = figure.plot(tables, settings)
        drawn(made)
        rows = tables["pairs"]
        shown = line_called(panel(made, "scale s = 4"), "pairs designed before labels")
        wanted = rows[(rows.method == "designed") & (rows.model == "exact")].groupby("labels").pass_rate.mean()
        assert shown.get_ydata().tolist() == pytest.approx(wanted.tolist())
        assert len(figure.summarise(tables, settings)) > 20
