"""Sums modulo m, answered at once or after a scratchpad: the latent-generation setting of §2 of arXiv:2602.02710v1.

Prompt: <bos> d d d ... =, digits 0..m-1. Answer at once: s <eos>. With a scratchpad: any words, then ANSWER s <eos>,
where s is the sum modulo m. Only s is verified, so that many scratchpads are right; a useful one holds running sums.
"""

from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.tokens.decoding import BOS, EOS, PAD, SPECIAL, Vocabulary, ended
from maxrl_lab.tokens.tasks import TokenTask

_NONE = -1
"""What stands in the content behind the digits of a shorter sum."""


class ModularSum(TokenTask):
    """`length` digits, 0..modulus-1, uniformly at random, summed modulo `modulus`; content: digits (B, length).

    With `shortest` a sum has that many to `length` digits, each number equally often; -1 stands behind the last one.
    The answer is the last word before <eos>; with a scratchpad the word before that must be ANSWER, and the
    scratchpad is what comes before: anything, also nothing, up to `length` words by default: the running sums, which
    supervised pretraining learns. `answer_length` changes that. Raises `InputError` for a length below 1, a modulus
    below 2, an `answer_length` that is too short for an answer, or a `shortest` above `length`.
    """

    name = "modular_sum"

    def __init__(
        self,
        length: int = 4,
        modulus: int = 10,
        scratchpad: bool = False,
        answer_length: int | None = None,
        shortest: int | None = None,
    ) -> None:
        self.length = specs.check_count("length", length)
        self.modulus = specs.check_count("modulus", modulus, minimum=2)
        self.scratchpad = scratchpad
        self.shortest = specs.check_count("shortest", length if shortest is None else shortest)
        if self.shortest > self.length:
            raise InputError(f"shortest must be at most length = {self.length}, got {shortest}")
        words = [*map(str, range(self.modulus)), "="] + (["ANSWER"] if scratchpad else [])
        self.vocabulary = Vocabulary((*SPECIAL, *words))
        default = self.length + 3 if scratchpad else 2
        least = 3 if scratchpad else 2
        self.answer_length = specs.check_count(
            "answer_length", default if answer_length is None else answer_length, minimum=least
        )
        self.prompt_length = self.length + 2
        self._zero = len(SPECIAL)

    @property
    def key(self) -> tuple[str | int, ...]:
        """The name, the lengths and the modulus: with and without a scratchpad the problems are the same."""
        lengths = (self.length,) if self.shortest == self.length else (self.length, self.shortest)
        return (self.name, *lengths, self.modulus)

    def sample(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return digits (count, length)."""
        digits = random.integers(0, self.modulus, (count, self.length))
        if self.shortest < self.length:
            lengths = random.integers(self.shortest, self.length + 1, (count, 1))
            digits[np.arange(self.length) >= lengths] = _NONE
        return digits

    def digests(self, content: np.ndarray) -> list[bytes]:
        """Return a hash of each problem's digits in ascending order: in another order it is the same problem."""
        return super().digests(np.sort(content, axis=1))

    def encode(self, content: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return prompts (B, length + 2), padded, and their lengths (B,): two more than a sum has digits."""
        counts = self._check_content(content)
        prompts = np.full((len(content), self.length + 2), PAD)
        prompts[:, 0] = BOS
        prompts[:, 1:-1] = np.where(content == _NONE, PAD, content + self._zero)
        prompts[np.arange(len(content)), counts + 1] = self.vocabulary.ids["="]
        return torch.from_numpy(prompts), torch.from_numpy(counts + 2)

    def verify(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> Tensor:
        """Return which answers (B, N, T) are right, (B, N) bool, on the device of the answers."""
        final = self._final(content, answers, lengths)
        return final == torch.from_numpy(content.clip(min=0).sum(1) % self.modulus).to(answers.device)[:, None]

    def solutions(self, content: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the answer of each problem, behind its running sums if there is a scratchpad: (B, T), (B,)."""
        counts = self._check_content(content)
        row, sums = np.arange(len(content)), content.clip(min=0).cumsum(1) % self.modulus + self._zero
        answers = np.full((len(content), self.length + 3), PAD)
        if self.scratchpad:
            answers[:, :-3] = np.where(content == _NONE, PAD, sums)
            answers[row, counts] = self.vocabulary.ids["ANSWER"]
        end = counts + 2 if self.scratchpad else np.ones_like(counts)
        answers[row, end - 1], answers[row, end] = sums[:, -1], EOS
        longest = int(end.max()) + 1
        self.check_solutions(longest)
        return torch.from_numpy(answers[:, :longest]), torch.from_numpy(end + 1)

    def decoded(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> list[list[Hashable]]:
        """Return the final answers, 0..modulus-1; None for what is no answer."""
        final = self._final(content, answers, lengths).tolist()
        return [[None if answer < 0 else answer for answer in row] for row in final]

    def _final(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> Tensor:
        """Return the final answer (B, N), -1 for what is no answer."""
        self._check_content(content)
        self.check_answers(content, answers, lengths)
        final = answers.gather(2, (lengths - 2).clamp(min=0)[..., None]).squeeze(2) - self._zero
        is_answer = ended(answers, lengths) & (final >= 0) & (final < self.modulus)
        if self.scratchpad:
            marker = answers.gather(2, (lengths - 3).clamp(min=0)[..., None]).squeeze(2)
            is_answer &= marker == self.vocabulary.ids["ANSWER"]
        else:
            is_answer &= lengths == 2
        return torch.where(is_answer, final, -1)

    def _check_content(self, content: np.ndarray) -> np.ndarray:
        """Return how many digits the sums have, (B,)."""
        if content.shape != (len(content), self.length):
            raise InputError(f"expected digits {(len(content), self.length)}, got {content.shape}")
        counts = np.asarray((content != _NONE).sum(1))
        in_place = (content != _NONE) == (np.arange(self.length) < counts[:, None])
        if not (in_place.all() and (counts >= self.shortest).all()):
            raise InputError(f"expected at least {self.shortest} digits and {_NONE} behind the last one, got another")
        digits = content[content != _NONE]
        if digits.size and not (digits.min() >= 0 and digits.max() < self.modulus):
            raise InputError(f"expected digits in 0..{self.modulus - 1}, got {digits.min()}..{digits.max()}")
        return counts
