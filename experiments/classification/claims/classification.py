"""Fig. 2 and 9 of the paper: who comes near to cross-entropy, and what keeps MaxRL from it."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import by_seed, difference, mean_text, over_seeds, ratio, seeds_text, select, slopes
from experiments.classification.classification import Settings
from maxrl_lab.claims import Claim

PAPER_ROLLOUTS = 1024
"""The most rollouts in the paper."""
NEARLY = 0.9
"""The share of cross-entropy's pass@1 from which on we say that MaxRL nearly coincides with it."""
FLAT = 0.003
"""The pass rate below which the paper's REINFORCE stays."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return what the final pass@1 on held-out pictures says of every estimator, and of MaxRL's bias and noise."""
    curves = tables["curves"]
    final = curves[curves.step == settings.steps]
    return [*_estimators(final, settings), *_nearness(final, settings), *_reasons(final, settings)]


def _paper_rollouts(settings: Settings) -> int:
    """Return the paper's largest N, or the largest that there is."""
    return PAPER_ROLLOUTS if PAPER_ROLLOUTS in settings.rollouts else max(settings.rollouts)


def _estimators(final: pd.DataFrame, settings: Settings) -> list[Claim]:
    """REINFORCE is flat, GRPO lies between."""
    count, names = _paper_rollouts(settings), set(settings.estimators)
    rates = {name: by_seed(final, "pass_at_1", kind="sampled", method=name, rollouts=count) for name in names}
    made = []
    if "mean_centred" in names:
        flat = over_seeds(rates["mean_centred"])
        sentence = (
            f"REINFORCE with r - mean stays flat even at N = {count}: its pass@1 on held-out pictures, 0.001 by "
            f"chance, is {flat} after {settings.steps} updates ({seeds_text(flat)})."
        )
        made.append(flat.claim("reinforce_stays_flat", "Fig. 2", sentence, direction="below", boundary=FLAT))
    pairs = (("grpo_leads_reinforce", "grpo", "mean_centred"), ("maxrl_leads_grpo", "maxrl", "grpo"))
    for name, ours, theirs in (pair for pair in pairs if set(pair[1:]) <= names):
        lead = difference(rates[ours], rates[theirs])
        words = {"mean_centred": "REINFORCE", "grpo": "GRPO", "maxrl": "MaxRL"}
        sentence = (
            f"{words[ours]} learns more than {words[theirs]} at N = {count}: the final pass@1 is "
            f"{mean_text(rates[ours])} and {mean_text(rates[theirs])}, a difference of {lead} ({seeds_text(lead)})."
        )
        made.append(lead.claim(name, "Fig. 2", sentence))
    if {"maxrl", "grpo"} <= names:
        ours, theirs = (
            by_seed(final, "pass_at_128", kind="sampled", method=name, rollouts=count) for name in ("maxrl", "grpo")
        )
        lead = difference(ours, theirs)
        sentence = (
            f"MaxRL's coverage ends above GRPO's at N = {count}: pass@128 is {mean_text(ours)} and "
            f"{mean_text(theirs)}, a difference of {lead} ({seeds_text(lead)})."
        )
        made.append(lead.claim("maxrl_leads_grpo_in_coverage", "Fig. 9", sentence))
    return made


def _nearness(final: pd.DataFrame, settings: Settings) -> list[Claim]:
    """MaxRL nears cross-entropy with N."""
    if "maxrl" not in settings.estimators:
        return []
    likelihood = by_seed(final, "pass_at_1", kind="exact")
    made = []
    if len(settings.rollouts) > 1:
        few, most = min(settings.rollouts), max(settings.rollouts)
        sampled = select(final, kind="sampled", method="maxrl")
        ends = [mean_text(by_seed(sampled, "pass_at_1", rollouts=count)) for count in (few, most)]
        rise = over_seeds(slopes(sampled, "pass_at_1"))
        sentence = (
            f"MaxRL approaches cross-entropy as rollouts grow: its final pass@1 climbs from {ends[0]} at N = {few} to "
            f"{ends[1]} at N = {most}, by {rise} for each doubling of N, towards {mean_text(likelihood)} "
            f"({seeds_text(rise)})."
        )
        made.append(rise.claim("maxrl_nears_cross_entropy", "Fig. 2", sentence))
    for count in sorted({_paper_rollouts(settings), max(settings.rollouts)}):
        ours = by_seed(final, "pass_at_1", kind="sampled", method="maxrl", rollouts=count)
        share = ratio(ours, likelihood)
        sentence = (
            f"MaxRL nearly coincides with cross-entropy, within {1 - NEARLY:.0%}, at N = {count}: its final pass@1 of "
            f"{mean_text(ours)} is {share} times that of cross-entropy, {mean_text(likelihood)} ({seeds_text(share)})."
        )
        paper = "Fig. 2" if count >= PAPER_ROLLOUTS else ""
        made.append(share.claim(f"maxrl_coincides_at_{count}", paper, sentence, boundary=NEARLY))
    return made


def _reasons(final: pd.DataFrame, settings: Settings) -> list[Claim]:
    """What is missing is bias at 1024 rollouts, and noise at more."""
    if "maxrl" not in settings.expected:
        return []
    likelihood, made = by_seed(final, "pass_at_1", kind="exact"), []
    for count in sorted({_paper_rollouts(settings), max(settings.rollouts)}):
        mean = by_seed(final, "pass_at_1", kind="expected", method="maxrl", rollouts=count)
        bias = difference(likelihood, mean)
        sentence = (
            f"Bias costs MaxRL something at N = {count}, where Algorithm 1 leaves out the share (1-p)^(N-1) of the "
            f"likelihood gradient, {(1 - 0.001) ** (count - 1):.2g} at p = 0.001: on its exact mean, without sampling, "
            f"the final pass@1 is {mean_text(mean)}, below cross-entropy's {mean_text(likelihood)} by {bias} "
            f"({seeds_text(bias)})."
        )
        made.append(bias.claim(f"bias_costs_at_{count}", "", sentence))
        if "maxrl" in settings.estimators:
            sampled = by_seed(final, "pass_at_1", kind="sampled", method="maxrl", rollouts=count)
            noise = difference(mean, sampled)
            sentence = (
                f"Noise costs MaxRL something at N = {count}: with sampled classes the final pass@1 is "
                f"{mean_text(sampled)}, below that of its exact mean, {mean_text(mean)}, by {noise} "
                f"({seeds_text(noise)})."
            )
            made.append(noise.claim(f"noise_costs_at_{count}", "", sentence))
    return made
