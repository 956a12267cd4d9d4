"""The policy without generalisation: one row of logits per observation."""

import torch
from torch import Tensor, nn


class Table(nn.Module):
    """Logits (O, A), all 0 at first: a uniform policy. What the observations contain is not looked at."""

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(observations, actions))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (O, A) of the O inputs; `ValueError` for another number of inputs."""
        if len(inputs) != len(self.logits):
            raise ValueError(f"a table of {len(self.logits)} observations was asked for {len(inputs)}")
        return self.logits
