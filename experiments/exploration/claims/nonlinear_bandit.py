"""The wall of a needle, what derivatives buy, and what optimism costs and finds."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import by_seed, difference, exact, ratio, seeds_text, select, share_over_seeds
from experiments.exploration.nonlinear_bandit import Settings
from maxrl_lab.claims import Claim, number

FLAT = 0.05
"""A gradient of this norm, in chance of success for each radian, counts as none."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return what every bandit says, and the learners' bound on every run."""
    runs = tables["runs"]
    chance = tables["needles"].set_index("dimension").probability
    return [
        *_needle(runs, chance, settings),
        *_hill(runs, settings),
        *_bumps(runs, settings),
        _mixture(runs),
    ]


def _end(runs: pd.DataFrame, value: str, bandit: str, method: str, rollouts: int | None = None) -> "pd.Series[float]":
    return by_seed(runs, value, bandit=bandit, method=method, rollouts=rollouts)


def _needle(runs: pd.DataFrame, chance: "pd.Series[float]", settings: Settings) -> list[Claim]:
    easy, hard = min(settings.needle_dimensions), max(settings.needle_dimensions)
    made = []
    if "maxrl" in settings.estimators:
        made.append(_told(runs[runs.dimension == hard], hard, settings))
    if hard > easy and {easy, hard} <= set(chance.index):
        made.append(_growth(runs, chance, settings))
    return made


def _told(runs: pd.DataFrame, dimension: int, settings: Settings) -> Claim:
    """Compare the exact gradient with updates on outcomes; a run that never plays a needle has all pulls."""
    most = max(settings.rollouts)
    told, guessed = (
        _end(runs, "pulls_to_half", "needle", *method).fillna(settings.needle_budget)
        for method in (("maximum_likelihood", None), ("maxrl", most))
    )
    longer = ratio(guessed, told)
    sentence = (
        f"The wall of a needle is information: in {dimension} dimensions the median number of updates to succeed half "
        f"of the time is {number(_updates(told, most))} for the exact likelihood gradient, which is told the chances, "
        f"and {number(_updates(guessed, most))} for MaxRL on {most} outcomes an update, which takes {longer} times as "
        f"many pulls ({seeds_text(longer)})."
    )
    return longer.claim("the_wall_is_information", "", sentence, boundary=1)


def _updates(pulls: "pd.Series[float]", rollouts: int) -> float:
    """Return the median number of updates before these pulls."""
    return float(((pulls - 1) // rollouts).median())


def _growth(runs: pd.DataFrame, chance: "pd.Series[float]", settings: Settings) -> Claim:
    """Compare the pulls of the easiest needle with those of the hardest; a run that never plays one has them all."""
    easy, hard = min(settings.needle_dimensions), max(settings.needle_dimensions)
    few, many = (
        _end(runs[runs.dimension == d], "pulls_to_half", "needle", "viol_values").fillna(settings.needle_budget)
        for d in (easy, hard)
    )
    growth = ratio(many, few)
    sentence = (
        f"Knowing the class of models lowers the wall and does not take it away: virtual ascent first plays a needle "
        f"after a median of {number(float(few.median()))} pulls in {easy} dimensions, where 1/p of a uniform action is "
        f"{number(1 / chance[easy])}, and of {number(float(many.median()))} in {hard}, where it is "
        f"{number(1 / chance[hard])} and there are {settings.actions} actions: {growth} times as many "
        f"({seeds_text(growth)})."
    )
    return growth.claim("models_take_no_wall_away", "", sentence, boundary=1)


def _hill(runs: pd.DataFrame, settings: Settings) -> list[Claim]:
    ours, values = (_end(runs, "final", "hill", method) for method in ("viol", "viol_values"))
    higher = difference(ours, values)
    cost = difference(*(_end(runs, "mean_reward", "hill", method) for method in ("viol", "viol_values")))
    shares = [_local_maxima(runs, method) for method in ("viol", "viol_values")]
    share = share_over_seeds(shares[0])
    scale = f"{settings.budget} pulls in {settings.dimension} dimensions; {seeds_text(higher)}"
    made = [
        higher.claim(
            "derivatives_reach_the_top",
            "",
            f"On a hill a learner that must also predict slopes and curvatures ends higher than one of values alone: "
            f"at {number(float(ours.mean()))} and {number(float(values.mean()))}, a difference of {higher} ({scale}).",
        ),
        share.claim(
            "virtual_ascent_ends_on_a_local_maximum",
            "",
            f"With derivatives virtual ascent ends on a local maximum of the truth in a share of {share} of runs (a "
            f"gradient below {FLAT} and no direction that curves upwards), by values alone in "
            f"{number(float(shares[1].mean()))} ({scale}).",
            boundary=0.5,
        ),
        cost.claim(
            "derivatives_cost_pulls",
            "",
            f"Derivatives cost pulls: the mean reward of all pulls differs from that of values alone by {cost} "
            f"({scale}).",
            direction="below",
        ),
    ]
    for name in settings.estimators:
        word = "MaxRL" if name == "maxrl" else name.upper()
        climbed = _end(runs, "final", "hill", name, min(settings.rollouts))
        lead = difference(ours, climbed)
        made.append(
            lead.claim(
                f"{name}_climbs_nearly_as_high",
                "",
                f"Everyone climbs a hill: {word} at N = {min(settings.rollouts)}, without any model, ends at "
                f"{number(float(climbed.mean()))}, below virtual ascent by {lead} ({scale}).",
                direction="within",
                boundary=0.05,
            )
        )
    return made


def _local_maxima(runs: pd.DataFrame, method: str) -> "pd.Series[float]":
    rows = select(runs, bandit="hill", method=method).set_index("seed")
    return ((rows.gradient < FLAT) & (rows.eigenvalue < FLAT)).astype(float)


def _bumps(runs: pd.DataFrame, settings: Settings) -> list[Claim]:
    detour = difference(*(_end(runs, "mean_reward", "phantom_bump", m) for m in ("optimism", "viol_values")))
    ours, optimist = (_end(runs, "final", "real_bump", method) for method in ("viol", "optimism"))
    gain = difference(optimist, ours)
    scale = f"{settings.budget} pulls, {settings.bumps} possible bumps; {seeds_text(gain)}"
    return [
        detour.claim(
            "optimism_takes_a_detour",
            "",
            f"Where no bump exists optimism pays for refuting all of them: the mean reward of its pulls differs from "
            f"that of virtual ascent by values by {detour} ({scale}).",
            direction="below",
        ),
        gain.claim(
            "only_optimism_finds_the_bump",
            "",
            f"Where a bump exists only optimism is sure to find it: it ends at {number(float(optimist.mean()))} and "
            f"virtual ascent, content with a local maximum, at {number(float(ours.mean()))}, a difference of {gain} "
            f"({scale}).",
        ),
    ]


def _mixture(runs: pd.DataFrame) -> Claim:
    learners = runs[runs.mixture_loss.notna()]
    above = exact((learners.mixture_loss - learners.truth_loss - learners.log_models).max())
    sentence = (
        f"A mixture of models never loses more than the true one and the logarithm of their number: in "
        f"{len(learners)} runs its cumulative loss is above that by at most {above} nats (exact)."
    )
    return above.claim("the_mixtures_bound_holds_on_every_run", "", sentence, direction="below", boundary=1e-6)
