"""Explorers that count states: MEX and BUMEX, episode by episode, until the exact pass rate reaches a target."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from experiments.exploration._climbing import Climbed, Record
from maxrl_lab.exploration.bounds import Bounds
from maxrl_lab.exploration.boxes import Box, Experience, in_columns
from maxrl_lab.exploration.bumex import bumex_policies, exploring_share
from maxrl_lab.exploration.mex import ascend, loss, mex_policy, model_policy
from maxrl_lab.tabular.rollout import Paths
from maxrl_lab.tabular.tasks import TabularTasks


class Explorer(Protocol):
    """What is played in the next episode, and what would be handed over now: log-probabilities (H, B, S, A) each."""

    def __call__(self, tasks: TabularTasks, experience: Experience, episode: int) -> tuple[Tensor, Tensor]:
        """Return both policies after so many episodes."""
        ...


def mex(eta: float) -> Explorer:
    """Return MEX by its rectangular relaxation; what it plays is what it would hand over."""

    def explorer(tasks: TabularTasks, experience: Experience, episode: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        policy = mex_policy(tasks, experience, eta)
        return policy, policy

    return explorer


class Ascending:
    """MEX by gradient ascent on its objective; remembers how far the last plan came."""

    def __init__(self, eta: float, steps: int) -> None:
        self.eta, self.steps = eta, steps
        self.objective = torch.zeros(0)

    def __call__(self, tasks: TabularTasks, experience: Experience, episode: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the best policy of the model, twice."""
        model = ascend(tasks, experience, self.eta, steps=self.steps)
        self.objective = model.value - self.eta * model.loss
        policy = model_policy(tasks, experience, model)
        return policy, policy

    def truth(self, tasks: TabularTasks, experience: Experience, best: Tensor) -> Tensor:
        """Return the objective of the true table, (B,), which the maximum over all tables is not below."""
        return best - self.eta * loss(experience, in_columns(experience.box, tasks))


class Bumex:
    """BUMEX, which explores with a falling share of its moves, and would hand over its greedy policy."""

    def __init__(self, strength: float, decay: float) -> None:
        self.strength, self.decay = strength, decay
        self.bounds: Bounds | None = None

    def __call__(self, tasks: TabularTasks, experience: Experience, episode: int) -> tuple[Tensor, Tensor]:
        """Return what is played and what would be handed over; the bounds are remembered."""
        share = exploring_share(episode, self.decay)
        made = bumex_policies(tasks, experience, share, strength=self.strength)
        self.bounds = made.bounds
        return made.played, made.greedy


class Explored(NamedTuple):
    """What became of the tasks, and the first successful path of each."""

    result: Climbed
    states: Tensor
    """(B, H+1) of the first success; -1 without one."""
    actions: Tensor
    """(B, H)."""


Look = Callable[[Tensor, int, Experience], None]
"""Is told the tasks that go on, the episodes spent, and what has been seen of these tasks."""


def explore(
    tasks: TabularTasks,
    box: Box,
    explorer: Explorer,
    *,
    target: float,
    budget: int,
    growth: float,
    stream: torch.Generator,
    record: Record | None = None,
    look: Look | None = None,
) -> Explored:
    """Let an explorer act on every task until the pass rate that it would hand over is at least the target.

    It plans anew when the episodes have grown by the share `growth`; in between its policy stays. With a target above 1
    it goes on until the budget is spent.
    """
    count = tasks.shape[0]
    nan = torch.full((count,), torch.nan, dtype=torch.float64)
    result = Climbed(torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.bool), nan)
    states, actions = torch.full((count, tasks.horizon + 1), -1), torch.full((count, tasks.horizon), -1)
    going, part, experience, spent = torch.arange(count), tasks, Experience(box), 0
    while True:
        played, handed = explorer(part, experience, spent)
        p = part.pass_rate(handed)
        result.episodes[going] = float(spent)
        result.reached[going] = p >= target
        if record is not None:
            record(going, result.episodes[going], p)
        if look is not None:
            look(going, spent, experience)
        stays = (p < target).nonzero().flatten().tolist()
        if spent >= budget or not stays:
            break
        if len(stays) < len(going):
            going, part, experience, played = (
                going[stays],
                tasks.select(going[stays].tolist()),
                experience.select(stays),
                played[:, stays],
            )
        number = min(max(1, int(growth * spent)), budget - spent)
        group, paths = part.paths(played, number, stream)
        experience.add(paths)
        _note(result, going, group.rewards, paths, spent, states, actions)
        spent += number
    return Explored(result, states, actions)


def _note(
    result: Climbed, going: Tensor, rewards: Tensor, paths: Paths, spent: int, states: Tensor, actions: Tensor
) -> None:
    """Note the first success of the tasks that had none."""
    new = (rewards.bool().any(-1) & result.first_success[going].isnan()).nonzero().flatten()
    index = rewards[new].long().argmax(-1)
    result.first_success[going[new]] = (spent + index + 1).double()
    states[going[new]], actions[going[new]] = paths.states[new, index], paths.actions[new, index]
