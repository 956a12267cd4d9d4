"""Countdown: reach a target from given numbers with + - * /, each number used exactly once; many answers are right.

Prompt: <bos> 2 3 7 = 13; answer: an expression in postfix notation and <eos>, 2 3 * 7 + for 2 * 3 + 7. Postfix needs no
parentheses: n numbers and n - 1 signs in an order in which every sign finds two values before it. Values are exact
fractions, so 3 / 7 may be an intermediate result; nothing is ever evaluated as code. A division by zero is wrong.
"""

from collections.abc import Hashable, Iterable, Iterator
from functools import cached_property
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.sampling import sample_enough
from maxrl_lab.tokens.decoding import BOS, EOS, SPECIAL, Vocabulary, ended, finished
from maxrl_lab.tokens.tasks import TokenTask

OPERATIONS = "+-*/"
MAX_NUMBERS, MAX_LARGEST = 4, 100
"""More numbers have too many expressions to list; larger ones, more digits than 64-bit fractions hold."""
_PATIENCE = 20_000
"""A request is refused after this many samples in a row without a target in range."""
_ROWS = 2**17
"""Most expressions that are evaluated at once."""


class Countdown(TokenTask):
    """`numbers` (2 to 4) numbers from 1 to `largest`, and a target from 1 to `largest` that can be reached.

    Content: the numbers in ascending order, and the target, (B, numbers + 1): the same numbers in another order are
    the same problem, in the same split. The target is the value of a random expression, so one that is reached in many
    ways is drawn more often. `operations` are some of + - * /. Raises `InputError` for settings out of range.
    """

    name = "countdown"

    def __init__(self, numbers: int = 3, largest: int = 20, operations: str = OPERATIONS) -> None:
        self.numbers = specs.check_count("numbers", numbers, minimum=2)
        self.largest = specs.check_count("largest", largest)
        for name, value, most in (("numbers", self.numbers, MAX_NUMBERS), ("largest", self.largest, MAX_LARGEST)):
            if value > most:
                raise InputError(f"{name} must be at most {most}, got {value}")
        if not operations or len(set(operations)) < len(operations) or set(operations) - set(OPERATIONS):
            raise InputError(f"operations must be some of {OPERATIONS}, each once, got {operations!r}")
        self.operations = operations
        self.vocabulary = Vocabulary((*SPECIAL, *operations, "=", *map(str, range(1, self.largest + 1))))
        self.answer_length = 2 * self.numbers
        self.prompt_length = self.numbers + 3

    @property
    def key(self) -> tuple[str | int, ...]:
        """The name and the settings."""
        return (self.name, self.numbers, self.largest, self.operations)

    def sample(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return numbers and targets (count, numbers + 1); `InputError` if no target can be reached."""

        def candidates(missing: int) -> Iterator[np.ndarray | None]:
            numbers = np.sort(random.integers(1, self.largest + 1, (4 * missing, self.numbers)))
            forms = self._forms[random.integers(0, len(self._forms), len(numbers))]
            target = _whole(*evaluate(_fill(forms, numbers)))
            fits = (target >= 1) & (target <= self.largest)
            for problem, fit in zip(np.column_stack([numbers, target]), fits, strict=True):
                yield problem if fit else None

        problems = sample_enough(candidates, count, patience=_PATIENCE)
        if len(problems) < count:
            raise InputError(f"no target in 1..{self.largest} can be reached with {self.operations}")
        return np.stack(problems)

    def encode(self, content: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return prompts (B, numbers + 3), all of this length, and lengths (B,)."""
        self._check_content(content)
        first, equals = np.full((len(content), 1), BOS), np.full((len(content), 1), self.vocabulary.ids["="])
        words = content + self.vocabulary.ids["="]  # the numbers come after it
        prompts = np.concatenate([first, words[:, :-1], equals, words[:, -1:]], 1)
        return torch.from_numpy(prompts), torch.full((len(content),), prompts.shape[1])

    def verify(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> Tensor:
        """Return which answers (B, N, T) are right, (B, N) bool."""
        self._check_content(content)
        self.check_answers(content, answers, lengths)
        complete = (ended(answers, lengths) & (lengths == self.answer_length)).cpu().numpy()
        if not complete.any():
            return torch.zeros_like(lengths, dtype=torch.bool)
        codes = self._codes[answers.cpu().numpy()[complete][:, :-1]]
        numbers, target = np.split(content[np.nonzero(complete)[0]], [-1], 1)
        # the codes of signs are negative, so that in ascending order the numbers come last
        uses_each_once = (np.sort(codes)[:, self.numbers - 1 :] == numbers).all(1)
        top, bottom = evaluate(codes)
        right = np.zeros(complete.shape, dtype=bool)
        right[complete] = uses_each_once & (bottom != 0) & (top == target[:, 0] * bottom)
        return torch.from_numpy(right).to(answers.device)

    def solutions(self, content: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return a right answer of each problem (B, 2 numbers), uniformly among all, and lengths (B,)."""
        self._check_content(content)
        at_once = max(1, _ROWS // len(self._forms))
        parts = [self._solve(content[first : first + at_once], random) for first in range(0, len(content), at_once)]
        words = np.zeros(self.largest + 1 + len(OPERATIONS), dtype=np.int64)
        words[self._codes] = np.arange(len(self._codes))  # the negative codes count from the end
        answers = np.concatenate([words[np.concatenate(parts)], np.full((len(content), 1), EOS)], 1)
        return torch.from_numpy(answers), torch.full((len(content),), answers.shape[1])

    def decoded(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> list[list[Hashable]]:
        """Return the expressions in infix notation, operands of + and * in order; None for what is none."""
        self.check_answers(content, answers, lengths)
        rows = finished(answers, lengths)
        return [[None if ids is None else infix(self.vocabulary.decode(ids)) for ids in row] for row in rows]

    def expressions(self, numbers: np.ndarray) -> np.ndarray:
        """Return all expressions of the numbers (n,), right or not, (K, 2 n - 1) codes, as `evaluate` takes them."""
        return _fill(self._forms, np.tile(numbers, (len(self._forms), 1)))

    def _solve(self, content: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Try all expressions, and return a right one of each problem, (B, 2 numbers - 1) codes."""
        codes = np.stack([self.expressions(numbers) for numbers in content[:, :-1]])
        top, bottom = (part.reshape(codes.shape[:2]) for part in evaluate(codes.reshape(-1, codes.shape[2])))
        right = (bottom != 0) & (top == content[:, -1:] * bottom)
        if not right.any(1).all():
            *given, target = content[~right.any(1)][0].tolist()
            raise InputError(f"expected problems with a solution, got {target} from {given}")
        picked = (right + random.random(right.shape)).argmax(1)
        return np.asarray(codes[np.arange(len(codes)), picked])

    @cached_property
    def _codes(self) -> np.ndarray:
        """The codes of all tokens (V,): a number's value, -1, -2, -3, -4 for + - * /, and 0 for every other token."""
        codes = np.zeros(len(self.vocabulary), dtype=np.int64)
        for word, token in self.vocabulary.ids.items():
            if word in OPERATIONS:
                codes[token] = -1 - OPERATIONS.index(word)
            elif word.isdecimal():
                codes[token] = int(word)
        return codes

    @cached_property
    def _forms(self) -> np.ndarray:
        """All expressions (K, 2 numbers - 1): codes of signs, and 1, 2, ... for the first, second number, ..."""
        signs = [-1 - OPERATIONS.index(sign) for sign in self.operations]
        forms = []
        for shape in _shapes(self.numbers, 0):
            for order in permutations(range(1, self.numbers + 1)):
                for combination in product(signs, repeat=self.numbers - 1):
                    operands, operators = iter(order), iter(combination)
                    forms.append([next(operands) if is_number else next(operators) for is_number in shape])
        return np.array(forms)

    def _check_content(self, content: np.ndarray) -> None:
        shape = (len(content), self.numbers + 1)
        if content.shape != shape:
            raise InputError(f"expected numbers and targets {shape}, got {content.shape}")
        if content.size and not (content.min() >= 1 and content.max() <= self.largest):
            raise InputError(f"expected numbers in 1..{self.largest}, got {content.min()}..{content.max()}")
        falls = (np.diff(content[:, :-1]) < 0).any(1)
        if falls.any():
            raise InputError(f"expected numbers in ascending order, got {content[falls][0, :-1].tolist()}")


def _shapes(numbers: int, depth: int) -> Iterator[tuple[bool, ...]]:
    """Yield every postfix order of so many numbers (True) and signs (False) that starts from `depth` values."""
    if numbers == 0 and depth == 1:
        yield ()
    if numbers:
        yield from ((True, *rest) for rest in _shapes(numbers - 1, depth + 1))
    if depth >= 2:
        yield from ((False, *rest) for rest in _shapes(numbers, depth - 1))


def _fill(forms: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Put the numbers (M, n) into the forms (M, L)."""
    return np.where(forms > 0, np.take_along_axis(numbers, np.maximum(forms - 1, 0), 1), forms)


def evaluate(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of postfix expressions (M, L) as fractions top / bottom, (M,) each, exactly.

    A positive code is a number, -1, -2, -3, -4 are + - * /. bottom is 0 for what has no value: a sign without two
    values before it, values left over, a division by zero, the code 0.
    """
    count, length = codes.shape
    row = np.arange(count)
    stack = np.zeros((2, length + 1, count), dtype=np.int64)
    depth = np.zeros(count, dtype=np.int64)
    has_value = np.ones(count, dtype=bool)
    for code in codes.T:
        is_number = code > 0
        has_value &= is_number | ((code < 0) & (depth >= 2))
        level = np.where(is_number, depth, np.maximum(depth - 2, 0))
        (top, bottom), (right_top, right_bottom) = stack[:, level, row], stack[:, level + 1, row]
        has_value &= is_number | (code != -4) | (right_top != 0)
        signs = [code == -1, code == -2, code == -3, code == -4]
        left, right = top * right_bottom, right_top * bottom
        tops = np.select(signs, [left + right, left - right, top * right_top, left], code)
        bottoms = np.select(signs, [bottom * right_bottom] * 3 + [right], 1)
        stack[:, level, row] = tops, bottoms
        depth = level + 1
    return stack[0, 0], np.where(has_value & (depth == 1), stack[1, 0], 0)


def _whole(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return top / bottom where it is a whole number, else 0."""
    divisor = np.where(bottom == 0, 1, bottom)
    return np.where((bottom != 0) & (top % divisor == 0), top // divisor, 0)


def infix(words: Iterable[str]) -> str | None:
    """Return a postfix expression with parentheses, the operands of + and * in order; None for what is no expression.

    2 3 * 7 + and 7 3 2 * + are both (2 * 3) + 7.
    """
    values: list[str] = []
    for word in words:
        if word.isdecimal():
            values.append(word)
        elif word in tuple(OPERATIONS) and len(values) >= 2:
            operands = [values.pop(), values.pop()][::-1]
            left, right = sorted(operands) if word in "+*" else operands
            values.append(f"({left} {word} {right})")
        else:
            return None
    if len(values) != 1:
        return None
    return values[0].removeprefix("(").removesuffix(")") if " " in values[0] else values[0]
