"""Token tasks: prompts and a verifier of answers, which a policy that writes token by token is trained on.

A task of your own is usually a `maxrl_lab.tokens.simple.SimpleTask`, told in plain words; `TokenTask` is for verifiers
that judge many answers at once.

Axes: B problems, N answers of each, P and T tokens of the longest prompt and answer.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator
from maxrl_lab.sampling import sample_enough
from maxrl_lab.tokens.decoding import EOS, Vocabulary, finished

Split = Literal["train", "test"]
_TEST_SHARE = 4
"""One problem in so many, by a hash of its content, is a held-out problem."""
_PATIENCE = 2000
"""A request is refused after this many samples in a row without a new problem."""


@dataclass(frozen=True)
class Problems:
    """B problems: their prompts, and their content for the verifier."""

    prompts: Tensor
    """(B, P) token ids, padded on the right."""
    lengths: Tensor
    """(B,) tokens of each prompt."""
    content: np.ndarray
    """(B, ...) what the verifier of the task reads."""

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Sequence[int] | np.ndarray | Tensor) -> "Problems":
        """Return the problems of some rows."""
        rows = np.asarray(rows)
        return Problems(self.prompts[torch.as_tensor(rows)], self.lengths[torch.as_tensor(rows)], self.content[rows])


class TokenTask(ABC):
    """A family of problems in tokens. Subclass it for vectorised verifiers, `SimpleTask` for everything else.

    Policies are kept on disk by the attributes of their task: begin the names of those that change no problem with `_`.
    """

    name: str
    vocabulary: Vocabulary
    answer_length: int
    """Most tokens of an answer; an answer that has not ended by then is cut off, and wrong."""
    prompt_length: int | None = None
    """Most tokens of a prompt; longer ones are refused, None allows any length."""

    @property
    def key(self) -> tuple[str | int, ...]:
        """The name and settings (no negative numbers) that the random numbers of the task's problems depend on."""
        return (self.name,)

    @abstractmethod
    def sample(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return the content of `count` random problems, (count, ...)."""

    @abstractmethod
    def encode(self, content: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return prompts (B, P), padded on the right, and their lengths (B,)."""

    @abstractmethod
    def verify(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> Tensor:
        """Return which answers (B, N, T) are right, (B, N) bool; lengths (B, N) count <eos>, or T if cut off.

        Tokens after the length are not looked at. Raises `InputError` as `check_answers` does.
        """

    def solutions(self, content: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return a right answer of each problem (B, T), <eos> included, padded, and lengths (B,).

        T is the longest of these. Raises `InputError` if the task has none, or one is longer than `answer_length`.
        """
        raise InputError(f"the task {self.name} has no solutions to learn from")

    def decoded(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> list[list[Hashable]]:
        """Return what a majority vote compares, B lists of N: by default the whole answer.

        None stands for no answer, which is no candidate of the vote: an answer that was cut off, or what a task cannot
        read an answer from.
        """
        self.check_answers(content, answers, lengths)
        words = self.vocabulary.words
        return [
            [None if ids is None else tuple(words[index] for index in ids) for ids in row]
            for row in finished(answers, lengths)
        ]

    def digests(self, content: np.ndarray) -> list[bytes]:
        """Return a hash of each problem's content, the same on every machine.

        The hash is of the row's bytes, or of the `repr` of an object; raises `InputError` for a `repr` that only says
        where the object is.
        """
        if content.dtype == object:
            rows = [_text(problem).encode() for problem in content]
        else:
            rows = [row.tobytes() for row in content.astype(content.dtype.newbyteorder("<"))]
        return [hashlib.blake2b(row, digest_size=8).digest() for row in rows]

    def problems(
        self, count: int, *, split: Split = "train", seed: int = 0, step: int = 0, distinct: bool = False
    ) -> Problems:
        """Return problems of one split: a stream without end over `step`; none is in both splits, whatever the seeds.

        A problem may come twice unless `distinct`. Raises `InputError` if there are too few problems, with the number
        that was found.
        """
        count = specs.check_count("count", count)
        seed, step = specs.check_count("seed", seed, minimum=0), specs.check_count("step", step, minimum=0)
        if split not in ("train", "test"):
            raise InputError(f"split must be 'train' or 'test', got {split!r}")
        random = np.random.default_rng(generator("problems", *self.key, split, seed, step).initial_seed())
        content = self._sample_split(count, split, random, distinct)
        prompts, lengths = self.encode(content)
        if self.prompt_length is not None and prompts.shape[1] > self.prompt_length:
            raise InputError(
                f"prompts of {self.name} have at most {self.prompt_length} tokens, got one of {prompts.shape[1]}"
            )
        return Problems(prompts, lengths, content)

    def _sample_split(self, count: int, split: Split, random: np.random.Generator, distinct: bool) -> np.ndarray:
        """Sample until there are `count` problems of the split, all different if `distinct`."""

        def candidates(missing: int) -> Iterator[tuple[bytes, np.ndarray] | None]:
            content = self.sample(_enough(count if distinct else missing, split), random)
            for row, digest in enumerate(self.digests(content)):
                is_in_split = _is_held_out(digest) == (split == "test")
                yield (digest, content[row : row + 1]) if is_in_split else None

        key = (lambda problem: problem[0]) if distinct else None
        problems = sample_enough(candidates, count, patience=_PATIENCE, key=key)
        if len(problems) < count:
            wish = "distinct " if distinct else ""
            task = " ".join(str(part) for part in self.key)
            raise InputError(f"found {len(problems)} of {count} {wish}{split} problems of {task}")
        return np.concatenate([content for _, content in problems])

    def check_answers(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> None:
        """Raise `InputError` unless answers (B, N, T) and lengths (B, N) are ones that a policy can have written."""
        if answers.ndim != 3 or len(answers) != len(content) or lengths.shape != answers.shape[:2]:
            raise InputError(
                f"expected answers (B, N, T) and lengths (B, N) of B = {len(content)} problems, "
                f"got {tuple(answers.shape)} and {tuple(lengths.shape)}"
            )
        if answers.dtype != torch.long or lengths.dtype != torch.long:
            raise InputError(f"answers and lengths must be torch.int64, got {answers.dtype} and {lengths.dtype}")
        longest = answers.shape[2]
        if longest > self.answer_length:
            raise InputError(f"answers of {self.name} have at most {self.answer_length} tokens, got {longest}")
        _check_range("token ids", answers, 0, len(self.vocabulary) - 1)
        _check_range("lengths", lengths, 1, longest)
        if ((answers == EOS) & _before(answers, lengths - 1)).any():
            raise InputError("an answer ends at its first <eos>, got a length beyond it")

    def check_solutions(self, longest: int) -> None:
        """Raise `InputError` if the longest solution, <eos> included, does not fit."""
        if longest > self.answer_length:
            raise InputError(
                f"answers of {self.name} have at most {self.answer_length} tokens, got a solution of {longest}"
            )


def _before(answers: Tensor, positions: Tensor) -> Tensor:
    """Return which tokens (B, N, T) come before the positions (B, N)."""
    return torch.arange(answers.shape[2], device=answers.device) < positions[..., None]


def _check_range(name: str, numbers: Tensor, low: int, high: int) -> None:
    if numbers.numel():
        least, most = map(int, numbers.aminmax())
        if least < low or most > high:
            raise InputError(f"{name} must lie in {low}..{high}, got {least if least < low else most}")


def _enough(count: int, split: Split) -> int:
    """Return how many samples nearly always hold `count` problems of a split (by two standard deviations)."""
    share = 1 / _TEST_SHARE if split == "test" else 1 - 1 / _TEST_SHARE
    return math.ceil((count + 2 * math.sqrt(count) + 2) / share)


def _text(problem: object) -> str:
    if " at 0x" in (text := repr(problem)):
        raise InputError(f"problems are told apart by their repr, which must show what is in them, got {text}")
    return text


def _is_held_out(digest: bytes) -> bool:
    return int.from_bytes(digest, "little") % _TEST_SHARE == 0
