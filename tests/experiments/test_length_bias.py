"""Which answers a division by the length favours: the expected gradient against every ordered group."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from experiments._shared import EVERY_ESTIMATOR as EVERY
from experiments.exact import length_bias
from maxrl_lab import estimators, exact
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context


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
                "token_mean": sum(lengths[member] for member in group),
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

    def test_drift(self, tmp_path):
        context = Context(torch.device("cpu"), Checkpoint(tmp_path / "checkpoint"), quiet=True)
        settings = replace(length_bias.PRESETS["smoke"], rollouts=8, long=(10, 20, 40))
        rows = pd.DataFrame(length_bias.run(settings, context)["rows"])
        equal = rows[(rows.long == 10) | (rows.surrogate == "sequence_sum")]
        assert equal.drift.abs().max() < 1e-12
        unequal = rows[(rows.long > 10) & (rows.surrogate != "sequence_sum")]
        assert len(unequal) == 3 * 2 * 2
        assert (unequal.drift < 0).all()  # the short answer is favoured, though both are right
        wide = rows.pivot_table(index=["estimator", "surrogate"], columns="long", values="drift")
        assert (wide.drop(index="sequence_sum", level=1).diff(axis=1).iloc[:, 1:] < 0).all(axis=None)
        # the three steps sum to 0, as logits do
        assert (rows.short_step + rows.long_step + rows.wrong_step).abs().max() < 1e-12
