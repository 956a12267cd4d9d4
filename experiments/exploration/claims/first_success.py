"""What a first success costs a policy gradient, and what it costs explorers that see states and plan."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from experiments._claims import Estimate, exact, over_seeds, ratio, seeds_text, select, share_over_seeds
from experiments.exploration.first_success import Settings
from maxrl_lab.claims import Claim, number

SHOWN = 16
"""The N that claims speak of, or the nearest one of the settings."""


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return how episodes go with 1/p, what helps at K = 0, what bounds certify, and what a hand-over saves."""
    rows = tables["reached"].merge(tables["worlds"], on=["world", "seed"])
    mazes = rows[rows.world.str.startswith("maze")]
    made: list[Claim] = []
    if mazes.world.nunique() > 1:
        made += [
            *_slopes(mazes, settings),
            *_first_success(mazes, settings),
            *_spoken(mazes, settings),
            _cheaper(mazes),
        ]
    made += _lakes(rows[rows.world.str.startswith("lake")], settings)
    return [*made, *_bounds(tables["bounds"], settings), _handed(tables["handed"], settings), _ascent(tables["ascent"])]


def _nearest(settings: Settings) -> int:
    return min(settings.rollouts, key=lambda count: abs(count - SHOWN))


def _slopes(mazes: pd.DataFrame, settings: Settings) -> list[Claim]:
    """The slope of log episodes on log 1/p over the mazes of a seed: 1 for MaxRL, near 0 for MEX."""
    count, made = _nearest(settings), []
    if "maxrl" in settings.estimators:
        slope = over_seeds(_slope(select(mazes, method="maxrl", rollouts=count)) - 1)
        ends = [number(1 / rate) for rate in (mazes.untrained.max(), mazes.untrained.min())]
        sentence = (
            f"Policy gradients need episodes in proportion to 1/p: over mazes whose 1/p goes from {ends[0]} to "
            f"{ends[1]} those of MaxRL at N = {count} grow as a power of 1/p whose exponent is off 1 by {slope} "
            f"({seeds_text(slope)})."
        )
        made.append(slope.claim("gradients_need_one_over_p", "", sentence, direction="within", boundary=0.2))
    slope = over_seeds(_slope(mazes[mazes.method == "mex"]))
    medians = mazes[mazes.method == "mex"].groupby("world")[["episodes", "untrained"]].median().sort_values("untrained")
    listed = ", ".join(
        f"{number(row.episodes)} (1/p = {number(1 / row.untrained)})" for row in medians[::-1].itertuples()
    )
    sentence = (
        f"MEX's episodes hardly depend on p: its medians are {listed}, and they grow as (1/p) to the power of {slope} "
        f"({seeds_text(slope)}); it sees states and plans, and knows nothing of the maze."
    )
    made.append(slope.claim("mex_hardly_depends_on_p", "", sentence, direction="below", boundary=0.3))
    return made


def _slope(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return by seed the slope of log episodes on log 1/p; runs that gave up count with what they spent."""
    made = {}
    for seed, runs in rows.groupby("seed"):
        x, y = -np.log(runs.untrained), np.log(runs.episodes.clip(lower=1))
        made[seed] = np.polyfit(x, y, 1)[0]
    return pd.Series(made)


def _first_success(mazes: pd.DataFrame, settings: Settings) -> list[Claim]:
    """The first success of any estimator at any N comes after 1/p episodes on average, and never much sooner."""
    rows = mazes[mazes.method.isin(settings.estimators)]
    cost = over_seeds((rows.first_success * rows.untrained).groupby(rows.seed).mean())
    spent = rows[rows.reached.astype(bool)]
    after = float((spent.first_success / spent.episodes).median())
    sentence = (
        f"The wait for the first success is what costs: it takes {cost} times 1/p episodes on average over all mazes, "
        f"estimators and N ({seeds_text(cost)}), and is {number(100 * after)}% of all episodes in the median run."
    )
    return [cost.claim("the_wait_is_the_cost", "", sentence, boundary=0.5)]


def _spoken(mazes: pd.DataFrame, settings: Settings) -> list[Claim]:
    """What learning from silent groups does on the hardest mazes within the groups that were sampled, and elsewhere."""
    worlds = mazes.groupby("world").untrained.median().sort_values(ascending=False).index
    made = []
    for method, name, key in (
        ("maxrl_control_variate", "The control variate, the one table that learns at K = 0,", "control_variate"),
        ("maxrl + counts", "A count bonus on pairs of state and move", "count_bonus"),
    ):
        runs = select(mazes, method=method, world=worlds[-1])
        share = share_over_seeds(runs.set_index("seed").reached.astype(float))
        sentence = (
            f"{name} does not end the wait on the hardest mazes: on {worlds[-1]} (1/p = "
            f"{number(1 / runs.untrained.median())}) a share of {share} of runs reaches the target within "
            f"{number(runs.episodes.max())} episodes ({seeds_text(share)})."
        )
        made.append(share.claim(f"{key}_does_not_end_the_wait", "", sentence, direction="below", boundary=0.5))
    if "maxrl" in settings.estimators:
        made.append(_shortened(mazes, worlds[-2], settings))
    return made


def _shortened(mazes: pd.DataFrame, world: str, settings: Settings) -> Claim:
    """On the hardest mazes but one the count bonus shortens the wait of MaxRL; runs given up count as they ended."""
    ours = select(mazes, method="maxrl + counts", world=world).set_index("seed").episodes
    theirs = select(mazes, method="maxrl", world=world, rollouts=_nearest(settings)).set_index("seed").episodes
    saved = ratio(ours, theirs)
    sentence = (
        f"A count bonus shortens the wait where it can be followed to its end: on {world} it takes {saved} times the "
        f"episodes of MaxRL alone at N = {_nearest(settings)} ({seeds_text(saved)}); it counts states, as MEX does."
    )
    return saved.claim("count_bonus_shortens_the_wait", "", sentence, direction="below", boundary=1.0)


def _cheaper(mazes: pd.DataFrame) -> Claim:
    """What knowing that a move leads to the neighbour or stays saves MEX."""
    ours, theirs = (mazes[mazes.method == name].groupby("seed").episodes for name in ("mex_neighbours", "mex"))
    saved = ratio(ours.sum().clip(lower=1), theirs.sum())
    sentence = (
        f"Knowing how cells lie saves episodes: MEX that knows that a move leads to the neighbour or stays takes "
        f"{saved} times the episodes of MEX that knows nothing, over all mazes ({seeds_text(saved)})."
    )
    return saved.claim("knowing_the_neighbours_saves", "", sentence, direction="below", boundary=0.5)


def _lakes(lakes: pd.DataFrame, settings: Settings) -> list[Claim]:
    """On slippery ice a finite eta reaches the target, and an infinite one is stuck in some runs."""
    made = []
    for world, rows in lakes.groupby("world"):
        name = str(world).replace(" ", "_")
        ours = share_over_seeds(rows[rows.method == "mex"].set_index("seed").reached.astype(float))
        median = rows[rows.method == "mex"].episodes.median()
        sentence = (
            f"On {world} MEX at eta = {number(settings.eta)} reaches the target in a share of {ours} of runs "
            f"({seeds_text(ours)}), after {number(median)} episodes in the median, where 1/p is "
            f"{number(1 / rows.untrained.median())}."
        )
        made.append(ours.claim(f"mex_learns_{name}", "", sentence, boundary=0.5))
        stuck = share_over_seeds(1 - rows[rows.method == "mex_trusting"].set_index("seed").reached.astype(float))
        sentence = (
            f"On {world} MEX that trusts a pair after one visit (eta infinite) can be stuck: after {settings.episodes} "
            f"episodes a share of {stuck} of runs is below the target ({seeds_text(stuck)}; one such run shows it)."
        )
        made.append(exact(stuck.value).claim(f"trusting_mex_is_stuck_on_{name}", "", sentence))
    return made


def _bounds(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """Certified bounds hold everywhere at every look, and close; regularised ones do not always hold."""
    certified, leaning = (rows[rows.kind == kind] for kind in ("certified", "regularised"))
    outside = exact(certified.outside.max())
    sentence = (
        f"Certified bounds held: of the states and times of {certified.seed.nunique()} runs the largest share at any "
        f"look outside of them is {outside} (each run's bounds hold with probability {number(settings.confidence)}; "
        "compared with dynamic programming)."
    )
    made = [outside.claim("certified_bounds_held", "", sentence, direction="below", boundary=1e-9)]
    last = certified.episodes.max()
    width = (certified.upper - certified.lower).groupby([certified.episodes, certified.seed]).first()
    left = over_seeds(width[last])
    sentence = (
        f"Certified bounds on the best pass rate close as BUMEX explores {settings.bounds_world}: after {number(last)} "
        f"episodes they are {left} apart ({seeds_text(left)}), and {number(width[0].mean())} before the first."
    )
    made.append(left.claim("certified_bounds_close", "", sentence, direction="below", boundary=0.5))
    share = over_seeds(leaning.groupby("seed").outside.mean())
    sentence = (
        f"Regularised bounds are no certificates: over all looks a share of {share} of the values lies outside of them "
        f"({seeds_text(share)})."
    )
    made.append(share.claim("regularised_bounds_fail", "", sentence))
    end = certified[certified.episodes == last].set_index("seed")
    gain = ratio(end.masked, end.untrained)
    sentence = (
        f"Masking moves that are certainly wrong lifts the untrained pass rate on {settings.bounds_world} by "
        f"a factor of {gain} after {number(last)} episodes ({seeds_text(gain)}; "
        f"{number(100 * end.ruled_out.mean())}% of moves are ruled out)."
    )
    return [*made, gain.claim("masking_lifts_the_untrained", "", sentence, boundary=1.0)]


def _handed(rows: pd.DataFrame, settings: Settings) -> Claim:
    """MaxRL after MEX's first success needs fewer episodes than MaxRL from nothing, those of MEX included."""
    ends = rows[rows.pass_rate >= settings.target].groupby(["method", "seed"]).episodes.min().reset_index()
    ours, theirs = (ends[ends.method == name].set_index("seed").episodes for name in ("after_mex", "alone"))
    both = ours.index.intersection(theirs.index)
    saved = ratio(ours[both], theirs[both]) if len(both) else Estimate(np.nan, np.nan, np.nan, 0)
    sentence = (
        f"A first success is worth handing over: on {settings.shown} MaxRL that takes one step on MEX's first success "
        f"reaches the target after {saved} times the episodes of MaxRL from nothing, MEX's own included ("
        f"{seeds_text(saved)})."
    )
    return saved.claim("a_first_success_is_worth_handing_over", "", sentence, direction="below", boundary=1.0)


def _ascent(rows: pd.DataFrame) -> Claim:
    """Gradient ascent on MEX's objective comes near what the true table scores, which the maximum is not below."""
    short = (rows.truth - rows.objective).clip(lower=0)
    worst = over_seeds(short.groupby(rows.seed).max())
    sentence = (
        f"Gradient ascent on MEX's objective comes near its maximum: of the plans of a run on {rows.world.iloc[0]} the "
        f"worst is {worst} below the true table's score ({seeds_text(worst)}; on average {number(short.mean())})."
    )
    return worst.claim("ascent_comes_near_the_maximum", "", sentence, direction="below", boundary=0.05)
