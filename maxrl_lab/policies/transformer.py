"""A decoder-only transformer, Qwen2 style: RMSNorm, rotary positions, grouped queries, SwiGLU, tied embeddings.

One stack of layers serves reading a prompt, writing answers and scoring them; only which tokens see which differs, and
that is an argument (`maxrl_lab.tokens.attention`). Weights travel to and from `transformers` with
`maxrl_lab.tokens.pretrained`.

Axes: B prompts, N answers of each, P and T tokens of prompt and answer, H query heads, K heads of keys and values, D
numbers a head, V vocabulary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, rms_norm, silu

from maxrl_lab.errors import InputError
from maxrl_lab.settings import Count, Positive, Settings

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Attention of one layer: (layer, queries (..., T, H, D), keys and values (..., T, K, D)) -> (..., T, H D)."""


@dataclass(frozen=True)
class Shape(Settings):
    """The size of a transformer; the defaults are the paper's maze policy (App. E.1)."""

    vocabulary: Count = 32
    """Number V of words."""
    width: Count = 256
    """Width of the residual stream."""
    layers: Count = 4
    """Number of layers."""
    heads: Count = 4
    """Number H of query heads; a head has width / heads numbers."""
    kv_heads: Count = 2
    """Number K of heads of keys and values, each shared by H / K query heads."""
    mlp: Count = 1024
    """Number of hidden units of each SwiGLU."""
    context: Count = 512
    """Most tokens of a prompt and its answer together."""
    rope_theta: Positive = 1e6
    """Base of the rotary frequencies."""
    norm_epsilon: Positive = 1e-6
    """What RMSNorm adds to the mean square before it takes the root."""
    tied: bool = True
    """Whether the embedding is also the output layer."""

    def __post_init__(self) -> None:
        """Check also that heads divide the width, and heads of keys and values the query heads."""
        super().__post_init__()
        if self.width % (2 * self.heads):
            raise InputError(f"width must be a multiple of twice the heads, got {self.width} with {self.heads} heads")
        if self.heads % self.kv_heads:
            raise InputError(f"heads must be a multiple of kv_heads, got {self.heads} and {self.kv_heads}")

    @property
    def head(self) -> int:
        """The numbers D of a head."""
        return self.width // self.heads


PAPER_MAZE = Shape()
"""The paper's maze policy: 3.9 million parameters."""


class Block(nn.Module):
    """One layer: attention, then a SwiGLU, each on the normalised residual stream and added to it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.attention_norm = nn.Parameter(torch.ones(shape.width))
        self.qkv = nn.Linear(shape.width, (shape.heads + 2 * shape.kv_heads) * shape.head)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.mlp_norm = nn.Parameter(torch.ones(shape.width))
        self.gate_up = nn.Linear(shape.width, 2 * shape.mlp, bias=False)
        self.down = nn.Linear(shape.mlp, shape.width, bias=False)

    def project(self, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries (..., T, H, D) and keys, and values (..., T, K, D)."""
        shape = self.shape
        mixed = self.qkv(rms_norm(hidden, (shape.width,), self.attention_norm, shape.norm_epsilon))
        mixed = mixed.unflatten(-1, (shape.heads + 2 * shape.kv_heads, shape.head))
        unrotated, values = mixed.split([shape.heads + shape.kv_heads, shape.kv_heads], -2)
        queries, keys = rotate(unrotated, rotation).split([shape.heads, shape.kv_heads], -2)
        return queries, keys, values

    def transform(self, hidden: Tensor) -> Tensor:
        """Return the SwiGLU's addition to the residual stream."""
        normalised = rms_norm(hidden, (self.shape.width,), self.mlp_norm, self.shape.norm_epsilon)
        # two products: one of twice the width took up to twice as long, and its halves would not be contiguous
        gate, up = (linear(normalised, weight) for weight in self.gate_up.weight.chunk(2))
        added: Tensor = self.down(silu(gate) * up)
        return added


class Transformer(nn.Module):
    """The policy. Parameters start normal with standard deviation 0.02, biases 0 (as Qwen2 does)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.empty(shape.vocabulary, shape.width))
        blocks = [Block(shape) for _ in range(shape.layers)]
        self.blocks: Iterable[Block] = nn.ModuleList(blocks)  # type: ignore[assignment]  # a ModuleList is not generic
        self.norm = nn.Parameter(torch.ones(shape.width))
        self.head = None if shape.tied else nn.Parameter(torch.empty(shape.vocabulary, shape.width))
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        for block in blocks:
            nn.init.zeros_(block.qkv.bias)

    def hidden(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Return the final hidden states (..., T, width) of tokens (..., T) at `positions`, broadcast to the tokens."""
        rotation = rotary(positions, self.shape, self.embedding.dtype)
        hidden = embedding(tokens, self.embedding)
        for layer, block in enumerate(self.blocks):
            hidden = hidden + block.out(attend(layer, *block.project(hidden, rotation)))
            hidden = hidden + block.transform(hidden)
        return rms_norm(hidden, (self.shape.width,), self.norm, self.shape.norm_epsilon)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return next-token logits (..., V)."""
        return linear(hidden, self.embedding if self.head is None else self.head)


def rotary(positions: Tensor, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (..., T, 1, D/2) of the rotary angles at positions (..., T) (Su et al. 2021)."""
    half = torch.arange(0, shape.head, 2, dtype=torch.float64, device=positions.device)
    angles = positions[..., None, None] * shape.rope_theta ** (-half / shape.head)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate heads (..., T, heads, D): number i pairs with number i + D/2. Keeps their type, also under autocast."""
    cosine, sine = rotation
    first, second = heads.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1).to(heads)
