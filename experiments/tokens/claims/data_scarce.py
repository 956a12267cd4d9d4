"""Fig. 4 and Table 4 of the paper: many epochs over few problems, and who keeps pass@k on problems never seen."""

import pandas as pd

from experiments._claims import by_seed, difference, mean_text, seeds_text
from experiments.tokens.claims._rows import Frames, ends, identifier, lead, word
from experiments.tokens.data_scarce import Settings
from maxrl_lab.claims import Claim

OURS, OTHERS = "maxrl", ("grpo", "rloo")
EARLY, LATE = 0.2, 0.2
"""The parts of the epochs that count as the beginning and as the end."""
_WORDS = {"modular_sum": "modular sums", "countdown": "countdown"}


def claims(tables: Frames, settings: Settings) -> list[Claim]:
    """Return, for each task, who ends above the base, who has peaked before, who learns faster, and who leads."""
    made = []
    for task in settings.tasks:
        of_task = {name: rows[rows.task == task] for name, rows in tables.items()}
        others = [name for name in OTHERS if name in settings.estimators]
        ks = sorted({1, _k(of_task)})
        shown = [name for name in settings.estimators if name in (OURS, *OTHERS)]
        made += [_against_base(of_task, settings, task, name) for name in shown]
        made += [_falls_from_its_peak(of_task, settings, task, name) for name in others]
        if OURS in settings.estimators:
            made += [_slower(of_task, settings, task, name) for name in others]
            made += [_overtakes(of_task, settings, task, name) for name in others]
            behind = [name for name in settings.estimators if name != OURS]
            made += [_leads(of_task, settings, task, OURS, name, k) for name in behind for k in ks]
        pkpo = [name for name in settings.estimators if name.startswith("pkpo")][:1]
        made += [_leads(of_task, settings, task, name, "grpo", ks[-1]) for name in pkpo if "grpo" in others]
    return made


def peak(rows: pd.DataFrame, name: str, k: int) -> "tuple[pd.Series[float], pd.Series[float]]":
    """Return by seed the epoch at which the mean pass@k of the other seeds is highest, and the seed's value there.

    The seed itself has no say in where its peak is: the highest of its own values would be too high by chance. Of one
    seed the epoch is its own.
    """
    table = rows[(rows.estimator == name) & (rows.k == k)].pivot(index="epoch", columns="seed", values="pass_at_k")
    others = {seed: table.drop(columns=seed) if len(table.columns) > 1 else table for seed in table}
    epochs = pd.Series({seed: float(rest.mean(axis=1).idxmax()) for seed, rest in others.items()})
    return epochs, pd.Series({seed: float(table[seed][epoch]) for seed, epoch in epochs.items()})


def _k(tables: Frames) -> int:
    """Return the largest k that every evaluation measured, those during training, too."""
    counts = tables["evaluations"].groupby("k").step.nunique()
    return int(counts[counts == counts.max()].index.max())


def _last(tables: Frames, name: str, k: int) -> "pd.Series[float]":
    rows = tables["evaluations"]
    return by_seed(rows[rows.step == rows.step.max()], "pass_at_k", estimator=name, k=k)


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


def _falls_from_its_peak(tables: Frames, settings: Settings, task: str, name: str) -> Claim:
    """RLOO and GRPO peak early."""
    k = _k(tables)
    epochs, highest = peak(tables["evaluations"], name, k)
    last = _last(tables, name, k)
    gap = difference(last, highest)
    sentence = (
        f"{word(name)} peaks before the end of {_epochs(settings)} epochs of {_WORDS[task]}: held-out pass@{k} is "
        f"{mean_text(highest)} at epoch {mean_text(epochs)}, where the other seeds are highest, and {mean_text(last)} "
        f"at the end, a difference of {gap} ({seeds_text(gap)})."
    )
    return gap.claim(f"{name}_falls_from_its_peak_{task}", "Fig. 4", sentence, direction="below")


def _slower(tables: Frames, settings: Settings, task: str, other: str) -> Claim:
    """MaxRL's pass rate on the training set is lower at first."""
    rows = tables["dynamics"]
    first = max(1.0, EARLY * rows.epoch.max())
    means = _training(rows[rows.epoch <= first])
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


def _overtakes(tables: Frames, settings: Settings, task: str, other: str) -> Claim:
    """MaxRL's pass rate on the training set is higher in the end."""
    rows = tables["dynamics"]
    final = max(1.0, LATE * rows.epoch.max())
    means = _training(rows[rows.epoch > rows.epoch.max() - final])
    return lead(
        f"overtakes_{other}_{task}",
        "Fig. 4",
        f"MaxRL overtakes {word(other)}",
        means[OURS],
        means[other],
        of=f"the mean pass rate on the training set of {_WORDS[task]} over the last {final:g} of "
        f"{_epochs(settings)} epochs",
    )


def _training(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return the mean pass rate on the training set by method and seed."""
    means: pd.Series[float] = rows.groupby(["estimator", "seed"]).pass_rate.mean()
    return means


def _leads(tables: Frames, settings: Settings, task: str, ours: str, other: str, k: int) -> Claim:
    """At the end MaxRL leads, and PKPO is before GRPO."""
    return lead(
        f"{identifier(ours)}_leads_{identifier(other)}_pass_at_{k}_{task}",
        "Table 4",
        f"After {_epochs(settings)} epochs of {_WORDS[task]} {word(ours)} is above {word(other)}",
        _last(tables, ours, k),
        _last(tables, other, k),
        of=f"pass@{k} on held-out problems",
    )


def _epochs(settings: Settings) -> str:
    return f"{settings.steps * settings.prompts / settings.training_set:g}"
