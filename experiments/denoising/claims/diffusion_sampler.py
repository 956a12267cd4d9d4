"""What learnt decoding and the anchors of DiFFPO are worth, where everything that they approximate is exact."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import Estimate, by_seed, difference, exact, mean_text, ratio, seeds_text, select
from experiments.denoising.diffusion_sampler import EVERY, Settings
from maxrl_lab.claims import Claim

Frames = Mapping[str, pd.DataFrame]


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return what training does to speed, what anchors do to bias, and what importance weights do to both."""
    decoding = [_faster(tables, settings), _bounds(tables, settings), _joint(tables, settings)]
    made = [*decoding, _noise(tables, settings), *_exact_ends(tables)]
    if settings.length == 2:  # two anchors are the path
        return made
    return [*made, _two_anchors(tables), *_weights(tables, settings), _steps(tables, settings)]


def _faster(tables: Frames, settings: Settings) -> Claim:
    """Right answers alone make decoding faster."""
    count = settings.rollouts[-1]
    rows = select(tables["training"], method="model", rollouts=count)
    before, after = _ends(rows, "evaluations")
    saved = difference(before, after)
    sentence = (
        f"Rewarding right answers alone makes decoding faster: at the entropy bound {settings.model_bound:g}, training "
        f"the model (N = {count}) saves {saved} of {mean_text(before)} evaluations for an answer ({seeds_text(saved)})."
    )
    return saved.claim("model_alone_gets_faster", "", sentence)


def _bounds(tables: Frames, settings: Settings) -> Claim:
    """Learning bounds alone gets most of what there is to get without training the model."""
    count = settings.rollouts[-1]
    rows = tables["decoding"]
    learnt = by_seed(rows, "in_time", method="sampler", rollouts=count, bound=None, verifier=EVERY)
    best = by_seed(rows, "in_time", method="best bound", verifier=EVERY)
    share = ratio(learnt, best)
    sentence = (
        f"Learning the entropy bound of each prompt, and nothing else, reaches {share} of the best that any choice of "
        f"bounds gives within {settings.budget} evaluations (N = {count}; {mean_text(learnt)} of {mean_text(best)} "
        f"right in time; {seeds_text(share)})."
    )
    return share.claim("bounds_alone_near_their_best", "", sentence, boundary=0.9)


def _joint(tables: Frames, settings: Settings) -> Claim:
    """Training both is ahead of training the model alone within the budget, early on."""
    count = settings.rollouts[-1]
    rows = select(tables["training"], rollouts=count)
    first = min(step for step in rows.updates.unique() if step > 0)
    joint, model = (by_seed(rows, "in_time", method=name, updates=first) for name in ("joint", "model"))
    lead = difference(joint, model)
    sentence = (
        f"Training both gives right answers in time sooner than training the model alone: after {first} updates "
        f"(N = {count}) the share that is right within {settings.budget} evaluations is {lead} higher "
        f"({seeds_text(lead)})."
    )
    return lead.claim("both_are_in_time_sooner", "", sentence)


def _two_anchors(tables: Frames) -> Claim:
    """The second anchor removes most of d1's bias."""
    left = _ratio_of(tables, "relative_bias", {"anchors": 2}, {"anchors": 1})
    sentence = (
        f"The second anchor is worth its pass: DiFFPO's surrogate (m = 2) has {left} of the relative bias of d1's "
        f"(m = 1), geometric mean over verifiers ({seeds_text(left)})."
    )
    return left.claim("second_anchor_removes_bias", "", sentence, direction="below", boundary=1.0)


def _noise(tables: Frames, settings: Settings) -> Claim:
    """The exact path costs passes, not noise."""
    times = _ratio_of(tables, "noise", {"anchors": settings.length}, {"anchors": 1})
    sentence = (
        f"The full likelihood of the path costs passes more than noise: with m = {settings.length} anchors and no bias "
        f"the noise of a group is {times} times that of d1 ({seeds_text(times)})."
    )
    return times.claim("path_less_than_doubles_the_noise", "", sentence, direction="below", boundary=2.0)


def _exact_ends(tables: Frames) -> list[Claim]:
    """The surrogate is exact with all anchors, and d1 under the sampler that fills all places at once."""
    anchors, sets = tables["anchors"], tables["sets"]
    path = exact(anchors[anchors.anchors == anchors.anchors.max()].relative_bias.max())
    at_once = exact(sets[sets.bound == float("inf")].relative_bias.max())
    one_by_one = mean_text(sets[sets.bound == sets.bound.min()].relative_bias)
    return [
        path.claim(
            "all_anchors_are_the_path",
            "",
            f"With an anchor at every step the surrogate is the path's own score: the largest relative bias is {path}.",
            direction="below",
            boundary=1e-9,
        ),
        at_once.claim(
            "the_sampler_decides_what_is_exact",
            "",
            "The right likelihood depends on the sampler: where all places are filled at once the mean field of d1 has "
            f"a relative bias of at most {at_once}, and {one_by_one} where they are filled one by one.",
            direction="below",
            boundary=1e-9,
        ),
    ]


def _weights(tables: Frames, settings: Settings) -> list[Claim]:
    """What importance weights per token do to DiFFPO's surrogate: bias, and noise."""
    cap = min(settings.caps)

    def times(value: str, kind: str) -> Estimate:
        return _ratio_of(tables, value, {"anchors": 2, "weights": kind}, {"anchors": 2})

    bias, noise = times("relative_bias", "uncapped"), times("noise", "uncapped")
    less, quieter = (times(value, f"cap {cap:g}") for value in ("relative_bias", "noise"))
    return [
        bias.claim(
            "weights_reduce_bias",
            "",
            f"Importance weights per token reduce the relative bias of DiFFPO's surrogate: without a cap it is {bias} "
            f"times what it is without weights, and {less} times with C = {cap:g} ({seeds_text(bias)}).",
            direction="below",
            boundary=1.0,
        ),
        noise.claim(
            "weights_add_noise",
            "",
            f"Importance weights per token add noise: without a cap that of a group is {noise} times what it is "
            f"without weights, and {quieter} times with C = {cap:g} ({seeds_text(noise)}).",
            boundary=1.0,
        ),
    ]


def _steps(tables: Frames, settings: Settings) -> Claim:
    """What d1 scores drifts away from what the sampler wrote."""
    rows = select(tables["steps"], anchors=1)
    late, early = (by_seed(rows, "divergence", step=step) for step in (settings.length - 1, 1))
    rise = difference(late, early)
    sentence = (
        f"What d1 scores moves away from what was sampled, step by step: the divergence at the last step is {rise} "
        f"nats above that at the second ({mean_text(early)} nats; {seeds_text(rise)})."
    )
    return rise.claim("divergence_of_d1_rises", "", sentence)


def _ends(rows: pd.DataFrame, value: str) -> tuple["pd.Series[float]", "pd.Series[float]"]:
    """Return a column by seed before training and after it."""
    first, last = (by_seed(rows, value, updates=step) for step in (rows.updates.min(), rows.updates.max()))
    return first, last


def _ratio_of(tables: Frames, value: str, ours: dict[str, object], theirs: dict[str, object]) -> Estimate:
    """Return the geometric mean over verifiers of a column's ratio between two kinds of surrogate, by seed."""
    mean = [
        select(tables["anchors"], **{"weights": "none", **where}).groupby("seed")[value].apply(_geometric)
        for where in (ours, theirs)
    ]
    return ratio(*mean)


def _geometric(values: "pd.Series[float]") -> float:
    return float(values.prod() ** (1 / len(values)))
