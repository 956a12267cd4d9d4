"""The fair comparison of methods on written answers: rates are chosen alike, then reported runs are trained.

Learning rates are swept alike for every method at every N, on seeds that are not reported, and chosen by pass@1 on
validation problems, which are not reported either. A seed has a base of its own, where every method starts.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from types import MappingProxyType
from typing import NamedTuple

from maxrl_lab.errors import InputError
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

    `alternatives` are methods of `names` with other options, another coefficient say. They are swept alike, and of a
    method and its alternatives the best is reported; a method that `names` has with several options has none. Rates in
    `fixed` are not swept (`maxrl_lab.training.sweep.compare`, which also says what `section` is), and of a method and
    its alternatives the one with such a rate is reported. The column `estimator` of the reported runs is the method's
    name in the settings, `method` its name at N. Raises `InputError` if two have such a rate.
    """
    study.held_out()  # too few problems are noticed before anything is trained
    study.validation(seed=0)
    settings = study.settings
    methods: dict[Key, Method] = {}
    name_of: dict[Key, str] = {}
    rivals: list[list[Key]] = []
    for count in rollouts:
        for name in names:
            rivals.append([])
            for option in _options(name, names, alternatives, count, fixed, section):
                method = parse_method(option, count)
                key = key_of(method)
                rivals[-1].append(key)
                methods[key], name_of[key] = method, name_of.get(key, option)
    swept: list[Row] = []

    def sweep_rates(runs: Sequence[Run]) -> list[Row]:
        swept.extend(_sweep(study, runs))
        return swept

    def best(runs: Sequence[Run]) -> list[Run]:
        scores = _scores(swept, runs)
        kept = {max(keys, key=scores.__getitem__) if len(keys) > 1 else keys[0] for keys in rivals}
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


def _options(
    name: str, names: Sequence[str], alternatives: Sequence[str], count: int, fixed: Mapping[str, float], section: str
) -> list[str]:
    """Return a method and its alternatives at N, or only that of them which has a fixed rate."""
    options = [name]
    if [family(other) for other in names].count(family(name)) == 1:
        options += [other for other in alternatives if family(other) == family(name)]
    known = [option for option in options if sweep.name_at(parse_method(option, count), section) in fixed]
    if len(set(known)) > 1:
        raise InputError(f"expected a fixed rate for one of {', '.join(options)}, got one for {' and '.join(known)}")
    return known[:1] or options


def _scores(swept: Sequence[Row], runs: Sequence[Run]) -> dict[Key, float]:
    """Return every swept method's mean pass@1 on validation problems at its rate, -inf if a run there diverged."""
    rates = {key_of(run.method): run.learning_rate for run in runs}
    scores: dict[Key, list[float]] = defaultdict(list)
    for row in swept:
        if rates[key := (row["method"], row["rollouts"])] == row["learning_rate"]:
            scores[key].append(row["pass_rate"])
    return {key: -math.inf if math.isnan(mean := fmean(values)) else mean for key, values in scores.items()}


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
