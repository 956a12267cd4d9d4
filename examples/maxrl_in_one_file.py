"""Maximum likelihood reinforcement learning (MaxRL, arXiv:2602.02710v1) from top to bottom, on four Prim mazes.

    python examples/maxrl_in_one_file.py                  Algorithm 1: on average the truncated series of order N - 1
    python examples/maxrl_in_one_file.py leave_one_out    one comparison less, and it is of order N

Axes: B mazes (tasks), N rollouts of each, H steps, S cells (states), A = 4 moves (actions). Only torch is needed.
"""

import random
import sys

import torch
from torch import Tensor

SIZE, MAZES, HORIZON, ROLLOUTS, UPDATES, LEARNING_RATE = 9, 4, 40, 16, 100, 0.1
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right, as (row, col)
START, GOAL = SIZE + 1, (SIZE - 1) * SIZE - 2  # the cells (1, 1) and (SIZE - 2, SIZE - 2)


def prim_maze(rng: random.Random) -> list[list[bool]]:
    """Return which cells of a perfect maze are free: it grows from one corner through walls chosen at random."""
    free = [[False] * SIZE for _ in range(SIZE)]
    free[1][1] = True
    walls = [(1, 1, down, right) for down, right in MOVES]
    while walls:
        row, col, down, right = walls.pop(rng.randrange(len(walls)))
        to_row, to_col = row + 2 * down, col + 2 * right
        if 0 < to_row < SIZE and 0 < to_col < SIZE and not free[to_row][to_col]:
            free[row + down][col + right] = free[to_row][to_col] = True
            walls += [(to_row, to_col, *move) for move in MOVES]
    return free


def next_cells(free: list[list[bool]]) -> list[list[int]]:
    """Return the maze as a table (S, A): where each move leads from each cell. Who walks into a wall stays."""
    table = [[cell] * len(MOVES) for cell in range(SIZE * SIZE)]
    for row in range(1, SIZE - 1):
        for col in range(1, SIZE - 1):
            for action, (down, right) in enumerate(MOVES):
                if free[row + down][col + right]:
                    table[row * SIZE + col][action] = (row + down) * SIZE + col + right
    return table


def roll_out(mazes: Tensor, log_policy: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Return rewards and log-probabilities, (B, N) each, of rollouts driven by uniform numbers (H, B, N)."""
    thresholds = log_policy.detach().exp().cumsum(-1)[..., :-1]
    maze = torch.arange(len(mazes))[:, None]
    cell, log_probs = torch.full(uniforms.shape[1:], START), torch.zeros(uniforms.shape[1:])
    for uniform in uniforms:
        action = (uniform[..., None] >= thresholds[maze, cell]).sum(-1)
        walking = cell != GOAL
        log_probs = log_probs + walking * log_policy[maze, cell, action]
        cell = torch.where(walking, mazes[maze, cell, action], cell)
    return (cell == GOAL).to(log_policy), log_probs


def advantages(rewards: Tensor, leave_one_out: bool) -> Tensor:
    """Return r_i N/K minus a baseline; K is the number of successes of the task's own group, never of the batch."""
    successes = rewards.sum(-1, keepdim=True)
    seen = successes - rewards if leave_one_out else successes  # of the OTHER rollouts: independent of rollout i
    return rewards * rewards.shape[-1] / successes.clamp(min=1) - (seen >= 1).to(rewards)


def loss(rewards: Tensor, log_probs: Tensor, leave_one_out: bool) -> Tensor:
    """Return -(1/BN) sum A_i log m(z_i): log-probabilities are summed over steps, never averaged."""
    return -(advantages(rewards, leave_one_out) * log_probs).mean()


def pass_rate(mazes: Tensor, log_policy: Tensor) -> Tensor:
    """Return the exact probability (B,) of reaching the goal in H steps, by dynamic programming from the end."""
    value = torch.zeros(mazes.shape[:2], dtype=torch.float64)
    value[:, GOAL] = 1
    for _ in range(HORIZON):
        after = value.gather(1, mazes.flatten(1)).view(mazes.shape)
        value = (log_policy.double().exp() * after).sum(-1)
        value[:, GOAL] = 1
    return value[:, START]


def main(leave_one_out: bool) -> None:
    """Train a table of logits and print the exact pass rates."""
    rng, stream = random.Random(0), torch.Generator().manual_seed(0)
    mazes = torch.tensor([next_cells(prim_maze(rng)) for _ in range(MAZES)])
    logits = torch.zeros(mazes.shape, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=LEARNING_RATE)
    for update in range(UPDATES + 1):
        log_policy = logits.log_softmax(-1)
        if update % (UPDATES // 10) == 0:
            rates = pass_rate(mazes, log_policy.detach())
            print(f"{update:>4} updates: exact pass rates", *(f"{rate:.5f}" for rate in rates.tolist()))
        rewards, log_probs = roll_out(mazes, log_policy, torch.rand(HORIZON, MAZES, ROLLOUTS, generator=stream))
        optimiser.zero_grad()
        loss(rewards, log_probs, leave_one_out).backward()
        optimiser.step()


if __name__ == "__main__":
    main(leave_one_out=sys.argv[1:] == ["leave_one_out"])
