"""Between words and token ids: vocabularies, padding, and where an answer ends.

Axes: B problems, N answers of each, T tokens of the longest answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError

PAD, BOS, EOS = 0, 1, 2
"""Ids of the padding, first and last token in every vocabulary of the lab."""
SPECIAL = ("<pad>", "<bos>", "<eos>")
"""Words of the ids 0, 1 and 2."""


@dataclass(frozen=True)
class Vocabulary:
    """The words of a task; a token id is the index of a word. Raises `InputError` unless they begin with `SPECIAL`."""

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
        """The token id of each word."""
        return {word: index for index, word in enumerate(self.words)}

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return token ids; `InputError` for an unknown word."""
        return [specs.lookup(self.ids, "word", word) for word in words]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the words of token ids; `InputError` for ids without a word."""
        indices = [int(index) for index in ids]
        if wrong := [index for index in indices if not 0 <= index < len(self.words)]:
            raise InputError(f"token ids must lie in 0..{len(self.words) - 1}, got {wrong[0]}")
        return [self.words[index] for index in indices]

    def __len__(self) -> int:
        return len(self.words)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return token ids (B, longest), padded on the right, and the length of each row (B,)."""
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
    return tokens, lengths


def ended(answers: Tensor, lengths: Tensor) -> Tensor:
    """Return which answers (B, N, T) end with <eos>, (B, N) bool; the others were cut off."""
    return answers.gather(2, lengths[..., None] - 1).squeeze(2) == EOS


def finished(answers: Tensor, lengths: Tensor) -> list[list[tuple[int, ...] | None]]:
    """Return the token ids before <eos> of answers (B, N, T), B lists of N; None for those that were cut off."""
    rows = zip(answers.tolist(), lengths.tolist(), ended(answers, lengths).tolist(), strict=True)
    return [[tuple(ids[: length - 1]) if end else None for ids, length, end in zip(*row, strict=True)] for row in rows]
