"""Maximum likelihood of demonstrations through a reward: offline inverse reinforcement learning, without sampling.

An expert's visits, a model P^ of the world from a data set, and rewards r_theta(s) = theta . phi(s) less a penalty for
what the model has seen too seldom. Lower level: pi_theta is soft-optimal in P^ for r_theta + U (`soft_control`). Upper
level: maximise the likelihood of the expert's actions,

    L(theta)  = E_expert sum_t log pi_theta,t(a_t | s_t)                              nats
    L^(theta) = ( E_expert sum_t (r_theta + U)(s_t, a_t) - E V_theta,0(s_0) ) / tau    the surrogate that is maximised

    grad L^ = ( E_expert sum_t phi(s_t) - E_{pi_theta, P^} sum_t phi(s_t) ) / tau

    L - L^ = E_expert sum_t ( E_P^[V_{t+1} | s_t, a_t] - V_{t+1}(s_{t+1}) ) / tau      zero if the model is the truth

L^ is concave in theta, so its maximum is found, whatever the start. This is a reconstruction of offline ML-IRL
(arXiv:2302.07457): its surrogate and gradient are exact here, by recursion over the horizon, where the source trains an
actor, a critic and an ensemble of models; the penalty lambda / sqrt(n + 1) by counts stands for the ensemble's spread.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.feedback import soft_control
from maxrl_lab.feedback.soft_control import SoftControl
from maxrl_lab.settings import Interval
from maxrl_lab.tabular.tables import Tables
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.tabular.transitions import dense_transitions

_LBFGS_MEMORY = 20
_LEAST = -800.0
"""Stands for the logarithm of 0, and keeps gradients finite: exp(-800) is 0 in float64."""


class Learnt(NamedTuple):
    """The reward of the greatest surrogate likelihood, and the policy that it makes."""

    parameters: Tensor
    """(B, K) theta."""
    control: SoftControl
    slope: float
    """The largest component of the gradient that was left, in absolute value: 0 at the maximum."""


@dataclass(frozen=True, eq=False)
class DemonstrationLikelihood:
    """The likelihood of demonstrations in B worlds; parameters theta are (B, K) everywhere.

    Raises `InputError` for shapes that do not fit.
    """

    model: Tables
    """P^: what the learner takes for the world; the truth itself, or `offline_model.learnt_model`."""
    features: Tensor
    """(B, S, K) phi: what the reward is linear in."""
    demonstrations: Tensor
    """(H, B, S, A) the expert's visits: of demonstrations (`demonstrated_visits`) or exact (`soft_control.visits`)."""
    penalty: Tensor
    """(B, S, A) U <= 0, added to every reward; zeros for none."""
    temperature: float = 1.0
    """tau: how much a nat of entropy is worth."""

    def __post_init__(self) -> None:
        """Check shapes, the sign of the penalty and the temperature."""
        soft_control.check_temperature(self.temperature)
        shape = self.model.shape
        if self.features.ndim != 3 or self.features.shape[:2] != shape[:2]:
            raise InputError(f"features must be ({shape[0]}, {shape[1]}, K), got {tuple(self.features.shape)}")
        if self.demonstrations.shape != (self.model.horizon, *shape):
            wanted = (self.model.horizon, *shape)
            got = tuple(self.demonstrations.shape)
            raise InputError(f"demonstrations must be visits (H, B, S, A) = {wanted}, got {got}")
        if self.penalty.shape != shape or bool((self.penalty > 0).any()):
            largest = f"{tuple(self.penalty.shape)} with the largest {float(self.penalty.max()):g}"
            raise InputError(f"penalty must be {shape} and nowhere above 0, got {largest}")

    @cached_property
    def transitions(self) -> Tensor:
        """(B, S, A, S) P^."""
        return dense_transitions(self.model)

    @cached_property
    def start(self) -> Tensor:
        """(B, S) where the demonstrations start."""
        return self.demonstrations[0].sum(-1)

    def rewards(self, parameters: Tensor) -> Tensor:
        """Return r_theta + U as (B, S, A)."""
        return torch.einsum("bsk,bk->bs", self.features, parameters)[..., None] + self.penalty

    def control(self, parameters: Tensor) -> SoftControl:
        """Return the soft-optimal policy in the model and its values."""
        rewards = self.rewards(parameters)
        horizon, temperature = self.model.horizon, self.temperature
        return soft_control.soft_value_iteration(self.transitions, rewards, horizon=horizon, temperature=temperature)

    def log_likelihood(self, parameters: Tensor) -> Tensor:
        """Return L(theta), the mean log-likelihood of a demonstration's actions, (B,)."""
        return (self.demonstrations * self.control(parameters).log_policy).sum((0, 2, 3))

    def surrogate(self, parameters: Tensor) -> Tensor:
        """Return L^(theta), (B,), differentiable through the recursion."""
        gained = (self.demonstrations * self.rewards(parameters)).sum((0, 2, 3))
        return (gained - (self.start * self.control(parameters).values[0]).sum(1)) / self.temperature

    def gradient(self, parameters: Tensor) -> Tensor:
        """Return the gradient of L^, (B, K): the features that the expert visits less those of the policy's visits."""
        return self._gradient(self.control(parameters))

    def _gradient(self, control: SoftControl) -> Tensor:
        learners = soft_control.visits(self.transitions, self.start, control.log_policy)
        excess = (self.demonstrations - learners).sum((0, 3))
        return torch.einsum("bs,bsk->bk", excess, self.features) / self.temperature

    def gap(self, parameters: Tensor) -> Tensor:
        """Return L - L^, (B,), from the values alone: how far the model's next values are off the demonstrations'."""
        values = self.control(parameters).values
        total = torch.zeros_like(values[0, :, 0])
        for step, acting in enumerate(self.demonstrations):
            believed = (acting * soft_control.expected_after(self.transitions, values[step + 1])).sum((1, 2))
            total = total + believed
            if step + 1 < self.model.horizon:
                total = total - (self.demonstrations[step + 1].sum(-1) * values[step + 1]).sum(1)
        return total / self.temperature

    def gap_bound(self, parameters: Tensor, truth: Tables) -> Tensor:
        """Return a bound (B,) of |L - L^| where the demonstrations are an expert's exact visits in `truth`.

        Values over k steps differ by at most k times the range of r_theta + U, so the gap is at most
        sum_t (H-t-1) range / (2 tau) E_expert |P^ - P|_1: it needs a good model where the expert goes, and only there.
        """
        rewards = self.rewards(parameters)
        spread = rewards.amax((1, 2)) - rewards.amin((1, 2))
        distance = (self.transitions - dense_transitions(truth)).abs().sum(-1)
        left = torch.arange(self.model.horizon - 1, -1, -1, dtype=torch.float64)
        error = torch.einsum("h,hbsa,bsa->b", left, self.demonstrations, distance)
        return spread * error / (2 * self.temperature)

    def fit(self, *, weight_decay: float = 1e-3, steps: int = 200, tolerance: float = 1e-7) -> Learnt:
        """Return the maximum of L^ - weight_decay |theta|^2 / 2 by L-BFGS with exact gradients, all worlds at once.

        A reward is not identified by demonstrations: without decay theta may grow without end.
        """
        Interval().check("weight_decay", weight_decay)
        parameters = torch.zeros(self.features.shape[0], self.features.shape[2], dtype=torch.float64)
        optimiser = torch.optim.LBFGS(
            [parameters],
            max_iter=steps,
            history_size=_LBFGS_MEMORY,
            tolerance_grad=tolerance,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            control = self.control(parameters)
            parameters.grad = weight_decay * parameters - self._gradient(control)
            gained = (self.demonstrations * self.rewards(parameters)).sum()
            surrogate = (gained - (self.start * control.values[0]).sum()) / self.temperature
            return weight_decay / 2 * parameters.square().sum() - surrogate

        with torch.no_grad():
            optimiser.step(loss)
        control = self.control(parameters)
        slope = self._gradient(control) - weight_decay * parameters
        return Learnt(parameters, control, float(slope.abs().max()))


def demonstrated_visits(tasks: TabularTasks, states: Tensor, actions: Tensor) -> Tensor:
    """Return the mean visits (H, B, S, A) of N demonstrations as `TabularTasks.paths` returns them.

    states: (B, N, H+1), actions: (B, N, H), -1 after the end, where the visits are spread evenly over the actions.
    """
    count, total, number = tasks.shape[0], tasks.shape[1] * tasks.shape[2], tasks.shape[2]
    if states.ndim != 3 or actions.shape != (count, states.shape[1], tasks.horizon):
        got = f"{tuple(states.shape)} and {tuple(actions.shape)}"
        raise InputError(f"expected states (B, N, H+1) and actions (B, N, H) of {tasks!r}, got {got}")
    ended = (actions < 0)[..., None]
    share = torch.nn.functional.one_hot(actions.clamp(min=0), number).double()
    share = torch.where(ended, 1 / number, share) / states.shape[1]
    cells = states[..., :-1, None] * number + torch.arange(number)
    flat = torch.zeros(count, tasks.horizon, total, dtype=torch.float64)
    flat.scatter_add_(2, cells.transpose(1, 2).flatten(2), share.transpose(1, 2).flatten(2))
    return flat.view(count, tasks.horizon, tasks.shape[1], number).transpose(0, 1)


def behaviour_cloning(demonstrations: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the stationary policy (B, S, A) of the greatest likelihood of the demonstrated actions, log-probabilities.

    demonstrations: visits (H, B, S, A). `smoothing` is added to each action's visits; where nothing was demonstrated
    and nothing is added, all actions are equal.
    """
    Interval(closed_low=True).check("smoothing", smoothing)
    done = demonstrations.sum(0) + smoothing
    total = done.sum(-1, keepdim=True)
    even = torch.full_like(done, 1 / done.shape[-1])
    return torch.where(total > 0, done / total.clamp(min=1e-300), even).log().clamp(min=_LEAST)
