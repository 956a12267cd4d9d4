"""The gradient of answers with fixed shapes, captured: what `maxrl_lab.tokens.gradients` gives, without its savings.

The ordinary gradient leaves out answers without an advantage, equal ones and padding. Here nothing is left out, because
shapes must not depend on values: every answer is scored to its full length, and what does not count gets the slope 0 or
is masked. What does not fit into memory comes in parts of one shape, the last of which is filled up with slopes of 0.
Axes as in `maxrl_lab.policies.transformer`.
"""

import torch
from torch import Tensor

from maxrl_lab.captured import Captured, Outputs
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.tokens.attention import Causal
from maxrl_lab.tokens.captured_writing import arithmetic, widened
from maxrl_lab.tokens.distributions import distribution, entropy
from maxrl_lab.tokens.gradients import parts
from maxrl_lab.tokens.merged_attention import attend_to_both
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.writing import Prompts, Writing


class CapturedGradient:
    """Adds gradients to the `grad` of a policy's parameters; of every shape one part's work is captured once.

    Raises `InputError` if the activations of one answer do not fit into the memory.
    """

    def __init__(self, policy: Transformer, writing: Writing) -> None:
        self.policy, self.writing = policy, writing
        self.parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        self.totals = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]
        self.add = Captured(self._add, changes=lambda: self.totals, reads=lambda: [*policy.parameters()], most=4)

    def zero(self) -> None:
        """Set the gradient to 0."""
        torch._foreach_zero_(self.totals)
        for parameter, total in zip(self.parameters, self.totals, strict=True):
            parameter.grad = total

    def accumulate(
        self, prompts: Prompts, written: Answers, by_log_prob: Tensor, by_entropy: Tensor | None = None
    ) -> None:
        """Add the gradient of sum(by_log_prob log_probs + by_entropy entropies), slopes (B, N)."""
        prompts = widened(prompts)
        count, rollouts = by_log_prob.shape
        prompts_at_once, answers_at_once = self._at_once(prompts, written)
        for start in range(0, count, prompts_at_once):
            rows, is_row = _indices(start, prompts_at_once, count, by_log_prob.device)
            for first in range(0, rollouts, answers_at_once):
                columns, is_column = _indices(first, answers_at_once, rollouts, by_log_prob.device)
                part, counts = (rows[:, None], columns), is_row[:, None] & is_column
                slopes = [slope[part] * counts for slope in (by_log_prob, by_entropy) if slope is not None]
                prompt = (prompts.tokens[rows], prompts.lengths[rows])
                self.add(*prompt, written.tokens[part], written.lengths[part], *slopes)

    def _at_once(self, prompts: Prompts, written: Answers) -> tuple[int, int]:
        """Return how many prompts, and how many answers of each, have a gradient together."""
        full = torch.full(written.lengths.shape, written.tokens.shape[2])
        everything = torch.ones(full.shape, dtype=torch.bool)
        sizes = parts(self.policy.shape, prompts.tokens.shape[1], everything, full, self.writing.memory)
        rows, columns = next(sizes)  # the first part is the largest
        return len(rows), columns.shape[1]

    def _add(
        self,
        prompts: Tensor,
        prompt_lengths: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        by_log_prob: Tensor,
        by_entropy: Tensor | None = None,
    ) -> Outputs:
        """Add the gradient of one part; this is what is captured."""
        with torch.enable_grad(), arithmetic(self.writing, tokens.device):
            log_probs, entropies = score(
                self.policy, prompts, prompt_lengths, tokens, lengths, self.writing.temperature
            )
            surrogate = (by_log_prob * log_probs).sum()
            if by_entropy is not None:
                surrogate = surrogate + (by_entropy * entropies).sum()
        slopes = torch.autograd.grad(surrogate, self.parameters)
        torch._foreach_add_(self.totals, slopes)
        return ()


def score(
    policy: Transformer,
    prompts: Tensor,
    prompt_lengths: Tensor,
    tokens: Tensor,
    lengths: Tensor,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return what `read` and `scoring.score` return of answers (B, N, T): log-probabilities and entropies (B, N).

    No shape depends on `prompt_lengths` (B,) or `lengths` (B, N): all tokens are computed, and those of padding masked.
    """
    attend = Causal()
    positions = torch.arange(prompts.shape[1], device=prompts.device)
    hidden = policy.hidden(prompts, positions, attend)
    last = (prompt_lengths - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
    first = distribution(policy.logits(hidden.gather(1, last)[:, 0]), temperature)
    log_probs, entropies = first.gather(1, tokens[..., 0]), entropy(first)[:, None].expand(lengths.shape)
    if tokens.shape[2] == 1:
        return log_probs, entropies
    times = torch.arange(tokens.shape[2] - 1, device=tokens.device)
    see = _Whole(attend, positions >= prompt_lengths[:, None, None, None], times[:, None] < times)
    hidden = policy.hidden(tokens[..., :-1], prompt_lengths[:, None, None] + times, see)
    later = distribution(policy.logits(hidden), temperature)
    behind = times >= lengths[..., None] - 1
    picked = later.gather(-1, tokens[..., 1:, None])[..., 0].masked_fill(behind, 0.0).sum(-1)
    return log_probs + picked, entropies + entropy(later).masked_fill(behind, 0.0).sum(-1)


class _Whole:
    """Tokens of whole answers (B, N, T) see their prompt, and their own answer up to themselves."""

    def __init__(self, prompts: Causal, padding: Tensor, later: Tensor) -> None:
        self.prompts, self.padding, self.later = prompts, padding, later

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `transformer.Attend`."""
        shared = self.prompts.keys[layer], self.prompts.values[layer]
        keys, values = (part.permute(0, 3, 1, 2, 4) for part in (keys, values))
        later = self.later.repeat(queries.shape[3] // keys.shape[1], 1)
        return attend_to_both(queries, *shared, keys, values, self.padding, later)


def _indices(start: int, count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return `count` indices from `start` on, the last index for those that are too large, and which are not."""
    indices = torch.arange(start, start + count, device=device)
    return indices.clamp(max=size - 1), indices < size
