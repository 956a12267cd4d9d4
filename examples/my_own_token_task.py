"""How is a token task of your own trained, from its rules to the updates?

    python examples/my_own_token_task.py

A task is a vocabulary and three short functions. A random transformer writes `seven <eos>` or anything else; only the
verifier knows what is right, and no solution is shown. The pass rate that is printed is exact: on so short answers the
policy's every answer can be enumerated.
"""

import numpy as np
import torch

from maxrl_lab.policies.stack import seeded
from maxrl_lab.policies.transformer import Shape, Transformer
from maxrl_lab.tokens.batch import TokenBatch
from maxrl_lab.tokens.decoding import Vocabulary
from maxrl_lab.tokens.simple import SimpleTask
from maxrl_lab.tokens.tasks import Problems
from maxrl_lab.tokens.writing import Prompts, Writing
from maxrl_lab.training.methods import Sampled
from maxrl_lab.training.step import run_losses, take_step


class Larger(SimpleTask):
    """Say which of two digits is larger."""

    name = "larger"
    vocabulary = Vocabulary.of("0 1 2 3 4 5 6 7 8 9 =")
    answer_length = 2  # a digit and <eos>

    def sample_one(self, random: np.random.Generator) -> tuple[int, int]:
        """Return two digits."""
        return tuple(random.integers(0, 10, 2).tolist())

    def prompt(self, problem: tuple[int, int]) -> list[str]:
        """Return the prompt's words, such as `3 7 =`."""
        return [*map(str, problem), "="]

    def is_right(self, problem: tuple[int, int], answer: list[str]) -> bool:
        """Accept the larger digit and nothing else."""
        return answer == [str(max(problem))]


def main(updates: int = 100) -> None:
    """Train with MaxRL in its leave-one-out form; print the exact pass rate on held-out problems."""
    task, method = Larger(), Sampled("maxrl_leave_one_out", rollouts=64)
    shape = Shape(vocabulary=len(task.vocabulary), context=8, width=32, layers=2, heads=2, mlp=64)
    policy = seeded(lambda: Transformer(shape), 0)
    optimiser = torch.optim.Adam(policy.parameters(), lr=0.003)

    def batch(problems: Problems, step: int) -> TokenBatch:
        return TokenBatch(
            policy,
            Prompts(problems.prompts, problems.lengths),
            lambda answers, lengths: task.verify(problems.content, answers, lengths),
            Writing(task.answer_length),
            seed=0,
            step=step,
        )

    held_out = task.problems(20, split="test", distinct=True)
    for step in range(updates + 1):
        if step % (updates // 5) == 0:
            with torch.no_grad():
                pass_rate = batch(held_out, step).log_pass_rate([0]).exp().mean()
            print(f"after {step:>3} updates: pass@1 {float(pass_rate):.4f} on {len(held_out)} held-out problems")
        take_step(run_losses(batch(task.problems(16, step=step), step), [method]), optimiser)


if __name__ == "__main__":
    main()
