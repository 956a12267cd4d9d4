"""The fair comparison of methods on written answers: rates are chosen alike, then reported runs are trained.

Learning rates are swept alike for every method, at one N and on a seed that is not reported, and chosen by pass@1 on
validation problems, which are not reported either.
"""

from collections.abc import Sequence
from typing import NamedTuple

from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.tokens.study import Study
from maxrl_lab.tokens.trained import base, train_all
from maxrl_lab.training import sweep
from maxrl_lab.training.methods import Method, parse_method
from maxrl_lab.training.sweep import Key, Run, key_of


class Named(NamedTuple):
    """A reported run and the name of its method in the settings, `pkpo:k=N/2` for `pkpo:k=8` at N = 16."""

    name: str
    run: Run


class Comparison(NamedTuple):
    """The reported runs, and all tables: `sweep`, those of `training.train`, and the base's evaluation."""

    runs: list[Named]
    tables: Tables


def compare(study: Study, names: Sequence[str], rollouts: Sequence[int]) -> Comparison:
    """Choose every method's learning rate and train it at every N; the policies are then there for `trained`.

    The column `estimator` of the reported runs is the method's name in the settings, `method` its name at N.
    """
    for problems in (study.held_out, study.validation):
        problems()  # too few problems are noticed before anything is trained
    settings = study.settings
    methods: dict[Key, Method] = {}
    name_of: dict[Key, str] = {}
    for count in rollouts:
        for name in names:
            method = parse_method(name, count)
            methods[key_of(method)], name_of[key_of(method)] = method, name
    compared = sweep.compare(
        list(methods.values()),
        settings.learning_rates,
        seeds=settings.seeds,
        sweep_seeds=settings.sweep_seeds,
        score="pass_rate",
        sweep=lambda runs: _sweep(study, runs),
        report=lambda runs: _report(study, runs, name_of),
        swept_as=lambda method: parse_method(name_of[key_of(method)], settings.sweep_rollouts),
    )
    runs = [Named(name_of[key_of(run.method)], run) for run in compared.runs]
    return Comparison(runs, {"sweep": compared.sweep, **compared.report, **base_tables(study)})


def base_tables(study: Study) -> Tables:
    """Return the evaluation of the base: `base` (pass@k) and `base_votes` (the majority vote)."""
    evaluation = study.evaluate(base(study), study.held_out(), study.settings.samples, study.writing(), "base")
    return {"base": evaluation.coverage(), "base_votes": [{"majority": evaluation.majority(study.task)}]}


def _sweep(study: Study, runs: Sequence[Run]) -> list[Row]:
    """Return each run's final pass@1 on validation problems."""
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
