"""How a network's action log-probabilities move with its parameters, for exact moments through the network."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from maxrl_lab.errors import InputError

MAX_ELEMENTS = 2**27
"""Largest Jacobian, 1 GiB in double precision."""


def score_gram(network: nn.Module, inputs: Tensor, rows: Tensor) -> Tensor:
    """Return the products of the gradients of log pi(a|s) in all parameters, (B, S A, S A) float64.

    rows: (B, S) the output of `network(inputs)`, (O, A), in each state. With it `TabularTasks.moments` gives the exact
    moments of the score through the network. Time and memory grow with (S A)^2: a second at S A = 1000 or so.
    """
    with torch.no_grad():
        actions = network(inputs.to(next(network.parameters()).dtype)).shape[-1]
    grams = []
    for row in rows:
        cells = (row[:, None] * actions + torch.arange(actions, device=row.device)).flatten()
        jacobian = log_prob_jacobian(network, inputs, cells)
        grams.append(jacobian @ jacobian.T)
    return torch.stack(grams)


def log_prob_jacobian(network: nn.Module, inputs: Tensor, cells: Tensor | None = None) -> Tensor:
    """Return the gradient of every log pi(a|o) with respect to all parameters, float64, (cells, d).

    inputs: (O, ...) to logits (O, A). cells: which of the O A log-probabilities, row-major; all by default. Raises
    `InputError` with the numbers if that is more than `MAX_ELEMENTS`.
    """
    parameters = {name: value.detach().double() for name, value in network.named_parameters()}
    size = sum(value.numel() for value in parameters.values())

    def chosen(values: dict[str, Tensor]) -> Tensor:
        logits: Tensor = functional_call(network, values, (inputs.double(),))
        flat = logits.log_softmax(-1).flatten()
        return flat if cells is None else flat[cells]

    with torch.no_grad():
        count = len(chosen(parameters))
    if count * size > MAX_ELEMENTS:
        raise InputError(
            f"the Jacobian of {count} log-probabilities and {size} parameters has {count * size} numbers, "
            f"at most {MAX_ELEMENTS} are allowed"
        )
    slopes = jacrev(chosen)(parameters)
    return torch.cat([slopes[name].flatten(1) for name in parameters], 1).detach()
