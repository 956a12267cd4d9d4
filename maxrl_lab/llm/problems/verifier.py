"""Mathematics compared by math-verify in a process of its own, because what a model writes is hostile or endless.

math-verify is given LaTeX only: its other extraction hands text to sympy's `parse_expr`, which is `eval`. LaTeX is
never executed, but it can ask for 9^{9^{9^9}}, for a large binomial, or for the meaning of a hundred brackets.
math-verify guards itself with `signal.alarm`, which works in the main thread only and never inside one long
multiplication; trainers call rewards from other threads. So it runs in a process that is limited in CPU time and memory
(`bounded`). A comparison that reaches a limit counts as no match.
"""

import functools
import importlib
import os

from maxrl_lab.llm import bounded


@functools.lru_cache(maxsize=4096)  # the rollouts of a group repeat each other's answers
def matches(answer: str, reference: str) -> bool:
    """Return whether math-verify finds, within its limits, that an answer gives the reference, both in LaTeX."""
    return _process_of(os.getpid()).ask([answer, reference]) is True


@functools.cache
def _process_of(_: int) -> bounded.Process:
    """Return the process that process number `_` asks."""
    return bounded.Process(__file__, "math-verify")


def _math_verify(answer: str, reference: str) -> bool:
    """Return math-verify's verdict on two texts of LaTeX, without any limit on time."""
    library = importlib.import_module("math_verify")
    parsed = [
        library.parse(
            f"\\boxed{{{text}}}",
            extraction_config=[library.LatexExtractionConfig()],  # never ExprExtractionConfig: it evaluates
            fallback_mode="no_fallback",
            parsing_timeout=None,
        )
        for text in (reference, answer)
    ]
    # without the permission, (1, oo) answers x > 1, but x > 1 does not answer (1, oo)
    return all(parsed) and bool(library.verify(*parsed, allow_set_relation_comp=True, timeout_seconds=None))


if __name__ == "__main__":
    importlib.import_module("math_verify")
    bounded.serve(lambda question: _math_verify(*question))
