"""Fig. 10 of the paper: where a policy still finds a way that others have lost, in the few mazes that are shown."""

import pandas as pd

from experiments.tokens.claims._rows import Frames, lead, word
from experiments.tokens.maze_trajectories import Settings
from maxrl_lab.claims import Claim

OURS = "maxrl"


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return by how much MaxRL's pass rate on the mazes shown leads the others'; of one seed, so without interval."""
    rates = tables["rates"]
    if OURS not in settings.estimators:
        return []
    return [
        lead(
            f"finds_ways_more_often_than_{other}",
            "Fig. 10",
            f"MaxRL's policy finds the goal more often than that of {word(other)} in the {rates.maze.nunique()} mazes "
            "shown",
            _mean(rates, OURS),
            _mean(rates, other),
            of="the mean pass rate",
        )
        for other in ("grpo", "rloo")
        if other in settings.estimators
    ]


def _mean(rates: pd.DataFrame, name: str) -> "pd.Series[float]":
    """Return a policy's mean pass rate on the mazes shown: one value, of seed 0."""
    return pd.Series({0: rates[rates.estimator == name].pass_rate.mean()})
