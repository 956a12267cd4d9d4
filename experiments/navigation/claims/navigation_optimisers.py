"""Whether MaxRL's lead depends on the optimiser, which learning rates SGD wants, and how to share rollouts out."""

import itertools
from collections.abc import Mapping

import pandas as pd

from experiments._claims import by_seed, difference, mean_text, ratio, seeds_text, select
from experiments.navigation.navigation_optimisers import Settings
from maxrl_lab.claims import Claim

OURS = "maxrl"
_WORDS = {"adam": "Adam", "sgd": "SGD"}


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return MaxRL's lead with each optimiser, the rates that SGD wants, and what large groups cost."""
    curves, count = tables["curves"], settings.rollouts[0]
    rivals = [other for other in ("rloo", "grpo") if {OURS, other} <= set(settings.estimators)]
    made = [_lead(curves, optimiser, other, count) for optimiser in _WORDS for other in rivals]
    if "sweep" in tables:
        made += [_rate(tables["sweep"], other, count) for other in rivals]
    if OURS in settings.estimators:
        made += [_groups(curves, few, many) for few, many in itertools.pairwise(sorted(settings.equal_rollouts))]
    return made


def _final(curves: pd.DataFrame, comparison: str, optimiser: str, count: int) -> pd.DataFrame:
    rows = select(curves, comparison=comparison, optimiser=optimiser, rollouts=count)
    return rows[rows.step == rows.step.max()]


def _lead(curves: pd.DataFrame, optimiser: str, other: str, count: int) -> Claim:
    final = _final(curves, "equal steps", optimiser, count)
    ours, theirs = (by_seed(final, "pass_at_1", estimator=name) for name in (OURS, other))
    lead = difference(ours, theirs)
    sentence = (
        f"With {_WORDS[optimiser]} MaxRL ends above {other.upper()} at N = {count}: pass@1 on training mazes is "
        f"{mean_text(ours)} and {mean_text(theirs)}, a difference of {lead} ({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim(f"lead_over_{other}_with_{optimiser}", "", sentence)


def _rate(sweep: pd.DataFrame, other: str, count: int) -> Claim:
    """SGD wants a smaller rate for MaxRL, whose estimate is larger by 1/p."""
    rows = select(sweep, comparison="equal steps", optimiser="sgd", rollouts=count)
    best = rows.loc[rows.groupby(["estimator", "seed"]).pass_at_1.idxmax()]
    ours, theirs = (by_seed(best, "learning_rate", estimator=name) for name in (OURS, other))
    share = ratio(ours, theirs)
    sentence = (
        f"SGD wants a smaller learning rate for MaxRL than for {other.upper()}, at N = {count}: the best rate of the "
        f"sweep is {share} times the other's (a geometric mean {seeds_text(share)} of the sweep)."
    )
    return share.claim(f"sgd_wants_a_smaller_rate_than_for_{other}", "", sentence, direction="below", boundary=1)


def _groups(curves: pd.DataFrame, few: int, many: int) -> Claim:
    """At equal rollouts small groups often end above large ones seldom."""
    ours, theirs = (
        by_seed(_final(curves, "equal rollouts", "adam", count), "pass_at_1", estimator=OURS) for count in (few, many)
    )
    lead = difference(ours, theirs)
    sentence = (
        f"At the same number of rollouts in all, MaxRL ends higher with groups of {few} often than of {many} seldom: "
        f"pass@1 on training mazes is {mean_text(ours)} and {mean_text(theirs)}, a difference of {lead} "
        f"({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim(f"groups_of_{few}_beat_{many}_at_equal_rollouts", "", sentence)
