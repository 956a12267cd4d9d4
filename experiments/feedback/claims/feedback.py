"""What pairs, rankings and demonstrations buy, beside outcomes: reconstructions, judged by exact pass rates."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from experiments._claims import by_seed, difference, exact, mean_text, over_seeds, ratio, seeds_text, select
from experiments.feedback.claims._demonstrations import demonstration_claims
from experiments.feedback.feedback import Settings
from maxrl_lab.claims import Claim, number

Frames = Mapping[str, pd.DataFrame]
OFTEN = 4
"""Number of visits from which on a network is asked to count."""
HALF = 0.5
"""The pass rate that labels are counted to."""


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return the claims of pairs, of answers and of demonstrations."""
    return [
        *_pairs(tables["pairs"], settings),
        *_answers(tables, settings),
        *demonstration_claims(tables["demonstrations"]),
    ]


def _pairs(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    high, low = max(settings.scales), min(settings.scales)
    needed: dict[tuple[float | None, str], pd.Series[float]] = {
        (scale, method): _needed(select(rows, scale=scale, method=method, model="exact"))
        for scale in settings.scales
        for method in ("designed", "random", "adaptive", "passive")
    }
    needed |= {(None, method): _needed(select(rows, scale=None, method=method)) for method in ("maxrl", "verified")}
    designed = needed[high, "designed"]
    made = [
        _times(
            "designed_pairs_need_fewer_labels_than_passive_ones",
            "Pairs that are chosen before any label need fewer than pairs of the uniform policy, of which nearly all "
            "are two failures",
            needed[high, "passive"],
            designed,
            f"at s = {high:g}",
        ),
        _times(
            "designed_pairs_need_fewer_labels_than_random_ones",
            "Designing the pairs needs fewer labels than taking random pairs of the same candidates",
            needed[high, "random"],
            designed,
            f"at s = {high:g}",
        ),
    ]
    for scale in sorted({high, low}, reverse=True):
        made.append(
            _times(
                f"labels_as_one_goes_save_labels_at_{scale:g}".replace(".", "_"),
                "Choosing pairs after the labels before them, by a count bonus, needs fewer labels than choosing all "
                "pairs before",
                needed[scale, "designed"],
                needed[scale, "adaptive"],
                f"at s = {scale:g}",
            )
        )
    made += [
        _times(
            "outcomes_of_rollouts_cost_more_than_designed_labels",
            "MaxRL, which sees outcomes of its rollouts alone, needs more of them than labels are needed of designed "
            "pairs, which know the maze",
            needed[None, "maxrl"],
            designed,
            f"at s = {high:g}",
        ),
        _times(
            "outcomes_of_candidates_cost_less_than_labels",
            "The verifier itself, asked about the same candidates, needs fewer outcomes than there are labels",
            designed,
            needed[None, "verified"],
            f"at s = {high:g}",
        ),
    ]
    if low < high:
        made.append(
            _times(
                "weak_preferences_need_more_labels",
                "Weaker preferences need more labels of designed pairs",
                needed[low, "designed"],
                designed,
                f"s = {low:g} against s = {high:g}",
            )
        )
    return [*made, _bound(rows), *_explorers(rows, settings)]


def _needed(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return by seed the least labels from which on the pass rate stays above a half; twice the most if it does not."""
    table = rows.pivot(index="seed", columns="labels", values="pass_rate").sort_index(axis=1)
    stays = (table >= HALF).iloc[:, ::-1].cummin(axis=1).iloc[:, ::-1]
    first = stays.idxmax(axis=1).astype(float)
    return first.where(stays.any(axis=1), 2 * table.columns.max())


def _times(name: str, text: str, more: "pd.Series[float]", less: "pd.Series[float]", where: str) -> Claim:
    times = ratio(more, less)
    sentence = (
        f"{text}: for a pass rate that stays above {HALF} the ratio is {times} (geometric mean, {seeds_text(times)}, "
        f"{where}; medians {number(more.median())} and {number(less.median())}; a maze that does not get there counts "
        "as twice the most that was tried)."
    )
    return times.claim(name, "", sentence, boundary=1.0)


def _bound(rows: pd.DataFrame) -> Claim:
    known = rows.dropna(subset=["bound"])
    known = known[known.regret > 1e-9]
    worst = exact(float((known.regret / known.bound).max()))
    sentence = (
        f"The regret bound of REGIME holds in every run with the exact model: the regret is at most {worst} of it (of "
        f"{len(known)} runs and numbers of labels with a regret above 0; exact)."
    )
    return worst.claim("the_regret_bound_holds", "", sentence, direction="below", boundary=1.0)


def _explorers(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """A model that uniform episodes have made has the same wall as outcomes."""
    most = max(settings.episodes)
    at = rows[(rows.labels == settings.labels) & (rows.method == "designed") & (rows.scale == max(settings.scales))]
    one, other = (by_seed(at, "pass_rate", model=f"{name}:{most}") for name in ("optimistic", "uniform"))
    lead = difference(one, other)
    sentence = (
        f"Exploration without feedback has to be optimistic: with {settings.labels} labels of designed pairs a model "
        f"of {most} optimistic episodes ends at a pass rate of {mean_text(one)}, one of {most} uniform episodes at "
        f"{mean_text(other)}, a difference of {lead} ({seeds_text(lead)})."
    )
    return [lead.claim("exploration_has_to_be_optimistic", "", sentence)]


def _answers(tables: Frames, settings: Settings) -> list[Claim]:
    rows = tables["answers"]
    end = rows[(rows["round"] == settings.rounds) & (rows.alpha != settings.too_much)]
    made: list[Claim] = []
    for verifier, words in (("prefix", "that share a prefix"), ("flat", "that share nothing")):
        at = end[end.verifier == verifier]
        for name, ours, theirs, column in (
            ("counts_raise_coverage", "copo_exact", "dpo", "coverage"),
            ("counts_raise_the_pass_rate", "copo_exact", "dpo", "pass_rate"),
            ("outcomes_beat_preferences", "maxrl", "dpo", "pass_rate"),
            ("counts_beat_outcomes", "copo_exact", "maxrl", "pass_rate"),
        ):
            made.append(_compared(f"{name}_{verifier}", at, ours, theirs, column, words))
    at = end[end.verifier == "prefix"]
    made += [
        _compared("coin_flips_beat_no_bonus", at, "copo_coins", "dpo", "coverage", "that share a prefix"),
        _compared("a_prior_raises_coverage", at, "copo_coins_prior", "copo_coins", "coverage", "that share a prefix"),
        _compared("optimism_without_counts_helps", at, "selm", "dpo", "pass_rate", "that share a prefix"),
    ]
    return [*made, _too_much(rows, settings), _solved(rows, settings), _walls(rows), *_coins(tables["coins"], settings)]


METHODS = {
    "dpo": "DPO",
    "copo_exact": "COPO with exact counts",
    "copo_coins": "COPO with coin flips",
    "copo_coins_prior": "COPO with coin flips and a random prior",
    "selm": "the SELM-type bonus",
    "maxrl": "MaxRL on outcomes",
}


def _compared(name: str, at: pd.DataFrame, ours: str, theirs: str, column: str, words: str) -> Claim:
    one, other = (by_seed(at, column, method=method) for method in (ours, theirs))
    lead = difference(one, other)
    what = "coverage" if column == "coverage" else "pass rate"
    sentence = (
        f"{METHODS[ours][0].upper()}{METHODS[ours][1:]} ends at a higher {what} than {METHODS[theirs]}, for right "
        f"answers {words}: {mean_text(one)} and {mean_text(other)}, a difference of {lead} ({seeds_text(lead)}; exact "
        f"at {at.judged.max():.0f} answers to each prompt)."
    )
    return lead.claim(name, "", sentence)


def _too_much(rows: pd.DataFrame, settings: Settings) -> Claim:
    """Too large a weight spreads the policy."""
    at = select(rows, verifier="prefix", method="copo_exact", round=settings.rounds)
    large = by_seed(at[at.alpha == settings.too_much], "pass_rate")
    best = by_seed(at[at.alpha != settings.too_much], "pass_rate")
    loss = difference(best, large)
    sentence = (
        f"Too large a bonus costs pass rate: at alpha = {settings.too_much:g} COPO with exact counts ends at "
        f"{mean_text(large)}, at the swept alpha at {mean_text(best)}, a difference of {loss} ({seeds_text(loss)})."
    )
    return loss.claim("too_large_a_bonus_costs", "", sentence)


def _solved(rows: pd.DataFrame, settings: Settings) -> Claim:
    """A bonus that is too large for the pass rate explores all the same."""
    at = select(rows, verifier="prefix", round=settings.rounds)
    large = by_seed(select(at, method="copo_exact", alpha=settings.too_much), "prompts_with_a_success")
    none = by_seed(select(at, method="dpo"), "prompts_with_a_success")
    lead = difference(large, none)
    sentence = (
        f"A large bonus from exact counts finds a right answer to more prompts: at alpha = {settings.too_much:g} to a "
        f"share of {mean_text(large)}, without one to {mean_text(none)}, a difference of {lead} ({seeds_text(lead)})."
    )
    return lead.claim("a_large_bonus_finds_more", "", sentence)


def _walls(rows: pd.DataFrame) -> Claim:
    """The share of groups whose ranking is a coin flip, in the first rounds that were measured."""
    first = rows[rows["round"] == rows[rows["round"] > 0]["round"].min()]
    share = by_seed(select(first, verifier="prefix", method="dpo"), "tied")
    estimate = over_seeds(share)
    sentence = (
        f"Most groups of the beginning are ties: in round {first['round'].iloc[0]} a share of {estimate} "
        f"({seeds_text(estimate)}) holds one outcome alone, so that DPO's pair is a coin flip."
    )
    return estimate.claim("most_first_groups_are_ties", "", sentence, boundary=0.5)


def _coins(rows: pd.DataFrame, settings: Settings) -> list[Claim]:
    """Of answers that were never seen the network says what it likes, unless it has a prior."""
    rows = rows[rows.verifier == "prefix"]
    made = []
    for method, words in (("copo_coins", "without a random prior"), ("copo_coins_prior", "with a random prior")):
        unseen = by_seed(select(rows, method=method, visits=0), "bonus")
        off = over_seeds(unseen - 1)
        sentence = (
            f"A coin-flip network {words} gives answers that were never seen a bonus near 1: it is "
            f"{mean_text(unseen)}, off 1 by {off} ({seeds_text(off)}; after {settings.rounds} rounds)."
        )
        name = f"unseen_answers_{words.replace(' ', '_')}"
        made.append(off.claim(name, "", sentence, direction="within", boundary=0.25))
    often = rows[(rows.method == "copo_coins") & (rows.visits >= OFTEN)]
    if set(often.seed) != set(rows.seed):
        return made
    scaled = often.assign(error=np.log(often.bonus * np.sqrt(often.visits)) * often.answers)
    sums = scaled.groupby("seed")[["error", "answers"]].sum()
    error = over_seeds(sums.error / sums.answers)
    sentence = (
        f"Of answers that it has seen {OFTEN} times or more the network counts: the logarithm of its bonus is off that "
        f"of n^(-1/2) by {error} on average ({seeds_text(error)})."
    )
    return [*made, error.claim("the_network_counts_what_it_has_seen", "", sentence, direction="within", boundary=0.25)]
