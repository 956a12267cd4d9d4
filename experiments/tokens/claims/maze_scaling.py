"""Fig. 3 of the paper in tokens: what rollouts buy each estimator on mazes that it has never seen."""

from itertools import pairwise

import pandas as pd

from experiments import _scaling
from experiments.tokens.claims._rows import Frames, ends, final, largest_k, lead, surprise, word
from experiments.tokens.maze_scaling import Settings
from maxrl_lab.claims import Claim

OURS = "maxrl"


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return how -log pass@k goes with N, who leads at each N and at fewer rollouts, and who ends below the base."""
    names, counts = set(settings.estimators), sorted(settings.rollouts)
    shown = sorted({1, largest_k(tables)})
    others = [name for name in ("rloo", "grpo") if OURS in names and name in names]
    made = []
    for k in shown:
        if OURS in names and len(counts) > 1:
            rows = {name: _surprises(tables, name, k) for name in (OURS, *others)}
            made.append(_scaling.falls(rows[OURS], k, mazes="held-out"))
            made += [_scaling.falls_faster(rows[OURS], rows[name], name, k, mazes="held-out") for name in others]
        made += [_leads(tables, OURS, name, count, k) for name in others for count in counts]
        if {"grpo", "rloo"} <= names:
            made.append(_leads(tables, "grpo", "rloo", counts[-1], k))
        if "rloo" in others and len(counts) > 1:
            made.append(_trails(tables, "rloo", counts[-1], counts[0], k))
        if "grpo" in others:
            made += [_trails(tables, "grpo", more, fewer, k) for fewer, more in pairwise(counts) if more >= 4 * fewer]
    made += [_against_base(tables, name, counts[-1], shown[-1]) for name in settings.estimators]
    return made


def _surprises(tables: Frames, name: str, k: int) -> pd.DataFrame:
    """Return a method's final -log pass@k, a row a seed and N."""
    rows = final(tables["evaluations"])
    rows = rows[(rows.estimator == name) & (rows.k == k)]
    return rows.assign(surprise=surprise(rows.pass_at_k))


def _leads(tables: Frames, ours: str, other: str, count: int, k: int) -> Claim:
    """At the same N MaxRL leads, and GRPO is between it and RLOO."""
    return lead(
        f"{ours}_leads_{other}_at_{count}_pass_at_{k}",
        "Fig. 3",
        f"{word(ours)} ends above {word(other)} at N = {count}",
        ends(tables, ours, count, k),
        ends(tables, other, count, k),
        of=f"pass@{k} on held-out mazes",
    )


def _trails(tables: Frames, other: str, more: int, fewer: int, k: int) -> Claim:
    """Another estimator with more rollouts trails MaxRL with fewer."""
    return lead(
        f"{other}_at_{more}_trails_maxrl_at_{fewer}_pass_at_{k}",
        "Fig. 3",
        f"{word(other)} at N = {more} trails MaxRL at N = {fewer}",
        ends(tables, OURS, fewer, k),
        ends(tables, other, more, k),
        of=f"pass@{k} on held-out mazes with MaxRL and with {word(other)}",
    )


def _against_base(tables: Frames, name: str, count: int, k: int) -> Claim:
    """Training at the largest N costs RLOO and GRPO coverage; MaxRL it does not."""
    gains = name == OURS
    return lead(
        f"{name}_{'keeps' if gains else 'loses'}_coverage",
        "Sec. 6.2",
        f"At N = {count} {word(name)} ends {'above' if gains else 'below'} the policy it started from in coverage",
        ends(tables, name, count, k),
        ends(tables, "base", count, k),
        of=f"pass@{k} on held-out mazes after training and before",
        direction="above" if gains else "below",
    )
