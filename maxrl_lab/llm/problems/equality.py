r"""Whether an answer equals a reference: numbers exactly, everything else as mathematics (`verifier`).

Plain numbers, most answers by far, are compared here as fractions. A percentage counts as its number and as its value:
50\% answers 50 as well as 0.5. The rest is compared by math-verify.
"""

import re
from fractions import Fraction

from maxrl_lab.llm.problems import verifier

MAX_ANSWER = 1000
"""Largest number of characters of an answer; a longer one counts as no answer."""

_WHOLE_OR_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_RATIO = re.compile(r"[-+]?[0-9]+/[0-9]+")
_FRAC = re.compile(r"([-+]?)\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}")
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_PERCENT = re.compile(r"%[\s$.]*\Z")
_NEEDLESS_SPACE = re.compile(r"[^\S\n]+(?![A-Za-z0-9])|(?<![A-Za-z0-9])[^\S\n]+")
_TYPOGRAPHY = (("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\,", ""), ("\\;", ""), ("\\ ", " "), ("{,}", ","))


def canonical(text: str) -> str:
    r"""Return the answer without what does not change it: `$`, `%`, needless spaces, a full stop, thousands commas.

    A space between two letters or digits stays: 1 1/2 is not 11/2. Lines stay lines.
    """
    text = re.sub(r"\\(left|right)arrow", r"\\to", text).replace("\\$", "").replace("$", "")
    for mark, plain in _TYPOGRAPHY:
        text = text.replace(mark, plain)
    lines = (_NEEDLESS_SPACE.sub("", " ".join(line.split())) for line in text.strip().splitlines())
    text = "\n".join(lines).removesuffix(".").removesuffix("%").removesuffix("\\")
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def number(text: str) -> Fraction | None:
    r"""Return the value of a plain number, or None for other texts: 12, -3.50, 1,000, 3/4, \frac{3}{4}, 50\% as 50."""
    text = canonical(text)
    if frac := _FRAC.fullmatch(text):
        text = f"{frac[1]}{frac[2]}/{frac[3]}"
    if len(text) > MAX_ANSWER or not (_WHOLE_OR_DECIMAL.fullmatch(text) or _RATIO.fullmatch(text)):
        return None
    try:
        return Fraction(text)
    except ZeroDivisionError:
        return None


def matches(answer: str, reference: str) -> bool:
    r"""Return whether the answer gives the reference; a text longer than `MAX_ANSWER` matches nothing.

    The order of the two matters for equations alone. An answer may repeat what was asked for, so 2x + y = 7 gives 7;
    the converse does not hold, or 0 would give the line 3x - 4y + 5 = 0.
    """
    if max(len(answer), len(reference)) > MAX_ANSWER or not canonical(answer) or not canonical(reference):
        return False
    if canonical(answer) == canonical(reference):
        return True
    equal = _equal_numbers(answer, reference)
    return verifier.matches(answer.replace("$", ""), reference.replace("$", "")) if equal is None else equal


def _equal_numbers(first: str, second: str) -> bool | None:
    """Return whether two numbers are equal; None if a text is no plain number, or one of them may be rounded."""
    value, other = number(first), number(second)
    if value is None or other is None:
        return None
    if bool(_PERCENT.search(first)) != bool(_PERCENT.search(second)):
        percentage, plain = (value, other) if _PERCENT.search(first) else (other, value)
        return plain in (percentage, percentage / 100)
    is_whole = value.denominator == other.denominator == 1
    return value == other if value == other or is_whole else None
