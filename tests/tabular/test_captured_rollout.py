"""Captured table rollouts: the groups and gradients of `roll_out`, number for number."""

import pytest
import torch
from replay import OneDevice, record_tape
from small_worlds import WORLDS, random_policy

from maxrl_lab import captured
from maxrl_lab.captured import WARM_UPS
from maxrl_lab.randomness import generator
from maxrl_lab.tabular.captured_rollout import CapturedRollouts, _Walk
from maxrl_lab.tabular.rollout import roll_out, sample_uniforms

KINDS = [(name, when) for name in WORLDS for when in ("stationary", "in time")]


@pytest.fixture(params=["called", "replayed"])
def how(request, monkeypatch):
    """The walk is called, as on every CPU, or replayed from a tape, as from a CUDA graph."""
    if request.param == "replayed":
        monkeypatch.setattr(captured, "_record_call", record_tape)
    return request.param


def policies(tasks, when, seeds, device="cpu"):
    """Policies (R, T, B, S, A), one a seed, that can be differentiated."""
    times = 1 if when == "stationary" else tasks.horizon
    log_policy = torch.cat([random_policy(tasks, times, seed=seed).view(1, times, *tasks.shape) for seed in seeds])
    return log_policy.to(device).requires_grad_()


def numbers(tasks, rollouts, streams, seed=0):
    """Random numbers (D, U, B, N)."""
    sources = [generator("captured", seed, stream, device=tasks.device) for stream in range(streams)]
    return torch.stack([sample_uniforms(tasks, rollouts, source) for source in sources])


def gradient(group, log_policy, seed=0):
    slopes = torch.randn(group.rewards.shape, generator=generator("slopes", seed)).to(group.log_probs)
    return torch.autograd.grad((group.log_probs * slopes).sum(), log_policy)[0]


def check(captured_group, ordinary_group, captured_policy, ordinary_policy, tolerance=1e-12):
    """Fail unless groups and gradients are the same."""
    assert torch.equal(captured_group.rewards, ordinary_group.rewards)
    assert torch.equal(captured_group.lengths, ordinary_group.lengths)
    assert torch.allclose(captured_group.log_probs, ordinary_group.log_probs, rtol=tolerance, atol=tolerance)
    slopes = gradient(captured_group, captured_policy), gradient(ordinary_group, ordinary_policy)
    assert torch.allclose(*slopes, rtol=tolerance, atol=tolerance)
    assert slopes[0].any()


@pytest.mark.parametrize(("name", "when"), KINDS)
@pytest.mark.parametrize("streams", [[0], [0, 1, 2], [1, 0, 1]])
def test_groups_and_gradients_are_those_of_roll_out(name, when, streams, how):
    tasks = WORLDS[name]
    rollouts = CapturedRollouts(tasks)
    for seed in range(3):  # later calls replay what the first has recorded, with other policies and numbers
        mine, ordinary = (policies(tasks, when, [10 * seed + run for run in range(len(streams))]) for _ in range(2))
        uniforms = numbers(tasks, 7, max(streams) + 1, seed)
        wanted, _ = roll_out(tasks, ordinary, uniforms, streams)
        check(rollouts.roll_out(mine, uniforms, streams), wanted, mine, ordinary)
    assert len(rollouts.walks) == 1


def test_the_streams_of_runs_may_change(how):
    tasks = WORLDS["graphs"]
    rollouts, uniforms = CapturedRollouts(tasks), numbers(tasks, 9, 2)
    for streams in ([0, 1], [1, 0], [0, 0]):
        mine, ordinary = (policies(tasks, "stationary", [1, 2]) for _ in range(2))
        wanted, _ = roll_out(tasks, ordinary, uniforms, streams)
        check(rollouts.roll_out(mine, uniforms, streams), wanted, mine, ordinary)


def test_single_precision(how):
    tasks = WORLDS["graphs"]
    mine, ordinary = (policies(tasks, "stationary", [1]).detach().float().requires_grad_() for _ in range(2))
    uniforms = numbers(tasks, 50, 1)
    wanted, _ = roll_out(tasks, ordinary, uniforms, [0])
    group = CapturedRollouts(tasks).roll_out(mine, uniforms, [0])
    assert group.log_probs.dtype == torch.float32
    check(group, wanted, mine, ordinary, 1e-5)


def test_groups_last_and_other_shapes_may_come_in_between(how):
    tasks = WORLDS["graphs"]
    rollouts = CapturedRollouts(tasks, most=2)
    mine, ordinary = (policies(tasks, "stationary", [1]) for _ in range(2))
    first = rollouts.roll_out(mine, numbers(tasks, 7, 1), [0])
    rollouts.roll_out(mine, numbers(tasks, 8, 1), [0])
    wanted, _ = roll_out(tasks, ordinary, numbers(tasks, 7, 1), [0])
    check(first, wanted, mine, ordinary)
    rollouts.roll_out(mine, numbers(tasks, 7, 1, seed=1), [0])
    assert torch.equal(first.rewards, wanted.rewards)
    assert torch.equal(first.log_probs, wanted.log_probs)


def test_a_gradient_that_comes_too_late_is_refused(refuses, how):
    tasks = WORLDS["graphs"]
    rollouts = CapturedRollouts(tasks)
    log_policy = policies(tasks, "stationary", [1])
    group = rollouts.roll_out(log_policy, numbers(tasks, 7, 1), [0])
    rollouts.roll_out(log_policy, numbers(tasks, 7, 1, seed=1), [0])
    with refuses("these rollouts were followed by others of the same shapes: call backward before the next"):
        group.log_probs.sum().backward()


def test_the_walk_is_recorded_once(monkeypatch):
    monkeypatch.setattr(captured, "_record_call", record_tape)
    tasks = WORLDS["graphs"]
    rollouts, calls = CapturedRollouts(tasks), {"walk": 0, "scatter": 0}
    log_policy = policies(tasks, "stationary", [1])
    rollouts.roll_out(log_policy, numbers(tasks, 7, 1), [0])  # makes the walk that is watched below
    (walk,) = rollouts.walks._values.values()
    for holder, name in ((walk.forward, "walk"), (walk.backward, "scatter")):
        run = holder.function

        def counted(*inputs, run=run, name=name):
            calls[name] += 1
            return run(*inputs)

        holder.function = counted
    for seed in range(3):
        group = rollouts.roll_out(log_policy, numbers(tasks, 7, 1, seed=seed), [0])
        gradient(group, log_policy)
    assert calls == {"walk": 0, "scatter": WARM_UPS + 1}


@pytest.mark.parametrize(("name", "when"), KINDS)
def test_every_tensor_is_on_the_tables_device(name, when):
    tasks, there = WORLDS[name], WORLDS[name].to("meta")
    log_policy, uniforms = policies(tasks, when, [1, 2]).detach().to("meta"), numbers(tasks, 7, 2).to("meta")
    random_start = CapturedRollouts(tasks).random_start
    with OneDevice():
        walk = _Walk(there, log_policy, uniforms, random_start=random_start)
        rewards, _, log_probs = walk.walk(log_policy, uniforms, torch.zeros(2, dtype=torch.long, device="meta"))
        (slopes,) = walk.scatter(log_probs)
    assert rewards.shape == (2, tasks.shape[0], 7)
    assert slopes.shape == log_policy.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("name", "when"), KINDS)
def test_on_a_gpu(name, when):
    tasks = WORLDS[name].to("cuda")
    rollouts = CapturedRollouts(tasks)
    for seed in range(3):
        mine, ordinary = (policies(tasks, when, [seed, seed + 5], "cuda") for _ in range(2))
        uniforms = numbers(tasks, 500, 2, seed)
        wanted, _ = roll_out(tasks, ordinary, uniforms, [0, 1])
        check(rollouts.roll_out(mine, uniforms, [0, 1]), wanted, mine, ordinary, 1e-10)
