"""The exact mean and variance of a gradient estimate where a surrogate stands for the likelihood of a denoised answer.

For one prompt all answers, orders and masks are listed. A surrogate's gradient is a random weighted sum of the slopes
of an answer's cells (`maxrl_lab.denoising.forms`), so that its mean needs the slopes, and its second moment their inner
products. Means and second moments among right answers and among wrong ones are all that
`maxrl_lab.exact.surrogate_moments` needs for any estimator.  [lab]

Axes: X answers, F cells of each, n different cells, O orders, d parameters.
"""

import math
from collections import Counter
from functools import cached_property
from itertools import combinations_with_replacement
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from maxrl_lab import exact
from maxrl_lab.denoising.forms import Forms
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.surrogates import AnySurrogate, Surrogate, renyi_bound, resolve
from maxrl_lab.errors import InputError

MOST_SLOPES = 2**27
"""Most numbers in the slopes of all cells, 1 GiB in double precision."""
MOST_MASK_SETS = 5000
"""Most sets of masks that are listed for a surrogate which is not linear in its masks."""
_AT_ONCE = 2**22
"""Numbers of slopes that are gathered at once."""


class Denoiser(Protocol):
    """A network that predicts the digits of a partly filled answer, as those of `maxrl_lab.policies.masked`."""

    def log_probs(self, prompts: Tensor, states: Tensor) -> Tensor:
        """Return log-probabilities (B, M, L, V) after prompts (B, P) in states (B, M, L) or (M, L)."""
        ...


class ScoreMoments(NamedTuple):
    """A surrogate's gradient among right rollouts (row 0) and wrong ones (row 1), float64."""

    pass_rate: Tensor
    """() the probability of a right rollout."""
    means: Tensor
    """(2, d) the mean of grad l."""
    squares: Tensor
    """(2,) the mean of |grad l|^2."""

    def estimate(self, estimator: exact.AnyEstimator, rollouts: int) -> exact.Moments:
        """Return the mean (d,) and the variance () of the estimate of one group of N rollouts."""
        shares = torch.stack([self.pass_rate, 1 - self.pass_rate])
        return exact.surrogate_moments(
            estimator,
            rollouts=rollouts,
            probabilities=shares,
            scores=self.means,
            rewards=torch.tensor([1, 0]),
            squares=self.squares,
        )


class Problem:
    """One prompt under one policy, with everything that its answers' gradients are made of.

    prompt: (P,). right: (X,) bool, which answers are right. The policy is computed in double precision. Raises
    `InputError` where the slopes of all cells would have more than `MOST_SLOPES` numbers.
    """

    def __init__(
        self, policy: nn.Module, prompt: Tensor, right: Tensor, lattice: Lattice, forms: Forms | None = None
    ) -> None:
        self.policy, self.prompt, self.right, self.lattice = policy, prompt, right, lattice
        self.forms = forms or Forms(lattice.length)
        table = tabulate(policy, prompt[None], lattice)
        self.tokens = self.forms.tokens(lattice, table)[0]
        paths = self.forms.path_log_probs(self.tokens)
        self.answers = paths.logsumexp(-1).exp()
        """(X,) probability of each answer, summed over the sampler's orders."""
        self.posterior = paths.softmax(-1)
        """(X, O) probability of each order, given the answer that it wrote."""

    @property
    def pass_rate(self) -> Tensor:
        """The probability () of a right answer."""
        return (self.answers * self.right).sum()

    @cached_property
    def slopes(self) -> tuple[Tensor, Tensor]:
        """The number (X, F) of each cell among the n different ones, and the slopes (n, d) of these."""
        lattice, columns = self.lattice, self.forms.cells[:, 1]
        digits = lattice.answers[:, columns]
        keys = (self.forms.states(lattice) * lattice.length + columns) * lattice.base + digits
        different, numbers = keys.unique(return_inverse=True)
        states = lattice.states[different // (lattice.length * lattice.base)]
        places = different // lattice.base % lattice.length
        return numbers, slopes(self.policy, self.prompt, states, places, different % lattice.base)

    @cached_property
    def products(self) -> Tensor:
        """Inner products (X, F, F) of the slopes of each answer's cells."""
        numbers, values = self.slopes
        at_once = max(1, _AT_ONCE // (numbers.shape[1] * values.shape[1]))
        parts = [values[part] @ values[part].mT for part in numbers.split(at_once)]
        return torch.cat(parts)

    def moments(self, surrogate: AnySurrogate) -> ScoreMoments:
        """Return the moments of a surrogate's gradient over answers, orders and masks."""
        made = resolve(surrogate)
        mean, second = self.forms.moments(made)
        means = self.posterior @ mean
        squares = (self.posterior * torch.einsum("ofg,xfg->xo", second, self.products)).sum(1)
        if made.beta is not None:
            wrong = (~self.right).nonzero()[:, 0]
            means[wrong], squares[wrong] = self._of_wrong(made, wrong)
        return self.combine(means, squares)

    def combine(self, means: Tensor, squares: Tensor) -> ScoreMoments:
        """Return the moments of a gradient whose mean coefficients (X, F) and mean square (X,) are known by answer."""
        chances = torch.stack([self.answers * self.right, self.answers * ~self.right])
        chances = chances / chances.sum(1, keepdim=True).clamp(min=1e-300)
        numbers, values = self.slopes
        weights = torch.zeros(2, len(values), dtype=values.dtype)
        weights.index_add_(1, numbers.flatten(), (chances[..., None] * means).flatten(1))
        return ScoreMoments(self.pass_rate, weights @ values, chances @ squares)

    def _of_wrong(self, surrogate: Surrogate, wrong: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean coefficients (W, F) and the mean |grad l|^2 (W,) of Rényi's bound for wrong answers (W,)."""
        law = surrogate.law(self.forms.length)
        sets, weights = mask_sets(law.weights, surrogate.samples)
        empty = law.empty[:, 0][sets]  # (Q, J, L)
        cells = self.forms.cell_numbers(empty)
        at_once = max(1, _AT_ONCE // (cells.numel() + len(sets) * len(self.forms.cells)))
        means, squares = [], []
        for rows in wrong.split(at_once):
            dense = _renyi_coefficients(self.tokens[rows], empty, cells, cast(float, surrogate.beta))
            means.append(torch.einsum("q,xqf->xf", weights, dense))
            products = self.products[rows]
            squares.append(torch.einsum("q,xqf,xqf->x", weights, dense @ products, dense))
        return torch.cat(means), torch.cat(squares)


def tabulate(policy: nn.Module, prompts: Tensor, lattice: Lattice) -> Tensor:
    """Return the policy's log-probabilities in all states, (B, S, L, V) float64, without a gradient."""
    with torch.no_grad():
        return cast(Denoiser, policy).log_probs(prompts, lattice.states).double()


def slopes(policy: nn.Module, prompt: Tensor, states: Tensor, places: Tensor, digits: Tensor) -> Tensor:
    """Return the gradient in all parameters of log pi(digit | state, place) for n cells, (n, d) float64.

    prompt: (P,); states: (n, L); places and digits: (n,). Raises `InputError` for more than `MOST_SLOPES` numbers.
    """
    parameters = {f"policy.{name}": value.detach().double() for name, value in policy.named_parameters()}
    size = sum(value.numel() for value in parameters.values())
    if len(states) * size > MOST_SLOPES:
        got = f"{len(states)} cells and {size} parameters have {len(states) * size}"
        raise InputError(f"the slopes of all cells have at most {MOST_SLOPES} numbers, {got}")
    cell = _Cell(policy)

    def log_prob(values: dict[str, Tensor], state: Tensor, column: Tensor, digit: Tensor) -> Tensor:
        value: Tensor = functional_call(cell, values, (prompt, state, column, digit))
        return value

    at_once = max(1, _AT_ONCE // size)
    every = vmap(grad(log_prob), in_dims=(None, 0, 0, 0))
    parts = zip(*(values.split(at_once) for values in (states, places, digits)), strict=True)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel cannot be mapped over
        made = [every(parameters, *part) for part in parts]
    return torch.cat([torch.cat([part[name].flatten(1) for name in parameters], 1) for part in made]).detach()


class _Cell(nn.Module):
    """One log-probability of a policy, as a module that `functional_call` can call."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, prompt: Tensor, state: Tensor, column: Tensor, digit: Tensor) -> Tensor:
        """Return log pi(digit | state, place), ()."""
        values = cast(Denoiser, self.policy).log_probs(prompt[None], state[None])[0, 0]
        is_asked = (torch.arange(values.shape[0]) == column)[:, None] & (torch.arange(values.shape[1]) == digit)
        return (values * is_asked).sum()


def mask_sets(weights: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return all sets (Q, n) of n masks, with repetition, and their probabilities (Q,), for masks of weights (C,).

    Raises `InputError` for more than `MOST_MASK_SETS` sets.
    """
    count = math.comb(len(weights) + samples - 1, samples)
    if count > MOST_MASK_SETS:
        raise InputError(f"{samples} masks of {len(weights)} make {count} sets, at most {MOST_MASK_SETS} are listed")
    sets = list(combinations_with_replacement(range(len(weights)), samples))
    ways = [
        math.factorial(samples) / math.prod(math.factorial(times) for times in Counter(members).values())
        for members in sets
    ]
    rows = torch.tensor(sets)
    return rows, weights[rows].prod(1) * torch.tensor(ways, dtype=weights.dtype)


def _renyi_coefficients(tokens: Tensor, empty: Tensor, cells: Tensor, beta: float) -> Tensor:
    """Return the derivatives (X, Q, F) of Rényi's bound from sets of masks (Q, J, L) in the cells (X, F)."""
    padded = torch.cat([tokens, torch.zeros_like(tokens[:, :1])], 1)
    with torch.enable_grad():
        log_probs = padded[:, cells].requires_grad_()
        bound = renyi_bound(log_probs, empty.expand(len(tokens), *empty.shape), beta)
        (derivatives,) = torch.autograd.grad(bound.sum(), log_probs)
    dense = torch.zeros(*derivatives.shape[:2], padded.shape[1], dtype=tokens.dtype)
    where = cells.flatten(1).expand(len(tokens), -1, -1)
    return dense.scatter_add_(-1, where, derivatives.flatten(2))[..., :-1]
