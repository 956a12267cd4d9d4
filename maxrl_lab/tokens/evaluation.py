"""Samples of every held-out problem, and what they say: unbiased pass@k, and majority votes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maxrl_lab import evaluate
from maxrl_lab.rows import Row
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.tasks import Problems, TokenTask

KS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048)
"""k of the evaluations, as far as there are samples."""


@dataclass(frozen=True)
class Evaluation:
    """Samples of every held-out problem."""

    problems: Problems
    written: Answers
    right: Tensor
    """(B, n) bool."""

    @property
    def correct(self) -> Tensor:
        """(B,) right answers of each problem."""
        return self.right.sum(1)

    def rows(self, task: TokenTask) -> list[Row]:
        """Return the unbiased mean pass@k of each of `KS` that the samples allow, and the share of right votes."""
        samples = self.right.shape[1]
        ks = [k for k in KS if k <= samples]
        values = evaluate.coverage(self.correct, samples, ks).tolist()
        head = {"samples": samples, "majority": self.majority(task)}
        return [{**head, "k": k, "pass_at_k": value} for k, value in zip(ks, values, strict=True)]

    def majority(self, task: TokenTask) -> float:
        """Share of problems whose most frequent decoded answer is right; of equally frequent ones the first drawn."""
        decoded = task.decoded(self.problems.content, self.written.tokens, self.written.lengths)
        votes = evaluate.majority_vote(decoded)
        chosen = [row.index(vote) for row, vote in zip(decoded, votes, strict=True)]
        return float(self.right[torch.arange(len(chosen)), torch.tensor(chosen)].double().mean())
