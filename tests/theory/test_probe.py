"""Reading the coefficients of anybody's function: how it is called, what it may do, and what is refused."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch

from maxrl_lab import estimators, exact, probe

CONTAINERS = {
    "float64 tensor": lambda rewards: isinstance(rewards, torch.Tensor) and rewards.dtype == torch.float64,
    "float32 tensor": lambda rewards: isinstance(rewards, torch.Tensor) and rewards.dtype == torch.float32,
    "array": lambda rewards: isinstance(rewards, np.ndarray) and rewards.dtype == np.float64,
    "list": lambda rewards: isinstance(rewards, list),
}
FORMS = list(itertools.product(CONTAINERS, [False, True]))


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def centred(rewards):
    return rewards - rewards.mean(-1, keepdim=True)


def picky(container, batched):
    """Mean-centred advantages that accept one container in one shape and answer in kind."""

    def advantages(rewards):
        if not CONTAINERS[container](rewards):
            raise TypeError(f"{container}s only")
        values = torch.as_tensor(rewards)
        if values.ndim != (2 if batched else 1):
            raise IndexError("wrong number of axes")
        result = centred(values)
        return {"array": result.numpy(), "list": result.tolist()}.get(container, result)

    return advantages


def read(function, rollouts):
    return probe.read_coefficients(probe.probe(function, rollouts), rollouts)


@pytest.mark.parametrize(("container", "batched"), FORMS)
def test_the_one_call_a_function_understands_is_found(container, batched):
    found = probe.probe(picky(container, batched), 4)
    assert (found.container, found.batched) == (container, batched)
    success, failure = probe.read_coefficients(found, 4)
    assert success.dtype == failure.dtype == torch.float64
    # K = 0..4: a success gets 1 - K/4, a failure -K/4
    assert success.tolist() == [0, 3 / 4, 2 / 4, 1 / 4, 0]
    assert failure.tolist() == [0, -1 / 4, -2 / 4, -3 / 4, 0]


@pytest.mark.parametrize(("container", "batched"), FORMS)
def test_the_caller_may_allow_one_shape_only(refuses, container, batched):
    function = picky(container, batched)
    assert probe.probe(function, 3, batched=batched) == probe.Probe(
        function, container, batched, precision=1e-5 if container == "float32 tensor" else 1e-9
    )
    # the message holds the failure of the first call that was tried: a float64 tensor in the shape that is allowed
    allowed = "(N,)" if batched else "(B, N)"
    failure = "wrong number of axes" if container == "float64 tensor" else f"{container}s only"
    with refuses(f"advantages does not turn rewards {allowed} at N = 3 into as many advantages: {failure}"):
        probe.probe(function, 3, batched=not batched)


def test_a_function_that_understands_every_call_gets_one_group_in_double_precision():
    seen = []

    def remember(rewards):
        seen.append(rewards)
        return torch.as_tensor(rewards)

    assert probe.probe(remember, 3) == probe.Probe(remember, "float64 tensor", False)
    assert probe.probe(remember, 3, batched=True) == probe.Probe(remember, "float64 tensor", True)
    assert probe.probe(remember, 3, batched=False) == probe.Probe(remember, "float64 tensor", False)
    assert [rewards.tolist() for rewards in seen] == [[1, 0, 0], [[1, 0, 0]], [1, 0, 0]]


def test_a_batch_is_preferred_to_a_less_precise_container():
    def batched_tensors_or_lists(rewards):
        if isinstance(rewards, list):
            return rewards
        assert rewards.ndim == 2
        return rewards

    # float64 (N,) fails, float64 (1, N) works: float32, arrays and lists come later
    assert probe.probe(batched_tensors_or_lists, 2) == probe.Probe(batched_tensors_or_lists, "float64 tensor", True)


def test_the_answer_may_be_part_of_a_graph():
    scale = torch.ones((), requires_grad=True)
    success, failure = read(lambda rewards: rewards * scale, 2)
    assert not success.requires_grad
    assert (success.tolist(), failure.tolist()) == ([0, 1, 1], [0, 0, 0])


def test_the_shape_of_the_answer_is_checked(refuses):
    rewards = torch.zeros(3, dtype=torch.float64)
    with refuses("expected advantages of shape (3,), got (2,)"):
        probe.Probe(lambda rewards: rewards[:2], "float64 tensor", False).group(rewards)
    with refuses("expected advantages of shape (1, 3), got (1, 2)"):
        probe.Probe(lambda rewards: rewards[:, :2], "float64 tensor", True).group(rewards)
    with refuses("expected advantages of shape (3,), got ()"):
        probe.Probe(sum, "list", False).call(rewards)


def test_a_function_that_never_answers_is_refused_with_its_first_failure(refuses):
    def broken(rewards):
        raise RuntimeError(f"no good: {type(rewards).__name__} with {len(rewards)}")

    with refuses(
        "broken does not turn rewards (N,) or (B, N) at N = 5 into as many advantages: no good: Tensor with 5"
    ):
        probe.probe(broken, 5)
    with refuses("broken does not turn rewards (B, N) at N = 5 into as many advantages: no good: Tensor with 1"):
        probe.probe(broken, 5, batched=True)
    with refuses("broken does not turn rewards (N,) at N = 5 into as many advantages: no good: Tensor with 5"):
        probe.probe(broken, 5, batched=False)


def test_interrupting_the_probe_stops_it():
    def impatient(rewards):
        raise KeyboardInterrupt(rewards)

    with pytest.raises(KeyboardInterrupt):
        probe.probe(impatient, 2)


@pytest.mark.parametrize(("container", "batched"), FORMS)
def test_a_function_may_use_up_its_input(container, batched):
    keep = picky(container, batched)

    def spoil(rewards):
        result = keep(rewards)
        (row,) = rewards if batched else (rewards,)
        row[:] = [7.0] * 4 if container == "list" else 7.0
        return result

    success, failure = read(spoil, 4)
    assert success.tolist() == [0, 3 / 4, 2 / 4, 1 / 4, 0]
    assert failure.tolist() == [0, -1 / 4, -2 / 4, -3 / 4, 0]


def test_a_function_may_answer_in_its_input():
    success, failure = read(lambda rewards: rewards.sub_(rewards.mean()), 2)
    assert (success.tolist(), failure.tolist()) == ([0, 1 / 2, 0], [0, -1 / 2, 0])


def test_whatever_number_a_function_answers_with_is_read_in_double_precision():
    rewards = double([1.0, 0.0, 0.0])
    for answer in ([1, 0, 0], [True, False, False], np.float32([1, 0, 0]), torch.tensor([1, 0, 0]).half()):
        found = probe.Probe(lambda rewards, answer=answer: answer, "list", False).group(rewards)
        assert found.dtype == torch.float64
        assert found.tolist() == [1, 0, 0]


def test_a_zero_is_never_read_as_minus_zero():
    for sign in (1, -1):
        for column in read(lambda rewards, sign=sign: sign * torch.zeros_like(rewards), 3):
            assert not column.signbit().any()


def test_coefficients_no_group_can_reach_are_zero():
    success, failure = read(lambda rewards: rewards + 5, 3)
    assert success.tolist() == [0, 6, 6, 6]
    assert failure.tolist() == [5, 5, 5, 0]


def recorded(rollouts):
    seen = []
    read(lambda rewards: seen.append(tuple(rewards.tolist())) or rewards, rollouts)
    return seen[1:]  # the first is the call that finds out how to call it


@pytest.mark.parametrize("rollouts", [1, 2, 3, 6])
def test_small_groups_are_tried_in_every_arrangement_once(rollouts):
    seen = recorded(rollouts)
    assert sorted(seen) == sorted(itertools.product([0, 1], repeat=rollouts))


def test_larger_groups_are_tried_in_three_arrangements_of_every_number_of_successes():
    seen = recorded(9)
    # K = 0 and K = 9 have one arrangement, the eight others are tried sorted, reversed and shuffled
    assert [sum(rewards) for rewards in seen] == [0, *(k for k in range(1, 9) for _ in range(3)), 9]
    assert len(set(seen)) > 2 + 8 * 2
    assert seen == recorded(9)
    # 7 is the first N at which not every arrangement is tried
    assert len(recorded(7)) == 2 + 6 * 3


def by_position(rewards):
    return rewards * torch.arange(1, len(rewards) + 1)


def test_dependence_on_the_order_is_shown_by_two_inputs(refuses):
    with refuses(
        "by_position depends on the order of rollouts: rewards [1, 0, 0] -> advantages [1, 0, 0], "
        "but rewards [0, 1, 0] -> [0, 2, 0] (rollout 1: expected 1, got 2)"
    ):
        read(by_position, 3)


def test_the_inputs_shown_are_short(refuses):
    def late(rewards):
        return rewards * torch.linspace(0.123456789, 1, len(rewards), dtype=torch.float64)

    # with one success of nine, the reversed group is the first that differs: its last rollout gets 1
    with refuses(
        "late depends on the order of rollouts: "
        "rewards [1, 0, 0, 0, 0, 0, 0, 0, ...] -> advantages [0.1235, 0, 0, 0, 0, 0, 0, 0, ...], "
        "but rewards [0, 0, 0, 0, 0, 0, 0, 0, ...] -> [0, 0, 0, 0, 0, 0, 0, 0, ...]"
        " (rollout 8: expected 0.123457, got 1)"
    ):
        read(late, 9)
    with refuses(
        "late depends on the order of rollouts: rewards [1, 0, 0, 0, 0, 0, 0, 0] -> advantages "
        "[0.1235, 0, 0, 0, 0, 0, 0, 0], but rewards [0, 0, 0, 0, 0, 0, 0, 1] -> [0, 0, 0, 0, 0, 0, 0, 1]"
        " (rollout 7: expected 0.123457, got 1)"
    ):
        read(late, 8)


@pytest.mark.parametrize(
    ("spoils", "rollouts"),
    [
        (lambda rewards: rewards == [0, 1, 0, 1, 1, 0], 6),  # one of 64 arrangements
        (lambda rewards: sum(rewards) == 3 and rewards[-3:] == [1, 1, 1], 11),  # only the reversed one
        (lambda rewards: sum(a != b for a, b in itertools.pairwise(rewards)) > 2, 11),  # neither sorted nor reversed
    ],
)
@pytest.mark.parametrize("amount", [1.0, math.nan, -math.inf])
def test_rare_dependence_on_the_order_is_found(spoils, rollouts, amount):
    def spoiled(rewards):
        return centred(rewards) + (amount if spoils(rewards.tolist()) else 0.0)

    with pytest.raises(probe.NotEquivariantError, match=r"\Aspoiled depends on the order of rollouts: "):
        read(spoiled, rollouts)


def test_dependence_on_the_position_within_one_group_is_found():
    # at K = 0 all rollouts are alike, so the middle one cannot differ
    with pytest.raises(probe.NotEquivariantError, match=r"\(rollout 1: expected 0, got 0.5\)"):
        read(lambda rewards: torch.tensor([0, 0.5, 0]) + 0 * rewards, 3)


def nearly_even(scale, difference, dtype):
    """Successes get `scale`, one in the middle of three `difference` more."""

    def advantages(rewards):
        if rewards.dtype != dtype:
            raise TypeError(f"{dtype} only")
        return rewards * torch.tensor([scale, scale + difference, scale], dtype=dtype)

    return advantages


@pytest.mark.parametrize(
    ("scale", "dtype", "limit"),
    [
        (1.0, torch.float64, 1e-9),
        (1e3, torch.float64, 1e-6),  # relative to the largest advantage
        (-1e3, torch.float64, 1e-6),
        (1e-3, torch.float64, 1e-9),  # but never finer than for an advantage of 1
        (1.0, torch.float32, 1e-5),
        (1e3, torch.float32, 1e-2),
    ],
)
def test_rounding_is_no_dependence_on_the_order(scale, dtype, limit):
    success, _ = read(nearly_even(scale, 0.8 * limit, dtype), 3)
    assert success[1:].tolist() == pytest.approx([scale] * 3, rel=1e-6)
    with pytest.raises(probe.NotEquivariantError):
        read(nearly_even(scale, 1.3 * limit, dtype), 3)


def test_names_in_messages():
    assert probe.name_of(math.prod) == "prod"
    assert probe.name_of(by_position) == "by_position"
    assert probe.name_of(estimators.make("pkpo", k=2)) == "pkpo:k=2"
    assert probe.name_of("maxrl") == "maxrl"
    partial = functools.partial(by_position)
    assert probe.name_of(partial) == str(partial)


def test_a_made_estimator_is_not_called_but_read(monkeypatch):
    estimator = estimators.make("maxrl")
    expected = [column.tolist() for column in estimator.coefficients(5)]
    assert [column.tolist() for column in probe.coefficients(estimator.__call__, 5)] == expected
    monkeypatch.setattr(estimators.Estimator, "__call__", None)
    assert [column.tolist() for column in probe.coefficients(estimator, 5)] == expected


def test_single_precision_inside_a_function_is_no_dependence_on_the_order():
    def grpo(rewards):
        rewards = np.asarray(rewards, dtype=np.float32)
        return (rewards - rewards.mean()) / (rewards.std() + np.float32(1e-6))

    for rollouts in range(2, 33):
        exact.coefficients(grpo, rollouts=rollouts)


def test_a_function_may_answer_in_memory_that_it_reuses():
    buffer = torch.zeros(3, dtype=torch.float64)

    def centred(rewards):
        return buffer.copy_(rewards - rewards.mean())

    success, _ = exact.coefficients(centred, rollouts=3)
    torch.testing.assert_close(success, torch.tensor([0, 2 / 3, 1 / 3, 0], dtype=torch.float64))
