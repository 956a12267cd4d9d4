"""Token tasks: prompts and a verifier of answers; what a policy that writes token by token is trained on.

A task of your own is a class with a vocabulary and three short functions (`SimpleTask`), in plain words:

    class Parity(SimpleTask):
        name = "parity"
        vocabulary = Vocabulary.of("0 1 = even odd")
        answer_length = 2  # tokens of the longest answer, <eos> included

        def draw_one(self, random):
            return tuple(random.integers(0, 2, 6).tolist())

        def prompt(self, problem):
            return [*map(str, problem), "="]

        def is_right(self, problem, answer):
            return answer == ["odd" if sum(problem) % 2 else "even"]

        def solution(self, problem, random):  # optional: for supervised pretraining
            return ["odd" if sum(problem) % 2 else "even"]

Axes: B problems, N answers of each, P and T tokens of the longest prompt and answer.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator

Split = Literal["train", "test"]
PAD, BOS, EOS = 0, 1, 2
"""Ids of the padding, first and last token in every vocabulary of the lab."""
SPECIAL = ("<pad>", "<bos>", "<eos>")
_TEST_SHARE = 4
"""One problem in so many, by a hash of its content, is a held-out problem."""
_HOPELESS_AFTER = 2000
"""Draws without a new problem after which a request is refused, at least; and 50 for each problem found."""


@dataclass(frozen=True)
class Vocabulary:
    """The words of a task; a token id is a word's place. Raises `ValueError` unless they begin with `SPECIAL`."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the special tokens and that no word is there twice."""
        if self.words[:3] != SPECIAL:
            raise InputError(f"a vocabulary begins with {' '.join(SPECIAL)}, got {' '.join(self.words[:3])}")
        if len(set(self.words)) < len(self.words):
            raise InputError(f"the words of a vocabulary must be distinct, got {' '.join(self.words)}")

    @classmethod
    def of(cls, words: str) -> "Vocabulary":
        """Return the vocabulary of the special tokens and the words, separated by spaces."""
        return cls((*SPECIAL, *words.split()))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Word to token id."""
        return {word: place for place, word in enumerate(self.words)}

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return token ids; `ValueError` for an unknown word."""
        return [specs.lookup(self.ids, "word", word) for word in words]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the words of token ids; `ValueError` for ids without a word."""
        chosen = [int(each) for each in ids]
        if wrong := [each for each in chosen if not 0 <= each < len(self.words)]:
            raise InputError(f"token ids must lie in 0..{len(self.words) - 1}, got {wrong[0]}")
        return [self.words[each] for each in chosen]

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class Problems:
    """B problems: their prompts, and their content for the verifier."""

    prompts: Tensor
    """(B, P) token ids, padded on the right."""
    lengths: Tensor
    """(B,) tokens of each prompt."""
    content: np.ndarray
    """(B, ...) what the task's verifier reads."""

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Sequence[int] | np.ndarray | Tensor) -> "Problems":
        """Return some of the problems."""
        chosen = np.asarray(rows)
        return Problems(
            self.prompts[torch.as_tensor(chosen)], self.lengths[torch.as_tensor(chosen)], self.content[chosen]
        )


class TokenTask(ABC):
    """A family of problems in tokens. Subclass it for vectorised verifiers, `SimpleTask` for everything else."""

    name: str
    vocabulary: Vocabulary
    answer_length: int
    """Answers that have not ended after so many tokens are cut off, and wrong."""
    prompt_length: int | None = None
    """Longer prompts are refused; None: any length."""

    @property
    def key(self) -> tuple[str | int, ...]:
        """Name and settings (no negative numbers): what the random numbers of its problems depend on."""
        return (self.name,)

    @abstractmethod
    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return the content of `count` random problems, (count, ...)."""

    @abstractmethod
    def encode(self, content: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return prompts (B, P), padded on the right, and their lengths (B,)."""

    @abstractmethod
    def verify(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> Tensor:
        """Return which answers (B, N, T) are right, (B, N) bool; lengths (B, N) count <eos>, or T if cut off.

        Tokens after the length are not looked at. Raises `ValueError` as `check_answers` does.
        """

    def solutions(self, content: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return a right answer of each problem (B, T), <eos> included, padded, and lengths (B,).

        T is the longest of these. Raises `ValueError` if the task has none, or one is longer than `answer_length`.
        """
        raise InputError(f"the task {self.name} has no solutions to learn from")

    def decoded(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> list[list[Hashable]]:
        """Return what a majority vote compares, B lists of N: by default the whole answer, None if it was cut off."""
        self.check_answers(content, answers, lengths)
        words = self.vocabulary.words
        return [
            [None if ids is None else tuple(words[each] for each in ids) for ids in row]
            for row in finished(answers, lengths)
        ]

    def digests(self, content: np.ndarray) -> list[bytes]:
        """Return a hash of each problem's content, the same on every machine.

        Of the row's bytes, or of the `repr` of an object; `ValueError` if that only says where the object is.
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

        A problem may come twice unless `distinct`. Raises `ValueError` that says how many were found if there are
        too few problems.
        """
        count = specs.check_count("count", count)
        seed, step = specs.check_count("seed", seed, minimum=0), specs.check_count("step", step, minimum=0)
        if split not in ("train", "test"):
            raise InputError(f"split must be 'train' or 'test', got {split!r}")
        random = np.random.default_rng(generator("problems", *self.key, split, seed, step).initial_seed())
        content = self._draw_split(count, split, random, distinct)
        prompts, lengths = self.encode(content)
        if self.prompt_length is not None and prompts.shape[1] > self.prompt_length:
            raise InputError(
                f"prompts of {self.name} have at most {self.prompt_length} tokens, got one of {prompts.shape[1]}"
            )
        return Problems(prompts, lengths, content)

    def _draw_split(self, count: int, split: Split, random: np.random.Generator, distinct: bool) -> np.ndarray:
        """Draw until `count` problems of the split are found, all different if `distinct`."""
        kept: list[np.ndarray] = []
        seen: set[bytes] = set()
        found = in_vain = 0
        while found < count:
            drawn = self.draw(_enough(count if distinct else count - found, split), random)
            fresh = []
            for row, digest in enumerate(self.digests(drawn)):
                if _is_held_out(digest) == (split == "test") and digest not in seen:
                    fresh.append(row)
                    seen.update([digest] if distinct else [])
            kept.append(drawn[fresh[: count - found]])
            found += len(kept[-1])
            in_vain = 0 if fresh else in_vain + len(drawn)
            if in_vain >= max(_HOPELESS_AFTER, 50 * found):
                wish = "distinct " if distinct else ""
                task = " ".join(str(part) for part in self.key)
                raise InputError(f"found {found} of {count} {wish}{split} problems of {task}")
        return np.concatenate(kept)

    def check_answers(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> None:
        """Raise `ValueError` unless answers (B, N, T) and lengths (B, N) are ones that a policy can have written."""
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
        """Raise `ValueError` if the longest solution, <eos> included, does not fit."""
        if longest > self.answer_length:
            raise InputError(
                f"answers of {self.name} have at most {self.answer_length} tokens, got a solution of {longest}"
            )


class SimpleTask(TokenTask):
    """A task told one problem at a time, in words; a problem is made of plain Python numbers, strings and tuples.

    <bos> is put before the prompt, <eos> behind the solution. `is_right` gets the words before <eos>, once for each
    distinct answer of a problem, and never sees an answer that was cut off: that is wrong.
    """

    @abstractmethod
    def draw_one(self, random: np.random.Generator) -> Any:
        """Return a random problem."""

    @abstractmethod
    def prompt(self, problem: Any) -> Sequence[str]:
        """Return the words of the prompt."""

    @abstractmethod
    def is_right(self, problem: Any, answer: list[str]) -> bool:
        """Whether the words answer the problem."""

    def solution(self, problem: Any, random: np.random.Generator) -> Sequence[str]:  # noqa: ARG002
        """Return the words of a right answer; optional."""
        raise InputError(f"the task {self.name} has no solutions to learn from")

    def answer(self, problem: Any, answer: list[str]) -> Hashable:  # noqa: ARG002
        """Return what a majority vote compares: by default all words."""
        return tuple(answer)

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return `count` problems, an array (count,) of objects."""
        content = np.empty(count, dtype=object)
        for place in range(count):
            content[place] = self.draw_one(random)
        return content

    def encode(self, content: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return prompts (B, P), padded on the right, and their lengths (B,)."""
        return padded([[BOS, *self.vocabulary.encode(self.prompt(problem))] for problem in content])

    def verify(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> Tensor:
        """Return which answers (B, N, T) are right, (B, N) bool."""
        rewards = self._judge(content, answers, lengths, self.is_right)
        found = [[bool(reward) for reward in row] for row in rewards]
        return torch.tensor(found, dtype=torch.bool, device=answers.device).reshape(lengths.shape)

    def decoded(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> list[list[Hashable]]:
        """Return `answer` of each answer, None if it was cut off."""
        return self._judge(content, answers, lengths, self.answer)

    def solutions(self, content: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return a right answer of each problem (B, T), <eos> included, padded, and lengths (B,).

        Raises `ValueError` also for a solution that `is_right` refuses.
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
        """Return `judge` of each answer's words, asked once per distinct answer; None for those cut off."""
        self.check_answers(content, answers, lengths)
        verdicts = []
        for problem, row in zip(content, finished(answers, lengths), strict=True):
            known: dict[tuple[int, ...] | None, Hashable] = {None: None}
            for ids in row:
                if ids not in known and ids is not None:
                    known[ids] = judge(problem, self.vocabulary.decode(ids))
            verdicts.append([known[ids] for ids in row])
        return verdicts


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return token ids (B, longest), padded on the right, and the number of each row (B,)."""
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
    return tokens, lengths


def ended(answers: Tensor, lengths: Tensor) -> Tensor:
    """Return which answers (B, N, T) end with <eos>, (B, N) bool: the others were cut off."""
    return answers.gather(2, lengths[..., None] - 1).squeeze(2) == EOS


def finished(answers: Tensor, lengths: Tensor) -> list[list[tuple[int, ...] | None]]:
    """Return the token ids before <eos> of answers (B, N, T), B lists of N; None for those that were cut off."""
    rows = zip(answers.tolist(), lengths.tolist(), ended(answers, lengths).tolist(), strict=True)
    return [[tuple(ids[: length - 1]) if end else None for ids, length, end in zip(*row, strict=True)] for row in rows]


def _before(answers: Tensor, places: Tensor) -> Tensor:
    """Which tokens (B, N, T) come before the places (B, N)."""
    return torch.arange(answers.shape[2], device=answers.device) < places[..., None]


def _check_range(name: str, numbers: Tensor, low: int, high: int) -> None:
    if numbers.numel():
        least, most = (int(each) for each in numbers.aminmax())
        if least < low or most > high:
            raise InputError(f"{name} must lie in {low}..{high}, got {least if least < low else most}")


def _enough(count: int, split: Split) -> int:
    """Draws that hold `count` problems of a split, nearly always: its share, and two standard deviations."""
    share = 1 / _TEST_SHARE if split == "test" else 1 - 1 / _TEST_SHARE
    return math.ceil((count + 2 * math.sqrt(count) + 2) / share)


def _text(problem: object) -> str:
    if " at 0x" in (text := repr(problem)):
        raise InputError(f"problems are told apart by their repr, which must show what is in them, got {text}")
    return text


def _is_held_out(digest: bytes) -> bool:
    return int.from_bytes(digest, "little") % _TEST_SHARE == 0
