"""What differs from student to student: k, T, N, the policy and the boxes, from a hash of a name.

The checks are exact for every value, so that a solution which somebody has published is of no use to anybody else.
Without a name the parameters are those of the solutions in `course/solutions`.
"""

import hashlib
import random
from dataclasses import dataclass

from torch import Tensor

from course.flips import flips_of

BOX_ROLLOUTS = 6
"""Number N of rollouts of the groups that the boxes take."""
BOX_LETTERS = "abcdef"
NO_OBJECTIVE = "none"
"""The answer for the box that is unbiased for no objective."""


@dataclass(frozen=True)
class Box:
    """A table of advantages with or without an objective: a(K), b(K), K = 0..N."""

    objective: str
    success: tuple[float, ...]
    failure: tuple[float, ...]

    def flips(self) -> list[float]:
        """Return d(J) = a(J+1) - b(J), J = 0..N-1."""
        return [after - before for after, before in zip(self.success[1:], self.failure[:-1], strict=True)]


@dataclass(frozen=True)
class Parameters:
    """The numbers that the exercises ask for."""

    k: int
    """pass@k of `pass_at_k`."""
    order: str
    """The order T of `order_t` and `quiet`: a number, or N."""
    rollouts: int
    """The number N of rollouts at which `quiet` has to be quiet."""
    answers: int
    """How many answers, equally likely, the policy of `quiet` has."""
    right: int
    """How many of these are right."""
    boxes: tuple[Box, ...]
    """The boxes to name."""

    @property
    def objective(self) -> str:
        """The objective of `order_t` and `quiet`."""
        return f"truncated_likelihood:order={self.order}"

    def lettered(self) -> dict[str, Box]:
        """Return the boxes by their letters."""
        return dict(zip(BOX_LETTERS, self.boxes, strict=True))


def parameters_of(student: str | None) -> Parameters:
    """Return the parameters of a name, in whatever case it is written; those of the solutions without one."""
    name = " ".join((student or "").split()).casefold()
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    chance = random.Random(seed)
    boxes = _boxes(chance)
    if not name:
        return Parameters(k=2, order="N", rollouts=8, answers=10, right=5, boxes=boxes)
    answers = chance.randint(8, 12)
    return Parameters(
        k=chance.randint(3, 5),
        order=str(chance.randint(2, 5)),
        rollouts=chance.choice((6, 7, 9, 10)),
        answers=answers,
        right=chance.randint(2, answers // 2),
        boxes=boxes,
    )


def _boxes(chance: random.Random) -> tuple[Box, ...]:
    """Return five boxes with five objectives, scaled and with a baseline that is free, and one without; shuffled."""
    known = ["expected_reward"]
    known += [f"truncated_likelihood:order={size}" for size in range(2, BOX_ROLLOUTS + 1)]
    known += [f"pass_at_k:k={size}" for size in range(2, BOX_ROLLOUTS + 1)]
    named = chance.sample(known, len(BOX_LETTERS) - 1)
    boxes = [_box(chance, name, chance.choice((0.5, 1.0, 2.0)) * flips_of(name, BOX_ROLLOUTS)) for name in named]
    wrong = flips_of(named[0], BOX_ROLLOUTS)
    wrong[chance.randrange(1, BOX_ROLLOUTS - 1)] += 0.5
    boxes.append(_box(chance, NO_OBJECTIVE, wrong))
    chance.shuffle(boxes)
    return tuple(boxes)


def _box(chance: random.Random, objective: str, flips: Tensor) -> Box:
    baseline = [0.0, *(chance.randint(-9, 9) / 10 for _ in flips[1:])]
    success = [0.0, *(round(before + flip, 6) for before, flip in zip(baseline, flips.tolist(), strict=True))]
    return Box(objective, tuple(success), (*baseline, 0.0))
