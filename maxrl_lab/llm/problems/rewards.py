r"""Right or wrong, 1 or 0, for answers in text. What a model writes is parsed, never executed.

An answer is extracted (the last \boxed{...}, by default) and compared: to a reasoning-gym problem by its task's rule
(`tasks`), otherwise as mathematics (`equality`). No answer is wrong, and so is a very long one. `correct` is the reward
function for TRL, `compute_score` the one for verl (`custom_reward_function.path=` this file, `name=compute_score`).
Both work in any thread.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm.problems import equality, tasks
from maxrl_lab.llm.problems.equality import MAX_ANSWER

Completion = str | Sequence[Mapping[str, Any]]
"""A text, or the messages of a conversation, whose last one counts."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*(\{?)")
_WORD = re.compile(r"(?:(?!\\[)\]])[^\s$])*")
_SIGN = r"(?:(?:(?<![0-9.)])-|(?<=[=:(]) ?- )(?:\\?\$)?)?"
_NUMBER = re.compile(_SIGN + r"(?:[0-9]+(?:,[0-9]{3})*(?![0-9])(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)(?:/[0-9]+)?")
_HASHES = re.compile(rf"####[\s$\\]*({_NUMBER.pattern})(?![.):][ \t]*\S)")


def boxed(text: str) -> str | None:
    r"""Return the content of the last \boxed{...} or \fbox{...}; None if there is none or it does not close.

    Braces are balanced, \{ and \} are none. Without braces, as in \boxed 4, the content is the next word. Content
    beyond `MAX_ANSWER` characters counts as not closed, so that no text is slow.
    """
    box = _last(_BOX, text)
    if box is None:
        return None
    if not box[1]:
        word = _WORD.match(text, box.end())
        return (word[0].rstrip(".,;:") or None) if word else None
    start = box.end()
    depth, position, end = 1, start, min(len(text), start + MAX_ANSWER + 1)
    while position < end:
        character = text[position]
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[start:position]
        position += 2 if character == "\\" else 1
    return None


def first_line(text: str) -> str | None:
    """Return the first line that is not empty, without the spaces around it and a full stop at its end."""
    lines = text.lstrip().split("\n", 1)
    return lines[0].strip().removesuffix(".") or None


def tagged(text: str) -> str | None:
    """Return the content of the last <answer>...</answer>, or None."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return None if end < 0 or start < 0 else text[start + len("<answer>") : end]


def last_number(text: str) -> str | None:
    """Return the number after the first ####, as GSM8K has it, or else the last one: 12, -3.5, 1,000 or 3/4; or None.

    A model that runs on after #### 12 begins another problem. #### 1. is a heading. A minus after a digit is a
    subtraction.
    """
    text = equality.with_minus(text)
    hashes = _HASHES.search(text)
    last = None if hashes else _last(_NUMBER, text)
    return hashes[1] if hashes else last[0] if last else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = None
    for last in pattern.finditer(text):  # noqa: B007 - only the last one is used
        pass
    return last


EXTRACTIONS: Mapping[str, Callable[[str], str | None]] = {
    "boxed": boxed,
    "line": first_line,
    "tag": tagged,
    "number": last_number,
}


def extract(text: str, how: str) -> str | None:
    """Return the answer in a text by an extraction of `EXTRACTIONS`; None without one, or beyond `MAX_ANSWER`."""
    answer = specs.lookup(EXTRACTIONS, "extraction", how)(text)
    answer = None if answer is None or len(answer) > MAX_ANSWER else answer.strip()
    return answer or None


def decoded(text: str, problem: Mapping[str, Any]) -> str | None:
    """Return the answer in its canonical form, for majority votes, without spaces, $ and thousands commas, or None.

    Equal values in different notations, 0.50 and 1/2, stay different votes.
    """
    answer = extract(text, problem["extraction"])
    return None if answer is None else equality.canonical(answer) or None


def is_right(text: str, problem: Mapping[str, Any]) -> bool:
    """Return whether a text answers the problem, a mapping with answer, source, entry and extraction (`data`).

    Raises `InputError` for an unknown extraction, a refused task and a broken problem, never for what a model wrote.
    """
    answer, source = extract(text, problem["extraction"]), problem["source"]
    if source.startswith(tasks.PREFIX):
        task = source.removeprefix(tasks.PREFIX)
        tasks.check(task)
        return answer is not None and tasks.is_right(task, answer, problem["entry"])
    reference = equality.reference_text(problem["answer"])
    if not equality.canonical(reference):
        raise InputError(f"a problem of {source!r} has no reference answer: {reference!r}")
    return answer is not None and equality.matches(answer, reference)


def correct(
    prompts: Sequence[Any] | None = None,  # noqa: ARG001 - TRL names its arguments
    *,
    completions: Sequence[Completion],
    answer: Sequence[str | float],
    source: Sequence[str],
    entry: Sequence[str],
    extraction: Sequence[str],
    **_: Any,
) -> list[float]:
    """Return 1.0 or 0.0 for every completion: a reward function for TRL, which passes the columns of the data set."""
    rows = zip(completions, answer, source, entry, extraction, strict=True)
    return [
        float(is_right(_text(completion), {"answer": a, "source": s, "entry": e, "extraction": x}))
        for completion, a, s, e, x in rows
    ]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | float,
    extra_info: Mapping[str, Any] | None = None,
    **_: Any,
) -> float:
    """Return 1.0 or 0.0: a reward function for verl, on problems that `data.to_verl` has written."""
    info = extra_info or {}
    problem = {
        "answer": ground_truth,
        "source": data_source,
        "entry": info.get("entry") or "",
        "extraction": info.get("extraction") or "boxed",
    }
    return float(is_right(solution_str, problem))


def _text(completion: Completion) -> str:
    """Return the text of a completion: of a conversation, the content of the last message, whose parts are joined.

    A message that only calls tools has no content, and a part that is a picture has no text.
    """
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") if completion else None
    parts = [content] if isinstance(content, str | Mapping) else content or []
    return "".join(part if isinstance(part, str) else str(part.get("text") or "") for part in parts)
