"""Fig. 1 of the paper, and what finite N does to it."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import exact, select
from experiments.exact.weight_functions import Settings
from maxrl_lab.claims import Claim, number

TOLERANCE = 1e-9
"""What rounding may make of an identity."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return the shapes of Fig. 1, and what GRPO and Algorithm 1 weigh at the smallest and the largest N."""
    rows = tables["rows"]
    return [*_population(rows, settings), *_smallest(rows, settings), *_largest(rows, settings)]


def _population(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    made = []
    for name, text in (("maximum_likelihood", "the likelihood"), ("grpo_limit", "GRPO")):
        if name not in settings.objectives:
            continue
        weights = _weights(rows, name)
        hard, middle, easy = (_at(weights, p) for p in (weights.index.min(), 0.5, weights.index.max()))
        hardest = number(weights.index.min())
        if name == "grpo_limit":
            ends = exact(min(hard, easy) / middle)
            sentence = (
                f"In the population GRPO favours both ends: at p = {hardest} and at one minus that its weight is at "
                f"least {ends} times the one at p = 0.5 (exact)."
            )
            made.append(ends.claim("grpo_favours_both_ends", "Fig. 1", sentence, boundary=1))
        else:
            ratio, end = exact(hard / middle), exact(easy / middle)
            sentence = (
                f"The weight of {text} is on hard tasks: at p = {hardest} it is {ratio} times the one at p = 0.5, and "
                f"at p near 1 it is {end} times that (exact)."
            )
            made.append(ratio.claim("likelihood_favours_hard_tasks", "Fig. 1", sentence, boundary=1))
    if "expected_reward" in settings.objectives:
        deviation = exact(_deviation(_weights(rows, "expected_reward")))
        sentence = f"The weight of expected reward is flat: it deviates from a constant by at most {deviation} (exact)."
        made.append(
            deviation.claim("expected_reward_is_flat", "Fig. 1", sentence, direction="below", boundary=TOLERANCE)
        )
    return made


def _smallest(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """At N = 2 GRPO and Algorithm 1 are RL."""
    names = [name for name in ("grpo", "maxrl") if name in settings.estimators]
    if 2 not in settings.rollouts or not names:
        return []
    deviation = exact(max(_deviation(_weights(rows, name, 2)) for name in names))
    sentence = (
        "At N = 2 GRPO and MaxRL's Algorithm 1 are plain RL: their weights deviate from a constant by at most "
        f"{deviation} (exact)."
    )
    return [deviation.claim("rl_at_two_rollouts", "", sentence, direction="below", boundary=TOLERANCE)]


def _largest(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """GRPO's limit is far at hard tasks."""
    if "grpo" not in settings.estimators or "grpo_limit" not in settings.objectives:
        return []
    most, hardest = max(settings.rollouts), rows.pass_rate.min()
    share = exact(_at(_weights(rows, "grpo", most), hardest) / _at(_weights(rows, "grpo_limit"), hardest))
    sentence = (
        f"On hard tasks GRPO's population limit is far from what rollouts give: at p = {number(hardest)} and N = "
        f"{most} its weight is {share} of the limit's (exact)."
    )
    return [share.claim("grpo_is_far_from_its_limit", "", sentence, direction="below", boundary=0.9)]


def _weights(rows: pd.DataFrame, name: str, rollouts: int | None = None) -> "pd.Series[float]":
    """Return a curve by pass rate."""
    return select(rows, name=name, rollouts=rollouts).set_index("pass_rate").weight


def _at(weights: "pd.Series[float]", pass_rate: float) -> float:
    """Return the weight at the nearest pass rate that is tabulated."""
    return float(weights.iloc[abs(weights.index.to_numpy() - pass_rate).argmin()])


def _deviation(weights: "pd.Series[float]") -> float:
    """Return the largest relative deviation from the weight's mean."""
    return float((weights / weights.mean() - 1).abs().max())
