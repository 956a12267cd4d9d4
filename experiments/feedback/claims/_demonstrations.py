"""What demonstrations say: when a penalty for the unknown helps, when it does nothing, and what is hard to beat."""

import pandas as pd

from experiments._claims import Estimate, by_seed, difference, seeds_text
from experiments.feedback._demonstrations import LITTLE_DECAY, WEIGHT_DECAY
from maxrl_lab.claims import Claim, number


def demonstration_claims(rows: pd.DataFrame) -> list[Claim]:
    """Return the claims of the rows of `experiments.feedback._demonstrations.panel_rows`; none for a single penalty."""
    irl = rows[rows.method == "ml_irl"]
    counts, weights = sorted(irl.transitions.unique()), sorted(irl.penalty.unique())
    if len(weights) == 1:
        return []
    few, many, most = int(counts[0]), int(counts[-1]), float(weights[-1])
    return [
        *_penalty(rows, few, most),
        _cancelled(rows, few, most),
        *(_against_cloning(rows, count, most, better) for count, better in ((few, "bc"), (many, "ml_irl"))),
        _single_start(rows, few, most),
        _model_outcomes(rows, few),
    ]


def _irl(rows: pd.DataFrame, value: str, count: int, penalty: float, **where: object) -> "pd.Series[float]":
    kind = {"reward": "landmarks", "weight_decay": WEIGHT_DECAY, "start": "every", **where}
    return by_seed(rows, value, method="ml_irl", transitions=count, penalty=penalty, **kind)


def _cloning(rows: pd.DataFrame, count: int, start: str = "every") -> "pd.Series[float]":
    return by_seed(rows, "pass_rate", method="bc", transitions=count, start=start)


def _gain(rows: pd.DataFrame, count: int, most: float, **where: object) -> "pd.Series[float]":
    return _irl(rows, "pass_rate", count, most, **where) - _irl(rows, "pass_rate", count, 0.0, **where)


def _penalty(rows: pd.DataFrame, count: int, most: float) -> list[Claim]:
    with_it, without = (_irl(rows, "pass_rate", count, weight) for weight in (most, 0.0))
    gain = difference(with_it, without)
    gaps = [_irl(rows, "believed", count, weight) - rate for weight, rate in ((most, with_it), (0.0, without))]
    narrower = difference(*gaps)
    scale = f"{count} random transitions; {seeds_text(gain)}"
    return [
        gain.claim(
            "penalty_helps",
            "",
            f"A penalty for what the model has seldom seen helps inverse reinforcement learning: with weight "
            f"{number(most)} its pass rate is {number(float(with_it.mean()))} and without one "
            f"{number(float(without.mean()))}, a difference of {gain} ({scale}).",
        ),
        narrower.claim(
            "penalty_narrows_belief",
            "",
            f"The penalty narrows the gap between belief and truth: the model's pass rate is above the world's by "
            f"{number(float(gaps[0].mean()))} with it and by {number(float(gaps[1].mean()))} without, a difference of "
            f"{narrower} ({scale}).",
            direction="below",
        ),
    ]


def _cancelled(rows: pd.DataFrame, count: int, most: float) -> Claim:
    free = _gain(rows, count, most, reward="cells", weight_decay=LITTLE_DECAY)
    held = _gain(rows, count, most)
    less = difference(free, held)
    sentence = (
        f"A free reward cancels the penalty: with a reward for every cell and a weight decay of {LITTLE_DECAY} the "
        f"penalty gains {number(float(free.mean()))}, where {number(float(held.mean()))} is gained with six landmarks "
        f"and a decay of {number(WEIGHT_DECAY)}, a difference of {less} ({count} random transitions; "
        f"{seeds_text(less)})."
    )
    return less.claim("free_reward_cancels_the_penalty", "", sentence, direction="below")


def _against_cloning(rows: pd.DataFrame, count: int, most: float, better: str) -> Claim:
    ours, cloned = _irl(rows, "pass_rate", count, most), _cloning(rows, count)
    lead = difference(ours, cloned)
    word = "is below" if better == "bc" else "overtakes"
    sentence = (
        f"Inverse reinforcement learning {word} behaviour cloning where {count} random transitions teach the model: "
        f"its pass rate is {number(float(ours.mean()))} and that of cloning {number(float(cloned.mean()))}, a "
        f"difference of {lead} ({seeds_text(lead)})."
    )
    name = f"cloning_leads_at_{count}" if better == "bc" else f"inverse_leads_at_{count}"
    return lead.claim(name, "", sentence, direction="below" if better == "bc" else "above")


def _single_start(rows: pd.DataFrame, count: int, most: float) -> Claim:
    ours, cloned = _irl(rows, "pass_rate", count, most, start="single"), _cloning(rows, count, "single")
    lead = difference(ours, cloned)
    sentence = (
        f"From a single start behaviour cloning is hard to beat: its pass rate is {number(float(cloned.mean()))}, and "
        f"that of inverse reinforcement learning is off it by {lead} ({count} random transitions; {seeds_text(lead)})."
    )
    return lead.claim("cloning_is_hard_to_beat_from_one_start", "", sentence, direction="below")


def _model_outcomes(rows: pd.DataFrame, count: int) -> Claim:
    where = {"method": "maxrl_model", "transitions": count, "start": "every"}
    true, believed = (by_seed(rows, value, **where) for value in ("pass_rate", "believed"))
    excess: Estimate = difference(believed, true)
    sentence = (
        f"MaxRL in a model exploits the model: after {count} random transitions it believes in a pass rate of "
        f"{number(float(believed.mean()))} and has {number(float(true.mean()))}, a difference of {excess} "
        f"({seeds_text(excess)})."
    )
    return excess.claim("outcomes_of_a_model_are_exploited", "", sentence)
