"""What outlives a surrogate of the likelihood, what it costs, and what masks do off-policy."""

from collections.abc import Mapping
from itertools import pairwise

import pandas as pd

from experiments._claims import Estimate, by_seed, difference, exact, over_seeds, ratio, seeds_text, select
from experiments.denoising.diffusion_likelihood import Settings
from maxrl_lab.claims import Claim, number

Frames = Mapping[str, pd.DataFrame]
TOLERANCE = 1e-9
"""What rounding may make of an identity."""
CENTRED = ("rloo", "grpo", "maxrl")
ORDER = ("mean_field", "two_times", "elbo", "path")
"""Surrogates in the order of their bias, if it is as expected."""
WORDS = {
    "mean_field": "the mean field",
    "two_times": "the two-times mean field",
    "elbo": "the bound",
    "elbo:samples=4": "the bound with four masks, which makes as many updates,",
    "path": "the own path",
    "own_step": "one own step",
}


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return the claims about moments, masks off-policy, memory, the bound's gap and training."""
    return [
        *_moments(tables["moments"], settings),
        *_sums(tables["uniform"]),
        *_off_policy(tables["off_policy"], settings),
        *_memory(tables["bytes"]),
        *_gaps(tables["gaps"]),
        *_training(tables["training"], settings),
    ]


def _moments(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """The decomposition of the mean, the second term of centred tables and of others, and the order of biases."""
    residual = exact(rows.residual.max())
    sentence = (
        "Through any surrogate l the mean estimate is w_N(p) p (1-p) (s1 - s0) + m E[grad l], so that an estimator's "
        f"weighting of hard prompts outlives it: over {rows.surrogate.nunique()} surrogates and "
        f"{rows.estimator.nunique()} estimators at N = {settings.group} the two sides differ by at most {residual}, "
        "relatively (exact)."
    )
    made = [residual.claim("the_weight_outlives_a_surrogate", "", sentence, direction="below", boundary=TOLERANCE)]
    centred = rows[rows.estimator.isin(CENTRED)]
    if not centred.empty:
        drift = exact(centred.drift.max())
        sentence = (
            "Tables that sum to zero lose the second term, m E[grad l]: it is at most "
            f"{drift} of the path's mean, for every surrogate (exact)."
        )
        made.append(drift.claim("centred_tables_do_not_drift", "", sentence, direction="below", boundary=TOLERANCE))
    made += _baselines(rows)
    return [*made, *_order(rows), *_noise(rows)]


def _baselines(rows: pd.DataFrame) -> list[Claim]:
    """The form without a baseline is biased otherwise than Algorithm 1 through the bound."""
    if not {"maxrl", "maxrl_no_baseline"} <= set(rows.estimator) or "elbo" not in set(rows.surrogate):
        return []
    ours, theirs = (_mean(rows, "relative_bias", "elbo", name) for name in ("maxrl_no_baseline", "maxrl"))
    lead = difference(ours, theirs)
    sentence = (
        "With a bounded likelihood a baseline is no longer free: through the bound the relative bias is "
        f"{number(ours.mean())} without one and {number(theirs.mean())} for Algorithm 1, a difference of {lead} "
        f"({seeds_text(lead)})."
    )
    return [lead.claim("baselines_change_the_bias", "", sentence)]


def _order(rows: pd.DataFrame) -> list[Claim]:
    """The bias falls from the mean field to the path."""
    made = []
    known = [name for name in ORDER if name in set(rows.surrogate)]
    for more, less in pairwise(known):
        ours, theirs = (_mean(rows, "relative_bias", name) for name in (more, less))
        lead = difference(ours, theirs)
        sentence = (
            f"In bias {WORDS[more]} is above {WORDS[less]}: for a centred table the relative bias is "
            f"{number(ours.mean())} and {number(theirs.mean())}, a difference of {lead} ({seeds_text(lead)})."
        )
        made.append(lead.claim(f"bias_of_{more}_above_{less}", "", sentence))
    return made


def _noise(rows: pd.DataFrame) -> list[Claim]:
    """What one backward pass for an answer buys."""
    if not {"own_step", "elbo", "path"} <= set(rows.surrogate):
        return []
    step, bound = (_mean(rows, "noise", name) for name in ("own_step", "elbo"))
    less = ratio(bound, step)
    sentence = (
        "For one backward pass the bound is less noisy than one step of the own path, which is unbiased: its noise is "
        f"{less} times that ({seeds_text(less)})."
    )
    return [less.claim("the_bound_is_less_noisy_than_one_step", "", sentence, direction="below", boundary=1)]


def _mean(rows: pd.DataFrame, value: str, surrogate: str, estimator: str | None = None) -> "pd.Series[float]":
    """Return a column of a surrogate by seed, averaged over prompts; of a centred estimator unless one is named."""
    name = estimator or next(name for name in ("maxrl", *rows.estimator) if name in set(rows.estimator))
    return select(rows, surrogate=surrogate, estimator=name).groupby("seed")[value].mean()


def _sums(rows: pd.DataFrame) -> list[Claim]:
    contrast = exact(float(select(rows, surrogate="mean_field").contrast.iloc[0]))
    off = float(select(rows, surrogate="elbo").off.iloc[0])
    sentence = (
        "The mean field is blind to what digits have to do with each other: on sums, at the uniform policy, its "
        f"contrast s1 - s0 is {contrast} of the path's, while that of the bound is off by {number(off)} (exact)."
    )
    return [contrast.claim("mean_field_sees_no_sum", "", sentence, direction="below", boundary=TOLERANCE)]


def _off_policy(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """BGPO against the true objective, and VRPO's dependence on the number of masks."""
    last = select(rows, steps=max(settings.steps))
    values = {name: by_seed(last, "value", objective=name) for name in dict.fromkeys(last.objective)}
    spread = by_seed(last, "spread", objective="true").mean()
    few, many = (f"vrpo:samples={count}" for count in (min(settings.masks), max(settings.masks)))
    below = difference(values["bgpo"], values["true"])
    sentence = (
        f"Off-policy BGPO is below the true objective: after {max(settings.steps)} updates, at a standard deviation "
        f"of {number(spread)} of the log ratios, it is worth {number(values['bgpo'].mean())} where the true ratio "
        f"gives {number(values['true'].mean())}, a difference of {below} ({seeds_text(below)})."
    )
    made = [below.claim("bgpo_below_the_true_objective", "", sentence, direction="below")]
    if few != many:
        size = over_seeds((values[many] - values[few]).abs())
        sentence = (
            "BGPO's mean over masks does not depend on their number, since each term has the same mean; VRPO's does: "
            f"from {min(settings.masks)} to {max(settings.masks)} masks it moves by {size}, up or down, from a true "
            f"value of {number(values['true'].mean())} ({seeds_text(size)})."
        )
        made.append(size.claim("masks_change_vrpo_in_the_mean", "", sentence))
    return made


def _memory(rows: pd.DataFrame) -> list[Claim]:
    most, least = rows.samples.max(), rows.samples.min()
    if most == least:
        return []
    sizes = {name: select(rows, objective=name).set_index("samples").bytes for name in ("vrpo", "bgpo")}
    grown = {name: float(size[most] / size[least]) for name, size in sizes.items()}
    estimate = exact(grown["bgpo"])
    sentence = (
        f"The memory of BGPO's backward pass does not grow with the masks: from {least} to {most} masks autograd keeps "
        f"{estimate} times as much, and {number(grown['vrpo'])} times for VRPO (exact)."
    )
    return [estimate.claim("bgpo_keeps_one_graph", "", sentence, direction="below", boundary=1.01)]


def _gaps(rows: pd.DataFrame) -> list[Claim]:
    """The gap of blocks, and the bound that is none for another sampler."""
    single = exact(select(rows, block=1).gap.abs().max())
    widest = rows.block.max()
    wide = over_seeds(select(rows, block=widest).groupby("seed").gap.mean())
    sentence = (
        "The bound's gap closes with the length of blocks: at blocks of one place, which is autoregression, it is at "
        f"most {single} nats, and where all {widest:g} places make one block {wide} nats ({seeds_text(wide)})."
    )
    made = [single.claim("no_gap_at_blocks_of_one", "", sentence, direction="below", boundary=TOLERANCE)]
    confident = over_seeds(select(rows, sampler="most confident").groupby("seed").above.mean())
    sentence = (
        "For the sampler that fills the most confident place first, the bound of random masks is no bound: "
        f"{confident} of what it writes has a log-probability below it ({seeds_text(confident)})."
    )
    return [*made, confident.claim("no_bound_for_the_confident_sampler", "", sentence)]


def _training(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """Whether less bias trains better at equal backward passes."""
    last = rows[rows.share == 1]
    made = []
    for name in ("elbo", "elbo:samples=4", "mean_field", "own_step"):
        if not {name, "path"} <= set(last.method):
            continue
        for count in (min(settings.rollouts), max(settings.rollouts)):
            lead = _lead(last, name, count)
            values = [by_seed(last, "pass_rate", method=method, rollouts=count).mean() for method in (name, "path")]
            sentence = (
                f"At equal numbers of backward passes {WORDS[name]} trains better than the own path: with N = {count} "
                f"the final mean pass rate is {number(values[0])} and {number(values[1])}, a difference of {lead} "
                f"({seeds_text(lead)})."
            )
            short = name.replace(":samples=", "_")
            made.append(lead.claim(f"{short}_trains_better_than_the_path_at_{count}", "", sentence))
    return made


def _lead(rows: pd.DataFrame, name: str, count: int) -> Estimate:
    return difference(*(by_seed(rows, "pass_rate", method=method, rollouts=count) for method in (name, "path")))
