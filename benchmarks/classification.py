"""What does batching buy? One program of many runs against the same runs one by one, and exact weights against scipy.

    python -m benchmarks.classification        (about a minute)

Both sides run in this process, interleaved, on the same threads; medians of several rounds. Only ratios count.
"""

from collections.abc import Sequence

import torch
from scipy import stats

from benchmarks.record import Record, Side
from benchmarks.timing import middle, profile_of_operations
from envs.digits import CLASSES, PIXELS, three_digits
from maxrl_lab import exact
from maxrl_lab.classification import ClassificationBatch
from maxrl_lab.policies.stack import Stack, mlp, seeded
from maxrl_lab.randomness import generator
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Exact, Method, Sampled
from maxrl_lab.training.step import run_losses, take_step

STEPS = 5
METHODS: list[Method] = [
    Exact("maximum_likelihood"),
    *(Sampled(name, 16) for name in ("rloo", "grpo", "maxrl")),
]
SWEEPS = ((5, 128, 128), (5, 32, 32), (25, 32, 32))
"""Copies of the methods, hidden units, and images in a batch."""


def main(
    sweeps: Sequence[tuple[int, int, int]] = SWEEPS, rollouts: int = 1024, rounds: int = 5, record: Record | None = None
) -> None:
    """Print a line per comparison, and record it."""
    record = record or Record()
    record.begin("classification")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for copies, hidden, batch in sweeps:
        _compare_sweep(METHODS * copies, hidden, batch, rounds, record)
    p = torch.logspace(-9, 0, 1000, dtype=torch.float64)
    sides = {
        "lab": Side(lambda: exact.weight("maxrl", rollouts=rollouts, pass_rate=p)),
        "scipy's binomial": Side(lambda: _scipy_weight(rollouts, p), base="lab"),
    }
    title = f"w_N(p) at 1000 pass rates, N = {rollouts}"
    seconds = middle(record.compare("classification", title, sides, rounds, profile=profile_of_operations))
    lab, scipy = seconds.values()
    print(f"w_N(p) at 1000 p, N = {rollouts}: lab {lab:.3f} s, scipy's binomial {scipy:.3f} s, {scipy / lab:.1f}x")


def _compare_sweep(methods: list[Method], hidden: int, batch: int, rounds: int, record: Record) -> None:
    sides = {
        "together": Side(lambda: _train(methods, hidden, batch)),
        "one by one": Side(lambda: [_train([method], hidden, batch) for method in methods], base="together"),
    }
    label = f"{len(methods)} runs of {hidden} hidden units, batch {batch}, {STEPS} steps"
    seconds = middle(record.compare("classification", label, sides, rounds, profile=profile_of_operations))
    together, alone = seconds["together"], seconds["one by one"]
    print(f"{label}: together {together:.3f} s, one by one {alone:.3f} s, {alone / together:.1f}x")


def _train(methods: list[Method], hidden: int, batch: int) -> None:
    """Take a few steps of every method, in one stack."""
    runs, data = len(methods), three_digits("train")
    stack = Stack([seeded(lambda: mlp([PIXELS, hidden, CLASSES]), 0) for _ in methods])
    optimiser = fit.make_optimiser(fit.Optimisation(steps=STEPS, momentum=0.9), stack.networks, [0.1] * runs)
    for step in range(STEPS):
        pixels, labels = data.sample(batch, generator("images", step))
        log_probs = stack(pixels.expand(runs, -1, -1)).log_softmax(-1)
        tasks = ClassificationBatch(log_probs, labels.expand(runs, -1), [0] * runs, step)
        take_step(run_losses(tasks, methods), optimiser)


def _scipy_weight(rollouts: int, pass_rate: torch.Tensor) -> torch.Tensor:
    success, failure = exact.coefficients("maxrl", rollouts=rollouts)
    others = torch.arange(rollouts).numpy()  # successes among the other N - 1 rollouts
    mass = stats.binom.pmf(others, rollouts - 1, pass_rate.numpy()[:, None])
    return torch.from_numpy(mass) @ (success[1:] - failure[:-1])


if __name__ == "__main__":
    main()
