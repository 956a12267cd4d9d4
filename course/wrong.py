"""What a check says of a wrong answer."""

from collections.abc import Callable, Mapping
from typing import Any

from maxrl_lab.errors import InputError


class WrongAnswerError(Exception):
    """The answer is wrong; the message says what it is instead. `share` of the points is earned all the same."""

    def __init__(self, message: str, share: float = 0.0) -> None:
        super().__init__(message)
        self.share = share


def check_parts(parts: Mapping[str, Callable[[Any], None]], answer: Callable[[str], Any]) -> None:
    """Check each function of an exercise; raise `WrongAnswerError` with what is wrong, and the share that is right."""
    messages = []
    for name, check in parts.items():
        try:
            check(answer(name))
        except (WrongAnswerError, InputError) as error:
            messages.append(f"{name}: {error}")
    if messages:
        raise WrongAnswerError("\n\n".join(messages), share=1 - len(messages) / len(parts))
