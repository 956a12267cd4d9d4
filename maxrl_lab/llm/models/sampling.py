"""How a language model's answers are sampled: the settings, the token ids of a prompt, the next tokens.

R rows (samples in a batch), V vocabulary, n samples of each problem, T largest number of tokens in an answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeAlias

from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.llm.models import templates
from maxrl_lab.settings import Count, CountOrZero, Interval, Settings
from maxrl_lab.tokens.distributions import nucleus, pick

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]
"""A text, or chat messages that the tokenizer's chat template turns into one."""


@dataclass(frozen=True)
class Sampling(Settings):
    """How answers are sampled. The defaults are those of the paper's evaluations (arXiv:2602.02710v1, Sec. 5)."""

    samples: Count = 16
    """Number n of answers to each problem."""
    temperature: Annotated[float, Interval(closed_low=True)] = 0.6
    """Temperature by which the logits are divided; 0 writes the likeliest token each time, and needs one sample."""
    top_p: Annotated[float, Interval(0, 1, closed_high=True)] = 0.95
    """Probability that the nucleus holds from which tokens are sampled; 1 samples from the whole vocabulary."""
    answer_length: Count = 1024
    """Largest number T of tokens in an answer, the end token included; a longer answer is cut off."""
    at_once: Count = 64
    """Largest number of rows in a batch of a transformers model, which changes answers by rounding only."""
    seed: CountOrZero = 0
    """Seed of the random numbers."""

    def __post_init__(self) -> None:
        """Check also that several samples can differ."""
        super().__post_init__()
        if self.temperature == 0 and self.samples > 1:
            raise InputError(f"at temperature 0 all samples are equal: expected samples = 1, got {self.samples}")


class Completion(NamedTuple):
    """One sampled answer."""

    text: str
    tokens: int
    """Its number of tokens, the end token included."""
    ended: bool
    """Whether the model ended it; false where it was cut off."""


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return the token ids of a prompt; chat messages end where the assistant's answer begins.

    The end token that some tokenizers write behind every text is left out: nothing would follow it.
    """
    if isinstance(prompt, str):
        ids = tokenizer(prompt)["input_ids"]
        ids = ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids
    else:
        text = templates.render(tokenizer, prompt)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # the template has written the special tokens
    if not ids:
        raise InputError(f"a prompt needs at least one token, got {prompt!r}")
    return list(ids)


def sample_tokens(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Tensor:
    """Return tokens (R,) of the nucleus of softmax(logits / temperature), for logits (R, V) and uniforms (R,).

    Each uniform number picks the token at which the cumulative distribution, in the vocabulary's order, reaches it.
    Temperature 0 is the likeliest token.
    """
    if temperature == 0:
        return logits.argmax(-1)
    log_probs = (logits.float() / temperature).log_softmax(-1)
    if top_p == 1:
        return pick(log_probs, uniforms)
    kept, tokens = nucleus(log_probs, top_p)
    return tokens.gather(-1, pick(kept, uniforms)[:, None])[:, 0]
