"""Bonuses for outcomes that were seldom seen: exact counts, coin flips in a table, coin flips of a network.

With n visits of an outcome the bonus is about n^(-1/2). Where outcomes are too many to be counted, Lobel et al. (2023,
"Flipping coins to estimate pseudocounts for exploration in reinforcement learning") regress on coins: at every visit a
fresh vector in {-1, 1}^d is the target of f, so that after n visits the least-squares f is the mean of n coins, and

    E[mean_d f^2] = 1/n,        bonus c = (mean_d f^2)^(1/2).

COPO (Bai et al., arXiv:2501.12735) puts that head on the last hidden state of a language model and adds alpha E_pi[c]
to the objective of DPO. The counts, the coins and the bonus follow its published code; the head's activation, its
optimiser and its number of steps are a reconstruction.

Axes: any leading ones (R runs, B tasks), Y outcomes, N of them sampled, M all that a network was shown, D coins.
"""

import torch
from torch import Tensor, nn

from maxrl_lab import specs
from maxrl_lab.errors import InputError

FLIPS = 20
"""Coins in a vector, as in COPO's code."""
CAP = 5.0
"""Largest ratio of probabilities in the importance-weighted bonus, as in COPO's code."""


class VisitCounts:
    """How often each of Y outcomes has been visited, exactly; `shape` is (..., Y)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.visits = torch.zeros(_checked_shape(shape), dtype=torch.float64)

    def add(self, outcomes: Tensor) -> None:
        """Count outcomes (..., N), indices in 0..Y-1; `InputError` for other ones."""
        outcomes = _checked_outcomes(outcomes, self.visits)
        self.visits.scatter_add_(-1, outcomes, torch.ones(outcomes.shape, dtype=torch.float64))

    def bonus(self, ridge: float = 1.0) -> Tensor:
        """Return (n + ridge)^(-1/2), (..., Y) float64: the elliptical bonus of features that are one-hot.

        Raises `InputError` unless the ridge is positive; 1 gives an outcome that was never seen a bonus of 1.
        """
        if not ridge > 0:
            raise InputError(f"ridge must be positive, got {ridge}")
        return (self.visits + ridge).rsqrt()


class CoinFlips:
    """Coin flips with a free table as f: the exact least-squares fit, which is the mean of an outcome's coins.

    `shape` is (..., Y). With a `prior` the fit starts from one random vector an outcome that counts as a visit: then
    E[mean f^2] = 1/(n+1), and an outcome that was never seen has a bonus of about 1. Without, its bonus is 0.
    """

    def __init__(
        self, shape: tuple[int, ...], stream: torch.Generator, *, flips: int = FLIPS, prior: bool = False
    ) -> None:
        size = (*_checked_shape(shape), specs.check_count("flips", flips))
        self.visits = torch.full(size[:-1], float(prior), dtype=torch.float64)
        self.sums = _coins(size, stream) if prior else torch.zeros(size, dtype=torch.float64)

    def add(self, outcomes: Tensor, stream: torch.Generator) -> None:
        """Flip a fresh vector of coins for every visit of outcomes (..., N); `InputError` for other indices."""
        outcomes = _checked_outcomes(outcomes, self.visits)
        coins = _coins((*outcomes.shape, self.sums.shape[-1]), stream)
        self.visits.scatter_add_(-1, outcomes, torch.ones(outcomes.shape, dtype=torch.float64))
        self.sums.scatter_add_(-2, outcomes[..., None].expand(coins.shape), coins)

    def bonus(self) -> Tensor:
        """Return (mean f^2)^(1/2), (..., Y) float64."""
        return coin_bonus(self.sums / self.visits.clamp(min=1)[..., None])


class CoinHead(nn.Module):
    """Coin flips of a network: features (..., W) -> hidden -> D, as COPO's 4096 -> 32 -> 20, with ReLU between.

    With a `prior` a second, frozen network of the same shape is added, whose outputs `whiten` scales to mean 0 and
    variance 1, and the trained one starts at 0 (Lobel et al. 2023): so what was never seen has a bonus of about 1. The
    published head of COPO has no prior: there the bonus of what was never seen is whatever the network says.
    """

    def __init__(self, width: int, *, hidden: int = 32, flips: int = FLIPS, prior: bool = False) -> None:
        super().__init__()
        self.trained, frozen = (_two_layers(width, hidden, flips) for _ in range(2))
        self.prior = frozen.requires_grad_(False) if prior else None
        self.shift = nn.Parameter(torch.zeros(flips), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(flips), requires_grad=False)
        if prior:
            for parameter in self.trained[-1].parameters():
                nn.init.zeros_(parameter)

    @torch.no_grad()
    def whiten(self, features: Tensor) -> None:
        """Scale the prior's outputs to mean 0 and variance 1 over features (M, W); without a prior nothing changes."""
        if self.prior is not None:
            outputs = self.prior(features)
            self.shift.copy_(outputs.mean(0))
            self.scale.copy_(outputs.std(0).clamp(min=1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Return f (..., D) of features (..., W)."""
        outputs: Tensor = self.trained(features)
        return outputs if self.prior is None else outputs + (self.prior(features) - self.shift) / self.scale

    def loss(self, features: Tensor, coins: Tensor) -> Tensor:
        """Return the mean squared error, a scalar, against coins (M, D) of features (M, W)."""
        return coin_error(self(features), coins)

    @torch.no_grad()
    def bonus(self, features: Tensor) -> Tensor:
        """Return (mean f^2)^(1/2) of features (..., W)."""
        return coin_bonus(self(features))


def coin_error(outputs: Tensor, coins: Tensor) -> Tensor:
    """Return the mean squared error (...) of outputs f against coins, (..., M, D) each."""
    return (outputs - coins).square().mean((-2, -1))


def coin_bonus(outputs: Tensor) -> Tensor:
    """Return (mean f^2)^(1/2), (...), of outputs f (..., D)."""
    return outputs.square().mean(-1).sqrt()


def flip(count: int, flips: int, stream: torch.Generator) -> Tensor:
    """Return fresh coins (count, D) of -1 and 1, float32."""
    return _coins((count, flips), stream).float()


def bonus_loss(
    log_probs: Tensor, bonuses: Tensor, alpha: float, *, reference: Tensor | None = None, cap: float = CAP
) -> Tensor:
    """Return -alpha mean_i min(rho_i, cap) (c_i - b_i) log pi_i, shape (...): a gradient estimate of alpha E_pi[c].

    log_probs: (..., B, N), differentiable. bonuses: (..., B, N), any numbers, held fixed. b_i is the mean bonus of the
    other rollouts of the task, 0 for N = 1. `reference` (..., B, N) holds the log-probabilities under the policy that
    sampled, and rho_i = pi_i / reference_i is held fixed; None if that is the policy itself. Without the cap the mean
    of the gradient is that of -alpha E_pi[c]: with the baseline too, which COPO does not have.

    The bonus is no outcome, so it has a term of its own and never enters a group of rewards. Raises `InputError` for
    shapes that differ.
    """
    if log_probs.shape != bonuses.shape or log_probs.ndim < 2:
        got = f"{tuple(log_probs.shape)} and {tuple(bonuses.shape)}"
        raise InputError(f"expected log_probs and bonuses (..., B, N) of one shape, got {got}")
    fixed = bonuses.detach().to(log_probs)
    others = (fixed.sum(-1, keepdim=True) - fixed) / max(1, fixed.shape[-1] - 1)
    advantages = fixed - others
    if reference is not None:
        advantages = advantages * (log_probs.detach() - reference).exp().clamp(max=cap)
    return -alpha * (advantages * log_probs).mean((-2, -1))


def _two_layers(width: int, hidden: int, flips: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, flips))


def _coins(size: tuple[int, ...], stream: torch.Generator) -> Tensor:
    return torch.randint(2, size, generator=stream).double() * 2 - 1


def _checked_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if not shape or min(shape) < 1:
        raise InputError(f"expected a shape (..., Y) of positive numbers, got {shape}")
    return tuple(shape)


def _checked_outcomes(outcomes: Tensor, visits: Tensor) -> Tensor:
    size = visits.shape[-1]
    if outcomes.dtype != torch.long or outcomes.shape[:-1] != visits.shape[:-1]:
        wanted = f"torch.int64 ({', '.join([*map(str, visits.shape[:-1]), 'N'])})"
        raise InputError(f"outcomes must be {wanted}, got {outcomes.dtype} {tuple(outcomes.shape)}")
    if outcomes.numel() and not 0 <= int(outcomes.min()) <= int(outcomes.max()) < size:
        wrong = int(outcomes.min()) if int(outcomes.min()) < 0 else int(outcomes.max())
        raise InputError(f"outcomes must lie in 0..{size - 1}, got {wrong}")
    return outcomes
