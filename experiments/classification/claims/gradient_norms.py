"""Fig. 8 of the paper: which examples move the policy."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import Estimate, ratio, seeds_text, select
from experiments.classification.gradient_norms import Settings
from maxrl_lab.claims import Claim

ML, GRPO, RL = "maximum_likelihood", "grpo_limit", "expected_reward"
HARD, MIDDLE, EASY = (0.0, 0.01), (0.4, 0.6), (0.9, 1.0)
"""Pass rates of hard, middling and easy examples."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return the shapes of Fig. 8 in the population, and how far MaxRL at the largest N follows them."""
    rows, there = tables["rows"], set(settings.objectives)
    made = []
    if ML in there:
        falls = ratio(_medians(rows, ML, HARD), _medians(rows, ML, EASY))
        sentence = (
            "Cross-entropy pushes hardest where the pass rate is near 0 and falls: the median gradient norm at p < "
            f"0.01 is {falls} times that at p > 0.9 ({_over(falls)})."
        )
        made.append(falls.claim("cross_entropy_falls", "Fig. 8", sentence, boundary=1))
    if GRPO in there:
        middle = _medians(rows, GRPO, MIDDLE)
        ends = pd.concat([_medians(rows, GRPO, part) for part in (HARD, EASY)], axis=1).max(axis=1, skipna=False)
        peak = ratio(middle, ends)
        sentence = (
            "GRPO peaks near p = 0.5: its median gradient norm at p from 0.4 to 0.6 is "
            f"{peak} times the larger of those at p < 0.01 and at p > 0.9 ({_over(peak)})."
        )
        made.append(peak.claim("grpo_peaks_in_the_middle", "Fig. 8", sentence, boundary=1))
    if {RL, ML} <= there:
        share = ratio(_medians(rows, RL, HARD), _medians(rows, ML, HARD))
        sentence = (
            "REINFORCE is tiny where it matters: at p < 0.01 its median gradient norm is "
            f"{share} of that of cross-entropy ({_over(share)})."
        )
        made.append(share.claim("reinforce_is_tiny", "Fig. 8", sentence, direction="below", boundary=0.1))
    if ML in there and "maxrl" in settings.estimators:
        most = max(settings.rollouts)
        part = (1 / most, 1.0)
        share = ratio(_medians(rows, "maxrl", part, most), _medians(rows, ML, part))
        sentence = (
            f"MaxRL at N = {most} follows cross-entropy down to p of about 1/N: at p > {part[0]:.2g} its median "
            f"expected gradient norm is {share} of that of cross-entropy ({_over(share)})."
        )
        made.append(share.claim("maxrl_follows_cross_entropy", "Fig. 8", sentence, boundary=0.9))
    return made


def _medians(
    rows: pd.DataFrame, curve: str, pass_rates: tuple[float, float], rollouts: int | None = None
) -> "pd.Series[float]":
    """Return by seed the median norm of the examples with pass rates between two; NaN for a seed that has none."""
    shown, (low, high) = select(rows, curve=curve, rollouts=rollouts), pass_rates
    within = shown[(shown.pass_rate > low) & (shown.pass_rate <= high)]
    return within.groupby("seed").gradient_norm.median().reindex(sorted(rows.seed.unique()))


def _over(estimate: Estimate) -> str:
    return seeds_text(estimate).replace("seeds", "networks").replace("seed", "network")
