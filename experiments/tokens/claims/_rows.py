"""What the claims of token experiments share: final values by seed, and that one method ends above another."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from experiments._claims import by_seed, difference, mean_text, seeds_text
from maxrl_lab.claims import Claim, Direction
from maxrl_lab.tokens.comparison import family

Frames = Mapping[str, pd.DataFrame]
FLOOR = 1e-4
"""Pass rates below it count as if they were it where a logarithm is taken."""
NAMES = {
    "rloo": "RLOO",
    "grpo": "GRPO",
    "maxrl": "MaxRL",
    "pkpo": "PKPO",
    "grpo | entropy_bonus": "GRPO with an entropy bonus",
    "grpo | differential_smoothing": "GRPO with Differential Smoothing",
    "grpo | greedy_gate": "GRPO with SELF's gate",
    "maxrl_leave_one_out": "the leave-one-out form of exact order N",
    "maxrl_centred": "the zero-sum form",
    "base": "the base policy",
}
"""Methods without their options, in words."""


def word(name: str) -> str:
    """Return a method's name in a sentence, with its options in brackets: `PKPO (k=N/2)`."""
    options = name.partition(":")[2]
    return NAMES.get(family(name), name) + (f" ({options})" if options and family(name) in NAMES else "")


def identifier(method: str) -> str:
    """Return a method's name without its options as the name of a claim has it: `grpo_entropy_bonus`."""
    return family(method).replace(" | ", "_")


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows after the last update."""
    return rows[rows.step == rows.step.max()]


def largest_k(tables: Frames) -> int:
    """Return the largest k that was measured of the bases and after training."""
    return int(min(tables["base"].k.max(), final(tables["evaluations"]).k.max()))


def ends(tables: Frames, estimator: str, rollouts: int, k: int) -> "pd.Series[float]":
    """Return a method's held-out pass@k at the end by seed; `base` is the policy it started from."""
    if estimator == "base":
        return by_seed(tables["base"], "pass_at_k", k=k)
    return by_seed(final(tables["evaluations"]), "pass_at_k", estimator=estimator, rollouts=rollouts, k=k)


def surprise(rates: "pd.Series[float]") -> "pd.Series[float]":
    """Return -log of pass rates, in nats."""
    return -np.log(rates.clip(lower=FLOOR))


def lead(
    name: str,
    paper: str,
    start: str,
    ours: "pd.Series[float]",
    theirs: "pd.Series[float]",
    *,
    of: str,
    direction: Direction = "above",
) -> Claim:
    """Return the claim that ours ends above theirs (or below): `start`, then both means and the paired difference."""
    gap = difference(ours, theirs)
    sentence = f"{start}: {of} is {mean_text(ours)} and {mean_text(theirs)}, a difference of {gap} ({seeds_text(gap)})."
    return gap.claim(name, paper, sentence, direction=direction)
