"""What is known of a world before and after steps were taken in it: a box of chances, and counts of what followed.

A box names for every state and move some candidates for the next state, and limits of the chance of each. The
candidate S, one past the last state, stands for any state at all: whoever hopes takes the best one, whoever fears the
worst. So `anything(tasks)` is the class of all tables, held in a few columns: what a learner has never seen follow a
move needs no column of its own, because only the best of it matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.exploration.chances import check_box
from maxrl_lab.settings import Interval
from maxrl_lab.tabular.rollout import Paths
from maxrl_lab.tabular.tables import Tables
from maxrl_lab.tabular.transitions import successors, true_chances


@dataclass(frozen=True, eq=False)
class Box:
    """Limits of the chances of B tasks, (B, S, A, C) each; `InputError` where no distribution lies between them."""

    candidates: Tensor
    """int64: where a move may lead, 0..S-1, or S for any state."""
    low: Tensor
    """float64: lower limits of the chances."""
    high: Tensor
    """float64: upper limits."""

    def __post_init__(self) -> None:
        """Check shapes, limits, and that every row holds a distribution."""
        if not self.candidates.shape == self.low.shape == self.high.shape or self.candidates.ndim != 4:
            shapes = " and ".join(str(tuple(part.shape)) for part in (self.candidates, self.low, self.high))
            raise InputError(f"candidates, low and high must have one shape (B, S, A, C), got {shapes}")
        states = self.candidates.shape[1]
        if bool(((self.candidates < 0) | (self.candidates > states)).any()):
            raise InputError(f"candidates must lie in 0..{states}, where {states} stands for any state")
        check_box(self.low, self.high)


def among(candidates: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Box:
    """Return the box of candidates (B, S, A, C) with limits, 0 and 1 by default; repeated candidates become one.

    A candidate that stands twice in a row has its limits added up (to at most 1) in the first of its columns, and the
    others are closed.
    """
    low = torch.zeros(candidates.shape, dtype=torch.float64) if low is None else low.double()
    high = torch.ones(candidates.shape, dtype=torch.float64) if high is None else high.double()
    first = _first_columns(candidates)
    merged = [torch.zeros_like(part).scatter_add(-1, first, part) for part in (low, high)]
    return Box(candidates, merged[0], merged[1].clamp(max=1.0))


def point(tables: Tables) -> Box:
    """Return the box that holds the tasks' own chances and nothing else."""
    chances = true_chances(tables)
    return among(successors(tables), chances, chances)


def anything(tables: Tables) -> Box:
    """Return the box of all tables: every move may lead anywhere."""
    nexts = successors(tables)
    anywhere = torch.full((*nexts.shape[:3], 1), tables.shape[1])
    return among(torch.cat([nexts, anywhere], -1))


def everywhere(tables: Tables) -> Box:
    """Return the box of all tables with a column for every state, (B, S, A, S): `anything` in full."""
    tasks, states, actions = tables.shape
    return among(torch.arange(states).expand(tasks, states, actions, -1).contiguous())


def look_ahead(candidates: Tensor, values: Tensor, anywhere: Tensor) -> Tensor:
    """Return the values (B, S, A, C) of the candidates: values (B, S) of states, `anywhere` (B, 1) of any state."""
    return torch.cat([values, anywhere], 1).gather(1, candidates.flatten(1)).view(candidates.shape)


def in_columns(box: Box, tables: Tables) -> Tensor:
    """Return the tasks' own chances in the columns of a box, (B, S, A, C); `InputError` if the box leaves one out."""
    nexts, chances = successors(tables), true_chances(tables)
    placed = torch.zeros_like(box.low)
    for column in range(nexts.shape[-1]):
        is_there = box.candidates == nexts[..., column, None]
        missing = tables.active[..., None] & (chances[..., column] > 0) & ~is_there.any(-1)
        if bool(missing.any()):
            task, state, action = missing.nonzero()[0].tolist()
            after, chance = (part[task, state, action, column].item() for part in (nexts, chances))
            raise InputError(
                f"the box names no candidate {after} for state {state}, move {action} of task {task}, where it follows "
                f"with chance {chance:g}"
            )
        placed += torch.zeros_like(placed).scatter(-1, _first(is_there), chances[..., column, None]) * is_there
    return placed


class Experience:
    """What has been seen of the tasks of a box.

    counts: (B, S, A, C) float64, how often each candidate has followed each state and move. seen: (B, S) bool, the
    states that a path has stood on, of which it is known whether they are failures.
    """

    def __init__(self, box: Box) -> None:
        self.box = box
        self.counts = torch.zeros_like(box.low)
        self.seen = torch.zeros(box.low.shape[:2], dtype=torch.bool)

    @property
    def visits(self) -> Tensor:
        """How often each move was taken in each state, (B, S, A)."""
        return self.counts.sum(-1)

    @property
    def nominal(self) -> Tensor:
        """The observed shares (B, S, A, C); 0 where a move was never taken."""
        return self.counts / self.visits.clamp(min=1)[..., None]

    def select(self, tasks: Sequence[int]) -> "Experience":
        """Return a copy of what has been seen of some of the tasks, in the order given."""
        rows = list(tasks)
        box = self.box
        part = Experience(Box(box.candidates[rows], box.low[rows], box.high[rows]))
        part.counts, part.seen = self.counts[rows], self.seen[rows]
        return part

    def add(self, paths: Paths) -> None:
        """Count the steps of paths, states (B, N, H+1) and actions (B, N, H); `InputError` for an unnamed successor."""
        states, nexts, actions = paths.states[..., :-1], paths.states[..., 1:], paths.actions
        taken = actions >= 0
        task = torch.arange(len(states)).view(-1, 1, 1).expand_as(actions)[taken]
        state, action, after = states[taken], actions[taken], nexts[taken]
        is_there = self.box.candidates[task, state, action] == after[:, None]
        if not bool(is_there.any(-1).all()):
            at = int((~is_there.any(-1)).nonzero()[0])
            raise InputError(
                f"the box names no candidate {int(after[at])} for state {int(state[at])}, move {int(action[at])} of "
                f"task {int(task[at])}, which a path went to"
            )
        self.seen.scatter_(1, paths.states.flatten(1), True)
        column = _first(is_there)[:, 0]
        self.counts.index_put_((task, state, action, column), torch.ones(len(task), dtype=torch.float64), True)


def confident(experience: Experience, confidence: float = 0.95) -> Box:
    """Return the box that what was seen leaves: with the given probability it holds the truth at every moment at once.

    Clopper and Pearson's exact interval of every chance after n visits, at the level (1 - confidence)/(S A C n (n+1)),
    whose sum over all entries of a task and all n is at most 1 - confidence, cut by the box that was known before. A
    never ending sequence of looks is therefore allowed. Where a cut leaves no distribution, which has at most that
    probability, the box that was known before stays. This box is the lab's own; the official code of BUMEX
    regularises instead.
    """
    Interval(0, 1).check("confidence", confidence)
    from scipy import special  # only now: it takes a second to import

    counts, visits = experience.counts.numpy(), experience.visits[..., None].numpy()
    cells = counts[0].size
    level = (1 - confidence) / (2 * cells * (visits + 1.0) * visits.clip(min=1))
    other = visits - counts
    low = torch.from_numpy(special.betaincinv(counts.clip(min=1e-9), other + 1, level)) * torch.from_numpy(counts > 0)
    high = torch.from_numpy(special.betaincinv(counts + 1, other.clip(min=1e-9), 1 - level))
    high = torch.where(torch.from_numpy(other > 0), high, 1.0)
    box = experience.box
    low, high = torch.maximum(low, box.low), torch.minimum(high, box.high)
    empty = (low > high).any(-1) | (low.sum(-1) > 1) | (high.sum(-1) < 1)
    keep = (experience.visits == 0) | empty
    return Box(
        box.candidates,
        torch.where(keep[..., None], box.low, low),
        torch.where(keep[..., None], box.high, high),
    )


def _first_columns(candidates: Tensor) -> Tensor:
    """Return for every column the first column with the same candidate, (B, S, A, C)."""
    same = candidates[..., :, None] == candidates[..., None, :]
    return same.long().argmax(-1)


def _first(is_there: Tensor) -> Tensor:
    """Return the first true column of the last axis, (..., 1)."""
    return is_there.long().argmax(-1, keepdim=True)
