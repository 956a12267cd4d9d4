"""The one container that travels from environments to estimators: B tasks x N rollouts, any leading axes."""

from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from maxrl_lab import estimators
from maxrl_lab.errors import InputError


@dataclass(frozen=True)
class Group:
    """Rollouts of B tasks, N each; a leading axis R stands for runs that are trained together.

    rewards: (..., B, N) in {0, 1}. log_probs: (..., B, N), the log-probability in nats of each whole rollout under the
    policy that drew it, differentiable. lengths: (..., B, N) actions or tokens per rollout, None where all are 1.
    entropies: (..., B, N) entropy in nats of the distribution of every token, summed over the rollout, differentiable;
    None where the family does not give it. greedy: (..., B) bool, whether the likeliest rollout is right, None if
    unknown.

    counts: (..., B, M), how many of the N rollouts each of M entries stands for; the other fields then have M entries
    where they have N above. None where each entry is one rollout. Groups that are far larger than the number of
    different rollouts are cheaper so; the order of the rollouts is lost.
    """

    rewards: Tensor
    log_probs: Tensor
    lengths: Tensor | None = None
    entropies: Tensor | None = None
    greedy: Tensor | None = None
    counts: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the rewards are right-or-wrong and the shapes agree."""
        if self.rewards.ndim < 2:
            raise InputError(f"rewards must have shape (..., B, N), got {tuple(self.rewards.shape)}")
        estimators.check_rewards(self.rewards)
        for name in ("log_probs", "lengths", "entropies", "counts"):
            other = getattr(self, name)
            if other is not None and other.shape != self.rewards.shape:
                raise InputError(
                    f"{name} must have the rewards' shape {tuple(self.rewards.shape)}, got {tuple(other.shape)}"
                )
        if self.counts is not None and (self.counts.sum(-1) != self.rollouts).any():
            raise InputError("counts must add up to the same number of rollouts in every group, got different sums")
        if self.greedy is not None and self.greedy.shape != self.rewards.shape[:-1]:
            wanted, got = tuple(self.rewards.shape[:-1]), tuple(self.greedy.shape)
            raise InputError(f"greedy must have one entry a task, shape {wanted}, got {got}")

    def select(self, runs: slice) -> "Group":
        """Return the groups of some runs, a slice of the first axis."""
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: part[runs] for name, part in parts.items() if part is not None})

    @property
    def rollouts(self) -> int:
        """The number N of rollouts of each task."""
        return self.rewards.shape[-1] if self.counts is None else int(self.counts.flatten(0, -2)[0].sum())


class DivergedError(InputError):
    """The training of run number `run` has diverged: its policy is NaN after `step` updates."""

    def __init__(self, run: int, step: int) -> None:
        super().__init__(f"the policy of run {run} is NaN after {step} updates: it has diverged")
        self.run, self.step = run, step

    def __reduce__(self) -> tuple[type["DivergedError"], tuple[int, int]]:
        """Return what makes an equal error in another process."""
        return DivergedError, (self.run, self.step)
