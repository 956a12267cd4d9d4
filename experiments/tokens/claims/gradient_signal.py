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
    made += [_hard(tables["mazes"], name) for name in others]
    return made + [_signal(tables["dynamics"], settings, name) for name in others]


def _falls(rows: pd.DataFrame) -> Claim:
    """MaxRL's gradient of a prompt with a success is the larger, the smaller the pass rate."""
    pushing = rows[(rows.estimator == OURS) & (rows.gradient_norm > 0)]
    ranks = pushing.groupby("seed")[["pass_rate", "gradient_norm"]].rank().assign(seed=pushing.seed)
    by_seed = pd.Series(
        {
            seed: ranks.pass_rate[ranks.seed == seed].corr(ranks.gradient_norm[ranks.seed == seed])
            for seed in sorted(rows.seed.unique())
        }
    )
    correlation = over_seeds(by_seed)
    sentence = (
        "MaxRL's gradient is largest on hard prompts: among mazes with a success in the group, the rank correlation of "
        f"a maze's gradient norm with its pass rate is {correlation} ({seeds_text(correlation)})."
    )
    return correlation.claim("maxrl_norm_falls_with_pass_rate", "Fig. 6", sentence, direction="below")


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
