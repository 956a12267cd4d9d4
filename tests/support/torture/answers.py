"""Hostile answers: whatever a model writes is right or wrong within a bounded time, and never an error."""

import time
from random import Random

from maxrl_lab.llm.problems import rewards
from torture.forks import Tally, stream

LIMIT = 5.0
"""CPU seconds that no answer may take."""
PIECES = (
    *(
        "\\boxed{",
        "\\fbox{",
        "\\boxed 4",
        "}",
        "{",
        "\\frac{1}{",
        "\\sqrt",
        "^",
        "_",
        "!",
        "####",
        "<answer>",
        "</answer>",
    ),
    *("4", "0.50", "1/2", "-3", "\u22123", "1e400", "9" * 400, "1" + "0" * 5000, "10^10^10", "99!!", "2**99999", "1/0"),
    *("None", "nan", "inf", "True", "x", "\\pi", "\\text{", "\\left(", "\\right)", ",", ".", "%", "$", "\n", "\t", " "),
    *("\u0000", "\ud800", "\u202e", "\U0001f600", "\u0664", "\u00bd", "\u221e", "__import__('os').system('false')"),
    *("sum(range(10**12))", "lambda: 0", "@", "\\\\", "'", '"'),
)
ENDLESS = ("(" * 300, "{" * 300, "[" * 300, "\\frac{" * 60)
"""What the verifier of mathematics reads until its limit on time ends it; in one text of `ENDLESS_IN`."""
ENDLESS_IN = 40
REFERENCES = ("4", "1/2", "0.5", "-3", "\\frac{1}{2}", "\\pi", "(1, 2)", "12345678901234567890", "x^2", "50%")


def hostile(tries: int, seed: int = 0) -> list[Tally]:
    """Judge so many random answers, by every extraction, and score none for other than 0 or 1."""
    random, tally = (
        stream("answers", seed),
        Tally(f"a hostile answer: judged in {LIMIT:g} s of CPU time, without an error"),
    )
    for _ in range(tries):
        text, reference = _text(random), random.choice(REFERENCES)
        extraction = random.choice(sorted(rewards.EXTRACTIONS))
        problem = {"answer": reference, "source": "torture", "entry": "", "extraction": extraction}
        tally.add(_judge(text, problem))
    return [tally]


def _text(random: Random) -> str:
    pieces = [random.choice(PIECES) for _ in range(random.randint(1, 12))]
    if random.randrange(ENDLESS_IN) == 0:
        pieces.insert(random.randint(0, len(pieces)), random.choice(ENDLESS))
    return "".join(pieces)


def _judge(text: str, problem: dict[str, str]) -> str | None:
    start = time.process_time()
    try:
        verdict = rewards.is_right(text, problem)
    except BaseException as error:
        return f"{type(error).__name__} for {text[:80]!r} by {problem['extraction']}: {error}"
    if verdict not in (True, False):
        return f"{verdict!r} for {text[:80]!r}"
    seconds = time.process_time() - start
    return None if seconds < LIMIT else f"{seconds:.1f} s for {text[:80]!r}"
