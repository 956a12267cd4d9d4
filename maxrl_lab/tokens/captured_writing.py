"""Writing answers with the decode step captured: what `maxrl_lab.tokens.writing.write` writes, a replay for each token.

The ordinary step leaves behind the answers that have ended, and its cache grows. Here no shape changes: a prompt is as
wide as the next multiple of 16, an answer's cache has room for all its tokens, what lies ahead is hidden, and an answer
that has ended gets padding. Answers are the same, from the same random numbers, and their log-probabilities up to
rounding. Axes as in `maxrl_lab.policies.transformer`.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from maxrl_lab.captured import Captured, Kept, Outputs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.tokens.attention import Prefix
from maxrl_lab.tokens.decoding import PAD
from maxrl_lab.tokens.distributions import distribution, entropy, pick
from maxrl_lab.tokens.merged_attention import attend_to_both
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.scoring import check_prompts, read
from maxrl_lab.tokens.writing import Prompts, Writing, at_once

_WIDTH = 16
"""Prompts are as wide as a multiple of this, so that prompts of many lengths need few captures."""
_STEPS_BETWEEN_LOOKS = 8
"""A GPU is asked after so many tokens whether all answers have ended; the answer makes it wait."""
_LARGEST_VOCABULARY = 256
"""Words among which a nucleus is looked for without asking how much the likeliest hold."""


def widened(prompts: Prompts) -> Prompts:
    """Return prompts as wide as the multiple of 16 that holds the longest of them."""
    width = -(-int(prompts.lengths.max()) // _WIDTH) * _WIDTH
    tokens = prompts.tokens[:, :width]
    return Prompts(pad(tokens, (0, width - tokens.shape[1]), value=PAD), prompts.lengths)


def arithmetic(writing: Writing, device: torch.device) -> torch.autocast:
    """Return the context in which a captured policy is run; weights are cast in every replay, since they change."""
    enabled = writing.precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)


class CapturedWriting:
    """Writes a policy's answers; of every number of prompts, answers and width the step is captured once.

    Raises `InputError` for a nucleus in a vocabulary of more than 256 words, and what `write` raises.
    """

    def __init__(self, policy: Transformer, writing: Writing, most: int = 4) -> None:
        if writing.top_p < 1 and policy.shape.vocabulary > _LARGEST_VOCABULARY:
            got = f"top_p {writing.top_p:g} and {policy.shape.vocabulary} words"
            raise InputError(f"captured sampling takes top_p 1 or at most {_LARGEST_VOCABULARY} words, got {got}")
        self.policy, self.writing = policy, writing
        self.decoders: Kept[tuple[_Decoder, Captured]] = Kept(most)

    @torch.no_grad()
    def write(self, prompts: Prompts, rollouts: int, stream: torch.Generator | None) -> Answers:
        """Sample N answers of each of B prompts, as many at a time as fit; greedy ones without a stream."""
        tokens, lengths = prompts
        check_prompts(self.policy, tokens, lengths, self.writing.answer_length)
        size = (len(tokens), rollouts, self.writing.answer_length)
        uniforms = None if stream is None else torch.rand(size, generator=stream, device=tokens.device)
        prompts_at_once, answers_at_once = at_once(self.policy.shape, tokens.shape[1], rollouts, self.writing)
        parts = []
        for start in range(0, len(tokens), prompts_at_once):
            rows = slice(start, start + prompts_at_once)
            with self.writing.arithmetic(tokens.device):
                prefix = read(self.policy, *widened(Prompts(tokens[rows], lengths[rows])))
            pieces = []
            for first in range(0, rollouts, answers_at_once):
                numbers = None if uniforms is None else uniforms[rows, first : first + answers_at_once]
                pieces.append(self._sample(prefix, min(answers_at_once, rollouts - first), numbers))
            parts.append(Answers(*(torch.cat(piece, 1) for piece in zip(*pieces, strict=True))))
        return Answers(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _sample(self, prefix: Prefix, rollouts: int, uniforms: Tensor | None) -> Answers:
        """Return N answers of each prompt of the prefix."""
        keys = prefix.keys[0]
        key = (keys.shape, keys.dtype, keys.device, prefix.logits.dtype, rollouts, uniforms is None)
        decoder, step = self.decoders.get(key, lambda: self._make(prefix, rollouts, greedy=uniforms is None))
        decoder.begin(prefix, uniforms)
        looks = _STEPS_BETWEEN_LOOKS if keys.device.type == "cuda" else 1
        capture = None
        for time in range(self.writing.answer_length - 1):
            if time % looks == 0 and bool(decoder.answers.ended.all()):
                break
            capture = capture or step.prepare()
            capture.replay()
        return Answers(*(part.clone() for part in decoder.answers))

    def _make(self, prefix: Prefix, rollouts: int, *, greedy: bool) -> "tuple[_Decoder, Captured]":
        """Return a decoder for such prompts, and its step."""
        decoder = _Decoder(self.policy, self.writing, prefix, rollouts, greedy=greedy)
        # a token's keys and values are written before they are seen, so recording may leave any there
        changes = [decoder.time, decoder.token, *decoder.answers]
        step = Captured(decoder.advance, changes=lambda: changes, reads=lambda: [*decoder.policy.parameters()], most=2)
        return decoder, step


class _Decoder:
    """B N answers under way, in tensors that stay where they are."""

    def __init__(self, policy: Transformer, writing: Writing, prefix: Prefix, rollouts: int, *, greedy: bool) -> None:
        like, tokens = prefix.keys[0], writing.answer_length
        prompts, kv_heads, width, head = like.shape
        self.policy, self.writing = policy, writing
        self.prefix_keys, self.prefix_values = (
            [torch.zeros_like(layer) for layer in layers] for layers in (prefix.keys, prefix.values)
        )
        self.prompt_lengths = torch.zeros_like(prefix.lengths)
        self.padding = torch.zeros(prompts, 1, 1, width, dtype=torch.bool, device=like.device)
        self.uniforms = None if greedy else torch.zeros(prompts, rollouts, tokens, device=like.device)
        size = (len(prefix.keys), prompts, kv_heads, rollouts, max(1, tokens - 1), head)
        self.keys, self.values = like.new_zeros(size), like.new_zeros(size)  # what is hidden must still be a number
        self.time = torch.zeros(1, dtype=torch.long, device=like.device)
        self.token = torch.zeros(prompts, rollouts, dtype=torch.long, device=like.device)
        dtype = torch.float64 if prefix.logits.dtype == torch.float64 else torch.float32
        worth = self.token.to(dtype)
        self.answers = Answers(
            self.token[..., None].repeat(1, 1, tokens),
            torch.zeros_like(self.token),
            torch.zeros_like(self.token, dtype=torch.bool),
            worth,
            torch.zeros_like(worth),
        )

    def advance(self) -> Outputs:
        """Run the policy on the newest token of every answer, and write the next one; this is what is captured."""
        later = torch.arange(self.keys.shape[4], device=self.keys.device) > self.time

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            for cache, part in ((self.keys, keys), (self.values, values)):
                cache[layer].index_copy_(3, self.time, part.transpose(2, 3).transpose(1, 2))
            prefix = self.prefix_keys[layer], self.prefix_values[layer]
            return attend_to_both(queries, *prefix, self.keys[layer], self.values[layer], self.padding, later)

        with torch.no_grad(), arithmetic(self.writing, self.keys.device):
            positions = self.prompt_lengths[:, None, None] + self.time
            logits = self.policy.logits(self.policy.hidden(self.token[..., None], positions, attend)[:, :, 0])
            self.time.add_(1)
            self._append(logits)
        return ()

    def begin(self, prefix: Prefix, uniforms: Tensor | None) -> None:
        """Take up other prompts and random numbers, and write the first token of every answer."""
        pairs = [*zip(self.prefix_keys, prefix.keys, strict=True), *zip(self.prefix_values, prefix.values, strict=True)]
        for target, source in (*pairs, (self.prompt_lengths, prefix.lengths)):
            target.copy_(source)
        positions = torch.arange(self.padding.shape[3], device=self.padding.device)
        self.padding.copy_(positions >= prefix.lengths[:, None, None, None])
        if self.uniforms is not None and uniforms is not None:
            self.uniforms.copy_(uniforms)
        for part in (self.keys, self.values, self.time, *self.answers):
            part.zero_()
        with arithmetic(self.writing, self.keys.device):
            self._append(prefix.logits[:, None].expand(-1, self.token.shape[1], -1))

    def _append(self, logits: Tensor) -> None:
        """Add a token to every answer that has not ended, from logits (B, N, V)."""
        log_probs = distribution(logits, self.writing.temperature, self.writing.top_p)
        if self.uniforms is None:
            token = log_probs.argmax(-1)
        else:
            token = pick(log_probs, self.uniforms.index_select(2, self.time)[..., 0])
        tokens, lengths, ended, worth, entropies = self.answers
        tokens.index_copy_(2, self.time, token.masked_fill(ended, PAD)[..., None])
        worth.add_(log_probs.gather(-1, token[..., None])[..., 0].masked_fill(ended, 0.0))
        entropies.add_(entropy(log_probs).masked_fill(ended, 0.0))
        lengths.add_(~ended)
        ended.logical_or_(token == self.writing.end)
        self.token.copy_(token)
