"""Tasks told one problem at a time, in plain words: a class with a vocabulary and three short functions.

    class Parity(SimpleTask):
        name = "parity"
        vocabulary = Vocabulary.of("0 1 = even odd")
        answer_length = 2  # tokens of the longest answer, <eos> included

        def sample_one(self, random):
            return tuple(random.integers(0, 2, 6).tolist())

        def prompt(self, problem):
            return [*map(str, problem), "="]

        def is_right(self, problem, answer):
            return answer == ["odd" if sum(problem) % 2 else "even"]

        def solution(self, problem, random):  # optional: for supervised pretraining
            return ["odd" if sum(problem) % 2 else "even"]

Axes: B problems, N answers of each, P and T tokens of the longest prompt and answer.
"""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.tokens.decoding import BOS, EOS, finished, padded
from maxrl_lab.tokens.tasks import TokenTask


class SimpleTask(TokenTask):
    """A task told one problem at a time, in words; a problem is made of plain Python numbers, strings and tuples.

    <bos> is put before the prompt, <eos> behind the solution. `is_right` gets the words before <eos>, once for each
    distinct answer of a problem, and never sees an answer that was cut off: that is wrong.
    """

    @abstractmethod
    def sample_one(self, random: np.random.Generator) -> Any:
        """Return a random problem."""

    @abstractmethod
    def prompt(self, problem: Any) -> Sequence[str]:
        """Return the words of the prompt."""

    @abstractmethod
    def is_right(self, problem: Any, answer: list[str]) -> bool:
        """Return whether the words answer the problem."""

    def solution(self, problem: Any, random: np.random.Generator) -> Sequence[str]:  # noqa: ARG002
        """Return the words of a right answer; optional, needed by supervised pretraining."""
        raise InputError(f"the task {self.name} has no solutions to learn from")

    def answer(self, problem: Any, answer: list[str]) -> Hashable:  # noqa: ARG002
        """Return what a majority vote compares, by default all words; None for words that are no answer."""
        return tuple(answer)

    def sample(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return `count` problems, an array (count,) of objects."""
        content = np.empty(count, dtype=object)
        for index in range(count):
            content[index] = self.sample_one(random)
        return content

    def encode(self, content: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return prompts (B, P), padded on the right, and their lengths (B,)."""
        return padded([[BOS, *self.vocabulary.encode(self.prompt(problem))] for problem in content])

    def verify(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> Tensor:
        """Return which answers (B, N, T) are right, (B, N) bool."""
        verdicts = self._judge(content, answers, lengths, self.is_right)
        rewards = [[bool(verdict) for verdict in row] for row in verdicts]
        return torch.tensor(rewards, dtype=torch.bool, device=answers.device).reshape(lengths.shape)

    def decoded(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> list[list[Hashable]]:
        """Return what `answer` makes of each answer, None for an answer that was cut off."""
        return self._judge(content, answers, lengths, self.answer)

    def solutions(self, content: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return a right answer of each problem (B, T), <eos> included, padded, and lengths (B,).

        Raises `InputError` also for a solution that `is_right` refuses.
        """
        rows = [[*self.vocabulary.encode(self._checked(problem, random)), EOS] for problem in content]
        self.check_solutions(max(map(len, rows)))
        return padded(rows)

    def _checked(self, problem: Any, random: np.random.Generator) -> list[str]:
        words = list(self.solution(problem, random))
        if not self.is_right(problem, list(words)):
            raise InputError(f"expected a right solution of {problem!r}, got {' '.join(words)}")
        return words

    def _judge(
        self, content: np.ndarray, answers: Tensor, lengths: Tensor, judge: Callable[[Any, list[str]], Hashable]
    ) -> list[list[Hashable]]:
        """Return `judge` of each answer's words, asked once per distinct answer; None for those that were cut off."""
        self.check_answers(content, answers, lengths)
        verdicts = []
        for problem, row in zip(content, finished(answers, lengths), strict=True):
            known: dict[tuple[int, ...] | None, Hashable] = {None: None}
            for ids in row:
                if ids not in known and ids is not None:
                    known[ids] = judge(problem, self.vocabulary.decode(ids))
            verdicts.append([known[ids] for ids in row])
        return verdicts
