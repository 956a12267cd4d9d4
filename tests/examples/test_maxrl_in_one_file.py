"""The algorithm in one file has the trainer's gradients, the library's exact pass rates, and learns."""

import re
import runpy
from collections import deque
from random import Random
from types import SimpleNamespace

import pytest
import torch
from example_programs import EXAMPLES, printed

from maxrl_lab.randomness import generator
from maxrl_lab.tabular.batch import TabularBatch
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training.methods import Sampled
from maxrl_lab.training.step import run_losses

PROGRAM = EXAMPLES / "maxrl_in_one_file.py"
one_file = SimpleNamespace(**runpy.run_path(str(PROGRAM)))
N, SEED, STEP = 16, 5, 3


@pytest.fixture(scope="module")
def mazes():
    rng = Random(7)
    return torch.tensor([one_file.next_cells(one_file.prim_maze(rng)) for _ in range(3)])


@pytest.fixture(scope="module")
def tasks(mazes):
    """The same mazes as the library's tables."""
    count, cells, _ = mazes.shape
    start, success = (torch.eye(cells)[cell].expand(count, -1) for cell in (one_file.START, one_file.GOAL))
    return TabularTasks(mazes, start.double(), success > 0, torch.zeros(count, cells, dtype=bool), one_file.HORIZON)


def policy_logits(mazes, tasks):
    """Logits that solve some of the mazes now and then: what leads closer to the goal is likelier."""
    closer = tasks.distance.gather(1, mazes.flatten(1)).view(mazes.shape) < tasks.distance[..., None]
    noise = torch.randn(mazes.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (1.2 * closer + 0.3 * noise).requires_grad_()


@pytest.mark.parametrize(("leave_one_out", "estimator"), [(False, "maxrl"), (True, "maxrl_leave_one_out")])
def test_its_gradient_is_the_trainers_for_the_same_random_numbers(mazes, tasks, leave_one_out, estimator):
    logits = policy_logits(mazes, tasks)
    batch = TabularBatch(tasks, logits.log_softmax(-1)[None, None], [SEED], STEP)
    (wanted,) = torch.autograd.grad(run_losses(batch, [Sampled(estimator, N)]).sum(), logits)

    uniforms = torch.rand(one_file.HORIZON, len(mazes), N, generator=generator("rollouts", SEED, STEP, N))
    rewards, log_probs = one_file.roll_out(mazes, logits.log_softmax(-1), uniforms)
    (got,) = torch.autograd.grad(one_file.loss(rewards, log_probs, leave_one_out), logits)

    successes = rewards.sum(-1)
    assert bool(((successes > 0) & (successes < N)).all())  # otherwise the gradient would say little
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_the_switch_changes_the_gradient_where_one_rollout_alone_is_right():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0] * 4, [1.0] * 4])
    # K = 1: N/K - 1 = 3 against N/K = 4, for no OTHER rollout is right; K = 2: 4/2 - 1 = 1 in both; K = 0, K = N: 0
    expected = [[3.0, -1.0, -1.0, -1.0], [1.0, 1.0, -1.0, -1.0], [0.0] * 4, [0.0] * 4]
    assert one_file.advantages(rewards, leave_one_out=False).tolist() == expected
    expected[0] = [4.0, -1.0, -1.0, -1.0]
    assert one_file.advantages(rewards, leave_one_out=True).tolist() == expected


def test_its_pass_rate_is_the_librarys(mazes, tasks):
    log_policy = policy_logits(mazes, tasks).log_softmax(-1).detach()
    wanted = tasks.pass_rate(log_policy)
    assert float(wanted.min()) > 0.01
    torch.testing.assert_close(one_file.pass_rate(mazes, log_policy), wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(5))
def test_its_mazes_are_perfect(seed):
    free = one_file.prim_maze(Random(seed))
    cells = {(row, col) for row in range(one_file.SIZE) for col in range(one_file.SIZE) if free[row][col]}
    rooms = {(row, col) for row in range(1, one_file.SIZE, 2) for col in range(1, one_file.SIZE, 2)}
    reached, queue = {(1, 1)}, deque([(1, 1)])
    while queue:
        row, col = queue.popleft()
        for down, right in one_file.MOVES:
            cell = row + down, col + right
            if cell in cells - reached:
                reached.add(cell)
                queue.append(cell)
    assert rooms <= reached == cells
    assert len(cells) == 2 * len(rooms) - 1  # a tree: one door fewer than rooms, so one way between any two


@pytest.mark.parametrize("switch", [(), ("leave_one_out",)])
def test_it_learns(tmp_path, switch):
    lines = printed(tmp_path, PROGRAM, *switch).splitlines()
    rates = [[float(rate) for rate in re.findall(r" (\d\.\d+)", line)] for line in lines]
    assert len(rates) == 11
    assert max(rates[0]) < 0.01
    assert min(rates[-1]) > 0.9


def test_it_has_at_most_100_lines():
    assert len(PROGRAM.read_text().splitlines()) <= 100
