"""What is made of tables is where the tables are. The device `meta`, which holds no numbers, stands for a GPU."""

from types import SimpleNamespace

import pytest
import torch
from small_worlds import WORLDS, random_policy

from maxrl_lab.tabular import dynamic_programming, moments, rollout, transitions

META = {name: tasks.to("meta") for name, tasks in WORLDS.items()}
KINDS = [(name, when) for name in WORLDS for when in ("stationary", "in time")]


def policy_for(tasks, when, runs=2):
    return random_policy(tasks, 1 if when == "stationary" else tasks.horizon, runs=runs).to("meta")


def assert_alike(made, wanted):
    """The same shapes and types, and all of it on the device."""
    assert len(made) == len(wanted)
    for mine, other in zip(made, wanted, strict=True):
        assert mine.is_meta
        assert not other.is_meta
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)


@pytest.mark.parametrize("name", WORLDS)
def test_tables(name):
    made, wanted = (
        [tasks.active, tasks.next_states] for tasks in (META[name].select([0, 0]), WORLDS[name].select([0, 0]))
    )
    assert_alike(made, wanted)
    parts = (transitions.successors, transitions.true_chances, transitions.dense_transitions)
    assert_alike([part(META[name]) for part in parts], [part(WORLDS[name]) for part in parts])


@pytest.mark.parametrize(("name", "when"), KINDS)
def test_exact_results(name, when):
    policy = policy_for(WORLDS[name], when)
    on_cpu = random_policy(WORLDS[name], policy.shape[1], runs=2)
    parts = (dynamic_programming.pass_rate, dynamic_programming.occupancy)
    assert_alike([part(META[name], policy) for part in parts], [part(WORLDS[name], on_cpu) for part in parts])
    assert_alike(moments.score_moments(META[name], policy[0]), moments.score_moments(WORLDS[name], on_cpu[0]))


@pytest.mark.parametrize(("name", "when"), KINDS)
def test_rollouts(monkeypatch, name, when):
    # What asks for a number is answered beforehand: whether starts are random, and whether rewards are right or wrong.
    random_start = rollout.has_random_start(WORLDS[name])
    monkeypatch.setattr(rollout, "has_random_start", lambda _tables: random_start)
    monkeypatch.setattr(rollout, "Group", lambda *values: SimpleNamespace(rewards=values[0], values=values))
    uniforms = rollout.sample_uniforms(WORLDS[name], 5, torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    results = []
    for tasks, device in ((META[name], "meta"), (WORLDS[name], "cpu")):
        policy = random_policy(WORLDS[name], 1 if when == "stationary" else tasks.horizon, runs=3).to(device)
        group, segments = rollout.roll_out(tasks, policy, uniforms.to(device), [0, 1, 0])
        results.append([*group.values, *rollout.read_paths(tasks, segments, group)])
    assert_alike(*results)
