"""The fair comparison of methods on written answers: rates are chosen alike, then reported runs are trained.

Learning rates are swept alike for every method at every N, on seeds that are not reported, and chosen by pass@1 on
validation problems, which are not reported either. A seed has a base of its own, where every method starts.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from types import MappingProxyType
from typing import NamedTuple

from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.tokens.study import Study
from maxrl_lab.tokens.trained import base, base_tables, train_all
from maxrl_lab.training import sweep
from maxrl_lab.training.methods import Method, parse_method
from maxrl_lab.training.sweep import Key, Run, key_of

_OPTIONS = re.compile(r":[^|\s]*")


class Named(NamedTuple):
    """A reported run and the name of its method in the settings, `pkpo:k=N/2` for `pkpo:k=8` at N = 16."""

    name: str
    run: Run


class Comparison(NamedTuple):
    """The reported runs, and all tables: `sweep` if a rate was swept, those of `training.train`, and the bases'."""

    runs: list[Named]
    tables: Tables


def compare(
    study: Study,
    names: Sequence[str],
    rollouts: Sequence[int],
    *,
    alternatives: Sequence[str] = (),
    fixed: Mapping[str, float] = MappingProxyType({}),
    section: str = "",
) -> Comparison:
    """Choose every method's learning rate and train it at every N; the policies are then there for `trained`.

    `alternatives` are methods in `names` with other options, another coefficient say: they are swept alike, and in the
    place of a method the best of it and its alternatives is reported, unless `names` has it with several options. Rates
    in `fixed` are not swept (`maxrl_lab.training.sweep.compare`, which also says what `section` is), nor are
    alternatives to such a method. The column `estimator` of the reported runs is the method's name in the settings,
    `method` its name at N.
    """
    study.held_out()  # too few problems are noticed before anything is trained
    study.validation(seed=0)
    settings = study.settings
    methods: dict[Key, Method] = {}
    name_of: dict[Key, str] = {}
    rivals_of: dict[Key, list[Key]] = {}
    for count in rollouts:
        for name in names:
            is_fixed = sweep.name_at(parse_method(name, count), section) in fixed
            keys = []
            for option in (name, *([] if is_fixed else _others(name, names, alternatives))):
                method = parse_method(option, count)
                keys.append(key_of(method))
                methods[keys[-1]], name_of[keys[-1]] = method, option
            rivals_of[keys[0]] = keys
    swept: list[Row] = []

    def sweep_rates(runs: Sequence[Run]) -> list[Row]:
        swept.extend(_sweep(study, runs))
        return swept

    def best(runs: Sequence[Run]) -> list[Run]:
        scores = _scores(swept, runs)
        kept = {max(keys, key=lambda key: scores.get(key, 0.0)) for keys in rivals_of.values()}
        return [run for run in runs if key_of(run.method) in kept]

    compared = sweep.compare(
        list(methods.values()),
        settings.learning_rates,
        seeds=settings.seeds,
        sweep_seeds=settings.sweep_seeds,
        score="pass_rate",
        sweep=sweep_rates,
        report=lambda runs: _report(study, best(runs), name_of),
        fixed=fixed,
        section=section,
    )
    runs = [Named(name_of[key_of(run.method)], run) for run in best(compared.runs)]
    return Comparison(runs, {**compared.tables, **_bases(study)})


def family(name: str) -> str:
    """Return a method's name without its options: `grpo | entropy_bonus` for `grpo | entropy_bonus:coefficient=0.1`."""
    return _OPTIONS.sub("", name)


def _others(name: str, names: Sequence[str], alternatives: Sequence[str]) -> list[str]:
    """Return a method's alternatives; there are none where its options were chosen by hand, two of them say."""
    if sum(family(other) == family(name) for other in names) > 1:
        return []
    return [other for other in alternatives if family(other) == family(name) and other != name]


def _scores(swept: Sequence[Row], runs: Sequence[Run]) -> dict[Key, float]:
    """Return every swept method's mean pass@1 on validation problems at the rate of its reported runs."""
    rates = {key_of(run.method): run.learning_rate for run in runs}
    scores: dict[Key, list[float]] = defaultdict(list)
    for row in swept:
        if rates[key := (row["method"], row["rollouts"])] == row["learning_rate"]:
            scores[key].append(row["pass_rate"])
    return {key: fmean(values) for key, values in scores.items()}


def _bases(study: Study) -> Tables:
    """Return what the reported seeds start from: `bases` (their pretraining), `base` (pass@k), `base_votes`."""
    tables: Tables = {}
    for seed in range(study.settings.seeds):
        policy = base(study, seed)
        evaluation = study.evaluate(policy, study.held_out(), study.settings.samples, study.writing(), "base", seed)
        append(tables, base_tables(study, seed))
        append(tables, {"base": [{"seed": seed, **row} for row in evaluation.coverage()]})
        append(tables, {"base_votes": [{"seed": seed, "majority": evaluation.majority(study.task)}]})
    return tables


def _sweep(study: Study, runs: Sequence[Run]) -> list[Row]:
    """Return each run's final pass@1 on validation problems; runs of the sweep may be shorter than reported ones."""
    settings = study.settings
    study = replace(study, settings=replace(settings, steps=settings.sweep_steps or settings.steps))
    rows = []
    for tables in train_all(study, runs, "sweep"):
        (last,) = [row for row in tables["evaluations"] if row["k"] == 1]
        head = {name: last[name] for name in ("method", "rollouts", "learning_rate", "seed")}
        rows.append({**head, "pass_rate": last["pass_at_k"]})
    return rows


def _report(study: Study, runs: Sequence[Run], name_of: dict[Key, str]) -> Tables:
    """Return the tables of all runs together, with the name of the method in the settings."""
    tables: Tables = {}
    for run, more in zip(runs, train_all(study, runs, "report"), strict=True):
        estimator = name_of[key_of(run.method)]
        append(tables, {name: [{"estimator": estimator, **row} for row in rows] for name, rows in more.items()})
    return tables
