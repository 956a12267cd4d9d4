"""A canvas of L digits that a policy fills in any order: answers of fixed length, without an end, all of them listable.

A prompt is the word of its verifier and L digits q, base V; an answer is L digits x. All arithmetic is modulo V:

    sum      x_1 + ... + x_L = q_1 + ... + q_L          V^(L-1) right answers; every digit alone is uniform among them
    running  x_i = q_1 + ... + q_i                      one right answer
    pairs    x_2j - x_2j-1 = q_2j - q_2j-1              V^(L/2) right answers; L must be even

`sum` and `pairs` can only be answered by a policy whose digits depend on each other: a product of the right digits'
marginals is right no more often than chance. One policy may learn several verifiers, since the prompt names its own.

Axes: B prompts, P = L + 1 words of each, L places of an answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.settings import Choice, Each, Probability, Settings, Whole

MOST_PROBLEMS = 2**20
"""Largest number V^L of different digits in a prompt: they are listed to be split into train and test."""
_TEST_SHARE = 4
"""One row of digits in so many is held out."""


def _sums(digits: Tensor) -> Tensor:
    return digits.sum(-1, keepdim=True)


def _running(digits: Tensor) -> Tensor:
    return digits.cumsum(-1)


def _differences(digits: Tensor) -> Tensor:
    return digits[..., 1::2] - digits[..., ::2]


VERIFIERS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "sum": (_sums, _sums),
    "running": (lambda digits: digits, _running),
    "pairs": (_differences, _differences),
}
"""What an answer and its prompt must agree in, modulo V: a function of the answer and one of the prompt's digits."""


@dataclass(frozen=True)
class Canvas(Settings):
    """Problems whose answers fill L places with digits base V, judged by one or several verifiers."""

    verifiers: Annotated[tuple[str, ...], Each(Choice(VERIFIERS))] = ("sum", "running", "pairs")
    """Verifiers of the problems, which take turns."""
    length: Annotated[int, Whole(1)] = 4
    """Number L of places in an answer, and of digits in a prompt."""
    base: Annotated[int, Whole(2)] = 5
    """Number V of digits."""

    def __post_init__(self) -> None:
        """Check also that pairs fit, and that the problems can be listed."""
        super().__post_init__()
        if "pairs" in self.verifiers and self.length % 2:
            raise InputError(f"the verifier 'pairs' needs an even length, got {self.length}")
        if self.base**self.length > MOST_PROBLEMS:
            got = f"{self.base}^{self.length} = {self.base**self.length}"
            raise InputError(f"a canvas has at most {MOST_PROBLEMS} different rows of digits, got {got}")

    @property
    def words(self) -> int:
        """The number of words of a prompt's vocabulary: V digits, the empty place, and the verifiers' words."""
        return self.base + 1 + len(VERIFIERS)

    @property
    def prompt_length(self) -> int:
        """The number P of words of a prompt."""
        return self.length + 1

    def problems(
        self, count: int, *, seed: int = 0, step: int = 0, split: Literal["train", "test"] = "train"
    ) -> Tensor:
        """Return `count` different prompts (count, P); the verifiers take turns, and share their rows of digits.

        No digits of the split `test` are ever in `train`. Raises `InputError` for more problems than the split has.
        """
        if split not in ("train", "test"):
            raise InputError(f"split must be 'train' or 'test', got {split!r}")
        kinds = len(self.verifiers)
        total = self.base**self.length
        order = torch.randperm(total, generator=generator("canvas split", self.base, self.length))
        rows = order[total // _TEST_SHARE :] if split == "train" else order[: total // _TEST_SHARE]
        if not 1 <= count <= len(rows) * kinds:
            raise InputError(f"the split {split!r} has {len(rows) * kinds} problems, got a request for {count}")
        shuffled = rows[torch.randperm(len(rows), generator=generator("canvas", split, seed, step))]
        names = torch.tensor([self._word(name) for name in self.verifiers])
        digits = self._digits(shuffled[: -(-count // kinds)]).repeat_interleave(kinds, 0)[:count]
        return torch.cat([names.repeat(len(digits))[:count, None], digits], 1)

    def right(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Return which answers (B, ..., L) to prompts (B, P) are right, (B, ...) bool, on the device of the answers.

        Raises `InputError` for other shapes, and for an answer with an empty place or another word.
        """
        self._check(prompts)
        if answers.ndim < 2 or answers.shape[0] != len(prompts) or answers.shape[-1] != self.length:
            raise InputError(f"expected answers {(len(prompts), '...', self.length)}, got {tuple(answers.shape)}")
        if answers.numel() and not 0 <= int(answers.min()) <= int(answers.max()) < self.base:
            got = f"{int(answers.min())}..{int(answers.max())}"
            raise InputError(f"expected answers of digits in 0..{self.base - 1}, got {got}")
        prompts = prompts.to(answers.device).reshape(len(prompts), *(1,) * (answers.ndim - 2), -1)
        verdicts = torch.zeros(answers.shape[:-1], dtype=torch.bool, device=answers.device)
        for name, (of_answer, of_prompt) in VERIFIERS.items():
            if name in self.verifiers:
                agrees = ((of_answer(answers) - of_prompt(prompts[..., 1:])) % self.base == 0).all(-1)
                verdicts |= agrees & (prompts[..., 0] == self._word(name))
        return verdicts

    def solutions(self, prompts: Tensor, stream: torch.Generator, noise: Probability = 0.0) -> Tensor:
        """Return one answer to each prompt, (B, L): uniform among the right ones, then each digit spoilt by the noise.

        noise: the probability with which a digit is replaced by a uniform one, independently of all others.
        """
        self._check(prompts)
        if not 0 <= noise <= 1:
            raise InputError(f"noise must lie in [0, 1], got {noise}")
        digits = prompts[:, 1:]
        free = torch.randint(self.base, digits.shape, generator=stream)
        pairs, sums = free.clone(), free.clone()
        if self.length % 2 == 0:
            pairs[:, 1::2] = free[:, ::2] + _differences(digits)
        sums[:, -1:] += _sums(digits) - _sums(free)
        answers = torch.where(prompts[:, :1] == self._word("pairs"), pairs, sums)
        answers = torch.where(prompts[:, :1] == self._word("running"), _running(digits), answers)
        random = torch.randint(self.base, digits.shape, generator=stream)
        spoilt = torch.rand(digits.shape, generator=stream) < noise
        return torch.where(spoilt, random, answers % self.base)

    def verifier_of(self, prompts: Tensor) -> list[str]:
        """Return the name of the verifier of every prompt."""
        self._check(prompts)
        names = list(VERIFIERS)
        return [names[word - self.base - 1] for word in prompts[:, 0].tolist()]

    def _word(self, name: str) -> int:
        """Return the word that stands for a verifier: those behind the digits and the empty place."""
        return self.base + 1 + list(VERIFIERS).index(name)

    def _digits(self, numbers: Tensor) -> Tensor:
        """Return the digits of numbers (B,), most significant first, (B, L)."""
        return numbers[:, None] // self.base ** torch.arange(self.length - 1, -1, -1) % self.base

    def _check(self, prompts: Tensor) -> None:
        if prompts.ndim != 2 or prompts.shape[1] != self.prompt_length:
            raise InputError(f"expected prompts (B, {self.prompt_length}), got {tuple(prompts.shape)}")
        words = [self._word(name) for name in self.verifiers]
        if not torch.isin(prompts[:, 0], torch.tensor(words, device=prompts.device)).all():
            raise InputError(f"expected prompts that begin with one of {words}, got {prompts[:, 0].unique().tolist()}")
