"""How a language model's answers are drawn: the settings, the token ids of a prompt, the nucleus of a distribution.

R rows (samples in a batch), V vocabulary, n samples of each problem, T most tokens of an answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.tokens import answers

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]
"""A text, or chat messages that the tokenizer's chat template turns into one."""
_LIKELIEST = 256
"""Tokens among which a nucleus is looked for first: sorting a whole vocabulary takes as long as a small model."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; by default as the paper evaluates (arXiv:2602.02710v1, Sec. 5)."""

    samples: int = 16
    """n, answers of each problem."""
    temperature: float = 0.6
    """The logits are divided by it; 0 writes the likeliest token each time, and needs samples = 1."""
    top_p: float = 0.95
    """Tokens are drawn from the smallest set that holds at least this probability; 1 is the whole vocabulary."""
    answer_length: int = 1024
    """T, most tokens of an answer, the end token included; a longer one is cut off."""
    at_once: int = 64
    """Most rows in a batch of a transformers model: memory and speed, and of the answers only rounding."""
    seed: int = 0
    """Of the random numbers."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("samples", "answer_length", "at_once"):
            specs.check_count(name, getattr(self, name))
        specs.check_count("seed", self.seed, minimum=0)
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be finite and not negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.temperature == 0 and self.samples > 1:
            raise InputError(f"at temperature 0 all samples are equal: expected samples = 1, got {self.samples}")


class Completion(NamedTuple):
    """One sampled answer."""

    text: str
    tokens: int
    """Its length, the end token included."""
    ended: bool
    """Whether the model ended it; false where it was cut off."""


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return the token ids of a prompt; chat messages end where the assistant's answer begins."""
    if isinstance(prompt, str):
        ids = tokenizer(prompt)["input_ids"]
    else:
        text = tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # the template wrote them
    if not ids:
        raise InputError(f"a prompt needs at least one token, got {prompt!r}")
    return list(ids)


def draw(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Tensor:
    """Return tokens (R,) drawn from the nucleus of softmax(logits / temperature), logits (R, V), uniforms (R,).

    The nucleus is the smallest set of tokens that holds at least `top_p` (Holtzman et al. 2020). A token is drawn by
    inverting the cumulative distribution in the vocabulary's order. Temperature 0 is the likeliest token.
    """
    if temperature == 0:
        return logits.argmax(-1)
    log_probs = (logits.float() / temperature).log_softmax(-1)
    if top_p == 1:
        return answers.pick(log_probs, uniforms)
    likeliest, tokens = log_probs.topk(min(_LIKELIEST, log_probs.shape[-1]))
    if not bool((likeliest.exp().sum(-1) >= top_p).all()):
        likeliest, tokens = log_probs.sort(-1, descending=True)
    mass = likeliest.exp()
    likeliest = likeliest.masked_fill(mass.cumsum(-1) - mass >= top_p, -torch.inf)
    tokens, order = tokens.sort(-1)
    return tokens.gather(-1, answers.pick(likeliest.gather(-1, order), uniforms)[:, None])[:, 0]
