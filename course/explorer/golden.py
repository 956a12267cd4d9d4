"""What the library computes of all that the explorer page computes by itself, for a test that compares the two.

`python -m course.explorer.golden` writes them into tests/golden/explorer.json.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.gridworld.levels import parse
from envs.gridworld.tables import tasks
from maxrl_lab import estimators, evaluate, exact, objectives
from maxrl_lab.audit import audit

FILE = Path(__file__).parents[2] / "tests" / "golden" / "explorer.json"
DIGITS = 13

ROLLOUTS = (1, 2, 3, 8, 64)
SMALL = 8
"""Up to so many rollouts the columns are kept, too."""
JUDGED = (2, 8)
"""The audit's verdict is kept at these N."""
PASS_RATES = (1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999, 1.0)
OPTIONS: dict[str, dict[str, float]] = {
    "constant_baseline": {"value": 0.3},
    "w_reinforce": {"weight": 0.1},
    "reinforce_rej": {"two_sided": 1},
    "grpo": {"ddof": 1, "epsilon": 0.1},
    "f_grpo": {"gamma": 1.5},
    "qae": {"kappa": 0.4},
    "power": {"s": 1.5, "t": 0.5},
    "tsallis": {"q": 0.5},
    "rs_grpo": {"beta": 2.0},
    "passk_training": {"std": 0},
}
"""Options by estimator, beside an order or k of half the group; an optional one is also left out."""

SOFTMAX_PASS_RATES = (0.01, 0.3, 0.9)

MAZE = ("#######", "#1....#", "#.##..#", "#.#..2#", "#.#.#.#", "#..3.G#", "#######")
HORIZON = 12
TRAINING = {"rate": 4.0, "updates": 5}
RATES = ((0.95, 0.9, 1e-3), (0.6, 0.5, 0.1), (1.0, 0.02, 0.0))
KS = (1, 4, 64, 1024)
FEW = (1, 4)
"""At these k no coverage is so near its limit that rounding decides who reaches it."""
MOST_SAMPLES = 2_000


def values() -> dict[str, Any]:
    """Return all golden values, rounded to 13 significant digits."""
    rounded: dict[str, Any] = _rounded(
        {
            "pass_rates": PASS_RATES,
            "softmax": _softmax(),
            "tables": _tables(),
            "objectives": _objectives(),
            "maze": _maze(),
            "coverage": _coverage(),
        }
    )
    return rounded


def specs(rollouts: int) -> list[str]:
    """Return the text form of every estimator that exists at N rollouts, with and without its optional options."""
    listed = []
    for name in estimators.ESTIMATORS:
        for given in ({}, OPTIONS.get(name, {})):
            for size in ({}, {"order": max(1, rollouts // 2)}, {"k": max(1, rollouts // 2)}):
                try:
                    made = estimators.make(name, **size, **given)
                    made.coefficients(rollouts)
                except ValueError:
                    continue  # options that it has not, or a group too small
                listed.append(made.spec)
    return list(dict.fromkeys(listed))


def _tables() -> list[dict[str, Any]]:
    return [_table(spec, rollouts) for rollouts in ROLLOUTS for spec in specs(rollouts)]


def _table(spec: str, rollouts: int) -> dict[str, Any]:
    p = torch.tensor(PASS_RATES, dtype=torch.float64)
    success, failure = exact.coefficients(spec, rollouts=rollouts)
    variance = exact.variance(
        spec,
        rollouts=rollouts,
        pass_rate=p,
        gradient_norm_squared=(p * (1 - p)) ** 2,  # p = sigmoid(logit)
        success_moment=p * (1 - p) ** 2,
        failure_moment=(1 - p) * p**2,
    )
    row = {
        "estimator": spec,
        "rollouts": rollouts,
        "weight": exact.weight(spec, rollouts=rollouts, pass_rate=p).tolist(),
        "variance": variance.tolist(),
    }
    if rollouts > SMALL:
        return row
    columns = {"a": success.tolist(), "b": failure.tolist()}
    verdict = {"objective": audit(spec, rollouts=rollouts).objective} if rollouts in JUDGED else {}
    return {**row, **columns, **verdict}


def _softmax() -> dict[str, Any]:
    """Return |grad p|^2 and the variance of a policy over 20 answers, 4 of them right, by enumeration."""
    right, wrong, rollouts, estimator = 4, 16, 8, "maxrl_centred:order=3"
    rewards = torch.tensor([1.0] * right + [0.0] * wrong, dtype=torch.float64)
    rows = []
    for p in SOFTMAX_PASS_RATES:
        chances = rewards * (p / right) + (1 - rewards) * ((1 - p) / wrong)
        scores = torch.eye(right + wrong, dtype=torch.float64) - chances
        mean, variance = exact.moments(
            estimator, rollouts=rollouts, probabilities=chances, scores=scores, rewards=rewards
        )
        weight = exact.weight(estimator, rollouts=rollouts, pass_rate=p)
        rows.append([float(mean.square().sum() / weight**2), float(variance)])
    return {
        "estimator": estimator,
        "rollouts": rollouts,
        "pass_rates": SOFTMAX_PASS_RATES,
        "right": right,
        "wrong": wrong,
        "norms_and_variances": rows,
    }


def _objectives() -> dict[str, list[float]]:
    p = torch.tensor(PASS_RATES[:-1], dtype=torch.float64)
    named = ("expected_reward", "maximum_likelihood", "grpo_limit", "truncated_likelihood:order=5", "pass_at_k:k=5")
    return {spec: objectives.resolve(spec).weight(p).tolist() for spec in named}


def _maze() -> dict[str, Any]:
    """Return pass rates and gradients of three starts at some policy, and after a few steps along the likelihood."""
    levels = [parse("\n".join(MAZE).translate(_only(start))) for start in "123"]
    world = tasks(levels, horizon=HORIZON, radius=None)
    logits = torch.linspace(-1, 1, len(MAZE) ** 2 * 4, dtype=torch.float64).mul(40).sin().reshape(-1, 4)

    def pass_rates(table: Tensor) -> Tensor:
        return world.pass_rate(table.log_softmax(-1).expand(len(levels), -1, -1))

    leaf = logits.clone().requires_grad_()
    rates = pass_rates(leaf)
    gradients = [torch.autograd.grad(rate, leaf, retain_graph=True)[0].flatten().tolist() for rate in rates]
    trained = torch.zeros_like(logits)
    for _ in range(int(TRAINING["updates"])):
        leaf = trained.clone().requires_grad_()
        (step,) = torch.autograd.grad(pass_rates(leaf).log().mean(), leaf)
        trained = trained + TRAINING["rate"] * step
    return {
        "lines": MAZE,
        "horizon": HORIZON,
        "logits": logits.flatten().tolist(),
        "pass_rates": rates.tolist(),
        "gradients": gradients,
        "training": {**TRAINING, "pass_rates": pass_rates(trained).tolist()},
    }


def _only(start: str) -> dict[int, str]:
    return str.maketrans({mark: "S" if mark == start else "." for mark in "123"})


def _coverage() -> dict[str, Any]:
    """Return exact coverage, and the least whole number of samples for that of others; None beyond `MOST_SAMPLES`."""
    curves = [evaluate.exact_coverage(rates, range(1, MOST_SAMPLES + 1)) for rates in RATES]
    needed = [[[_first(theirs >= ours[k - 1] * (1 - 1e-13)) for k in FEW] for theirs in curves] for ours in curves]
    return {
        "rates": RATES,
        "ks": KS,
        "few": FEW,
        "values": [[float(c[k - 1]) for k in KS] for c in curves],
        "needed": needed,
    }


def _first(reached: Tensor) -> int | None:
    hits = reached.nonzero()
    return int(hits[0]) + 1 if len(hits) else None


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


if __name__ == "__main__":
    FILE.write_text(json.dumps(values()) + "\n", encoding="utf-8")
    print(f"{FILE}: {FILE.stat().st_size} bytes")
