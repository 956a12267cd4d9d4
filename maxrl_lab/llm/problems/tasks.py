"""Which tasks of reasoning-gym are scored here, and how: every task of 0.1.25 is in a table, supported or refused.

reasoning-gym gives partial credit; here an answer is right if its score is exactly 1 and wrong otherwise. Its scoring
was read task by task. Refused are tasks whose `score_answer` hands the model's text to `eval` or to sympy's
`parse_expr` (which is `eval`), or can be made to run for ever, and tasks where a wrong answer scores 1. Where only the
score is at fault and there is one right answer, the answer is compared to it instead ("number", "ratio", "text").
Where the score passes over words or signs that it does not know, an answer that has any is wrong (`_FORMS`).
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.llm.problems import equality

PREFIX = "reasoning_gym/"
"""The name of a source that is a task of reasoning-gym is this prefix and the name of the task."""

_SCORE = """
    basic_arithmetic calendar_arithmetic chain_sum count_bits decimal_arithmetic decimal_chain_sum dice
    gcd lcm leg_counting number_format power_function prime_factorization products
    time_intervals simple_equations ab arc_1d base_conversion binary_alternation caesar_cipher count_primes cryptarithm
    group_anagrams isomorphic_strings jugs letter_counting manipulate_matrix number_filtering
    palindrome_generation ransom_note rotate_matrix rotten_oranges sentence_reordering
    string_manipulation string_splitting string_synthesis word_ladder word_sequence_reversal bf color_cube_rotation
    modulo_grid needle_haystack number_sequence rectangle_count emoji_mystery futoshiki kakurasu mahjong_puzzle maze
    mini_sudoku sokoban sudoku survo tsumego advanced_geometry simple_geometry course_schedule
    family_relationships largest_island path_star quantum_lock shortest_path acre list_functions aiw circuit_logic
    knights_knaves self_reference syllogism zebra_puzzles
""".split()  # noqa: SIM905 - a list has one line for each
TASKS: Mapping[str, str] = {
    **dict.fromkeys(_SCORE, "score"),  # score_answer(...) == 1
    "fraction_simplification": "ratio",  # its score ignores what follows a \\frac{1}{2}
    "gsm_symbolic": "number",  # its score drops the sign: -12 would be right for 12
    "game_of_life_halting": "text",  # its score finds any text right
    "figlet_font": "text",  # its score gives 0.1 for each right letter: ten of eleven would be right
    "letter_jumble": "text",  # its score ignores further words
    "word_sorting": "text",  # its score ignores further words
    "spell_backward": "text",  # its score adds 1/n n times, which can round to more than 1
}
_FORMS = {
    "kakurasu": r"[01\s,\[\]]*",
    "quantum_lock": r"[A-C\s,→>-]*",
    "sokoban": r"[UDLR\s,]*",
    "survo": r"[-\d\s]*",
    "time_intervals": r"\s*(?:\d+(?: days?)?)?(?:,?\s*\d+:\d+(?::\d+(?:\.\d+)?)?)?\s*",
}
"""Task to the form of its answers."""
_EVAL = "its score_answer hands the answer to eval"
_SYMPY = "its score_answer hands the answer to sympy's parse_expr, which is eval"
_NO_REFERENCE = "its problems have no reference answer"
REFUSED: Mapping[str, str] = {
    "binary_matrix": _EVAL,
    "n_queens": _EVAL,
    "spiral_matrix": _EVAL,
    "string_insertion": _EVAL,
    "countdown": _SYMPY,
    "intermediate_integration": _SYMPY,
    "polynomial_multiplication": _SYMPY,
    "puzzle24": _SYMPY,
    "simple_integration": _SYMPY,
    "bitwise_arithmetic": "its score_answer hands the problem's text to eval",
    "number_sorting": "its score_answer hands the reference to eval and accepts numbers that are off by 1",
    "codeio": "it makes its problems by executing bundled programs",
    "coin_flip": "its score_answer turns 1e999999999 into a whole number, which does not end",
    "complex_arithmetic": "the answer nan scores 1",
    "game_of_life": "further rows and cells still score 1",
    "polynomial_equations": "it scores by distance, and any text is right where there is no solution",
    "pool_matrix": "numbers that are off by 1 % score 1",
    "arc_agi": "its boards do not survive as JSON text",
    "rearc": "its boards do not survive as JSON text",
    "boxnet": _NO_REFERENCE,
    "graph_color": _NO_REFERENCE,
    "propositional_logic": _NO_REFERENCE,
    "rubiks_cube": _NO_REFERENCE,
    "rush_hour": _NO_REFERENCE,
    "composite": "it mixes other tasks; name them one by one",
    "palindrome_partitioning": "its answers are too long",
    "tower_of_hanoi": "its answers are too long",
    "knight_swap": "it takes seconds to make a problem",
}


def check(task: str) -> str:
    """Return how the task is scored: score, number, ratio or text; `InputError` says why it is refused."""
    if task in REFUSED:
        raise InputError(f"the reasoning_gym task {task!r} is not scored here: {REFUSED[task]}")
    return specs.lookup(TASKS, "reasoning_gym task", task)


def make(task: str, config: Mapping[str, Any], *, seed: int, size: int) -> Any:
    """Return reasoning-gym's data set, indexed by 0..size-1; raise a one-line `InputError` for a config it refuses."""
    check(task)
    if reserved := {"seed", "size"} & set(config):
        raise InputError(f"config must not name {' and '.join(sorted(reserved))}: those are seed and count")
    try:
        return need("reasoning_gym").create_dataset(task, seed=seed, size=size, **config)
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(f"reasoning_gym task {task!r} refuses the config {dict(config)}: {error}") from None


def entry_text(problem: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the JSON text by which a problem is scored later: its answer, its metadata and its config."""
    return json.dumps({"answer": problem["answer"], "metadata": problem["metadata"], "config": dict(config)})


def is_right(task: str, answer: str, entry: str) -> bool:
    """Return whether the extracted answer is right for a problem's `entry_text`; raise `InputError` if it is broken."""
    how, problem = check(task), _problem(task, entry)
    plain = equality.canonical(answer)
    if len(answer) > equality.MAX_ANSWER:
        return False
    if how == "number":
        value = equality.number(plain)
        return value is not None and value == equality.number(problem["answer"])
    if how == "ratio":
        return equality.ratio(answer) == equality.ratio(problem["answer"])
    if how == "text":
        return plain.lower() == equality.canonical(problem["answer"]).lower()
    if task in _FORMS and not re.fullmatch(_FORMS[task], plain):
        return False
    scorer = _scorer(task, json.dumps(problem.get("config", {}), sort_keys=True))
    return any(_score(scorer, text, problem) == 1 for text in dict.fromkeys((answer, plain)))


def _problem(task: str, entry: str) -> dict[str, Any]:
    try:
        problem = json.loads(entry)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or not isinstance(problem.get("answer"), str) or "metadata" not in problem:
        raise InputError(f"a problem of {PREFIX}{task} needs an entry, JSON text with answer and metadata")
    return problem


@functools.lru_cache(maxsize=256)  # some tasks read word lists when they are made
def _scorer(task: str, config: str) -> Any:
    return make(task, json.loads(config), seed=0, size=1)


def _score(scorer: Any, answer: str, problem: Mapping[str, Any]) -> float:
    """Return reasoning-gym's score, 0 where the text of the answer makes it fail."""
    try:
        return float(scorer.score_answer(answer, problem))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return 0.0
