"""R policies of one shape, evaluated as one batched program."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from maxrl_lab.errors import InputError
from maxrl_lab.randomness import generator

Network = TypeVar("Network", bound=nn.Module)


class Stack(nn.Module):
    """R networks with separate parameters, one forward pass: inputs (R, B, ...) -> outputs (R, B, ...).

    Each network keeps its own leaf parameters, so an optimiser can give each its own learning rate. Raises
    `InputError` for networks with buffers (batch normalisation), which one forward pass cannot keep apart.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if any(True for network in networks for _ in network.buffers()):
            raise InputError("a stack takes networks without buffers, got one with buffers (batch normalisation?)")
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return every network's output for its slice of `inputs`."""
        parameters = [dict(network.named_parameters()) for network in self.networks]
        stacked = {name: torch.stack([values[name] for values in parameters]) for name in parameters[0]}
        template = self.networks[0]
        outputs: Tensor = vmap(lambda weights, x: functional_call(template, weights, (x,)))(stacked, inputs)
        return outputs

    def log_policy(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return every network's log-probabilities of actions in every state, (R, 1, B, S, A): a stationary policy.

        inputs: (O, ...) the distinct observations, each evaluated once and shared by all networks, to logits (O, A);
        rows: (B, S) the observation of each state.
        """
        inputs = inputs.to(next(self.parameters()).dtype)
        logits: Tensor = self(inputs.expand(len(self.networks), *inputs.shape))
        log_probs = logits.log_softmax(-1).index_select(1, rows.flatten())
        return log_probs.view(len(logits), 1, *rows.shape, -1)


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Return a multilayer perceptron with ReLU between layers; `sizes` from input to output."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def seeded(make: Callable[[], Network], *key: str | int) -> Network:
    """Return `make()` with every parameter drawn from the stream of `key`, leaving the global generator untouched."""
    stream = generator("parameters", *key)
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(stream.get_state())
        return make()
