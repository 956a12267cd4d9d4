"""What differs from student to student: all exercises can be solved, and nobody else's solution solves them."""

from pathlib import Path

import pytest
import torch

from course import exercises, flips, grade, parameters
from course.checks import advantages, noise
from course.parameters import parameters_of
from maxrl_lab import estimators, exact
from maxrl_lab.errors import InputError

SOLUTIONS = Path(exercises.__file__).with_name("solutions")
NAMES = [None, *(f"student{number}@school.edu" for number in range(12))]
PERSONAL = ("order_t", "pass_at_k", "boxes", "quiet")


def from_table(success, failure, name="answer"):
    """The function of one N with a table, and of every other N with order_t's."""

    def function(rewards):
        right = torch.as_tensor(rewards) != 0
        successes = right.sum(-1, keepdim=True)
        return torch.where(right, success[successes], failure[successes])

    function.__name__ = name
    return function


@pytest.mark.parametrize("name", NAMES[:2])
def test_every_students_exercises_can_be_solved(name):
    asked = parameters_of(name)
    order = (lambda n: n) if asked.order == "N" else lambda n: int(asked.order)

    def order_t(rewards):
        return estimators.make("maxrl_order", order=order(torch.as_tensor(rewards).shape[-1]))(rewards)

    def pass_at_k(rewards):
        return estimators.make("pkpo", k=asked.k)(rewards)

    def quiet(rewards):
        rewards = torch.as_tensor(rewards)
        if rewards.shape[-1] != asked.rollouts:
            return order_t(rewards)
        moments = flips.uniform_policy(asked.answers, asked.right)
        best, _ = flips.quietest(asked.objective, asked.rollouts, moments)
        success = torch.cat([best[:1], best + flips.flips_of(asked.objective, asked.rollouts)])
        return from_table(success, torch.cat([best, best[:1]]))(rewards)

    answers = {"order_t": order_t, "pass_at_k": pass_at_k, "quiet": quiet, "boxes": lambda: named}
    named = {letter: box.objective for letter, box in asked.lettered().items()}
    for exercise in PERSONAL:
        exercises.EXERCISES[exercise].check(answers.__getitem__, asked)


@pytest.mark.parametrize("name", NAMES)
def test_a_box_is_unbiased_for_its_objective_and_no_other(name):
    """By the flips, which are compared with those of the library's own tables."""
    size = parameters.BOX_ROLLOUTS
    known = {"expected_reward": "reinforce"}
    known |= {f"truncated_likelihood:order={t}": f"maxrl_order:order={t}" for t in range(2, size + 1)}
    known |= {f"pass_at_k:k={k}": f"pkpo:k={k}" for k in range(2, size + 1)}
    asked = parameters_of(name)
    assert sum(box.objective == parameters.NO_OBJECTIVE for box in asked.boxes) == 1
    assert len({box.objective for box in asked.boxes}) == len(asked.boxes) == 6
    for box in asked.boxes:
        mine = torch.tensor(box.flips(), dtype=torch.float64)
        fitting = []
        for objective, estimator in known.items():
            success, failure = exact.coefficients(estimator, rollouts=size)
            theirs = success[1:] - failure[:-1]
            scale = mine[0] / theirs[0]
            fitting += [objective] if torch.allclose(mine, scale * theirs, atol=1e-5) else []
        assert fitting == ([] if box.objective == parameters.NO_OBJECTIVE else [box.objective])


def test_the_published_solutions_solve_nobody_elses_exercises():
    *results, same = grade.grade(SOLUTIONS, parameters_of("ada"), (*PERSONAL, "terms"))
    assert [result.score for result in results[:2]] == [0, 0]
    assert not any(result.passed for result in results)
    assert same.passed  # what has no parameter is the same for everybody


def test_a_name_is_the_same_however_it_is_written():
    assert parameters_of(" Ada  LOVELACE ") == parameters_of("ada lovelace")
    assert parameters_of("ada") != parameters_of("grace")
    assert parameters_of("") == parameters_of(None) == parameters_of("  ")


def test_parameters_differ_from_those_of_the_solutions():
    for name in NAMES[1:]:
        asked = parameters_of(name)
        assert asked.k in (3, 4, 5)
        assert asked.order in ("2", "3", "4", "5")
        assert asked.rollouts != 8
        assert int(asked.order) <= asked.rollouts
        assert 0 < asked.right < asked.answers


@pytest.mark.parametrize("name", NAMES[:4])
def test_no_estimator_of_the_library_is_quiet(name):
    """None of those with a name, and not the form of least variance, which moves at K = 0."""
    asked = parameters_of(name)
    moments = flips.uniform_policy(asked.answers, asked.right)
    best = flips.quietest(asked.objective, asked.rollouts, moments)[1]
    rest = {key: value for key, value in moments.items() if key != "pass_rate"}
    form = estimators.from_objective(
        asked.objective, asked.rollouts, "least_variance", pass_rate=moments["pass_rate"], **rest
    )
    unbiased = 0
    for estimator in [form, f"maxrl_order:order={asked.order}", *estimators.ESTIMATORS]:
        try:
            success, failure = exact.coefficients(estimator, rollouts=asked.rollouts)
        except InputError:
            continue  # it needs an option
        variance = float(exact.table_variance(success, failure, **moments))
        if torch.allclose(success[1:] - failure[:-1], flips.flips_of(asked.objective, asked.rollouts)):
            unbiased += 1
            assert failure[0] != 0 or variance > best * (1 + noise.ALLOWANCE), estimator
    assert unbiased >= 2


def test_the_quietest_table_is_the_least_of_many():
    """Any other baseline with b(0) = 0 is noisier."""
    moments = flips.uniform_policy(10, 5)
    best, variance = flips.quietest("truncated_likelihood:order=N", 8, moments)
    wanted = flips.flips_of("truncated_likelihood:order=N", 8)
    stream = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = best + 0.05 * torch.cat([best[:1], torch.randn(7, generator=stream, dtype=torch.float64)])
        success, failure = torch.cat([best[:1], other + wanted]), torch.cat([other, best[:1]])
        assert float(exact.table_variance(success, failure, **moments)) > variance


def test_the_policy_of_quiet_by_enumeration():
    pi = torch.full((10,), 0.1, dtype=torch.float64)
    rewards, scores = (torch.arange(10) < 3).double(), torch.eye(10, dtype=torch.float64) - pi
    gradient, squares = (pi * rewards) @ scores, scores.square().sum(1)
    moments = flips.uniform_policy(10, 3)
    assert moments["pass_rate"] == pytest.approx(0.3)
    assert moments["gradient_norm_squared"] == pytest.approx(float(gradient @ gradient))
    assert moments["success_moment"] == pytest.approx(float((pi * rewards) @ squares))
    assert moments["failure_moment"] == pytest.approx(float((pi * (1 - rewards)) @ squares))


def test_the_smallest_counterexample_is_the_smallest():
    """An estimator that leaves order N at N = 5 with 3 others right, and at every larger N."""

    def function(rewards):
        right = torch.as_tensor(rewards)
        others = right.sum(-1, keepdim=True) - right
        off = (others == 3) & (right == 1) & (right.shape[-1] >= 5)
        return right * right.shape[-1] / (others + 1) + off * 0.01

    found = flips.first_counterexample(function, "truncated_likelihood:order=N", range(2, 9))
    assert (found.rollouts, found.others_right) == (5, 3)
    assert found.text().splitlines() == [
        "  rewards [0, 1, 1, 1, 0] give the first rollout the advantage 0",
        "  rewards [1, 1, 1, 1, 0] give it 1.26",
        "  so getting it right is worth 1.26;",
        "  with J = 3 of the other 4 right it must be worth 1.25",
    ]
    assert advantages.MOST_ROLLOUTS == 8
