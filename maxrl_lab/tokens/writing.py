"""How answers are written: the settings of sampling, and as many answers at a time as fit into memory."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Shape, Transformer
from maxrl_lab.settings import Choice, Count, CountOrZero, Interval, Positive, Settings
from maxrl_lab.tokens.decoding import EOS
from maxrl_lab.tokens.sampling import Answers, sample
from maxrl_lab.tokens.scoring import check_prompts, read

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
GIB = 2**30


@dataclass(frozen=True)
class Writing(Settings):
    """How answers are sampled, and what memory that and their gradient may take."""

    answer_length: Count
    """T, the most tokens of an answer."""
    end: CountOrZero = EOS
    """Id of the token that ends an answer."""
    temperature: Positive = 1.0
    """Temperature of sampling and of scoring alike."""
    top_p: Annotated[float, Interval(0, 1, closed_high=True)] = 1.0
    """Share of the probability that the nucleus holds; below 1 answers can be sampled but not learnt from."""
    memory: Positive = 1.0
    """GiB for activations; what does not fit at once is done in parts."""
    precision: Annotated[str, Choice(PRECISIONS)] = "float32"
    """Precision of the arithmetic: float32, or bfloat16 under autocast, which is faster and only nearly on-policy."""

    def arithmetic(self, device: torch.device) -> torch.autocast:
        """Return the context in which the policy is run."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


class Prompts(NamedTuple):
    """B prompts (B, P), padded on the right, and their lengths (B,)."""

    tokens: Tensor
    lengths: Tensor


def write(
    policy: Transformer, prompts: Prompts, rollouts: int, writing: Writing, stream: torch.Generator | None
) -> Answers:
    """Sample N answers of each of B prompts, as many at a time as fit into memory; greedy ones without a stream."""
    tokens, lengths = prompts
    check_prompts(policy, tokens, lengths, writing.answer_length)
    size = (len(tokens), rollouts, writing.answer_length)
    uniforms = None if stream is None else torch.rand(size, generator=stream, device=tokens.device)
    prompts_at_once, answers_at_once = at_once(policy.shape, tokens.shape[1], rollouts, writing)
    parts = []
    for start in range(0, len(tokens), prompts_at_once):
        rows = slice(start, start + prompts_at_once)
        with torch.no_grad(), writing.arithmetic(tokens.device):
            prefix = read(policy, tokens[rows, : int(lengths[rows].max())], lengths[rows])
            pieces = [
                sample(
                    policy,
                    prefix,
                    None if uniforms is None else uniforms[rows, first : first + answers_at_once],
                    end=writing.end,
                    answers=(min(answers_at_once, rollouts - first), writing.answer_length),
                    temperature=writing.temperature,
                    top_p=writing.top_p,
                )
                for first in range(0, rollouts, answers_at_once)
            ]
        parts.append(Answers(*(torch.cat(piece, 1) for piece in zip(*pieces, strict=True))))
    return Answers(*(torch.cat(part) for part in zip(*parts, strict=True)))


def at_once(shape: Shape, prompt: int, rollouts: int, writing: Writing) -> tuple[int, int]:
    """Return how many prompts, and how many answers of each, can be written together.

    Raises `InputError` if one answer does not fit into the memory.
    """
    cache = 2 * shape.layers * shape.kv_heads * shape.head
    hidden = 4 * (shape.width + shape.mlp)
    per_prompt, per_answer = 4 * prompt * (cache + hidden), 4 * (2 * cache * writing.answer_length + 2 * hidden)
    room = writing.memory * GIB
    together = min(rollouts, int((room - per_prompt) / per_answer))
    if together < 1:
        raise InputError(
            f"an answer of {writing.answer_length} tokens to a prompt of {prompt} needs "
            f"{(per_prompt + per_answer) / GIB:.2g} GiB, memory is {writing.memory:g} GiB"
        )
    return max(1, int(room / (per_prompt + together * per_answer))), together
