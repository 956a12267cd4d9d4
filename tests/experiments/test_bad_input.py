"""What a user can get wrong on the command line: one line that names it, status 2, and nothing on disk."""

import pytest

from maxrl_lab.command import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "unknown command 'rum'; choose one of: list, run, draw, reproduce, claims"),
        (["run"], "NAME is one of: weight_functions"),
        (["run", "nothing"], "unknown experiment 'nothing'; choose one of: weight_functions"),
        (["run", "classification", "--preset", "huge"], "invalid choice: 'huge'"),
        (["run", "classification", "--seedz", "3"], "unrecognized arguments: --seedz 3"),
        (["run", "classification", "--seeds", "x"], "invalid int value: 'x'"),
        (["run", "classification", "--seeds", "0"], "seeds must be a whole number >= 1, got 0"),
        (["run", "classification", "--rollouts"], "rollouts"),
        (["run", "classification", "--estimators", "maxrll"], "unknown estimator 'maxrll'; choose one of"),
        (["run", "classification", "--estimators", "rloo", "--rollouts", "1"], "rloo needs at least 2 rollouts"),
        (["run", "classification", "--learning_rates", "-1"], "learning_rates must be positive and finite, got -1.0"),
        (["run", "weight_functions", "--objectives", "mle"], "unknown objective 'mle'; choose one of"),
        (["run", "weight_functions", "--lowest", "0.7"], "lowest must lie in [1e-12, 0.5), got 0.7"),
        (["run", "weight_functions", "--lowest", "1e-300"], "lowest must lie in [1e-12, 0.5), got 1e-300"),
        (["run", "weight_functions", "--rollouts", str(10**12)], f"rollouts must be at most 1000000, got {10**12}"),
        (["run", "gradient_norms", "--learning-rate", "1e38"], "learning_rate must be at most 1e+37, got 1e+38"),
        (["run", "bias_variance", "--budget", "100"], "budget must be a multiple of every N"),
        (["run", "bias_variance", "--pass-rates", "1.5"], "pass_rates must lie in (0, 1), got 1.5"),
        (["run", "unbiasedness", "--pass-rate", "0"], "pass_rate must lie in (0, 1), got 0.0"),
        (["run", "likelihood_limit", "--hardest", "0.9"], "hardest must lie in (0, 0.5), got 0.9"),
        (["run", "likelihood_limit", "--answers", "1"], "answers must be a whole number >= 2, got 1"),
        (["run", "gradient_norms", "--learning-rate", "0"], "learning_rate must be positive and finite, got 0.0"),
        (["run", "weight_functions", "--device", "tpu"], "--device must be auto, cpu, cuda or cuda:INDEX, got 'tpu'"),
        (["run", "weight_functions", "--device", "cuda:7"], "--device cuda:7: torch sees"),
        (["draw", "classification"], "no finished run in"),
        (["reproduce", "--preset", "huge"], "invalid choice: 'huge'"),
        (["run", "navigation", "--horizon", "5"], "distances must be within the horizon of 5 steps, got 9"),
        (["run", "navigation", "--layout", "maze"], "unknown layout 'maze'; choose one of: open, obstacles, prim"),
        (["run", "navigation", "--size", "8"], "a Prim maze needs an odd size, got 8"),
        (
            ["run", "navigation_minigrid", "--names", "Empty"],
            "unknown names 'Empty'; choose one of: Empty-5x5",
        ),
        (
            ["run", "navigation", "--rollouts", "3", "--estimators", "pkpo:k=4"],
            "pkpo with k=4 needs at least 4 rollouts",
        ),
        (
            ["run", "trajectories", "--distances", "60", "--shown", "60", "--horizon", "64"],
            "found 0 of 50 distinct train levels prim 9 x 9",
        ),
        (["run", "navigation_likelihood", "--distances", "2", "2"], "distances must be distinct, got 2 2"),
        (
            ["run", "navigation_bias_variance", "--policy", "table"],
            "unknown policy 'table'; choose one of: convolutional",
        ),
        (["run", "likelihood_limit", "--learning-rates", "nan"], "learning_rates must be positive and finite, got nan"),
        (["run", "maze_scaling", "--size", "8"], "a Prim maze needs an odd size, got 8"),
        (["run", "maze_scaling", "--rollouts", "1"], "rloo needs at least 2 rollouts in a group, got N = 1"),
        (["run", "maze_scaling", "--precision", "float16"], "unknown precision 'float16'; choose one of: float32"),
        (["run", "maze_scaling", "--memory", "0"], "memory must be positive and finite, got 0.0"),
        (
            ["run", "maze_baselines", "--methods", "grpo | selfish"],
            "unknown surrogate 'selfish'; choose one of: sequence",
        ),
        (["run", "maze_baselines", "--methods", "grpo", "grpo"], "methods must be distinct, got grpo grpo"),
        (["run", "coverage", "--top-p", "0"], "top_p must lie in (0, 1], got 0.0"),
        (["run", "coverage", "--estimators", "maxrll"], "unknown estimator 'maxrll'; choose one of"),
        (["run", "gradient_signal", "--rate-samples", "0"], "rate_samples must be a whole number >= 1, got 0"),
        (
            ["run", "maze_trajectories", "--mazes", "100", "--held-out", "9"],
            "mazes must be at most held_out = 9, got 100",
        ),
        (["run", "data_scarce", "--tasks", "chess"], "unknown tasks 'chess'; choose one of: modular_sum, countdown"),
        (
            ["run", "data_scarce", "--prompts", "16", "--training-set", "40"],
            "training_set must be a multiple of prompts = 16, got 40",
        ),
        (
            ["run", "data_scarce", "--preset", "smoke", "--modulus", "2", "--sum-length", "2", "--device", "cpu"],
            "of 4 distinct test problems of modular_sum 2 2",
        ),
        (["run", "length_bias", "--surrogates", "mean"], "unknown surrogate 'mean'; choose one of: sequence_sum"),
        (
            ["run", "length_bias", "--surrogates", "entropy_bonus:coefficient=0.1", "--quiet"],
            "needs the entropies of the rollouts'",
        ),
        (["run", "length_bias", "--long", "0"], "long must be a whole number >= 1, got 0"),
        (["run", "length_bias", "--rollouts", "1"], "rollouts must be a whole number >= 2, got 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("maxrl-lab: error: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing written
