"""The exact pass rate of a policy on tabular tasks by backward recursion, and its occupancy by forward recursion.

With v_t(s) the probability of success from state s at time t:

    v_t(s) = sum_a pi(a|s) sum_s' P(s'|s,a) v_{t+1}(s')

with v_H = 1 on success states and 0 elsewhere; the pass rate is the mean of v_0 over the start distribution. It is
differentiable in the policy. Nothing is sampled.
"""

import torch
from torch import Tensor

from maxrl_lab.tabular.tables import Tables


def pass_rate(tables: Tables, log_policy: Tensor) -> Tensor:
    """Return the probability of success (R, B) of policies (R, T, B, S, A), differentiable, float64.

    O(R B S A C H) look-ups. The run axis comes last inside, so that a look-up copies a row of R numbers.
    """
    runs, times, count, states, actions = log_policy.shape
    nexts = tables.next_states.flatten()
    policy = log_policy.double().exp().permute(1, 2, 3, 4, 0).reshape(times, count * states, actions, runs)
    value = tables.success.double().flatten()[:, None].expand(-1, runs)
    active = tables.active.flatten()[:, None]
    for step in reversed(range(tables.horizon)):
        after = _mean_over_successors(tables, value.index_select(0, nexts)).view(count * states, actions, runs)
        value = torch.where(active, (policy[step % times] * after).sum(1), value)
    rates = torch.einsum("bs,bsr->rb", tables.start.double(), value.view(count, states, runs))
    return rates.clamp(max=1.0)  # a sum of rounded probabilities may exceed 1 by 1e-16


def occupancy(tables: Tables, log_policy: Tensor) -> Tensor:
    """Return the probability of standing on each state after t = 0..H steps, (H+1, R, B, S), float64."""
    runs, times, count, states, _ = log_policy.shape
    nexts = tables.next_states.flatten().expand(runs, -1)
    policy = log_policy.detach().double().exp()
    chances = torch.ones(1, dtype=torch.float64) if tables.probabilities is None else tables.probabilities.double()
    at = tables.start.double().expand(runs, -1, -1)
    reached = [at]
    for step in range(tables.horizon):
        moving = (at * tables.active)[..., None] * policy[:, step % times]
        flow = (moving[..., None] * chances.to(at.device)).flatten(1)
        resting = (at * ~tables.active).flatten(1)
        at = resting.scatter_add(1, nexts, flow).view(runs, count, states)
        reached.append(at)
    return torch.stack(reached)


def _mean_over_successors(tables: Tables, values: Tensor) -> Tensor:
    """Mean over the C successors of every move, (B S A C, R) -> (B S A, R)."""
    if tables.probabilities is None:
        return values
    chances = tables.probabilities.double()
    return (values.view(-1, chances.shape[-1], values.shape[-1]) * chances.view(-1, chances.shape[-1], 1)).sum(1)
