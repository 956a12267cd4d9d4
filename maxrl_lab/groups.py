"""The one container that travels from environments to estimators: B tasks x N rollouts, any leading axes."""

from dataclasses import dataclass

from torch import Tensor

from maxrl_lab import estimators


@dataclass(frozen=True)
class Group:
    """Rollouts of B tasks, N each; a leading axis R stands for runs that are trained together.

    rewards: (..., B, N) in {0, 1}. log_probs: (..., B, N), the log-probability in nats of each whole rollout under the
    policy that drew it, differentiable. lengths: (..., B, N) actions or tokens per rollout, None where all are 1.
    """

    rewards: Tensor
    log_probs: Tensor
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the rewards are right-or-wrong and the shapes agree."""
        if self.rewards.ndim < 2:
            raise ValueError(f"rewards must have shape (..., B, N), got {tuple(self.rewards.shape)}")
        estimators.check_rewards(self.rewards)
        for name, other in (("log_probs", self.log_probs), ("lengths", self.lengths)):
            if other is not None and other.shape != self.rewards.shape:
                raise ValueError(
                    f"{name} must have the rewards' shape {tuple(self.rewards.shape)}, got {tuple(other.shape)}"
                )

    @property
    def rollouts(self) -> int:
        """N."""
        return self.rewards.shape[-1]
