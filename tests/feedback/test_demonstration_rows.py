"""The rows of demonstrations: which there are, what they say of each other, and the claims they make."""

import pandas as pd
import pytest
import torch

from experiments.feedback import _demonstrations as demos
from experiments.feedback.claims._demonstrations import demonstration_claims
from maxrl_lab.tabular.transitions import dense_transitions


@pytest.fixture(scope="module")
def rows():
    return pd.DataFrame(demos.panel_rows(2, (30, 300), (0.0, 16.0), updates=3))


def test_mazes_are_the_levels_without_walls():
    truth = demos.mazes(3)
    assert truth.shape == (3, 31, 4)
    assert truth.success.sum(1).tolist() == [1, 1, 1]
    assert truth.distance.isfinite().all()
    assert torch.allclose(dense_transitions(truth).sum(-1), torch.ones(3, 31, 4, dtype=torch.float64))
    assert truth.start.count_nonzero(1).tolist() == [30] * 3
    assert demos.mazes(3, single_start=True).start.count_nonzero(1).tolist() == [1] * 3
    assert (truth.pass_rate(demos.expert(truth)) > 0.98).all()


def test_landmarks_are_the_goal_and_other_cells():
    truth = demos.mazes(3)
    cells = demos.landmark_cells(truth)
    assert cells.sum(1).eq(1).all()
    assert cells.sum(2).amax() == 1
    assert torch.equal(cells[..., 0].bool(), truth.success)


def test_every_method_has_its_rows(rows):
    keys = ["method", "penalty", "reward", "weight_decay", "start", "transitions"]
    assert rows.groupby(keys, dropna=False).seed.apply(list).map(lambda seeds: seeds == [0, 1]).all()
    assert rows.groupby("method").size().to_dict() == {
        "bc": 2 * 2 * 2,
        "expert": 2 * 2 * 2,
        "maxrl_model": 2 * 2,
        "maxrl_world": 3 * 2,  # updates 1, 2 and 3
        "ml_irl": 2 * 2 * 2 * 4 * 2,  # starts, numbers of transitions, penalties, rewards, seeds
    }
    assert rows.pass_rate.between(0, 1).all()
    assert rows.believed.isna().eq(rows.method.isin(["bc", "expert", "maxrl_world"])).all()


def test_a_step_in_the_world_is_counted(rows):
    steps = sorted(rows[rows.method == "maxrl_world"].transitions.unique())
    assert len(steps) == 3
    assert 0 < steps[0] <= demos.ROLLOUTS * demos.HORIZON
    assert steps[2] <= 3 * demos.ROLLOUTS * demos.HORIZON


def test_claims_are_made_of_the_rows(rows):
    made = demonstration_claims(rows)
    assert len({claim.name for claim in made}) == len(made) == 7
    gain = made[0]
    chosen = rows[(rows.reward == "landmarks") & (rows.weight_decay == demos.WEIGHT_DECAY) & (rows.start == "every")]
    table = chosen[chosen.transitions == 30].pivot(index="seed", columns="penalty", values="pass_rate")
    assert gain.estimate == pytest.approx((table[16.0] - table[0.0]).mean())
    assert demonstration_claims(rows[rows.penalty != 16.0]) == []
