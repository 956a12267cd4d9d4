"""Fig. 3 and 7 of the paper, and orders between RLOO's and Algorithm 1's, with exact pass rates of training levels."""

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from experiments import _scaling
from experiments._claims import by_seed, difference, mean_text, seeds_text
from experiments.navigation.navigation import CONTROL_VARIATE, Settings
from maxrl_lab import specs
from maxrl_lab.claims import Claim

OURS, SILENT = "maxrl", "maxrl_leave_one_out"
"""Algorithm 1, and a form of exact order N that does nothing at K = 0, unlike the control variate."""
_HERE = {"mazes": "training", "paper": "after Fig. 3", "note": ", exact pass rates"}
"""Which mazes' pass rates the claims are about, what of the paper they ask here, and what they rest on."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return what rollouts buy each estimator on the training levels, as far as the settings compare them."""
    curves = tables["curves"]
    final = curves[curves.step == curves.step.max()]
    names, counts = set(settings.estimators), sorted(settings.rollouts)
    made = []
    if OURS in names and len(counts) > 1:
        for k in (1, 64):
            ours = _surprises(final, OURS, k)
            made.append(_scaling.falls(ours, k, **_HERE))
            rivals = {name: _surprises(final, name, k) for name in ("rloo", "grpo") if name in names}
            made += [_scaling.falls_faster(ours, rows, name, k, **_HERE) for name, rows in rivals.items()]
    if {OURS, "rloo"} <= names:
        made.append(_rloo(final, counts))
    if {OURS, "grpo"} <= names:
        made += [_grpo(final, fewer, more) for fewer, more in itertools.pairwise(counts) if more >= 4 * fewer]
    made += [_coverage(curves, name, counts[-1]) for name in ("rloo", "grpo", OURS) if name in names]
    made += [_signal(final, other, counts[-1]) for other in ("rloo", "grpo") if {OURS, other} <= names]
    made += [_without(final, other, text, counts) for other, text in _ORDER_N.items() if {OURS, other} <= names]
    if {SILENT, CONTROL_VARIATE} <= names:
        made.append(_silence(final, counts[0]))
    if {OURS, "rloo"} <= names:
        made += [_between(final, name, count) for count in counts for name in between(settings.estimators, count)]
    return made


def between(names: Iterable[str], count: int) -> list[str]:
    """Return the centred estimators whose order at N lies between 1, which is RLOO's, and N-1, Algorithm 1's."""
    orders = {name: specs.parse(name, count) for name in names if name.startswith("maxrl_centred:")}
    return [name for name, (_, options) in orders.items() if 1 < options["order"] < count - 1]


def _surprises(final: pd.DataFrame, name: str, k: int) -> pd.DataFrame:
    """Return an estimator's -log pass@k, a row a seed and N."""
    rows = final[final.estimator == name]
    return rows.assign(surprise=-np.log(rows[f"pass_at_{k}"]))


def _rloo(final: pd.DataFrame, counts: list[int]) -> Claim:
    """RLOO at the largest N does not reach MaxRL at the smallest."""
    fewest, most = counts[0], counts[-1]
    ours = by_seed(final, "pass_at_1", estimator=OURS, rollouts=fewest)
    theirs = by_seed(final, "pass_at_1", estimator="rloo", rollouts=most)
    lead = difference(ours, theirs)
    sentence = (
        f"RLOO at N = {most} does not reach MaxRL at N = {fewest}: pass@1 on training mazes ends at "
        f"{mean_text(theirs)} and {mean_text(ours)}, a lead of MaxRL of {lead} ({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim("rloo_at_most_rollouts_trails_maxrl_at_fewest", "after Fig. 3", sentence)


def _grpo(final: pd.DataFrame, fewer: int, more: int) -> Claim:
    """GRPO at four times the rollouts or more trails MaxRL."""
    ours = by_seed(final, "pass_at_1", estimator=OURS, rollouts=fewer)
    theirs = by_seed(final, "pass_at_1", estimator="grpo", rollouts=more)
    lead = difference(ours, theirs)
    sentence = (
        f"GRPO at N = {more} trails MaxRL at N = {fewer}: pass@1 on training mazes ends at {mean_text(theirs)} and "
        f"{mean_text(ours)}, a lead of MaxRL of {lead} ({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim(f"grpo_at_{more}_trails_maxrl_at_{fewer}", "after Fig. 3", sentence)


def _coverage(curves: pd.DataFrame, name: str, count: int) -> Claim:
    """RLOO and GRPO lose pass@512 that the untrained policy has; MaxRL gains."""
    start, end = (
        by_seed(curves[curves.step == step], "pass_at_512", estimator=name, rollouts=count)
        for step in (0, curves.step.max())
    )
    change = difference(end, start)
    word, direction, verb = ("MaxRL", "above", "keeps") if name == OURS else (name.upper(), "below", "loses")
    sentence = (
        f"{word} ends {direction} the untrained policy in coverage of the training mazes, at N = {count}: pass@512 is "
        f"{mean_text(end)}, untrained {mean_text(start)}, a change of {change} ({seeds_text(change)}, exact pass "
        "rates)."
    )
    claim = f"{name}_{verb}_coverage"
    return change.claim(claim, "after Fig. 3", sentence, direction="above" if name == OURS else "below")


def _signal(final: pd.DataFrame, other: str, count: int) -> Claim:
    """At the end more training tasks show a success under MaxRL."""
    ours, theirs = (by_seed(final, "signal", estimator=name, rollouts=count) for name in (OURS, other))
    lead = difference(ours, theirs)
    sentence = (
        f"At the end more training mazes show a success among N = {count} rollouts with MaxRL than with "
        f"{other.upper()}: an expected share of {mean_text(ours)} against {mean_text(theirs)}, a difference of {lead} "
        f"({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim(f"more_mazes_with_a_success_than_{other}", "after Fig. 7", sentence)


_ORDER_N = {
    CONTROL_VARIATE: "the control variate kept at K = 0 (Eq. 10)",
    SILENT: "the leave-one-out baseline of exact order N",
    "maxrl_cross_fitted": "the cross-fitted form of exact order N",
}
"""Forms of order N, which Algorithm 1 is compared with, in words."""


def _without(final: pd.DataFrame, other: str, text: str, counts: list[int]) -> Claim:
    """Dropping the control variate at K = 0 helps, at the smallest N, where K = 0 is frequent."""
    fewest = counts[0]
    ours, theirs = (by_seed(final, "pass_at_1", estimator=name, rollouts=fewest) for name in (OURS, other))
    lead = difference(ours, theirs)
    sentence = (
        f"Algorithm 1 does better than {text}: at N = {fewest} pass@1 on training mazes ends at {mean_text(ours)} and "
        f"{mean_text(theirs)}, a difference of {lead} ({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim(f"algorithm_1_beats_{other.removeprefix('maxrl_')}", "Sec. 4.3", sentence)


def _silence(final: pd.DataFrame, count: int) -> Claim:
    """Of two forms of order N, which differ at K = 0 and a little at K = 1, that which is silent at K = 0 is ahead."""
    silent, speaking = (
        by_seed(final, "pass_at_1", estimator=name, rollouts=count) for name in (SILENT, CONTROL_VARIATE)
    )
    lead = difference(silent, speaking)
    sentence = (
        f"Of two forms of exact order N the one that is silent at K = 0 does better: at N = {count} pass@1 on training "
        f"mazes ends at {mean_text(silent)} with the leave-one-out baseline and at {mean_text(speaking)} with the "
        f"control variate (Eq. 10), a difference of {lead} ({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim("silence_at_k_zero_beats_control_variate", "", sentence)


def _between(final: pd.DataFrame, name: str, count: int) -> Claim:
    """An order between does better than both ends of the dial; the better end is that of the higher mean."""
    order = specs.parse(name, count)[1]["order"]
    middle, rloo, ours = (by_seed(final, "pass_at_1", estimator=one, rollouts=count) for one in (name, "rloo", OURS))
    lead = difference(middle, max(rloo, ours, key=lambda end: end.mean()))
    sentence = (
        f"Order T = {order} does better at N = {count} than both ends of the dial, RLOO (T = 1) and Algorithm 1 (T = "
        f"{count - 1}): pass@1 on training mazes ends at {mean_text(middle)}, {mean_text(rloo)} and {mean_text(ours)}, "
        f"a difference from the better end of {lead} ({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim(f"order_{order}_beats_both_ends_at_{count}", "", sentence)
