"""A denoiser without attention: a multilayer perceptron of the prompt's words and of the partly filled answer.

It learns a few problems within seconds, where a small transformer takes minutes, and its gradients are cheap to list.
The method is that of `maxrl_lab.policies.masked`. Axes as there: B prompts, P words, M states, L places, V digits.
"""

import torch
from torch import Tensor, nn

from maxrl_lab.errors import InputError


class MaskedMlp(nn.Module):
    """Two hidden layers with ReLU; the first adds up a vector for every word in its position.

    words: the number of words that prompts are written in. The empty place, word V, can be read and never written.
    """

    def __init__(self, *, base: int, length: int, words: int, prompt_length: int, width: int = 32) -> None:
        super().__init__()
        self.base, self.length = base, length
        fan_in = prompt_length + length
        self.prompt = nn.Parameter(torch.randn(prompt_length, words, width) * (2 / fan_in) ** 0.5)
        self.answer = nn.Parameter(torch.randn(length, base + 1, width) * (2 / fan_in) ** 0.5)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, length * base)

    def log_probs(self, prompts: Tensor, states: Tensor) -> Tensor:
        """Return log-probabilities in nats of each digit at each place, (B, M, L, V), in the parameters' type.

        prompts: (B, P). states: (B, M, L), or (M, L) for the same states after every prompt. Raises `InputError` for
        other lengths.
        """
        if prompts.shape[-1] != len(self.prompt) or states.shape[-1] != self.length:
            got = f"{prompts.shape[-1]} and {states.shape[-1]}"
            raise InputError(f"expected {len(self.prompt)} words and {self.length} places, got {got}")
        read = sum(self.prompt[column, prompts[:, column]] for column in range(len(self.prompt)))
        seen = sum(self.answer[column, states[..., column]] for column in range(self.length))
        inner = torch.relu(self.hidden(torch.relu(read[:, None] + seen)))  # type: ignore[index]
        logits: Tensor = self.out(inner).unflatten(-1, (self.length, self.base))
        return logits.log_softmax(-1)
