"""What MiniGrid's own levels say of MaxRL's lead, on training and on held-out levels."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import by_seed, difference, ends_text, mean_text, over_seeds, seeds_text, select, slopes
from experiments.navigation.navigation_minigrid import Settings
from maxrl_lab.claims import Claim

OURS = "maxrl"
_SPLITS = {"train": "training", "held_out": "held-out"}


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return MaxRL's lead at the largest N on both splits, and how pass@1 goes with N."""
    curves, count = tables["curves"], max(settings.rollouts)
    final = curves[curves.step == curves.step.max()]
    others = [other for other in ("rloo", "grpo") if {OURS, other} <= set(settings.estimators)]
    made = [
        _lead(select(final, split=split, rollouts=count), other, split, count) for other in others for split in _SPLITS
    ]
    if OURS in settings.estimators and len(settings.rollouts) > 1:
        made.append(_rises(select(final, split="train", estimator=OURS)))
    return made


def _lead(final: pd.DataFrame, other: str, split: str, count: int) -> Claim:
    ours, theirs = (by_seed(final, "pass_at_1", estimator=name) for name in (OURS, other))
    lead = difference(ours, theirs)
    sentence = (
        f"In MiniGrid MaxRL ends above {other.upper()} on {_SPLITS[split]} levels at N = {count}: pass@1 is "
        f"{mean_text(ours)} and {mean_text(theirs)}, a difference of {lead} ({seeds_text(lead)}, exact pass rates)."
    )
    return lead.claim(f"{split}_lead_over_{other}", "after Fig. 3", sentence)


def _rises(final: pd.DataFrame) -> Claim:
    rise = over_seeds(slopes(final, "pass_at_1"))
    sentence = (
        f"In MiniGrid MaxRL's pass@1 on training levels climbs with the rollouts N, {ends_text(final, 'pass_at_1')}: "
        f"by {rise} for each doubling ({seeds_text(rise)}, exact pass rates)."
    )
    return rise.claim("maxrl_climbs_with_rollouts", "after Fig. 3", sentence)
