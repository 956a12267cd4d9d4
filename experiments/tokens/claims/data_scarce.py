"""Fig. 4 and Table 4 of the paper: many epochs over few problems, and who keeps pass@k on problems never seen."""

import pandas as pd

from experiments._claims import by_seed
from experiments.tokens.claims._rows import Frames, ends, lead, word
from experiments.tokens.data_scarce import Settings
from maxrl_lab.claims import Claim

OURS, OTHERS = "maxrl", ("grpo", "rloo")
EARLY = 0.2
"""The part of the epochs that counts as the beginning."""
_WORDS = {"modular_sum": "modular sums", "countdown": "countdown"}


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return, for each task, who ends above the base, who learns faster at first, and who leads at the end."""
    made = []
    for task in settings.tasks:
        of_task = {name: rows[rows.task == task] for name, rows in tables.items()}
        others = [name for name in OTHERS if name in settings.estimators]
        made += [
            _against_base(of_task, settings, task, name) for name in settings.estimators if name in (OURS, *OTHERS)
        ]
        if OURS in settings.estimators:
            made += [_slower(of_task, settings, task, name) for name in others]
            made += [_leads(of_task, settings, task, name, k) for name in others for k in sorted({1, _k(of_task)})]
    return made


def _k(tables: Frames) -> int:
    """Return the largest k that every evaluation measured, those during training, too."""
    counts = tables["evaluations"].groupby("k").step.nunique()
    return int(counts[counts == counts.max()].index.max())


def _against_base(tables: Frames, settings: Settings, task: str, name: str) -> Claim:
    """RLOO and GRPO lose coverage below the base; MaxRL keeps it above."""
    k, keeps = _k(tables), name == OURS
    return lead(
        f"{name}_{'keeps' if keeps else 'loses'}_coverage_{task}",
        "Fig. 4",
        f"After {_epochs(settings)} epochs of {_WORDS[task]} {word(name)} is {'above' if keeps else 'below'} the base "
        "in coverage",
        ends(tables, name, settings.rollouts, k),
        ends(tables, "base", settings.rollouts, k),
        of=f"pass@{k} on held-out problems after training and before",
        direction="above" if keeps else "below",
    )


def _slower(tables: Frames, settings: Settings, task: str, other: str) -> Claim:
    """MaxRL's pass rate on the training set is lower at first."""
    rows = tables["dynamics"]
    first = max(1.0, EARLY * rows.epoch.max())
    early = rows[rows.epoch <= first]
    means: pd.Series[float] = early.groupby(["estimator", "seed"]).pass_rate.mean()
    return lead(
        f"slower_at_first_than_{other}_{task}",
        "Fig. 4",
        f"MaxRL is slower at first than {word(other)}",
        means[OURS],
        means[other],
        of=f"the mean pass rate on the training set of {_WORDS[task]} over the first {first:g} of "
        f"{_epochs(settings)} epochs",
        direction="below",
    )


def _leads(tables: Frames, settings: Settings, task: str, other: str, k: int) -> Claim:
    """At the end MaxRL leads."""
    rows = tables["evaluations"]
    last = rows[rows.step == rows.step.max()]
    ours, theirs = (by_seed(last, "pass_at_k", estimator=name, k=k) for name in (OURS, other))
    return lead(
        f"maxrl_leads_{other}_pass_at_{k}_{task}",
        "Table 4",
        f"After {_epochs(settings)} epochs of {_WORDS[task]} MaxRL is above {word(other)}",
        ours,
        theirs,
        of=f"pass@{k} on held-out problems",
    )


def _epochs(settings: Settings) -> str:
    return f"{settings.steps * settings.prompts / settings.training_set:g}"
