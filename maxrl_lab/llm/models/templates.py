"""Chat templates come with a model and are programs: they are rendered in a process that is limited in time and memory.

transformers' sandbox keeps a template from files and attributes, not from loops and from texts of any length.
"""

import functools
import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from maxrl_lab.errors import InputError
from maxrl_lab.llm import bounded

LONGEST = 10_000_000
"""Largest number of characters that a template may make of a prompt."""


def render(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of chat messages, up to where the assistant's answer begins.

    Raises a one-line `InputError` for a tokenizer without a template, and for one that fails or reaches a limit.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError:
        raise InputError("the tokenizer has no chat template: give prompts as texts (chat=False)") from None
    question = [template, [dict(message) for message in messages], dict(tokenizer.special_tokens_map)]
    reply = _process_of(os.getpid()).ask(question)
    if reply is None:
        limits = f"{bounded.SECONDS} s of CPU time or {bounded.MEMORY // 2**30} GiB of memory"
        raise InputError(f"the chat template of the model takes more than {limits} for one prompt")
    text, error = reply
    if error:
        raise InputError(f"the chat template of the model fails: {error}")
    return str(text)


@functools.cache
def _process_of(_: int) -> bounded.Process:
    """Return the process that process number `_` asks."""
    return bounded.Process(__file__, "transformers")


def _rendered(template: str, messages: list[dict[str, Any]], special_tokens: dict[str, Any]) -> tuple[str, str]:
    """Return the text by transformers' own rendering, without any limit on time, and the error if there is one."""
    library = importlib.import_module("transformers.utils.chat_template_utils")
    try:
        (text,), _ = library.render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=True, **special_tokens
        )
    except Exception as error:  # a template may raise anything
        return "", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return (text, "") if len(text) <= LONGEST else ("", f"it writes {len(text)} characters")


if __name__ == "__main__":
    importlib.import_module("transformers.utils.chat_template_utils")
    bounded.serve(lambda question: _rendered(*question))
