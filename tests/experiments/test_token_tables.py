"""The tables of experiments that train on written answers: what is in them, how many rows, and that values can be."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_study import SUM, context_in, study_in

from experiments.tokens import data_scarce, maze_baselines, maze_scaling
from maxrl_lab.tokens.comparison import compare, family
from maxrl_lab.tokens.evaluation import KS

EXPERIMENTS = {"maze_scaling": maze_scaling, "maze_baselines": maze_baselines, "data_scarce": data_scarce}
RUN = ["estimator", "method", "rollouts", "learning_rate", "seed", "step"]
COLUMNS = {
    "sweep": ["method", "rollouts", "learning_rate", "seed", "pass_rate"],
    "dynamics": [*RUN, "pass_rate", "signal", "length", "cut_off", "entropy", "tokens", "gradient_norm"],
    "timings": [*RUN, "seconds_sample", "seconds_verify", "seconds_update", "tokens_per_second"],
    "evaluations": [*RUN, "samples", "k", "pass_at_k"],
    "votes": [*RUN, "samples", "majority"],
    "bases": ["seed", "updates", "pass_rate"],
    "base": ["seed", "k", "pass_at_k"],
    "base_votes": ["seed", "majority"],
}


@pytest.fixture(scope="module")
def all_tables(tmp_path_factory):
    """The smoke preset's tables of every experiment."""
    return {
        name: {
            table: pd.DataFrame(rows)
            for table, rows in module.run(module.PRESETS["smoke"], context_in(tmp_path_factory.mktemp(name))).items()
        }
        for name, module in EXPERIMENTS.items()
    }


def methods_of(settings):
    return settings.methods if hasattr(settings, "methods") else settings.estimators


@pytest.fixture(params=["maze_scaling", "maze_baselines", "modular_sum", "countdown"])
def trained(request, all_tables):
    """Tables, settings, and N of an experiment that compares methods in training; `data_scarce` by task."""
    if request.param in EXPERIMENTS:
        settings = EXPERIMENTS[request.param].PRESETS["smoke"]
        return all_tables[request.param], settings, np.atleast_1d(settings.rollouts).tolist()
    settings = data_scarce.PRESETS["smoke"]
    tables = {name: rows[rows.task == request.param] for name, rows in all_tables["data_scarce"].items()}
    return tables, settings, [settings.rollouts]


def test_counts(trained):
    tables, settings, counts = trained
    methods = len(methods_of(settings))
    reported = methods * len(counts) * settings.seeds
    # samples / 4 of them during training, at updates 0 and then every `measure_every`
    early, late = (sum(k <= samples for k in KS) for samples in (settings.samples // 4, settings.samples))
    moments = math.ceil(settings.steps / (settings.steps // settings.measurements))
    assert {name: len(rows) for name, rows in tables.items()} == {
        "sweep": methods * len(counts) * len(settings.learning_rates) * settings.sweep_seeds,
        "dynamics": reported * settings.steps,
        "timings": reported * settings.steps,
        "evaluations": reported * (moments * early + late),
        "votes": reported * (moments + 1),
        "bases": settings.seeds,
        "base": settings.seeds * late,
        "base_votes": settings.seeds,
    }


def test_columns_have_a_value_in_every_row(trained):
    tables, _, _ = trained
    for name, rows in tables.items():
        assert [column for column in rows.columns if column not in ("task", "epoch")] == COLUMNS[name]
        assert rows.notna().all(axis=None)
        assert not (rows.select_dtypes("number").abs() == math.inf).any(axis=None)
        assert all(pd.api.types.is_integer_dtype(rows[column]) for column in ("seed", "step", "k") if column in rows)


def test_seeds_of_the_sweep_are_not_reported_and_a_method_has_one_rate(trained):
    tables, settings, counts = trained
    report = tables["dynamics"]
    assert set(report.seed) == set(range(settings.seeds))
    assert not set(tables["sweep"].seed) & set(report.seed)
    assert set(tables["sweep"].rollouts) == set(counts)
    assert (report.groupby(["method", "rollouts"]).learning_rate.nunique() == 1).all()
    assert sorted(report.rollouts.unique()) == counts
    assert list(dict.fromkeys(report.estimator)) == list(methods_of(settings))


def test_all_start_where_the_base_is_and_every_update_is_there(trained):
    tables, settings, _ = trained
    updates, moments = range(1, settings.steps + 1), (0, settings.steps)
    for name, steps in (("dynamics", updates), ("timings", updates), ("evaluations", moments), ("votes", moments)):
        seen = tables[name].groupby(["method", "rollouts", "seed"]).step.unique().map(sorted).map(tuple)
        assert seen.unique().tolist() == [tuple(steps)]
    start = tables["evaluations"].query("step == 0 and k == 1")
    assert (start.groupby("seed").pass_at_k.nunique() == 1).all()


def test_values_are_possible(trained):
    tables, settings, _ = trained
    for rows in tables.values():
        for column in {"pass_rate", "pass_at_k", "majority", "signal", "cut_off"} & set(rows):
            assert rows[column].between(0, 1).all()
    dynamics = tables["dynamics"]
    assert (dynamics.signal >= dynamics.pass_rate).all()
    assert (dynamics.tokens == (dynamics.length * dynamics.rollouts * settings.prompts).round()).all()
    assert (dynamics[["gradient_norm", "entropy"]] >= 0).all(axis=None)
    assert (tables["timings"][COLUMNS["timings"][len(RUN) :]] >= 0).all(axis=None)
    wide = tables["evaluations"].pivot(index=["method", "rollouts", "seed", "step"], columns="k", values="pass_at_k")
    assert (wide.diff(axis=1).iloc[:, 1:].dropna(how="all").fillna(0) >= 0).all(axis=None)


def test_epochs(all_tables):
    tables, settings = all_tables["data_scarce"], data_scarce.PRESETS["smoke"]
    for name in ("dynamics", "evaluations", "votes"):
        rows = tables[name]
        assert (rows.epoch == rows.step * settings.prompts / settings.training_set).all()
        assert rows.epoch.max() == 2.0


def test_every_method_is_swept_at_every_n(tmp_path):
    study = study_in(tmp_path, SUM, learning_rates=(1e-4, 1e-2), steps=2, seeds=1)
    names = ("rloo", "pkpo:k=N/2")
    compared = compare(study, names, (2, 4))
    swept = pd.DataFrame(compared.tables["sweep"])
    scores = swept.pivot(index=["method", "rollouts"], columns="learning_rate", values="pass_rate")
    assert sorted(scores.index) == [("pkpo:k=1", 2), ("pkpo:k=2", 4), ("rloo", 2), ("rloo", 4)]
    best = scores.idxmax(axis=1)  # of equally good rates the smallest one
    assert [(name, run.method.rollouts) for name, run in compared.runs] == [
        (name, count) for count in (2, 4) for name in names
    ]
    assert all(run.learning_rate == best[run.method.name, run.method.rollouts] for _, run in compared.runs)
    assert [run.method.name for _, run in compared.runs] == ["rloo", "pkpo:k=1", "rloo", "pkpo:k=2"]


def test_too_few_problems_are_noticed_before_anything_is_trained(tmp_path, monkeypatch):
    study = dataclasses.replace(study_in(tmp_path, held_out=30), training_set=None)
    monkeypatch.setattr("maxrl_lab.tokens.comparison.train_all", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(ValueError, match=r"\Afound \d+ of 30 distinct test problems of modular_sum 2 5\Z"):
        compare(study, ("rloo",), (4,))


SMOOTHING, STRONG = "grpo | differential_smoothing:gamma=0.05", "grpo | differential_smoothing:gamma=0.9"


def test_of_a_method_and_its_alternatives_the_best_is_reported(tmp_path, monkeypatch, refuses):
    study = study_in(tmp_path, SUM, learning_rates=(1e-4, 1e-2), steps=2, seeds=1)
    goodness = {("rloo", 1e-4): 0.9, (STRONG, 1e-2): 0.4, (SMOOTHING, 1e-4): 0.3}

    def swept(_study, runs):
        return [
            {**run.row(2), "pass_rate": goodness.get((run.method.name, run.learning_rate), 0.1 * run.learning_rate)}
            for run in runs
        ]

    monkeypatch.setattr("maxrl_lab.tokens.comparison._sweep", swept)

    def compared(names, **options):
        found = compare(study, names, (4,), alternatives=(STRONG, "pkpo:k=2"), **options)
        assert list(dict.fromkeys(row["estimator"] for row in found.tables["evaluations"])) == [
            name for name, _ in found.runs
        ]
        swept = {row["method"] for row in found.tables["sweep"]}
        return {run.method.name: run.learning_rate for _, run in found.runs}, swept

    assert compared(("rloo", SMOOTHING)) == ({"rloo": 1e-4, STRONG: 1e-2}, {"rloo", SMOOTHING, STRONG})
    goodness[SMOOTHING, 1e-2] = 0.5
    assert compared(("rloo", SMOOTHING))[0] == {"rloo": 1e-4, SMOOTHING: 1e-2}
    goodness[STRONG, 1e-4] = math.nan  # that rate is not chosen, and the other one is worse
    assert compared(("rloo", SMOOTHING))[0] == {"rloo": 1e-4, SMOOTHING: 1e-2}
    for name in (SMOOTHING, STRONG):
        fixed = {f"{name}, N = 4": 1e-4}
        assert compared(("rloo", SMOOTHING), fixed=fixed) == ({"rloo": 1e-4, name: 1e-4}, {"rloo"})
    with refuses(f"expected a fixed rate for one of {SMOOTHING}, {STRONG}, got one for {SMOOTHING} and {STRONG}"):
        compared(("rloo", SMOOTHING), fixed={f"{name}, N = 4": 1e-4 for name in (SMOOTHING, STRONG)})
    both = compared((STRONG, SMOOTHING))
    assert both == ({STRONG: 1e-2, SMOOTHING: 1e-2}, {STRONG, SMOOTHING})
    mild = "grpo | differential_smoothing:gamma=0.5"  # worse than STRONG, which is no alternative to two
    assert compared((mild, SMOOTHING))[1] == {mild, SMOOTHING}
    # an alternative that is the method itself at N changes neither the method nor its name
    assert compared(("pkpo:k=N/2",)) == ({"pkpo:k=2": 1e-2}, {"pkpo:k=2"})
    found = compare(study, ("pkpo:k=N/2",), (4,), alternatives=("pkpo:k=2",))
    assert [name for name, _ in found.runs] == ["pkpo:k=N/2"]
    goodness.update({(name, rate): math.nan for name in (SMOOTHING,) for rate in (1e-4, 1e-2)})
    assert compared((SMOOTHING,))[0] == {STRONG: 1e-2}


def test_maze_baselines_sweeps_its_alternatives(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        maze_baselines, "compare", lambda *_, **options: seen.update(options) or SimpleNamespace(tables={})
    )
    monkeypatch.setattr(maze_baselines.Settings, "study", lambda *_: None)
    maze_baselines.run(maze_baselines.PRESETS["standard"], None)
    assert seen["alternatives"] == maze_baselines.COEFFICIENTS


def test_family():
    assert family("grpo | entropy_bonus:coefficient=0.1") == "grpo | entropy_bonus"
    assert family("pkpo:k=N/2 | entropy_bonus:coefficient=0.1") == "pkpo | entropy_bonus"
    assert family("maxrl") == "maxrl"
