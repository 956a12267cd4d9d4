"""A small part of `make torture` that needs the verifier of mathematics: hostile answers are judged."""

import math_verify  # noqa: F401
from torture import answers


def test_answers_hold():
    (tally,) = answers.hostile(100)
    assert not tally.failures
    assert tally.tried == 100
