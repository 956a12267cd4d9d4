"""Samples of held-out problems, and what they say: unbiased pass@k, and majority votes."""

from dataclasses import dataclass

from torch import Tensor

from maxrl_lab import evaluate
from maxrl_lab.rows import Row
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.tasks import Problems, TokenTask

KS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048)
"""The values of k at which pass@k is evaluated, of which those above the number of samples are left out."""


@dataclass(frozen=True)
class Evaluation:
    """Samples of B problems, n of each."""

    problems: Problems
    written: Answers
    right: Tensor
    """Which samples are right, (B, n) bool."""

    @property
    def correct(self) -> Tensor:
        """The number of right answers to each problem, (B,)."""
        return self.right.sum(1)

    @property
    def samples(self) -> int:
        """The number n of samples of each problem."""
        return self.right.shape[1]

    def coverage(self) -> list[Row]:
        """Return the unbiased mean pass@k for each of `KS` that the samples allow."""
        ks = [k for k in KS if k <= self.samples]
        values = evaluate.coverage(self.correct, self.samples, ks).tolist()
        return [{"k": k, "pass_at_k": value} for k, value in zip(ks, values, strict=True)]

    def majority(self, task: TokenTask) -> float:
        """Return the share of problems whose majority vote is right.

        The vote is the most frequent decoded answer, of equally frequent ones the one sampled first. An answer that was
        cut off, or from which the task reads none, is no candidate; a problem with no candidate counts as wrong.
        """
        decoded = task.decoded(self.problems.content, self.written.tokens, self.written.lengths)
        votes = evaluate.majority_right(decoded, self.right)
        return sum(votes) / len(votes)
