"""Table 3 of the paper: MaxRL against remedies for lost diversity, and Sec. 4.3: Algorithm 1 against exact order N."""

import pandas as pd

from experiments.tokens.claims._rows import Frames, ends, final, largest_k, lead
from experiments.tokens.maze_baselines import Settings
from maxrl_lab.claims import Claim

OURS, EXACT_ORDER = "maxrl", "maxrl_leave_one_out"
WORDS = {
    "rloo": "RLOO",
    "grpo": "GRPO",
    "pkpo": "PKPO",
    "grpo | entropy_bonus": "GRPO with an entropy bonus",
    "grpo | differential_smoothing": "GRPO with Differential Smoothing",
    "grpo | greedy_gate": "GRPO with SELF's gate",
}
"""Methods of the paper's Table 3 and Fig. 18 without their options, in words."""


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return by how much MaxRL leads each other method, and PKPO leads GRPO, at pass@1 and at the largest k."""
    best = _best_of_family(tables)
    made = []
    for k in sorted({1, largest_k(tables)}):
        if OURS in best:
            made += [_leads(tables, settings, OURS, best[other], other, k) for other in WORDS if other in best]
            if EXACT_ORDER in best:
                made.append(_algorithm_1(tables, settings, k))
        if {"pkpo", "grpo"} <= set(best):
            made.append(_leads(tables, settings, best["pkpo"], "grpo", "grpo", k))
    return made


def _family(method: str) -> str:
    """Return a method's name without its options."""
    return method.partition(":")[0]


def _best_of_family(tables: Frames) -> dict[str, str]:
    """Return of each family the method whose sweep went best on validation problems; without a sweep, the first."""
    rows = final(tables["evaluations"])
    method_of = dict(zip(rows.estimator, rows.method, strict=True))
    scores: dict[str, float] = {}
    if "sweep" in tables:
        means: pd.Series[float] = tables["sweep"].groupby(["method", "learning_rate"]).pass_rate.mean()
        scores = means.groupby("method").max().to_dict()
    best: dict[str, str] = {}
    for name in dict.fromkeys(rows.estimator):
        rival = best.setdefault(_family(name), name)
        if scores.get(method_of[name], 0.0) > scores.get(method_of[rival], 0.0):
            best[_family(name)] = name
    return best


def _leads(tables: Frames, settings: Settings, ours: str, theirs: str, family: str, k: int) -> Claim:
    """Table 3's ranking: MaxRL before all, PKPO before GRPO."""
    first, second = "MaxRL" if ours == OURS else WORDS[_family(ours)], WORDS[family]
    options = f" ({theirs.partition(':')[2]})" if ":" in theirs else ""
    return lead(
        f"{_family(ours)}_leads_{family.replace(' | ', '_')}_pass_at_{k}",
        "Table 3" if family != "grpo | greedy_gate" else "Fig. 18",
        f"{first} ends above {second}{options} at N = {settings.rollouts}",
        ends(tables, ours, settings.rollouts, k),
        ends(tables, theirs, settings.rollouts, k),
        of=f"pass@{k} on held-out mazes",
    )


def _algorithm_1(tables: Frames, settings: Settings, k: int) -> Claim:
    """Dropping the control variate at K = 0, and with it an order, helps."""
    return lead(
        f"algorithm_1_beats_leave_one_out_pass_at_{k}",
        "Sec. 4.3",
        f"Algorithm 1, of order N-1, does better than the leave-one-out form of exact order N at N = "
        f"{settings.rollouts}",
        ends(tables, OURS, settings.rollouts, k),
        ends(tables, EXACT_ORDER, settings.rollouts, k),
        of=f"pass@{k} on held-out mazes",
    )
