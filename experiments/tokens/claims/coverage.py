"""Fig. 5 and Table 7 of the paper: how many samples MaxRL saves at test time, and what majority votes gain."""

import numpy as np
import pandas as pd

from experiments._claims import by_seed, ratio, seeds_text, share_over_seeds
from experiments.tokens.claims._rows import Frames, lead, word
from experiments.tokens.coverage import Settings
from maxrl_lab import evaluate
from maxrl_lab.claims import Claim, number

OURS = "maxrl"


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return the scaling efficiency of MaxRL over each other policy, and the lead of its majority votes."""
    if OURS not in settings.estimators:
        return []
    others = [name for name in ("grpo", "rloo", "base") if name in (*settings.estimators, "base")]
    votes = [_votes(tables, name) for name in others]
    return [*(_efficiency(tables["coverage"], name) for name in others), *votes]


def _efficiency(rows: pd.DataFrame, other: str) -> Claim:
    """The other policy needs more samples for the pass@k that MaxRL has with k of them."""
    ks = sorted(int(k) for k in rows.k.unique())
    k, most = ks[(len(ks) - 1) // 2], ks[-1]
    needed = pd.Series({seed: _needed(runs, other, ks)[ks.index(k)] for seed, runs in rows.groupby("seed")})
    times = ratio(needed.clip(upper=most / k), pd.Series(1.0, needed.index))
    start = f"MaxRL saves samples at test time: for the pass@{k} that it has on held-out mazes, {word(other)} needs"
    never = int(np.isinf(needed).sum())
    if not never:
        sentence = f"{start} {times} times as many samples ({seeds_text(times)})."
        return times.claim(f"efficiency_over_{other}", "Fig. 5", sentence, boundary=1.0)
    # the factor of a seed that never gets there is a bound, and bounds have no interval: seeds are counted instead
    share = share_over_seeds((needed > 1).astype(float))
    sentence = (
        f"{start} more samples in a share of {share} of the seeds, and at least {number(times.value)} times as many in "
        f"the geometric mean ({seeds_text(share)}; {never} of them do not get there with {most} samples and count as "
        f"{most / k:g} times)."
    )
    return share.claim(f"efficiency_over_{other}", "Fig. 5", sentence, boundary=0.5)


def _needed(runs: pd.DataFrame, other: str, ks: list[int]) -> list[float]:
    """Return how many times MaxRL's samples the other policy of a seed needs, at each k."""
    ours, theirs = (runs[runs.estimator == name].set_index("k").pass_at_k[ks].tolist() for name in (OURS, other))
    return evaluate.scaling_efficiency(ours, theirs, ks).tolist()


def _votes(tables: Frames, other: str) -> Claim:
    """Majority votes of MaxRL's answers are right more often."""
    ours, theirs = (by_seed(tables["votes"], "majority", estimator=name) for name in (OURS, other))
    return lead(
        f"votes_of_maxrl_lead_{other}",
        "Table 7",
        f"Majority votes profit from MaxRL more than from {word(other)}",
        ours,
        theirs,
        of="the share of held-out mazes whose vote is right",
    )
