"""What is not learnt is pushed down: where a method fails, its policy ends below the untrained one."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import seeds_text, share_over_seeds
from experiments.navigation.trajectories import Settings
from maxrl_lab.claims import Claim, number

FAILED = 0.5
"""A level on which the trained policy's pass rate is below this is not learnt."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return for every method the share of the levels it fails on whose pass rate has fallen."""
    rates, made = tables["policies"], []
    for method in settings.estimators:
        failed = rates[(rates.method == method) & (rates.pass_rate < FAILED)]
        if set(failed.seed) != set(rates.seed):  # a seed in which all was learnt says nothing
            continue
        share = share_over_seeds((failed.pass_rate < failed.untrained).groupby(failed.seed).mean())
        word = "MaxRL" if method == "maxrl" else method.upper()
        sentence = (
            f"What {word} does not learn it pushes down: of the training mazes on which it ends below a pass rate of "
            f"{FAILED} at N = {settings.rollouts}, a share of {share} ends below the untrained policy "
            f"({seeds_text(share)}; median pass rate {number(failed.pass_rate.median())}, untrained "
            f"{number(failed.untrained.median())})."
        )
        made.append(share.claim(f"{method}_pushes_down_what_it_does_not_learn", "", sentence, boundary=0.5))
    return made
