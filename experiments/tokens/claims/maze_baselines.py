"""Table 3 of the paper: MaxRL against remedies for lost diversity, and Sec. 4.3: Algorithm 1 against exact order N."""

from itertools import pairwise

import pandas as pd

from experiments.tokens.claims._rows import Frames, ends, final, identifier, largest_k, lead, word
from experiments.tokens.maze_baselines import Settings
from maxrl_lab.claims import Claim
from maxrl_lab.tokens.comparison import family

OURS, EXACT_ORDER = "maxrl", "maxrl_leave_one_out"
RANKING = ("maxrl", "pkpo", "grpo | differential_smoothing", "grpo | entropy_bonus", "grpo", "rloo")
"""Methods without their options as the paper's Table 3 ranks them, in pass@1 and in pass@k alike."""
OTHERS = (*reversed(RANKING[1:]), "grpo | greedy_gate")
"""Methods of Table 3 and Fig. 18 that MaxRL is compared with."""
DIAL = "maxrl_centred"


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return by how much MaxRL leads every other method, and each of these the next one: pass@1, and the largest k."""
    best = _best_of_family(tables)
    made = []
    for k in sorted({1, largest_k(tables)}):
        if OURS in best:
            made += [_leads(tables, settings, OURS, best[other], k) for other in OTHERS if other in best]
            if EXACT_ORDER in best:
                made.append(_algorithm_1(tables, settings, k))
            if DIAL in best:
                made.append(_dial(tables, settings, best[DIAL], k))
        ranked = [best[name] for name in RANKING[1:] if name in best]
        made += [_leads(tables, settings, ours, theirs, k) for ours, theirs in pairwise(ranked)]
    return made


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
        rival = best.setdefault(family(name), name)
        if scores.get(method_of[name], 0.0) > scores.get(method_of[rival], 0.0):
            best[family(name)] = name
    return best


def _leads(tables: Frames, settings: Settings, ours: str, theirs: str, k: int) -> Claim:
    """Table 3's ranking: MaxRL before all, and each of the others before the next."""
    return lead(
        f"{identifier(ours)}_leads_{identifier(theirs)}_pass_at_{k}",
        "Table 3" if family(theirs) != "grpo | greedy_gate" else "Fig. 18",
        f"{word(ours)} ends above {word(theirs)} at N = {settings.rollouts}",
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


def _dial(tables: Frames, settings: Settings, quarter: str, k: int) -> Claim:
    """The dial between RLOO and Algorithm 1: a smaller order has less noise and more bias."""
    return lead(
        f"algorithm_1_leads_zero_sum_of_smaller_order_pass_at_{k}",
        "",
        f"Algorithm 1, of order N-1, does better than {word(quarter)}, of less noise and more bias, at N = "
        f"{settings.rollouts}",
        ends(tables, OURS, settings.rollouts, k),
        ends(tables, quarter, settings.rollouts, k),
        of=f"pass@{k} on held-out mazes",
    )
