r"""Whether an answer equals a reference: numbers exactly, everything else as mathematics (`verifier`).

Plain numbers, most answers by far, are compared here as fractions. A percentage counts as its number and as its value:
50\% answers 50 as well as 0.5. The rest is compared by math-verify.
"""

import math
import re
from fractions import Fraction
from numbers import Real

from maxrl_lab.errors import InputError
from maxrl_lab.llm.problems import verifier

MAX_ANSWER = 1000
"""Largest number of characters of an answer; a longer one counts as no answer."""

_WHOLE_OR_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_RATIO = re.compile(r"[-+]?[0-9]+/[0-9]+")
_FRAC = re.compile(r"([-+]?)\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}")
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_PERCENT = re.compile(r"%[\s$.]*\Z")
_NEEDLESS_SPACE = re.compile(r"[^\S\n]+(?![A-Za-z0-9])|(?<![A-Za-z0-9])[^\S\n]+")
_MINUS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\u02d7\u2796\ufe63\uff0d"), "-")
"""Signs that are written for a minus: hyphens, the figure dash, the en dash, and the minus sign itself."""
_TYPOGRAPHY = (("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\,", ""), ("\\;", ""), ("\\ ", " "), ("{,}", ","))


def with_minus(text: str) -> str:
    """Return the text with `-` for every sign that is written for a minus."""
    return text.translate(_MINUS)


def canonical(text: str) -> str:
    r"""Return the answer without what does not change it: `$`, `%`, needless spaces, a full stop, thousands commas.

    A space between two letters or digits stays: 1 1/2 is not 11/2. Lines stay lines. Every minus is a `-`.
    """
    text = re.sub(r"\\(left|right)arrow", r"\\to", with_minus(text)).replace("\\$", "").replace("$", "")
    for mark, plain in _TYPOGRAPHY:
        text = text.replace(mark, plain)
    lines = (_NEEDLESS_SPACE.sub("", " ".join(line.split())) for line in text.strip().splitlines())
    text = "\n".join(lines).removesuffix(".").removesuffix("%").removesuffix("\\")
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def ratio(text: str) -> str:
    r"""Return the canonical answer with 3/4 for \frac{3}{4}, if it is no more than that."""
    text = canonical(text)
    frac = _FRAC.fullmatch(text)
    return f"{frac[1]}{frac[2]}/{frac[3]}" if frac else text


def reference_text(reference: object) -> str:
    """Return a reference answer, a text or a number, as a text; raise `InputError` for anything else."""
    if isinstance(reference, str):
        return reference
    if not isinstance(reference, bool) and isinstance(reference, Real) and math.isfinite(reference):
        return str(reference)
    raise InputError(f"a reference answer must be a text or a number, got {reference!r}")


def number(text: str) -> Fraction | None:
    r"""Return the value of a plain number, or None for other texts: 12, -3.50, 1,000, 3/4, \frac{3}{4}, 50\% as 50."""
    text = ratio(text)
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
    if equal is not None:
        return equal
    return verifier.matches(with_minus(answer).replace("$", ""), with_minus(reference).replace("$", ""))


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
