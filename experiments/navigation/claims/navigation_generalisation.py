"""What carries over to held-out mazes: the lead of MaxRL, coverage against the untrained policy, and peaks."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import by_seed, difference, ends_text, mean_text, over_seeds, ratio, seeds_text, select, slopes
from experiments.navigation.navigation_generalisation import Settings, name_of
from maxrl_lab import evaluate
from maxrl_lab.claims import Claim

OURS = "maxrl"
RIVALS = ("rloo", "grpo")
WIDER = {"pkpo": "PKPO", "maxrl_leave_one_out": "the leave-one-out form of exact order N"}
"""Methods that may cover more than Algorithm 1 does, in words."""
K = 512
"""k at which coverage is compared with the untrained policy's."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return what the policies of the most training mazes do on held-out ones, and what more training mazes bring."""
    most = max((settings.levels, *settings.other_levels))
    curves = select(tables["curves"], split="held_out", comparison=name_of(most))
    final = curves[curves.step == curves.step.max()]
    names = set(settings.estimators)
    made = [_lead(final, other) for other in RIVALS if {OURS, other} <= names]
    made += [_coverage(curves, name) for name in (*RIVALS, OURS) if name in names]
    if OURS in names:
        wider = [name for name in settings.estimators if name.partition(":")[0] in WIDER]
        counts = sorted((settings.levels, *settings.other_levels))
        made += [_wider(tables["curves"], name, count) for name in wider for count in counts]
    if {OURS, "grpo"} <= names:
        made += _efficiency(select(tables["coverage"], split="held_out", comparison=name_of(most)), settings)
    if OURS in names and settings.other_levels:
        made.append(_more_levels(tables["curves"]))
    fewest = min((settings.levels, *settings.other_levels))
    few = select(tables["curves"], split="held_out", comparison=name_of(fewest))
    return made + [_peak(few, name, fewest) for name in (*RIVALS, OURS) if name in names]


def _word(name: str) -> str:
    return "MaxRL" if name == OURS else name.upper()


def _lead(final: pd.DataFrame, other: str) -> Claim:
    """MaxRL ends with the higher held-out pass@1."""
    ours, theirs = (by_seed(final, "pass_at_1", estimator=name) for name in (OURS, other))
    lead = difference(ours, theirs)
    sentence = (
        f"MaxRL's lead over {_word(other)} carries over: pass@1 on held-out mazes ends at {mean_text(ours)} and "
        f"{mean_text(theirs)}, a difference of {lead} ({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim(f"held_out_lead_over_{other}", "after Fig. 5", sentence)


def _coverage(curves: pd.DataFrame, name: str) -> Claim:
    """RLOO and GRPO lose held-out coverage that the untrained policy has; MaxRL does not."""
    start, end = (
        by_seed(curves[curves.step == step], f"pass_at_{K}", estimator=name) for step in (0, curves.step.max())
    )
    change = difference(end, start)
    keeps = name == OURS
    sentence = (
        f"{_word(name)} ends {'above' if keeps else 'below'} the untrained policy in held-out coverage: pass@{K} is "
        f"{mean_text(end)}, untrained {mean_text(start)}, a change of {change} ({seeds_text(change)}, exact pass "
        "rates)."
    )
    claim = f"{name}_{'keeps' if keeps else 'loses'}_coverage"
    return change.claim(claim, "after Fig. 5", sentence, direction="above" if keeps else "below")


def _wider(curves: pd.DataFrame, name: str, levels: int) -> Claim:
    """MaxRL ends with the greater held-out coverage than a method that is made for coverage, or is of order N."""
    rows = select(curves, split="held_out", comparison=name_of(levels), step=curves.step.max())
    ours, theirs = (by_seed(rows, f"pass_at_{K}", estimator=one) for one in (OURS, name))
    lead = difference(ours, theirs)
    family = name.partition(":")[0]
    sentence = (
        f"Trained on {levels} mazes of each distance, MaxRL ends above {WIDER[family]} in held-out coverage: pass@{K} "
        f"is {mean_text(ours)} and {mean_text(theirs)}, a difference of {lead} ({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim(f"covers_more_than_{family}_with_{levels}", "", sentence)


def _efficiency(coverage: pd.DataFrame, settings: Settings) -> list[Claim]:
    """GRPO needs more samples for MaxRL's coverage, at the k nearest to 16; at most as many as the largest k."""
    ks = sorted(settings.coverage_ks)
    k = min(ks, key=lambda value: abs(value - 16))
    needed = pd.Series({seed: _needed(rows, ks, k) for seed, rows in coverage.groupby("seed")})
    times = ratio(needed, pd.Series(float(k), needed.index))
    sentence = (
        f"GRPO needs more samples than MaxRL's {k} for the same held-out coverage: {times} times as many (a geometric "
        f"mean {seeds_text(times)}; where {ks[-1]} samples are not enough, {ks[-1]} are counted)."
    )
    return [times.claim("scaling_efficiency_over_grpo", "after Fig. 5", sentence, boundary=1.0)]


def _needed(rows: pd.DataFrame, ks: list[int], k: int) -> float:
    """Return how many samples GRPO needs for MaxRL's coverage with k, at most the largest of the ks."""
    table = rows.pivot(index="k", columns="estimator", values="coverage").sort_index()
    ratios = evaluate.scaling_efficiency(table[OURS].tolist(), table["grpo"].tolist(), ks).tolist()
    return float(min(k * ratios[ks.index(k)], ks[-1]))


def _more_levels(curves: pd.DataFrame) -> Claim:
    """Held-out pass@1 climbs with the number of training mazes."""
    rows = select(curves, split="held_out", estimator=OURS)
    rows = rows[rows.step == rows.step.max()]
    rows = rows.assign(levels=rows.comparison.str.split().str[0].astype(int))
    rise = over_seeds(slopes(rows, "pass_at_1", "levels"))
    ends = ends_text(rows, "pass_at_1", "levels", at="with {} of each distance")
    sentence = (
        f"More training mazes help MaxRL on held-out ones: pass@1 goes {ends}, by {rise} for each "
        f"doubling ({seeds_text(rise)}, exact pass rates)."
    )
    return rise.claim("more_training_mazes_help", "", sentence)


def _peak(curves: pd.DataFrame, name: str, levels: int) -> Claim:
    """Trained on few mazes, held-out coverage falls from its peak: stopping early would have kept it.

    The peak is that of the mean over seeds, so a chance maximum counts a little in favour of the claim.
    """
    rows = select(curves, estimator=name)
    step = rows.groupby("step").pass_at_64.mean().idxmax()
    peak = by_seed(rows[rows.step == step], "pass_at_64")
    end = by_seed(rows[rows.step == rows.step.max()], "pass_at_64")
    fall = difference(end, peak)
    sentence = (
        f"Trained on {levels} mazes of each distance, {_word(name)} ends below its peak on held-out ones: the mean "
        f"pass@64 is greatest after {step} updates, {mean_text(peak)}, and ends at {mean_text(end)}, a change of "
        f"{fall} ({seeds_text(fall)}, exact pass rates)."
    )
    return fall.claim(f"{name}_ends_below_its_peak", "after Fig. 4", sentence, direction="below")
