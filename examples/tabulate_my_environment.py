"""How noisy is an estimator on an environment of your own, without sampling a single rollout?

    python examples/tabulate_my_environment.py

`tabulate` runs copies of a Gymnasium environment until it knows every state. On the table that it returns, the pass
rate of a policy, the mean of an estimator's gradient and its variance are exact. The last line compares the exact pass
rate with the share of successes among sampled rollouts.
"""

from typing import Any

import gymnasium
import torch
from gymnasium import spaces

from maxrl_lab import exact
from maxrl_lab.tabular.tabulating import tabulate


class River(gymnasium.Env[Any, Any]):
    """Eight stones in a row: step back, step ahead or jump over one. Two stones are loose, and the last is the bank."""

    observation_space, action_space = spaces.Discrete(8), spaces.Discrete(3)
    loose, bank = (2, 5), 7

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Stand on the first stone."""
        super().reset(seed=seed, options=options)
        self.stone = 0
        return self.stone, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Move; the episode ends in the water with reward 0 or on the bank with reward 1."""
        self.stone = min(self.bank, max(0, self.stone + (-1, 1, 2)[action]))
        ended = self.stone in self.loose or self.stone == self.bank
        return self.stone, float(self.stone == self.bank), ended, False, {}


def main() -> None:
    """Print what four estimators do to a policy that acts at random."""
    tasks = tabulate(River(), horizon=12, key=lambda river: river.stone)
    log_policy = torch.zeros(tasks.shape).log_softmax(-1)
    moments = tasks.moments(log_policy)
    pass_rate = float(moments.pass_rate)
    print(f"{tasks}: a random policy crosses with probability {pass_rate:.6f}\n")
    print(f"{'N = 8 rollouts':<22}{'weight w_N(p)':>14}{'noise / signal':>16}")
    for name in ("rloo", "grpo", "maxrl", "maxrl_leave_one_out"):
        weight = float(exact.weight(name, rollouts=8, pass_rate=pass_rate))
        variance = float(exact.variance(name, rollouts=8, **moments._asdict()))
        signal = weight * float(moments.gradient_norm_squared) ** 0.5
        print(f"{name:<22}{weight:>14.4f}{variance**0.5 / signal:>16.2f}")
    sampled = tasks.rollout(log_policy, 100_000, torch.Generator().manual_seed(0)).rewards.double().mean()
    print(f"\n100,000 sampled rollouts: {float(sampled):.4f} crossed")


if __name__ == "__main__":
    main()
