"""How fast are table rollouts? They are compared with MiniGrid, FrozenLake and NAVIX, stepped as their users step them.

    python -m benchmarks.navigation        (some minutes; NAVIX and jax come with `pip install -e '.[benchmark]'`)

Every comparison runs in this process, interleaved, on the same threads; medians of several rounds; only ratios count.
The lab's side counts steps before the end of an episode only, and includes drawing actions and what the gradient needs;
the peers' side counts every step, and with a network its forward passes only, no gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.navigation_peers import ENVS, HIDDEN, LEVEL, MINIGRID_ID, Steps, gymnasium_steps, navix_steps
from benchmarks.record import Record, Side, value
from benchmarks.timing import medians, middle, profile_of_calls
from envs import minigrid, toy_text
from experiments.navigation import navigation
from maxrl_lab.policies.one_hot import OneHot
from maxrl_lab.policies.stack import Stack, mlp, seeded
from maxrl_lab.tabular.batch import TabularBatch
from maxrl_lab.tabular.study import World
from maxrl_lab.tabular.tasks import TabularTasks
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Method, Sampled
from maxrl_lab.training.step import run_losses

TARGETS = {
    f"lab, {LEVEL}, 64 rollouts, with gradient": 5e6,
    f"lab, {LEVEL}, 65536 rollouts, with gradient": 40e6,
    "lab, FrozenLake, 65536 rollouts, with gradient": 30e6,
}
"""Least numbers of environment steps a second by a random policy."""


@dataclass(frozen=True)
class Sizes:
    """How much is timed."""

    random: tuple[int, ...] = (64, 4096, 65_536)
    """Numbers of rollouts by a random policy."""
    network: tuple[int, ...] = (4096, 65_536)
    """Numbers of rollouts by a network."""
    steps: int = 20
    """Steps of every copy of a peer's environment; FrozenLake takes ten times as many."""
    preset: str = "quick"
    """Preset of the experiment `navigation` whose mazes are trained on."""
    updates: tuple[int, ...] = (4, 16, 64, 256, 1024, 4096)
    """Numbers N of rollouts of each maze in one update."""
    sweeps: tuple[tuple[tuple[str, ...], int, int], ...] = (
        (("rloo", "grpo", "maxrl", "reinforce"), 4, 5),
        (("rloo", "maxrl"), 16, 10),
    )
    """Estimators, N, and copies of each, trained as one program and one by one."""
    rounds: int = 5
    """Rounds of which the median is taken."""


def main(sizes: Sizes = Sizes(), record: Record | None = None) -> None:
    """Print the comparisons, and record them."""
    record = record or Record()
    record.begin("navigation")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; million env-steps a second")
    with TemporaryDirectory() as cache:
        tasks = minigrid.tasks(LEVEL, [0], cache=Path(cache))
    _report("random policy", _random_policies(tasks, sizes), sizes.rounds, record)
    _report("network policy (two layers of 64 units)", _network_policies(tasks, sizes), sizes.rounds, record)
    world = navigation.PRESETS[sizes.preset].world(levels=6)
    _updates(world, sizes, record)
    _sweeps(world, sizes, record)


def _report(title: str, sides: dict[str, Steps], rounds: int, record: Record) -> None:
    """Print each side's speed, and how many times slower than the lab's largest on the same level it is."""
    print(f"\n{title}")
    largest = {_level(name): name for name in sides if name.startswith("lab")}
    compared = {
        name: Side(
            function,
            work,
            None if name.startswith("lab") else largest[_level(name)],
            TARGETS.get(name) if title == "random policy" else None,
        )
        for name, (function, work) in sides.items()
    }
    seconds = middle(
        record.compare("navigation", title, compared, rounds, profile=profile_of_calls, unit="million env-steps/s")
    )
    rows = {name: {"seconds": [seconds[name]], "work": side.work, "base": None} for name, side in compared.items()}
    for name in sides:
        speed, best = value(rows, name), value(rows, largest[_level(name)])
        print(f"  {name:<58} {speed / 1e6:>9.3f}   1/{best / speed:,.0f}")


def _level(name: str) -> str:
    return LEVEL if LEVEL in name else "FrozenLake"


def _random_policies(tasks: TabularTasks, sizes: Sizes) -> dict[str, Steps]:
    sides = {}
    for count in sizes.random:
        log_policy = torch.zeros(tasks.shape).log_softmax(-1).requires_grad_()
        sides[f"lab, {LEVEL}, {count} rollouts, with gradient"] = _lab(tasks, lambda policy=log_policy: policy, count)
    ice = toy_text.frozen_lake(slippery=True)
    most = max(sizes.random)
    sides[f"lab, FrozenLake, {most} rollouts, with gradient"] = _lab(
        ice, lambda: torch.zeros(ice.shape).log_softmax(-1).requires_grad_(), most
    )
    sides[f"MiniGrid, {LEVEL}, sync, {ENVS} envs"] = gymnasium_steps(MINIGRID_ID, sizes.steps, None)
    sides[f"FrozenLake, sync, {ENVS} envs"] = gymnasium_steps("FrozenLake-v1", 10 * sizes.steps, None)
    return sides | navix_steps(network=False)


def _network_policies(tasks: TabularTasks, sizes: Sizes) -> dict[str, Steps]:
    features, rows = tasks.observed()
    encode = OneHot(features)
    inputs, actions = encode(features), tasks.shape[2]
    stack = Stack([seeded(lambda: mlp([inputs.shape[1], HIDDEN, HIDDEN, actions]), 0)])
    sides = {}
    for count in sizes.network:
        sides[f"lab, {LEVEL}, {count} rollouts, with gradient"] = _lab(
            tasks, lambda: stack.log_policy(inputs, rows)[0], count
        )
    network = mlp([7 * 7 * 3, HIDDEN, HIDDEN, actions])
    sides[f"MiniGrid, {LEVEL}, sync, {ENVS} envs"] = gymnasium_steps(MINIGRID_ID, sizes.steps, network)
    return sides | navix_steps(network=True)


def _lab(tasks: TabularTasks, policy: Callable[[], Tensor], count: int) -> Steps:
    """Roll out, and back-propagate to the policy's parameters."""

    def function(seed: int = 0) -> Tensor:
        group = tasks.rollout(policy(), count, torch.Generator().manual_seed(seed))
        group.log_probs.sum().backward()
        assert group.lengths is not None
        return group.lengths.sum()

    return function, float(function())


def _updates(world: World, sizes: Sizes, record: Record) -> None:
    """Print the milliseconds of one training update against N, and where they go."""
    mazes = world.train.tables.shape[0]
    print(f"\none update of one run, {mazes} mazes of 9 x 9, H = 24, fully convolutional network: milliseconds")
    print(f"  {'N':>6}  {'rollouts':>9}  {'network':>8}  {'rollout':>8}  {'backward':>8}  {'Adam':>6}  {'all':>6}")
    for count in sizes.updates:
        stages = _Update(world, [Sampled("maxrl", count)])
        seconds = medians(
            {"network": stages.network, "rollout": stages.rollout, "backward": stages.backward}, sizes.rounds
        )
        adam = medians({"adam": stages.adam}, sizes.rounds)["adam"]
        parts = [*seconds.values(), adam]
        cells = "  ".join(f"{1000 * part:>{width}.1f}" for part, width in zip(parts, (8, 8, 8, 6), strict=True))
        print(f"  {count:>6}  {count * mazes:>9}  {cells}  {1000 * sum(parts):>6.1f}")
        record.add("navigation", {"update": count, "rollouts": count * mazes, "seconds": {**seconds, "Adam": adam}})


class _Update:
    """The stages of an update, each on what the one before left."""

    def __init__(self, world: World, methods: list[Method]) -> None:
        self.world, self.methods = world, methods
        self.stack = world.stack(range(len(methods)))
        optimisation = fit.Optimisation(steps=1, optimiser="adam")
        self.optimiser = fit.make_optimiser(optimisation, self.stack.networks, [0.003] * len(methods))

    def network(self) -> None:
        self.log_policy = self.stack.log_policy(self.world.train.inputs, self.world.train.rows)

    def rollout(self) -> None:
        batch = TabularBatch(self.world.train.tables, self.log_policy, range(len(self.methods)), 0)
        self.losses = run_losses(batch, self.methods)

    def backward(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        self.losses.sum().backward()

    def adam(self) -> None:
        self.optimiser.step()

    def all(self) -> None:
        for stage in (self.network, self.rollout, self.backward, self.adam):
            stage()


def _sweeps(world: World, sizes: Sizes, record: Record) -> None:
    """Print the seconds of an update of many runs as one batched program, and of the same runs one by one."""
    print("\na sweep as one program against one run at a time: seconds an update")
    for names, count, copies in sizes.sweeps:
        methods: list[Method] = [Sampled(name, count) for name in names for _ in range(copies)]
        together = _Update(world, methods)
        alone = [_Update(world, [method]) for method in methods]
        sides = {
            "together": Side(together.all),
            "one by one": Side(lambda alone=alone: [update.all() for update in alone], base="together"),
        }
        title = f"an update of {len(methods)} runs on mazes, N = {count}"
        times = record.compare("navigation", title, sides, sizes.rounds, profile=profile_of_calls)
        fast, slow = middle(times).values()
        print(f"  {len(methods)} runs, N = {count}: {fast:.3f} s, {slow:.3f} s: {slow / fast:.1f}x")


if __name__ == "__main__":
    main()
