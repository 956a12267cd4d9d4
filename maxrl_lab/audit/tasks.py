"""The pass rates of a set of tasks: a list, a file or a Beta distribution, as chances of K successes in a group."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from maxrl_lab import bernstein
from maxrl_lab.errors import InputError

COLUMN = "pass_rate"
"""The column of a csv file that holds pass rates."""


class Tasks(Protocol):
    """Tasks whose pass rates are known, as a list or as a distribution."""

    @property
    def mean(self) -> float:
        """The mean pass rate."""

    def count_chances(self, rollouts: int) -> Tensor:
        """Return the chance of K = 0..N successes in the group of a random task, (N+1,) float64."""


@dataclass(frozen=True)
class Listed:
    """Tasks of the given pass rates, equally likely. Raises `InputError` for none, or one outside [0, 1]."""

    pass_rates: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the pass rates."""
        if not self.pass_rates:
            raise InputError("pass rates must be given for at least one task, got none")
        for index, value in enumerate(self.pass_rates):
            _check_pass_rate(value, f"of task {index}")

    @property
    def mean(self) -> float:
        """The mean pass rate."""
        return math.fsum(self.pass_rates) / len(self.pass_rates)

    def count_chances(self, rollouts: int) -> Tensor:
        """Return the mean over tasks of Binomial(N, p) at K = 0..N."""
        blocks = torch.tensor(self.pass_rates, dtype=torch.float64).split(max(1, 2**22 // (rollouts + 1)))
        total = torch.stack([bernstein.probabilities(rollouts, block).sum(0) for block in blocks]).sum(0)
        return total / len(self.pass_rates)

    def __str__(self) -> str:
        return f"{len(self.pass_rates)} {'task' if len(self.pass_rates) == 1 else 'tasks'}"


@dataclass(frozen=True)
class Beta:
    """Tasks whose pass rates follow Beta(alpha, beta). Raises `InputError` unless both are positive and finite."""

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        """Check the two numbers."""
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if not 0 < value < math.inf:
                raise InputError(f"{name} of a Beta distribution must be positive and finite, got {value}")

    @property
    def mean(self) -> float:
        """The mean pass rate, alpha / (alpha + beta)."""
        return self.alpha / (self.alpha + self.beta)

    def count_chances(self, rollouts: int) -> Tensor:
        """Return the beta-binomial chances C(N,K) B(K + alpha, N - K + beta) / B(alpha, beta)."""
        successes = torch.arange(rollouts + 1, dtype=torch.float64)
        failures = rollouts - successes
        alpha, beta = torch.tensor([self.alpha, self.beta], dtype=torch.float64)
        # up to a constant, log C(N,K) = -log B(K + 1, N - K + 1); softmax brings the constant back
        chances: Tensor = (
            _log_beta(successes + alpha, failures + beta) - _log_beta(successes + 1, failures + 1)
        ).softmax(0)
        return chances

    def __str__(self) -> str:
        return f"tasks of Beta({self.alpha:g}, {self.beta:g})"


def read(path: Path) -> Listed:
    """Return the tasks in a file: a JSON list, a csv file with the column `pass_rate`, or one number on each line.

    Raises `InputError`, with file and line, for what is no pass rate in [0, 1].
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file of pass rates") from None
    if path.suffix == ".json":
        entries = _of_json(text, path)
    else:
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
        lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
        entries = (
            _of_csv(lines, path) if lines and COLUMN in lines[0][1] else [(f"line {n}", line) for n, line in lines]
        )
    if not entries:
        raise InputError(f"{path} holds no pass rates")
    return Listed(tuple(_check_pass_rate(value, f"in {path}, {where}") for where, value in entries))


def _of_json(text: str, path: Path) -> list[tuple[str, Any]]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, list):
        raise InputError(f"{path} must hold a list of pass rates, got a {type(values).__name__}")
    return [(f"entry {index}", value) for index, value in enumerate(values)]


def _of_csv(lines: Sequence[tuple[int, str]], path: Path) -> list[tuple[str, Any]]:
    header, *rows = ((number, next(csv.reader([line]))) for number, line in lines)
    names = [name.strip() for name in header[1]]
    if COLUMN not in names:
        raise InputError(f"{path} has no column {COLUMN!r}, only {', '.join(names)}")
    index = names.index(COLUMN)
    return [(f"line {number}", row[index] if index < len(row) else "") for number, row in rows]


def _check_pass_rate(value: Any, where: str) -> float:
    """Return a pass rate as a number; `InputError` names the value and its place unless it lies in [0, 1]."""
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise InputError(f"a pass rate must be a number in [0, 1], got {value!r} {where}")
    return number


def _log_beta(one: Tensor, other: Tensor) -> Tensor:
    return torch.lgamma(one) + torch.lgamma(other) - torch.lgamma(one + other)
