"""Eq. 7 of the paper, and what bias alone does to training."""

from collections.abc import Mapping
from itertools import pairwise

import pandas as pd

from experiments._claims import by_seed, difference, ends_text, exact, mean_text, over_seeds, seeds_text, slopes
from experiments.exact.likelihood_limit import Settings
from maxrl_lab.claims import Claim

RL, ML, ORDER = "expected_reward", "maximum_likelihood", "truncated_likelihood:order="


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return the distance of order T, and how the final pass rate goes with T."""
    curves = tables["curves"]
    final = curves[curves.step == curves.step.max()]
    return [*_distance(tables["distance"]), *_orders(final, settings), *_estimators(final, settings)]


def _distance(rows: pd.DataFrame) -> list[Claim]:
    residual = exact((rows.distance - (1 - rows.pass_rate) ** rows.order).abs().max())
    sentence = (
        "The gradient of order T is (1-p)^T short of the likelihood gradient, relatively: measured through autograd "
        f"the distance deviates from that by at most {residual} (exact)."
    )
    return [residual.claim("distance_of_order_t", "Eq. 7", sentence, direction="below", boundary=1e-9)]


def _orders(final: pd.DataFrame, settings: Settings) -> list[Claim]:
    """The final pass rate climbs from RL over the orders to the likelihood."""
    order_of = {name: _order(name) for name in settings.objectives if name == RL or name.startswith(ORDER)}
    made = []
    if len(order_of) > 1:
        truncated = final[final.method.isin(order_of)].assign(order=final.method.map(order_of))
        rise = over_seeds(slopes(truncated, "pass_rate", "order"))
        ends = ends_text(truncated, "pass_rate", "order", at="at T = {:g}", form="{:.2g}".format)
        sentence = (
            "Bias alone orders training: on exact gradients the final mean pass rate climbs with the order T, "
            f"{ends}, by {rise} for each doubling of T ({seeds_text(rise).replace('seeds', 'task sets')})."
        )
        made.append(rise.claim("pass_rate_climbs_with_order", "Sec. 3", sentence))
    names = sorted((name for name in settings.objectives if name in order_of or name == ML), key=_order)
    for lower, higher in list(pairwise(names))[-1:]:
        ours, theirs = by_seed(final, "pass_rate", method=higher), by_seed(final, "pass_rate", method=lower)
        lead = difference(ours, theirs)
        sentence = (
            f"Even the highest order leaves something to the likelihood: the final mean pass rate is {mean_text(ours)} "
            f"on its exact gradient and {mean_text(theirs)} at T = {order_of[lower]:g}, a difference of {lead} "
            f"({seeds_text(lead).replace('seeds', 'task sets')})."
        )
        made.append(lead.claim("likelihood_ends_highest", "Sec. 3", sentence))
    return made


def _estimators(final: pd.DataFrame, settings: Settings) -> list[Claim]:
    if not {"maxrl", "grpo"} <= set(settings.estimators):
        return []
    ours, theirs = (by_seed(final, "pass_rate", method=name) for name in ("maxrl", "grpo"))
    lead = difference(ours, theirs)
    sentence = (
        f"Without any noise MaxRL's bias costs less than GRPO's: on the exact expected gradients at N = "
        f"{settings.rollouts} the final mean pass rate is {mean_text(ours)} and {mean_text(theirs)}, a difference of "
        f"{lead} ({seeds_text(lead).replace('seeds', 'task sets')})."
    )
    return [lead.claim("maxrl_bias_costs_less_than_grpo", "", sentence)]


def _order(name: str) -> float:
    """Return an objective's order T, infinite for the likelihood."""
    return {RL: 1.0, ML: float("inf")}.get(name) or float(name.removeprefix(ORDER))
