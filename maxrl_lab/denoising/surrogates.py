"""What stands for log pi(x) where an answer is denoised: which network passes, and how each token is weighed in each.

An answer x of L digits is written in an order of its places, and has as many likelihoods as orders. A surrogate reads

    l(x) = sum_j sum_i c_ji log pi(x_i | the digits of x outside the empty places of pass j)

with one pass of the network, forward and backward, for each j. A `Law` says at random which places are empty and what
the coefficients c are. It counts places by their rank in the order in which the rollout filled them, so that surrogates
of the rollout's own path and those of random masks are the same kind of object: sampled from in training, and summed
over, exactly, by `maxrl_lab.denoising.moments`.

Axes: C choices of the law, J passes, L places.

Sources: `path` is the score of the sampler itself; `own_step` subsamples it, as AGRPO (arXiv:2510.04019, a
reconstruction) does. `elbo` is the bound of masked diffusion in its discrete form, which BGPO (arXiv:2510.11683v3) and
VRPO take. `mean_field` is d1 (diffu-GRPO, arXiv:2504.12216) without its masks on the prompt. `two_times` is DiFFPO's
(arXiv:2510.02212), a reconstruction from summaries of the paper; `anchors` goes from the mean field to the path [lab].
`coupled` is coupled-GRPO (DiffuCoder, arXiv:2506.20639), with the weights of its code. `spg` is the pair of bounds of
SPG's code, of which the law here is the lower one; see `renyi_bound` for the upper one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.settings import Count, Interval

MOST_PLACES = 10
"""Laws list every set of places, of which there are 2^L."""
_MASK_RATIOS = (0.2, 0.8)
_NODES = 12
"""Gauss-Legendre nodes that stand for the uniform mask ratio of `coupled`: moments of 1/t are right to 1e-11."""


class Law(NamedTuple):
    """Which places are empty in each pass, and the coefficient of each token there, by rank; a finite distribution."""

    weights: Tensor
    """(C,) float64, the probability of each choice."""
    empty: Tensor
    """(C, J, L) bool, whether the place of a rank is empty in a pass."""
    coefficients: Tensor
    """(C, J, L) float64, 0 where the place is not empty."""


def path(length: int) -> Law:
    """Every step of the rollout's own path, one pass a step: unbiased, since this is the score of what was sampled."""
    return Law(_uniform(1), _left(length)[None], torch.eye(length, dtype=torch.float64)[None])


def own_step(length: int) -> Law:
    """One step of the rollout's own path, uniform, times L: unbiased, with one pass."""
    coefficients = length * torch.eye(length, dtype=torch.float64)
    return Law(_uniform(length), _left(length)[:, None], coefficients[:, None])


def elbo(length: int) -> Law:
    """One term of the bound: k uniform in 1..L, k places empty, their tokens weighed L/k; its mean is <= log p(x).

    The mean equals that of sum_t log pi(x_t | the t-1 before it) over all orders, and is <= log p(x) where the sampler
    takes all orders alike.
    """
    empty = torch.tensor([subset for subset in product((False, True), repeat=length) if any(subset)])
    size = empty.sum(1)
    ways = torch.tensor([math.comb(length, int(k)) for k in size], dtype=torch.float64)
    weighed = length / size.to(torch.float64)[:, None] * empty
    return Law(1 / (length * ways), empty[:, None], weighed[:, None])


def mean_field(length: int) -> Law:
    """All tokens given the prompt alone, one pass: blind to what the digits have to do with each other."""
    everything = torch.ones(1, 1, length)
    return Law(_uniform(1), everything.bool(), everything.double())


def two_times(length: int) -> Law:
    """The two-times mean field: tokens before a uniform step given the prompt alone, the others the own path there."""
    return _anchored(torch.stack([torch.zeros(length, dtype=torch.long), torch.arange(length)], 1), length)


def anchors(length: int, *, count: Count) -> Law:
    """Each token given the last of `count` partial answers of the own path before it: the empty one and random others.

    1 anchor is the mean field, L are the path. The other anchors are at different steps from 1 to L-1, all sets alike.
    """
    if not 1 <= count <= length:
        raise InputError(f"expected 1 to {length} anchors for {length} places, got {count}")
    steps = [(0, *later) for later in combinations(range(1, length), count - 1)]
    return _anchored(torch.tensor(steps), length)


def coupled(length: int) -> Law:
    """Half of the mean field, and half of a mask with ratio t and its complement, weighed 1/t and 1/(1-t); 3 passes.

    t is uniform in (0.2, 0.8), as in the code of coupled-GRPO. The coefficients of a token have the mean 3/2, not 1.
    """
    node, share = np.polynomial.legendre.leggauss(_NODES)
    low, high = _MASK_RATIOS
    ratio = torch.from_numpy(low + (high - low) * (node + 1) / 2)[:, None, None]
    mask = torch.tensor(list(product((False, True), repeat=length)))[None]
    size = mask.sum(-1, keepdim=True)
    chance = ratio**size * (1 - ratio) ** (length - size) * torch.from_numpy(share / 2)[:, None, None]
    passes = [torch.ones_like(mask), mask, ~mask]
    empty = torch.stack(passes, 2).expand(_NODES, -1, -1, -1)
    weighed = torch.stack([passes[0] / 2 + 0 * ratio, mask / (2 * ratio), ~mask / (2 * (1 - ratio))], 2)
    return Law(chance.flatten(), empty.flatten(0, 1), weighed.flatten(0, 1))


def spg(length: int, *, beta: Annotated[float, Interval()] = 1.5) -> Law:  # noqa: ARG001
    """The bound for right answers and Rényi's of order `beta` for wrong ones, from the same masks (SPG)."""
    return elbo(length)


LAWS: dict[str, Callable[..., Law]] = {
    "path": path,
    "own_step": own_step,
    "elbo": elbo,
    "two_times": two_times,
    "mean_field": mean_field,
    "anchors": anchors,
    "coupled": coupled,
    "spg": spg,
}


@dataclass(frozen=True)
class Surrogate:
    """A named surrogate, averaged over `samples` draws of its law (the n_t of BGPO)."""

    name: str
    samples: int = 1
    options: dict[str, specs.Option] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check name, samples and options."""
        law = specs.lookup(LAWS, "surrogate", self.name)
        specs.check_count("samples", self.samples)
        specs.check_options(law, "surrogate", self.name, self.options)

    @property
    def spec(self) -> str:
        """The text form, `elbo:samples=4`."""
        samples = {"samples": self.samples} if self.samples > 1 else {}
        return specs.format_spec(self.name, {**samples, **self.options})

    @property
    def beta(self) -> float | None:
        """The order of Rényi's bound that stands for wrong answers; None where the law stands for all answers."""
        return float(self.options.get("beta", 1.5)) if self.name == "spg" else None

    def law(self, length: int) -> Law:
        """Return the law of one draw for answers of so many places; `InputError` for more places than are listed."""
        if not 1 <= length <= MOST_PLACES:
            raise InputError(f"expected 1 to {MOST_PLACES} places, got {length}")
        law: Law = LAWS[self.name](length, **self.options)
        return law

    def passes(self, length: int) -> int:
        """Return the number of passes of the network, forward and backward, for one answer."""
        return self.samples * self.law(length).empty.shape[1]


AnySurrogate = str | Surrogate
"""A surrogate's text form, or itself."""


def resolve(surrogate: AnySurrogate) -> Surrogate:
    """Return a surrogate from its text form, `elbo:samples=4`, or itself; `InputError` for an unknown one."""
    if isinstance(surrogate, Surrogate):
        return surrogate
    name, options = specs.parse(surrogate)
    samples = options.pop("samples", 1)
    return Surrogate(name, specs.check_count("samples", samples), options)


def sample(law: Law, orders: Tensor, samples: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return empty places (..., n J, L) bool and coefficients, divided by n, of n draws for every rollout, by place.

    orders: (..., L), the place that each step of the rollout filled.
    """
    shape = (*orders.shape[:-1], samples)
    weights = law.weights.to(stream.device)
    choice = torch.multinomial(weights, math.prod(shape), replacement=True, generator=stream).view(shape)
    rank = orders.argsort(-1)[..., None, :].to(stream.device)
    placed = [part.to(stream.device)[choice].flatten(-3, -2) for part in (law.empty, law.coefficients / samples)]
    empty, coefficients = (part.gather(-1, rank.expand(part.shape)) for part in placed)
    return empty, coefficients


def renyi_bound(log_probs: Tensor, empty: Tensor, beta: float) -> Tensor:
    """Return SPG's upper bound (...) of log p(x), estimated from J masks; it stands for wrong answers.

        (1/beta) sum_i log( (1/J) sum_j pi(x_i | x outside mask j)^beta (L/k_j) 1{i in mask j} )

    log_probs (..., J, L) of each token in each pass, and the empty places, of which k_j are in mask j. A token that no
    mask holds counts 0. With the mean over masks inside the logarithm it is above log p(x) for beta >= L, by Hölder's
    inequality [lab]; SPG's code takes 1 to 2, where it need not be, and few masks estimate it with a bias.
    """
    share = empty.sum(-1, keepdim=True).to(log_probs) / empty.shape[-1]
    terms = torch.where(empty, beta * log_probs - share.clamp(min=1e-12).log(), -torch.inf)
    covered = empty.any(-2)
    terms = terms.masked_fill(~covered[..., None, :], 0.0)
    bound = (terms.logsumexp(-2) - math.log(empty.shape[-2])) / beta
    return torch.where(covered, bound, 0.0).sum(-1)


def _anchored(steps: Tensor, length: int) -> Law:
    """Return the law of anchors at the steps (C, J), in order: a token is scored in the pass of its last anchor."""
    start = steps[..., None]
    end = torch.cat([start[:, 1:], torch.full_like(start[:, :1], length)], 1)
    rank = torch.arange(length)
    return Law(_uniform(len(steps)), rank >= start, ((rank >= start) & (rank < end)).double())


def _left(length: int) -> Tensor:
    """Return which ranks are still empty before each step, (L, L)."""
    rank = torch.arange(length)
    return rank >= rank[:, None]


def _uniform(choices: int) -> Tensor:
    return torch.full((choices,), 1 / choices, dtype=torch.float64)
