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
from maxrl_lab.tokens.decoding import BOS, EOS, SPECIAL, Vocabulary, ended
from maxrl_lab.tokens.tasks import TokenTask


class ModularSum(TokenTask):
    """`length` digits, 0..modulus-1, uniformly at random, summed modulo `modulus`; content: digits (B, length).

    The answer is the last word before <eos>; with a scratchpad the word before that must be ANSWER, and the
    scratchpad is what comes before: anything, also nothing, up to `length` words by default: the running sums, which
    supervised pretraining learns. `answer_length` changes that. Raises `InputError` for a length below 1, a modulus
    below 2, or an `answer_length` that is too short for an answer.
    """

    name = "modular_sum"

    def __init__(
        self, length: int = 4, modulus: int = 10, scratchpad: bool = False, answer_length: int | None = None
    ) -> None:
        self.length = specs.check_count("length", length)
        self.modulus = specs.check_count("modulus", modulus, minimum=2)
        self.scratchpad = scratchpad
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
        """The name, the length and the modulus: with and without a scratchpad the problems are the same."""
        return (self.name, self.length, self.modulus)

    def sample(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return digits (count, length)."""
        return random.integers(0, self.modulus, (count, self.length))

    def digests(self, content: np.ndarray) -> list[bytes]:
        """Return a hash of each problem's digits in ascending order: in another order it is the same problem."""
        return super().digests(np.sort(content, axis=1))

    def encode(self, content: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return prompts (B, length + 2), all of this length, and lengths (B,)."""
        self._check_content(content)
        first, last = np.full((len(content), 1), BOS), np.full((len(content), 1), self.vocabulary.ids["="])
        prompts = np.concatenate([first, content + self._zero, last], 1)
        return torch.from_numpy(prompts), torch.full((len(content),), prompts.shape[1])

    def verify(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> Tensor:
        """Return which answers (B, N, T) are right, (B, N) bool, on the device of the answers."""
        final = self._final(content, answers, lengths)
        return final == torch.from_numpy(content.sum(1) % self.modulus).to(answers.device)[:, None]

    def solutions(self, content: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the answer of each problem, behind its running sums if there is a scratchpad: (B, T), (B,)."""
        self._check_content(content)
        sums = content.cumsum(1) % self.modulus + self._zero
        parts = [sums[:, -1:], np.full((len(content), 1), EOS)]
        if self.scratchpad:
            parts = [sums, np.full((len(content), 1), self.vocabulary.ids["ANSWER"]), *parts]
        answers = np.concatenate(parts, 1)
        self.check_solutions(answers.shape[1])
        return torch.from_numpy(answers), torch.full((len(content),), answers.shape[1])

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

    def _check_content(self, content: np.ndarray) -> None:
        if content.shape != (len(content), self.length):
            raise InputError(f"expected digits {(len(content), self.length)}, got {content.shape}")
        if content.size and not (content.min() >= 0 and content.max() < self.modulus):
            raise InputError(f"expected digits in 0..{self.modulus - 1}, got {content.min()}..{content.max()}")
