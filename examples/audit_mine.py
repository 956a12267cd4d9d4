"""Which objective does an advantage function of your own optimise, and what goes wrong at its edges?

    python examples/audit_mine.py

The first function divides by the success rate of the whole batch: tasks are pooled, and the audit says that no
objective can be named. The second divides by the success rate of each task's own group, which is all that was meant:
the audit finds an objective, and says at which group sizes the function learns nothing.
"""

from torch import Tensor

from maxrl_lab import audit

ROLLOUTS = 8


def pooled(rewards: Tensor) -> Tensor:
    """Return advantages of rewards (B, N): every group is compared with the mean of the batch."""
    mean = rewards.mean()
    return (rewards - mean) / mean.clamp(min=1e-6)


def by_task(rewards: Tensor) -> Tensor:
    """Return advantages of rewards (B, N): every group is compared with its own mean."""
    mean = rewards.mean(-1, keepdim=True)
    return (rewards - mean) / mean.clamp(min=1e-6)


def main() -> None:
    """Print both reports, and what the second function optimises as a program would ask it."""
    for function in (pooled, by_task):
        print(audit.audit(function, rollouts=ROLLOUTS).text(), end="\n\n")
    report = audit.audit(by_task, rollouts=ROLLOUTS)
    print(f"by_task optimises {report.objective}; is that log p? {report.optimises('maximum_likelihood')}")


if __name__ == "__main__":
    main()
