"""Every lesson runs as a whole, also at the ends of its sliders, and its functions are plain Python."""

import functools
import importlib
import importlib.util
import subprocess
import sys
from dataclasses import dataclass

import matplotlib as mpl
import pytest
import torch

from maxrl_lab.extras import CHECKOUT

pytestmark = pytest.mark.skipif(importlib.util.find_spec("marimo") is None, reason="the extra course is not installed")
mpl.use("agg")

FOLDER = CHECKOUT / "course" / "lessons"


@dataclass
class Fixed:
    """What stands in for a slider or a dropdown."""

    value: object


@pytest.fixture(scope="module", autouse=True)
def marimo_is_gone_afterwards():
    """Where marimo is imported transformers believe to be in a notebook, in the tests of language models too."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "marimo":
            del sys.modules[name]


@functools.cache
def as_it_opens(number: int) -> dict[str, object]:
    """Return what the cells of a lesson define with its controls where they stand at first."""
    return run(number)


def run(number: int, **controls: object) -> dict[str, object]:
    """Run a lesson with these positions of its controls; return what its cells define."""
    lesson = importlib.import_module(f"course.lessons.lesson_{number}")
    defined = lesson.app.run(defs={name: Fixed(value) for name, value in controls.items()})[1]
    return dict(defined)


ENDS = [
    (1, {"order": 1, "k": 1}),
    (1, {"order": 1024, "k": 64}),
    (2, {"rollouts": 2, "estimator": "grpo"}),
    (2, {"rollouts": 64, "estimator": "maxrl_control_variate"}),
    (2, {"order": 1}),
    (2, {"order": 15}),
    (3, {"rollouts": 4, "groups": 64}),
    (4, {"rollouts": 4, "rate": 30.0}),
    (5, {"rollouts": 2, "length": 2}),
    (5, {"rollouts": 32, "length": 60, "temperature": 4.0}),
]

TOGETHER = {
    2: {"rollouts": 8, "estimator": "maxrl"},
    3: {"rollouts": 16, "groups": 1},
    5: {"rollouts": 8, "name": "standardised"},
}
"""Controls that stand in one cell and are replaced together."""


@pytest.mark.parametrize("number", range(1, 6))
def test_a_lesson_runs_with_its_own_checks(number):
    assert as_it_opens(number)


@pytest.mark.parametrize(("number", "controls"), ENDS)
def test_a_lesson_runs_at_the_ends_of_its_controls(number, controls):
    assert run(number, **(TOGETHER.get(number, {}) | controls))


def test_lesson_1_weighs_two_tasks():
    _, series, likelihood = as_it_opens(1)["shares"]
    assert likelihood["hard : easy"] == pytest.approx(500)
    assert series["weight at 0.001"] == pytest.approx((1 - 0.999**8) / 0.001)


def test_lesson_2_shows_the_flips_of_algorithm_1():
    rows = as_it_opens(2)["table"]
    assert [row["flip at J = K"] for row in rows[:2]] == pytest.approx([7, 4])
    assert (rows[0]["a(K)"], rows[8]["a(K)"], rows[8]["b(K)"]) == (None, 0.0, None)
    assert as_it_opens(2)["report"].objective == "truncated_likelihood:order=7"


def test_lesson_3_names_the_least_error_at_three_pass_rates():
    assert [row["least"] for row in as_it_opens(3)["table"]][::2] == ["maxrl_centred:order=N/4", "rloo"]


def test_lesson_3_has_the_errors_that_its_text_gives():
    errors = importlib.import_module("course.lessons.lesson_3").errors
    cases = {
        ("maxrl", 16, 0.5, 1): 0.69,
        ("rloo", 16, 0.5, 1): 0.40,
        ("maxrl_control_variate", 4, 0.01, 1): 1.62,
        ("maxrl", 4, 0.01, 1): 1.02,
        ("maxrl_control_variate", 16, 0.1, 16): 0.116,
        ("maxrl", 16, 0.1, 16): 0.124,
    }
    assert {case: sum(errors(*case)) for case in cases} == pytest.approx(cases, rel=0.01)


def test_lesson_4_lets_rloo_win_at_one_rate_and_maxrl_at_another():
    lesson = importlib.import_module("course.lessons.lesson_4")
    methods = list(lesson.contenders(16).values())[:3]
    ends = [lesson.train(methods, [rate] * 3, updates=60)[:, -1] for rate in (30.0, 0.3)]
    assert [int(end.argmax()) for end in ends] == [0, 2]


def test_lesson_4_chooses_rates_whose_ends_are_worse():
    for row in as_it_opens(4)["swept"][:3]:
        rates = [value for name, value in row.items() if name.startswith("rate")]
        assert max(rates) not in (rates[0], rates[-1])


def test_lesson_5_lets_a_long_right_answer_fall():
    lesson = importlib.import_module("course.lessons.lesson_5")
    assert lesson.steps(60, by_token=True)[1] < 0 < lesson.steps(60, by_token=False)[1]
    assert lesson.steps(5, by_token=True)[1] < 0 <= lesson.steps(4, by_token=True)[1] + 1e-12
    assert lesson.steps(2, by_token=True) == pytest.approx([step / 2 for step in lesson.steps(2, by_token=False)])


def test_lesson_5_scores_raw_logits_with_a_mean_that_is_not_0():
    tempered, raw = as_it_opens(5)["scores"]
    assert tempered["answer 1"] == pytest.approx(0, abs=1e-12)
    assert raw["answer 1"] > 0.1


def test_functions_of_a_lesson_are_plain_python():
    weights = importlib.import_module("course.lessons.lesson_1").weights
    curves = weights(4)
    assert set(curves) == {"RL", "likelihood", "order 4"}
    assert torch.all(curves["order 4"] <= curves["likelihood"] + 1e-9)


def test_marimo_finds_no_fault():
    done = subprocess.run(
        [sys.executable, "-m", "marimo", "check", "--strict", str(FOLDER)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
