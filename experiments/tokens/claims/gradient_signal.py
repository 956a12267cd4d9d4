"""Fig. 6, 7 and 12 of the paper: which prompts push, and for how many there is a signal during training."""

import pandas as pd

from experiments._claims import over_seeds, seeds_text
from experiments.tokens.claims._rows import Frames, lead, word
from experiments.tokens.gradient_signal import Settings
from maxrl_lab.claims import Claim

OURS = "maxrl"


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return how MaxRL's gradients go with the pass rate, and the lead of its share of prompts with a success."""
    if OURS not in settings.estimators:
        return []
    others = [name for name in ("grpo", "rloo") if name in settings.estimators]
    made = [_falls(tables["mazes"])]
    made += [_falls_more(tables["mazes"], name) for name in others]
    made += [_hard(tables["mazes"], name) for name in others]
    return made + [_signal(tables["dynamics"], settings, name) for name in others]


def _falls(rows: pd.DataFrame) -> Claim:
    """MaxRL's gradient of a prompt with a success is the larger, the smaller the pass rate."""
    correlation = over_seeds(_correlations(rows, OURS))
    sentence = (
        "Among mazes with a success in the group MaxRL's gradient is largest on the hard ones: the rank correlation of "
        f"a maze's gradient norm with its pass rate is {correlation} ({seeds_text(correlation)})."
    )
    return correlation.claim("maxrl_norm_falls_with_pass_rate", "Fig. 6", sentence, direction="below")


def _falls_more(rows: pd.DataFrame, other: str) -> Claim:
    """It falls more than another estimator's does."""
    ours, theirs = (_correlations(rows, name) for name in (OURS, other))
    return lead(
        f"norm_falls_more_with_pass_rate_than_with_{other}",
        "Fig. 6",
        f"Among mazes with a success in the group the gradient turns to hard ones more with MaxRL than with "
        f"{word(other)}",
        ours,
        theirs,
        of="the rank correlation of a maze's gradient norm with its pass rate",
        direction="below",
    )


def _correlations(rows: pd.DataFrame, name: str) -> "pd.Series[float]":
    """Return by seed the rank correlation of gradient norm and pass rate, of the prompts that have a gradient."""
    pushing = rows[(rows.estimator == name) & (rows.gradient_norm > 0)]
    by_seed = {
        seed: pushing[pushing.seed == seed].pass_rate.rank().corr(pushing[pushing.seed == seed].gradient_norm.rank())
        for seed in sorted(rows.seed.unique())
    }
    return pd.Series(by_seed)


def _hard(rows: pd.DataFrame, other: str) -> Claim:
    """More of MaxRL's gradient comes from the harder half of the prompts."""
    ours, theirs = (_share_of_hard(rows[rows.estimator == name]) for name in (OURS, other))
    return lead(
        f"hard_prompts_push_more_than_with_{other}",
        "Fig. 6",
        f"Hard prompts push more with MaxRL than with {word(other)}",
        ours,
        theirs,
        of="the share of all mazes' gradient norms that comes from the harder half",
    )


def _share_of_hard(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return by seed the share of the summed norms that prompts below the median pass rate have."""
    shares = {}
    for seed, prompts in rows.groupby("seed"):
        ordered = prompts.sort_values("pass_rate").gradient_norm
        total = ordered.sum()
        shares[seed] = ordered.iloc[: len(ordered) // 2].sum() / total if total else 0.0
    return pd.Series(shares)


def _signal(dynamics: pd.DataFrame, settings: Settings, other: str) -> Claim:
    """In the last quarter of training more prompts have a success with MaxRL."""
    late = dynamics[dynamics.step > 0.75 * settings.steps]
    means = late.groupby(["estimator", "seed"]).signal.mean()
    return lead(
        f"more_prompts_with_a_success_than_with_{other}",
        "Fig. 7 and 12",
        f"At N = {settings.rollouts} more training mazes show a success with MaxRL than with {word(other)}",
        means[OURS],
        means[other],
        of="their share in the last quarter of training",
    )
