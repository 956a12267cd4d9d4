"""Settings of token experiments that are refused, each in one line that names what was expected and what came."""

import dataclasses
import math

import pytest
from small_study import SMALL

from experiments.tokens import coverage, data_scarce, gradient_signal, maze_baselines, maze_scaling, maze_trajectories
from maxrl_lab.errors import InputError
from maxrl_lab.training.methods import parse_method
from maxrl_lab.training.sweep import name_at

BAD = [
    (maze_scaling, {"size": 8}, "a Prim maze needs an odd size, got 8"),
    (maze_scaling, {"size": 35}, "size must be at most 33, got 35"),
    (maze_scaling, {"answer_length": 5}, "the shortest way of 7 x 7 mazes takes 10 tokens, got 5"),
    (maze_scaling, {"rollouts": (1, 4)}, "rloo needs at least 2 rollouts in a group, got N = 1"),
    (maze_scaling, {"rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
    (maze_scaling, {"rollouts": ()}, "rollouts needs at least one value, got none"),
    (maze_scaling, {"pretrain_until": 0.0}, "pretrain_until must lie in (0, 1], got 0.0"),
    (maze_scaling, {"estimators": ()}, "estimators needs at least one value, got none"),
    (maze_scaling, {"estimators": ("rloo", "maxrl", "rloo")}, "estimators must be distinct, got rloo maxrl rloo"),
    (
        maze_scaling,
        {"estimators": ("pkpo:k=2", "pkpo:k=N/2"), "rollouts": (4,)},
        "methods must be distinct, got pkpo:k=2 pkpo:k=2",
    ),
    (maze_scaling, {"learning_rates": (1e-3, 0.0)}, "learning_rates must be positive and finite, got 0.0"),
    (maze_scaling, {"learning_rates": ()}, "learning_rates needs at least one value, got none"),
    (maze_scaling, {"pretrain_rate": math.nan}, "pretrain_rate must be positive and finite, got nan"),
    (maze_scaling, {"precision": "float16"}, "unknown precision 'float16'; choose one of: float32, bfloat16"),
    (maze_scaling, {"memory": 0.0}, "memory must be positive and finite, got 0.0"),
    (maze_scaling, {"samples": 3}, "samples must be a whole number >= 4, got 3"),
    (maze_scaling, {"processes": -1}, "processes must be a whole number >= 0, got -1"),
    (maze_scaling, {"seeds": 0}, "seeds must be a whole number >= 1, got 0"),
    (maze_scaling, {"pretrain_steps": 0}, "pretrain_steps must be a whole number >= 1, got 0"),
    (
        maze_baselines,
        {"methods": ("grpo | greedy",)},
        "unknown surrogate 'greedy'; choose one of: sequence_sum, token_mean, rollout_mean, entropy_bonus, "
        "differential_smoothing, greedy_gate",
    ),
    (
        maze_baselines,
        {"methods": ("grpo | entropy_bonus",)},
        "surrogate 'entropy_bonus' needs the option 'coefficient', as in 'entropy_bonus:coefficient=4'",
    ),
    (
        maze_baselines,
        {"methods": ("grpo | greedy_gate", "maxrl", "grpo|greedy_gate")},
        "methods must be distinct, got grpo | greedy_gate maxrl grpo | greedy_gate",
    ),
    (
        maze_baselines,
        {"methods": ("grpo", "grpo | sequence_sum")},
        "methods must be distinct, got grpo grpo",
    ),
    (coverage, {"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
    (coverage, {"top_p": 1.5}, "top_p must lie in (0, 1], got 1.5"),
    (coverage, {"coverage_samples": 0}, "coverage_samples must be a whole number >= 1, got 0"),
    (gradient_signal, {"examples": 0}, "examples must be a whole number >= 1, got 0"),
    (gradient_signal, {"modulus": 1}, "modulus must be a whole number >= 2, got 1"),
    (maze_trajectories, {"mazes": 7}, "mazes must be at most held_out = 6, got 7"),
    (maze_trajectories, {"kept": 0}, "kept must be a whole number >= 1, got 0"),
    (data_scarce, {"tasks": ("chess",)}, "unknown tasks 'chess'; choose one of: modular_sum, countdown"),
    (data_scarce, {"tasks": ("countdown", "countdown")}, "tasks must be distinct, got countdown countdown"),
    (data_scarce, {"training_set": 10}, "training_set must be a multiple of prompts = 4, got 10"),
    (data_scarce, {"training_set": 2}, "training_set must be a multiple of prompts = 4, got 2"),
    (data_scarce, {"rollouts": 1}, "rloo needs at least 2 rollouts in a group, got N = 1"),
]


@pytest.mark.parametrize(
    ("module", "changes", "message"), BAD, ids=lambda part: part if isinstance(part, str) else None
)
def test_bad_settings(module, changes, message, refuses):
    with refuses(message):
        dataclasses.replace(module.PRESETS["smoke"], **changes)


def test_sizes_of_the_policy_are_checked_at_once():
    for changes in ({"width": 15}, {"heads": 3}, {"layers": 0}, {"mlp": 0}):
        with pytest.raises(InputError, match="got") as error:
            dataclasses.replace(SMALL, **changes)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("module", [maze_scaling, maze_baselines, data_scarce])
def test_quick_sweeps_nothing(module):
    settings = module.PRESETS["quick"]
    counts = settings.rollouts if isinstance(settings.rollouts, tuple) else (settings.rollouts,)
    names = settings.methods if module is maze_baselines else settings.estimators
    section = "countdown" if module is data_scarce else ""
    assert {name_at(parse_method(name, count), section) for name in names for count in counts} <= settings.fixed.keys()
