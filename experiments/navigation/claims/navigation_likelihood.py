"""How near rollouts come to the exact likelihood gradient, and what inverse sampling costs."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import by_seed, difference, ends_text, mean_text, over_seeds, ratio, seeds_text, select, slopes
from experiments.navigation.navigation_likelihood import Settings
from maxrl_lab.claims import Claim

EXACT = "maximum_likelihood"


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return how the gap to the exact gradient goes with N, and the result and the cost of inverse sampling."""
    curves = select(tables["curves"], split="train")
    final = curves[curves.step == curves.step.max()]
    made = [_nears(final, settings)] if len(settings.rollouts) > 1 else []
    if settings.successes:
        made += [_inverse(final, settings), _cost(curves, final, settings)]
    return made


def _nears(final: pd.DataFrame, settings: Settings) -> Claim:
    """The gap in log pass rate falls with N."""
    exactly = by_seed(final, "log_pass_rate", method=EXACT)
    sampled = final[final.method == settings.estimator]
    sampled = sampled.assign(gap=sampled.seed.map(exactly) - sampled.log_pass_rate)
    fall = over_seeds(slopes(sampled, "gap"))
    sentence = (
        f"MaxRL ({settings.estimator}) nears the exact likelihood gradient as N grows: on training mazes the gap in "
        f"mean log pass rate goes {ends_text(sampled, 'gap')}, by {fall} nats for each doubling ({seeds_text(fall)})."
    )
    return fall.claim("nears_the_exact_gradient", "after Fig. 2", sentence, direction="below")


def _inverse(final: pd.DataFrame, settings: Settings) -> Claim:
    """Inverse sampling ends within 0.05 of the exact gradient."""
    fewest = min(settings.successes)
    ours, exactly = by_seed(final, "pass_at_1", method=_name(fewest)), by_seed(final, "pass_at_1", method=EXACT)
    gap = difference(ours, exactly)
    sentence = (
        f"Inverse sampling (m = {fewest}) ends within 0.05 of the exact likelihood gradient: pass@1 on training mazes "
        f"is {mean_text(ours)} and {mean_text(exactly)}, a difference of {gap} ({seeds_text(gap)})."
    )
    return gap.claim("inverse_sampling_follows_the_exact_gradient", "", sentence, direction="within", boundary=0.05)


def _cost(curves: pd.DataFrame, final: pd.DataFrame, settings: Settings) -> Claim:
    """It costs fewer rollouts than the smallest N that ends as well, or than the largest N if none does."""
    fewest = min(settings.successes)
    inverse = by_seed(final, "pass_at_1", method=_name(fewest))
    sampled = final[final.method == settings.estimator].groupby("rollouts").pass_at_1.mean()
    as_good = sampled[sampled >= inverse.mean()]
    count = int(as_good.index.min() if len(as_good) else sampled.index.max())
    ours = _spent(curves[curves.method == _name(fewest)])
    theirs = _spent(select(curves, method=settings.estimator, rollouts=count))
    share = ratio(ours, theirs)
    sentence = (
        f"Inverse sampling (m = {fewest}) costs fewer rollouts than groups of N = {count}, "
        f"{'the smallest that end as well' if len(as_good) else 'which end lower'}: {mean_text(ours)} expected "
        f"rollouts a level in all against {mean_text(theirs)}, a ratio of {share} ({seeds_text(share)})."
    )
    return share.claim("inverse_sampling_costs_fewer_rollouts", "", sentence, direction="below", boundary=1)


def _spent(runs: pd.DataFrame) -> "pd.Series[float]":
    """Return by seed the rollouts of a level over training: the trapezoidal rule over the measured costs an update."""
    costs = runs.pivot(index="seed", columns="step", values="cost").sort_index(axis=1)
    steps = costs.columns.to_numpy(dtype=float)
    values = costs.to_numpy(dtype=float)
    spent = ((values[:, 1:] + values[:, :-1]) / 2) @ (steps[1:] - steps[:-1])
    return pd.Series(spent, index=costs.index)


def _name(successes: int) -> str:
    return f"inverse_sampling:successes={successes}"
