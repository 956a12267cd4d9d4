"""MEX, maximise to explore: plan for the table that promises most, less what the data say against it.

Episode k plays the best policy of the model f that maximises V_f - eta L(f), where V_f is the best pass rate in f and

    L(f) = sum over (s, a) of N(s, a) KL(observed(. | s, a) || f(. | s, a))

is the negative log-likelihood of what was seen, up to a constant (Liu et al. 2023, arXiv:2305.18258; the paper's
constants were not read again, this is a reconstruction). There is no confidence set and no posterior sample. Here a
model is a table within a box of chances. Three solvers:

    plan(...)             the rectangular relaxation: the penalty is paid at every visit, and every visit may choose a
                          table of its own. Dynamic programming, exact as such.
    ascend(...)           the objective itself by gradient ascent on the logits of the table: a local maximum.
    best_hypothesis(...)  the objective itself on a finite class of tables: every one is solved.

The relaxation is not above the objective everywhere: a plan that visits a pair again and again pays the penalty again
and again. Where no pair is visited more than once it is [lab].
"""

from typing import NamedTuple

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.exploration.bounds import backward, value_bounds
from maxrl_lab.exploration.boxes import Box, Experience, look_ahead, point
from maxrl_lab.exploration.chances import COARSE, Inner, divergence
from maxrl_lab.settings import Interval
from maxrl_lab.specs import check_count
from maxrl_lab.tabular.tables import Tables

MAX_NUMBERS = 2_000_000
"""Largest H S A C of a task whose objective is climbed, and largest M S A of a class that is solved one by one."""
_SAME = 1e-9


class Plan(NamedTuple):
    """Optimistic values (H+1, B, S), and what every move leaves of them (H, B, S, A); less the penalty."""

    values: Tensor
    moves: Tensor


class Model(NamedTuple):
    """A model that maximises V - eta L, or nearly: its chances (B, S, A, C) in the columns of the box, V and L (B,)."""

    chances: Tensor
    value: Tensor
    loss: Tensor


def likelihood_penalty(visits: Tensor, eta: float) -> Tensor:
    """Return eta N of visits N, (B, S, A); 0 where N is 0, for an infinite eta, too. `InputError` for eta < 0."""
    if not eta >= 0:
        raise InputError(f"eta must be >= 0, got {eta}")
    return torch.where(visits > 0, eta * visits, 0.0) if eta > 0 else torch.zeros_like(visits)


def plan(tables: Tables, experience: Experience, eta: float, iterations: int = COARSE) -> Plan:
    """Return V_t(s) = max_a max_p [p . V_{t+1} - eta N(s, a) KL(observed || p)], the rectangular relaxation.

    Only sizes, absorbing states and the horizon are read of the tables, their chances never. eta = 0 promises
    everything everywhere; eta = infinity trusts a pair after a single visit.
    """
    box = experience.box
    inner = Inner(
        box.low, box.high, experience.nominal, likelihood_penalty(experience.visits, eta), iterations=iterations
    )
    return Plan(*backward(tables, inner, box.candidates, seen=experience.seen))


def pessimistic_moves(tables: Tables, experience: Experience) -> Tensor:
    """Return what every move leaves if untried ones fail and tried ones go on as observed, (H, B, S, A)."""
    tried = (experience.visits > 0)[..., None]
    box = experience.box
    nominal = torch.where(tried, experience.nominal, 0.0)
    return _evaluated(tables, nominal, box.candidates, tables.active)[1]


def greedy(moves: Tensor, second: Tensor | None = None) -> Tensor:
    """Return log-probabilities (H, B, S, A) of a policy that takes a best move, ties at random.

    `second` breaks ties first: of moves that promise the same, one that is known to keep its promise is preferred, so
    that what has been found is used.
    """
    best = moves >= moves.amax(-1, keepdim=True) - _SAME
    if second is not None:
        among = second.masked_fill(~best, -torch.inf)
        best = best & (among >= among.amax(-1, keepdim=True) - _SAME)
    return (best.double() / best.sum(-1, keepdim=True)).log()


def mex_policy(tables: Tables, experience: Experience, eta: float, *, settle: bool = True) -> Tensor:
    """Return the policy that the relaxation plays in the next episode, (H, B, S, A) log-probabilities.

    settle: of moves that promise the same, those are preferred whose promise is kept by what was seen alone. The
    formula leaves that open, and ties at random keep exploring after the goal was found; even eta = 0 learns so.
    """
    known = pessimistic_moves(tables, experience) if settle else None
    return greedy(plan(tables, experience, eta).moves, known)


def best_pass_rate(tables: Tables) -> Tensor:
    """Return the best pass rate of any policy on each task, (B,) float64, exact."""
    return (tables.start.double() * value_bounds(tables, point(tables)).upper[0]).sum(-1)


def regret(tables: Tables, pass_rates: Tensor) -> Tensor:
    """Return sum over episodes (K, B) of best pass rate less the played policy's: exact where the pass rates are."""
    return (best_pass_rate(tables) - pass_rates).sum(0)


def loss(experience: Experience, chances: Tensor) -> Tensor:
    """Return L = sum N KL(observed || chances) of a model in the columns of the box, (B,), in nats."""
    gaps = experience.visits * divergence(experience.nominal, chances).nan_to_num(posinf=torch.inf)
    return torch.where(experience.visits > 0, gaps, 0.0).sum((-1, -2))


def ascend(tables: Tables, experience: Experience, eta: float, *, steps: int = 60, learning_rate: float = 0.5) -> Model:
    """Return a local maximum of V_f - eta L(f) over the tables of the box, by Adam on their logits.

    V_f is computed by dynamic programming, and its gradient goes through the best moves. The start is the observed
    table, flattened a little, and an even one where nothing was seen. Candidates whose upper limit is 0 are left out,
    other limits must be 0 and 1. The candidate "any state" is the first success state, which no state ever excels; the
    start is even over all columns, so that `boxes.everywhere` is the box that gives nothing away.
    Raises `InputError` for tables of more than `MAX_NUMBERS` numbers.
    """
    box = _climbable(tables, experience.box, eta)
    check_count("steps", steps)
    fixed = torch.where(
        box.candidates == tables.shape[1], tables.success.long().argmax(1)[:, None, None, None], box.candidates
    )
    active = ~tables.success & ~(tables.failure & experience.seen)
    closed = box.high <= 0
    even = 1 / (~closed).sum(-1, keepdim=True).clamp(min=1)
    tried = (experience.visits > 0)[..., None]
    first = torch.where(tried, 0.9 * experience.nominal + 0.1 * even, even)
    logits = first.log().masked_fill(closed, 0.0).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=learning_rate)
    kept = Model(first, torch.full((len(first),), -torch.inf, dtype=torch.float64), torch.zeros(len(first)).double())
    for step in range(steps + 1):
        chances = logits.masked_fill(closed, -torch.inf).softmax(-1)
        values, _ = _evaluated(tables, chances, fixed, active)
        value = (tables.start.double() * values[0]).sum(-1)
        lost = loss(experience, chances)
        objective = value - eta * lost if eta else value
        kept = _better(kept, Model(chances.detach(), value.detach(), lost.detach()), eta)
        if step < steps:
            optimiser.zero_grad()
            (-objective.sum()).backward()
            optimiser.step()
    return kept


def model_policy(tables: Tables, experience: Experience, model: Model) -> Tensor:
    """Return the best policy of a model, (H, B, S, A) log-probabilities; ties as in `mex_policy`."""
    active = ~tables.success & ~(tables.failure & experience.seen)
    moves = _evaluated(tables, model.chances, experience.box.candidates, active)[1]
    return greedy(moves, pessimistic_moves(tables, experience))


class Choice(NamedTuple):
    """The maximiser of a finite class: its number, and V and L (M,) of all its members."""

    best: int
    values: Tensor
    losses: Tensor


def best_hypothesis(hypotheses: Tables, transitions: Tensor, eta: float) -> Choice:
    """Return the member of a class of M tables that maximises V - eta L, exact; of equal ones the first.

    hypotheses: M tasks, each a model of the same world. transitions: (S, A, S) how often each state followed, in the
    world. L is the negative log-likelihood of the transitions, in nats. Raises `InputError` for eta < 0, counts of
    another shape, and a class too large to be solved one by one.
    """
    count, states, actions = hypotheses.shape
    if not eta >= 0:
        raise InputError(f"eta must be >= 0, got {eta}")
    if count * states * actions > MAX_NUMBERS:
        raise InputError(
            f"a class is solved exactly up to M S A = {MAX_NUMBERS}, got M = {count}, S = {states}, A = {actions}"
        )
    if transitions.shape != (states, actions, states):
        raise InputError(f"transitions must have shape {(states, actions, states)}, got {tuple(transitions.shape)}")
    values = best_pass_rate(hypotheses)
    box = point(hypotheses)
    dense = torch.zeros(count, states, actions, states, dtype=torch.float64).scatter_add(-1, box.candidates, box.low)
    losses = -torch.xlogy(transitions.double(), dense).sum((1, 2, 3))
    losses = losses.nan_to_num(posinf=torch.inf)
    score = values - torch.where(losses > 0, eta * losses, 0.0) if eta > 0 else values
    return Choice(int(score.argmax()), values, losses)


def _evaluated(tables: Tables, chances: Tensor, candidates: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best values (H+1, B, S) and (H, B, S, A) in a model, differentiable; "any state" has the value 1.

    active: (B, S) bool, the states that the model moves on from; the others keep 1 for success and 0.
    """
    value = tables.success.double()
    promise = torch.ones(len(value), 1, dtype=torch.float64)
    values, moves = [value], []
    for _ in range(tables.horizon):
        after = (chances * look_ahead(candidates, value, promise)).sum(-1)
        value = torch.where(active, after.max(-1).values, value)  # unlike amax, its gradient breaks ties
        moves.append(after)
        values.append(value)
    return torch.stack(values[::-1]), torch.stack(moves[::-1])


def _climbable(tables: Tables, box: Box, eta: float) -> Box:
    """Return the box; `InputError` if gradient ascent cannot climb in it."""
    Interval(0, closed_low=True).check("eta", eta)
    numbers = tables.horizon * box.low[0].numel()
    if numbers > MAX_NUMBERS:
        _, states, actions = tables.shape
        raise InputError(
            f"gradient ascent takes H S A C numbers, at most {MAX_NUMBERS}, got H = {tables.horizon}, S = {states}, "
            f"A = {actions}, C = {box.low.shape[-1]}; plan() takes larger worlds"
        )
    if bool((box.low > 0).any()) or bool(((box.high > 0) & (box.high < 1)).any()):
        raise InputError("gradient ascent climbs in boxes whose limits are 0 and 1, got others; plan() takes any box")
    return box


def _better(old: Model, new: Model, eta: float) -> Model:
    """Return task by task the model of the larger objective."""
    ahead = new.value - eta * new.loss > old.value - eta * old.loss
    chances = torch.where(ahead[:, None, None, None], new.chances, old.chances)
    return Model(chances, torch.where(ahead, new.value, old.value), torch.where(ahead, new.loss, old.loss))
