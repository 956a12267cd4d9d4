"""What the sections of `benchmarks.gpu` share: their sizes, the time and memory they have, the paper's step.

What is not torch's is imported when it is used, so that a section which lacks something does not stop the others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maxrl_lab.policies.transformer import PAPER_MAZE, Shape, Transformer
from maxrl_lab.rows import Row

NEVER = 32
"""An end token outside the vocabulary: every answer gets its full length."""


@dataclass(frozen=True)
class Sizes:
    """How much is timed."""

    matrix: int
    """Rows and columns of the matrices whose product gives the card's speed."""
    maze: int
    """Number of cells along a side of the mazes of the step."""
    shape: Shape
    """The policy of the step."""
    prompts: tuple[int, ...]
    """Numbers of prompts of the step; the last is the paper's."""
    rollouts: int
    """Number N of answers of each prompt of the step."""
    small_prompts: int
    """Number of prompts of the step of the small policy that the pages show."""
    small_rollouts: tuple[int, ...]
    """Numbers N of answers of each of these prompts."""
    table_rollouts: tuple[int, ...]
    """Numbers N of rollouts of each of 32 table levels."""
    preset: str
    """Preset of maze_scaling."""
    training_rollouts: int
    """Number N of its updates."""
    learning_rate: float
    """Learning rate of its updates."""
    samples: int
    """Number of answers to each held-out maze, before and after."""
    most_updates: int
    """Largest number of its updates."""
    small_preset: str
    """Preset of maze_scaling in which float32 and bfloat16 learn."""
    small_learning_rate: float
    """Learning rate of their updates."""
    paired_updates: int
    """Largest number of updates of each of the two."""
    pairs: int
    """Largest number of pairs, each with training problems and random numbers of its own."""


FULL = Sizes(
    *(8192, 17, PAPER_MAZE, (16, 256), 128, 64, (4, 16, 64), (64, 4096, 32_768)),
    *("full", 16, 1e-4, 64, 9000, "standard", 3e-4, 100, 8),
)
TINY_SHAPE = Shape(width=16, layers=1, heads=2, kv_heads=1, mlp=16)
TINY = Sizes(64, 5, TINY_SHAPE, (2, 4), 4, 2, (2,), (8, 16), "smoke", 4, 1e-3, 8, 2, "smoke", 1e-3, 2, 2)


@dataclass(frozen=True)
class Work:
    """What a section is given."""

    sizes: Sizes
    device: torch.device
    end: float
    """When it should be over, on the monotonic clock."""
    record: Row
    """The results so far."""

    @property
    def left(self) -> float:
        """Seconds that are left for the section."""
        return self.end - time.monotonic()

    @property
    def memory(self) -> float:
        """GiB that activations may take: 32, or half of what is free on a smaller card."""
        return min(32.0, 0.5 * torch.cuda.mem_get_info(self.device)[0] / 2**30) if self.device.type == "cuda" else 0.5

    def seconds(self, function: Callable[[], object]) -> float:
        """Return the seconds that a function takes, all work on the card included."""
        self._wait()
        start = time.perf_counter()
        function()
        self._wait()
        return time.perf_counter() - start

    def median(self, function: Callable[[], object], rounds: int = 5) -> float:
        """Return the median of some rounds after the first, fewer if time is short."""
        times = [self.seconds(function)]
        while len(times) < rounds + 1 and self.left > 2 * times[-1]:
            times.append(self.seconds(function))
        times = sorted(times[1:] or times)
        return times[len(times) // 2]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def small(work: Work, device: torch.device) -> Work:
    """Return the same work on 9x9 mazes, with the policy of the runs that the pages show, on a device."""
    from maxrl_lab.tokens.settings import Policy

    sizes = work.sizes
    shape = Policy().shape(sizes.shape.vocabulary, sizes.shape.context)
    return replace(work, sizes=replace(sizes, maze=min(sizes.maze, 9), shape=shape), device=device)


class Step:
    """The paper's step on mazes: a policy of random weights whose answers all have their full length."""

    def __init__(
        self, work: Work, prompts: int, rollouts: int, answer: int | None = None, precision: str = "float32"
    ) -> None:
        from envs.maze import Maze
        from maxrl_lab.tokens.writing import Prompts, Writing
        from maxrl_lab.training import fit

        task = Maze(work.sizes.maze)
        problems = task.problems(prompts)
        torch.manual_seed(0)
        self.policy = Transformer(work.sizes.shape).to(work.device)
        self.prompts = Prompts(problems.prompts.to(work.device), problems.lengths.to(work.device))
        self.rollouts, self.answer = rollouts, answer or task.answer_length
        self.writing = Writing(self.answer, NEVER, memory=work.memory, precision=precision)
        optimisation = fit.Optimisation(steps=1, optimiser="adamw")
        self.optimiser = fit.make_optimiser(optimisation, [self.policy], [1e-4])

    def write(self) -> Any:
        """Return sampled answers, `Answers` of shape (prompts, N, T)."""
        from maxrl_lab.tokens.writing import write

        stream = torch.Generator(self.prompts.tokens.device).manual_seed(0)
        return write(self.policy, self.prompts, self.rollouts, self.writing, stream)

    def update(self) -> None:
        """Sample answers, verify them, take the gradient and one step of AdamW."""
        from maxrl_lab.tokens.batch import TokenBatch
        from maxrl_lab.training.methods import Sampled
        from maxrl_lab.training.step import run_losses, take_step

        batch = TokenBatch(self.policy, self.prompts, odd, self.writing, 0, 0)
        take_step(run_losses(batch, [Sampled("maxrl", self.rollouts)]), self.optimiser)

    @property
    def flops(self) -> float:
        """Floating-point operations of the model in one update.

        Prompts and answers are read forward once when they are sampled, and forward and backward, three times as much,
        for the gradient. A token costs two a weight, and four a layer, a number of the width and a token it sees.
        """
        count, prompt = self.prompts.tokens.shape
        shape = self.policy.shape
        weights = sum(parameter.numel() for parameter in self.policy.parameters() if parameter.ndim == 2)
        seen = 4 * shape.layers * shape.width
        read = count * prompt * (2 * weights + seen * prompt / 2)
        written = count * self.rollouts * self.answer * (2 * weights + seen * (prompt + self.answer / 2))
        return 4 * (read + written)

    @property
    def bytes_sampling(self) -> float:
        """Bytes that sampling must move: at each of T tokens all weights, and the keys and values of what it sees.

        The answers of a prompt share the prompt's keys and values.
        """
        count, prompt = self.prompts.tokens.shape
        shape, size = self.policy.shape, 2 if self.writing.precision == "bfloat16" else 4
        weights = sum(parameter.numel() for parameter in self.policy.parameters())
        a_token = 2 * shape.layers * shape.kv_heads * (shape.width // shape.heads)
        seen = count * (prompt + self.rollouts * self.answer / 2) * a_token
        return size * self.answer * (weights + seen)


def levels(work: Work) -> Any:
    """Return 32 mazes as tables, on the device."""
    from envs.gridworld.levels import make_levels
    from envs.gridworld.tables import tasks

    return tasks(make_levels("prim", 9, count=32), horizon=60, radius=None).to(work.device)


def odd(written: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG001
    """Return a reward that random answers get half of the time, so that every answer has a gradient."""
    return written.sum(-1) % 2 == 1


class arithmetic:  # noqa: N801
    """While it is open, products of float32 matrices on a GPU may round their factors to TF32, or may not."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled

    def __enter__(self) -> None:
        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.enabled else "highest")

    def __exit__(self, *error: object) -> None:
        torch.set_float32_matmul_precision(self.before)
