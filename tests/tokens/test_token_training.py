"""Token training end to end: rows, prompts, resuming, processes, divergence, learning, votes, and bad settings."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from envs.modular_sum import ModularSum
from experiments.tokens import coverage, data_scarce, gradient_signal, maze_baselines, maze_scaling, maze_trajectories
from maxrl_lab.runs import workers
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.tables import TIMING_COLUMNS
from maxrl_lab.tokens import policy_cache
from maxrl_lab.tokens import study as token_training
from maxrl_lab.tokens.decoding import EOS
from maxrl_lab.tokens.evaluation import KS, Evaluation
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.settings import SMALLEST, TokenSettings
from maxrl_lab.tokens.study import Workshop
from maxrl_lab.training.methods import parse_method
from maxrl_lab.training.sweep import Run

EXPERIMENTS = {
    each.__name__.rpartition(".")[2]: each
    for each in (maze_scaling, maze_baselines, coverage, gradient_signal, maze_trajectories, data_scarce)
}
SUM = ModularSum(2, 5)
WIDER = ModularSum(2, 7)  # has enough problems that differ in more than the order of their digits
SMALL = TokenSettings(**{**SMALLEST, "held_out": 4})


def context_in(folder):
    return Context(torch.device("cpu"), Checkpoint(folder / "checkpoint" / "run"), quiet=True)


def untimed(rows):
    """Rows without what differs from run to run."""
    table = pd.DataFrame(rows)
    return table.drop(columns=[name for name in TIMING_COLUMNS if name in table])


def same(first, second):
    pd.testing.assert_frame_equal(untimed(first), untimed(second), check_exact=True)


@pytest.fixture
def own_policies(tmp_path, monkeypatch):
    """A cache of this test alone: nothing that another test has trained is read."""
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The smoke preset's rows of every experiment."""
    return {
        name: pd.DataFrame(module.run(module.PRESETS["smoke"], context_in(tmp_path_factory.mktemp(name))))
        for name, module in EXPERIMENTS.items()
    }


DYNAMICS = ["pass_rate", "signal", "length", "cut_off", "tokens", "entropy", "gradient_norm", *TIMING_COLUMNS]
EVALUATION = ["samples", "majority", "k", "pass_at_k"]
NAMED = ["method", "rollouts", "learning_rate", "seed", "step"]


def methods_of(settings):
    return settings.methods if hasattr(settings, "methods") else settings.estimators


@pytest.fixture(params=["maze_scaling", "maze_baselines", "modular_sum", "countdown"])
def trained(request, rows):
    """Rows, settings, and N of an experiment that compares methods in training; `data_scarce` by task."""
    if request.param in EXPERIMENTS:
        settings = EXPERIMENTS[request.param].PRESETS["smoke"]
        return rows[request.param], settings, np.atleast_1d(settings.rollouts).tolist()
    settings = data_scarce.PRESETS["smoke"]
    table = rows["data_scarce"]
    return table[table.task == request.param], settings, [settings.rollouts]


class TestRows:
    def test_counts_by_view_and_stage(self, trained):
        table, settings, counts = trained
        methods = len(methods_of(settings))
        reported = methods * len(counts) * settings.seeds
        # samples / 4 of them during training, at updates 0 and then every `measure_every`
        early, late = (sum(k <= samples for k in KS) for samples in (settings.samples // 4, settings.samples))
        moments = math.ceil(settings.steps / (settings.steps // settings.measurements))
        assert table.groupby(["view", "stage"]).size().to_dict() == {
            ("sweep", "sweep"): methods * len(settings.learning_rates) * settings.sweep_seeds,
            ("dynamics", "report"): reported * settings.steps,
            ("evaluation", "report"): reported * (moments * early + late),
            ("evaluation", "base"): late,
        }

    def test_what_a_row_lacks_it_lacks_entirely(self, trained):
        table, _, _ = trained
        has = {
            "sweep": [*NAMED, "pass_rate"],
            "dynamics": ["estimator", *NAMED, *DYNAMICS],
            "evaluation": ["estimator", *NAMED, *EVALUATION],
        }
        every = {name for names in has.values() for name in names}
        for view, names in has.items():
            found = table[(table["view"] == view) & (table.stage != "base")]
            assert found[names].notna().all(axis=None), view
            assert found[sorted(every - set(names))].isna().all(axis=None), view
        base = table[table.stage == "base"]
        assert base[["step", *EVALUATION]].notna().all(axis=None)
        assert base[["estimator", "method", "seed"]].isna().all(axis=None)
        numbers = table.select_dtypes("number")
        assert not (numbers.abs() == math.inf).any(axis=None)

    def test_seeds_of_the_sweep_are_not_reported_and_a_method_has_one_rate(self, trained):
        table, settings, counts = trained
        report = table[table.stage == "report"]
        assert set(report.seed) == set(range(settings.seeds))
        assert not set(table[table.stage == "sweep"].seed) & set(report.seed)
        assert set(table[table.stage == "sweep"].rollouts) == {settings.sweep_rollouts}
        assert (report.groupby("method").learning_rate.nunique() == 1).all()
        assert sorted(report.rollouts.unique()) == counts
        assert list(dict.fromkeys(report.estimator)) == list(methods_of(settings))

    def test_all_start_where_the_base_is_and_every_update_is_there(self, trained):
        table, settings, _ = trained
        for view, steps in (("dynamics", range(1, settings.steps + 1)), ("evaluation", (0, settings.steps))):
            found = table[(table["view"] == view) & (table.stage == "report")]
            assert found.groupby(["method", "rollouts", "seed"]).step.unique().map(sorted).map(
                tuple
            ).unique().tolist() == [tuple(steps)]
        start = table[(table.step == 0) & (table.stage == "report") & (table.k == 1)]
        assert (start.groupby("seed").pass_at_k.nunique() == 1).all()

    def test_values_are_probable(self, trained):
        table, settings, _ = trained
        for column in ("pass_rate", "pass_at_k", "majority", "signal", "cut_off"):
            assert table[column].dropna().between(0, 1).all()
        dynamics = table[table["view"] == "dynamics"]
        assert (dynamics.signal >= dynamics.pass_rate).all()
        assert (dynamics.tokens == (dynamics.length * dynamics.rollouts * settings.prompts).round()).all()
        assert (dynamics[["gradient_norm", "entropy", *TIMING_COLUMNS]] >= 0).all(axis=None)
        found = table[table["view"] == "evaluation"]
        wide = found.fillna({"seed": -1, "estimator": "base", "rollouts": 0}).pivot_table(
            index=["estimator", "rollouts", "seed", "step"], columns="k", values="pass_at_k"
        )
        assert (wide.diff(axis=1).iloc[:, 1:].dropna(how="all").fillna(0) >= 0).all(axis=None)

    def test_epochs(self, rows):
        table, settings = rows["data_scarce"], data_scarce.PRESETS["smoke"]
        assert (table.epoch == table.step * settings.prompts / settings.training_set).all()
        assert table.epoch.max() == 2.0

    def test_the_best_rate_of_the_sweep_is_used(self, tmp_path):
        settings = dataclasses.replace(SMALL, learning_rates=(1e-4, 1e-2), steps=2, seeds=1)
        shop = Workshop(SUM, settings, context_in(tmp_path))
        chosen, swept = shop.choose_rates(("rloo", "maxrl"))
        scores = pd.DataFrame(swept).pivot_table(index="method", columns="learning_rate", values="pass_rate")
        for name, rate in chosen.items():
            assert scores.loc[name, rate] == scores.loc[name].max()
        named, found = shop.reported(("rloo", "maxrl"), (2, 4))
        assert [(name, run.method.rollouts) for name, run in named] == [
            ("rloo", 2), ("maxrl", 2), ("rloo", 4), ("maxrl", 4),
        ]  # fmt: skip
        assert all(run.learning_rate == chosen[name] for name, run in named)
        assert {row["rollouts"] for row in found if row["view"] == "sweep"} == {settings.sweep_rollouts}


class TestProblems:
    FIXED = 8

    def digests(self, problems):
        return WIDER.digests(problems.content)

    def shop(self, folder, training_set=None, **changes):
        return Workshop(WIDER, dataclasses.replace(SMALL, **changes), context_in(folder), training_set)

    def test_runs_that_differ_in_the_method_only_see_the_same_prompts(self, tmp_path, monkeypatch, own_policies):
        honest, seen = Workshop.batch, []

        def spy(self, policy, problems, seed, step):
            seen.append((seed, step, tuple(WIDER.digests(problems.content))))
            return honest(self, policy, problems, seed, step)

        monkeypatch.setattr(Workshop, "batch", spy)
        shop = self.shop(tmp_path)
        by_run = {}
        for name, rollouts, rate, seed in (
            ("rloo", 4, 1e-3, 0),
            ("maxrl", 8, 1e-2, 0),
            ("grpo | greedy_gate", 4, 1e-3, 0),
            ("rloo", 4, 1e-3, 1),
        ):
            seen.clear()
            shop.train(Run(parse_method(name, rollouts), rate, seed), "report")
            assert [(each[0], each[1]) for each in seen] == [(seed, step) for step in range(SMALL.steps)]
            by_run[name, rollouts, seed] = [each[2] for each in seen]
        assert by_run["rloo", 4, 0] == by_run["maxrl", 8, 0] == by_run["grpo | greedy_gate", 4, 0]
        assert by_run["rloo", 4, 0] != by_run["rloo", 4, 1]

    def test_an_epoch_visits_every_problem_of_the_fixed_training_set_once(self, tmp_path):
        shop = self.shop(tmp_path, self.FIXED)
        epochs = [
            [digest for step in (2 * epoch, 2 * epoch + 1) for digest in self.digests(shop.problems(seed, step))]
            for seed in (0, 1)
            for epoch in (0, 1)
        ]
        assert all(len(epoch) == len(set(epoch)) == self.FIXED for epoch in epochs)
        assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1  # the same problems, whoever trains
        assert len(set(map(tuple, epochs))) == 4  # in another order every time
        assert self.digests(shop.problems(1, 3)) == self.digests(shop.problems(1, 3))

    @pytest.mark.parametrize("training_set", [None, FIXED])
    def test_held_out_problems_are_never_trained_on(self, tmp_path, training_set):
        shop = self.shop(tmp_path, training_set)
        trained = {
            digest for seed in range(3) for step in range(20) for digest in self.digests(shop.problems(seed, step))
        }
        held_out, validation = (set(self.digests(each)) for each in (shop.held_out(), shop.validation()))
        assert len(held_out) == SMALL.held_out
        assert not held_out & (trained | validation)
        if training_set:
            assert len(validation) == SMALL.held_out
            assert not validation & trained
            assert len(trained) == training_set

    def test_fresh_problems_are_other_ones_in_every_update(self, tmp_path):
        shop = self.shop(tmp_path)
        drawn = [tuple(self.digests(shop.problems(seed, step))) for seed in (0, 1) for step in range(5)]
        assert len(set(drawn)) == 10


# Two runs and their sweep, 22 updates each: a checkpoint after 10 and 20 of them.
RESUMED = dataclasses.replace(SMALL, steps=22, seeds=1, pretrain_steps=56, measurements=2)


def resumable(folder, monkeypatch):
    """The rows of two methods, trained and checkpointed below a folder."""
    with monkeypatch.context() as patch:
        patch.setenv("MAXRL_LAB_CACHE", str(folder / "cache"))
        return Workshop(SUM, RESUMED, context_in(folder)).reported(("rloo", "maxrl"), (4,))[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return resumable(tmp_path_factory.mktemp("whole"), patch)


class TestResuming:
    @pytest.mark.parametrize(
        ("name", "stops"),
        [
            ("batch", [13]),  # in the sweep's first run
            ("batch", [3, 5, 30]),  # again and again, also in its second run
            ("batch", [88]),  # the last update of all
            ("evaluate", [5]),  # while measuring
            ("pretraining", [53]),
        ],
    )
    def test_a_killed_run_ends_with_identical_rows(self, whole, tmp_path, monkeypatch, name, stops):
        owner, attribute = {
            "batch": (Workshop, "batch"),
            "evaluate": (Workshop, "evaluate"),
            "pretraining": (token_training, "_Solutions"),
        }[name]
        honest, calls = getattr(owner, attribute), []

        def counted(*arguments, **options):
            calls.append(None)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return honest(*arguments, **options)

        monkeypatch.setattr(owner, attribute, counted)
        for stop in stops:  # noqa: B007 read by `counted`
            calls.clear()
            with pytest.raises(KeyboardInterrupt):
                resumable(tmp_path, monkeypatch)
        calls.clear()
        stop = None
        same(resumable(tmp_path, monkeypatch), whole)
        before = {"batch": 88, "evaluate": 15, "pretraining": 58}[name]
        assert len(calls) < before  # it did continue

    def test_a_finished_run_is_read_and_not_trained_again(self, tmp_path, monkeypatch):
        run = Run(parse_method("maxrl", 4), 1e-3, 0)
        first, rows = Workshop(SUM, SMALL, context_in(tmp_path / "one")).train(run, "report")
        monkeypatch.setattr(Workshop, "batch", lambda *_arguments: pytest.fail("trained again"))
        again, rows_again = Workshop(SUM, SMALL, context_in(tmp_path / "two")).train(run, "report")
        assert rows == rows_again
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_processes_change_no_row(tmp_path, monkeypatch):
    # settings that no other test has, as the second process keeps its policies in the cache of all tests
    settings = dataclasses.replace(SMALL, pretrain_rate=1.7e-3, seeds=1)

    def run(processes):
        context = context_in(tmp_path / str(processes))
        shop = Workshop(SUM, dataclasses.replace(settings, processes=processes), context)
        return shop.reported(("rloo", "maxrl"), (4,))[1]

    together = run(2)
    assert workers._pool.cache_info().currsize == 1
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(workers, "_pool", lambda count: pytest.fail("a process was started"))
    same(run(1), together)


class TestDiverged:
    def shop(self, folder, **changes):
        return Workshop(SUM, dataclasses.replace(SMALL, **changes), context_in(folder))

    def test_the_error_names_method_rate_seed_and_step(self, tmp_path, refuses):
        message = (
            "modular_sum: maxrl, N = 4, lr 1e+30, seed 2 has diverged: its policy is NaN after 1 updates; "
            "leave that rate out, with --out or --force (the last checkpoint is kept)"
        )
        with refuses(message):
            self.shop(tmp_path, learning_rates=(1e-3, 1e30)).choose_rates(("maxrl",))

    def test_in_the_last_update_too(self, tmp_path, refuses):
        message = (
            "modular_sum: grpo | greedy_gate, N = 4, lr 1e+30, seed 0 has diverged: its policy is NaN after 1 updates; "
            "leave that rate out, with --out or --force (the last checkpoint is kept)"
        )
        with refuses(message):
            self.shop(tmp_path, steps=1).train(Run(parse_method("grpo | greedy_gate", 4), 1e30, 0), "report")

    def test_pretraining(self, tmp_path, refuses):
        message = (
            "modular_sum: pretraining with lr 1e+30 has diverged: its policy is NaN after 2 updates; "
            "lower pretrain_rate"
        )
        with refuses(message):
            self.shop(tmp_path, pretrain_rate=1e30).base()

    def test_the_last_checkpoint_stays_and_is_sound(self, tmp_path, monkeypatch, own_policies):
        honest = Workshop.batch

        def poisoned(self, policy, problems, seed, step):
            if step == 13:
                with torch.no_grad():
                    policy.embedding.fill_(torch.nan)
            return honest(self, policy, problems, seed, step)

        shop, run = self.shop(tmp_path, steps=22), Run(parse_method("rloo", 4), 1e-3, 0)
        with monkeypatch.context() as patch:
            patch.setattr(Workshop, "batch", poisoned)
            with pytest.raises(ValueError, match=r"lr 0\.001, seed 0 has diverged: its policy is NaN after 13 "):
                shop.train(run, "report")
        (file,) = (tmp_path / "checkpoint" / "run").glob("run-*.pt")
        state = Checkpoint(file.with_suffix("")).load()
        assert state["step"] == 10
        assert all(bool(value.isfinite().all()) for value in state["stack"].values())
        assert len(shop.train(run, "report")[1]) > 22  # and can be continued from

    def test_what_has_diverged_is_not_saved(self, tmp_path, monkeypatch):
        """The update after which a checkpoint is due makes the policy NaN."""
        honest, made = train.step, []

        def poisoned(losses, optimiser, clip=None):
            honest(losses, optimiser, clip)
            made.append(1)
            if len(made) == 20:
                with torch.no_grad():
                    optimiser.param_groups[0]["params"][0].fill_(torch.nan)

        shop, run = self.shop(tmp_path, steps=22), Run(parse_method("rloo", 4), 1e-3, 0)
        shop.base()
        monkeypatch.setattr(train, "step", poisoned)
        with pytest.raises(ValueError, match="its policy is NaN after 20 updates"):
            shop.train(run, "report")
        (file,) = (tmp_path / "checkpoint" / "run").glob("run-*.pt")
        assert Checkpoint(file.with_suffix("")).load()["step"] == 10

    def test_a_checkpoint_of_other_sources_is_not_continued(self, tmp_path, monkeypatch):
        shop, run = self.shop(tmp_path, steps=22), Run(parse_method("rloo", 4), 1e-3, 0)
        shop.train(run, "report")
        monkeypatch.setattr(policy_cache, "_sources", lambda: "other sources")
        shop.train(run, "report")
        assert len(list((tmp_path / "checkpoint" / "run").glob("run-*.pt"))) == 2


def test_maxrl_learns_from_its_own_answers(tmp_path):
    """A sum of one digit, answered directly, from a half-trained base; pass rates are exact, by enumeration."""
    task = ModularSum(1, 10)
    settings = dataclasses.replace(
        SMALL,
        width=32,
        mlp=64,
        pretrain_steps=30,
        pretrain_batch=32,
        pretrain_rate=5e-3,
        steps=80,
        prompts=16,
        held_out=2,
    )
    shop = Workshop(task, settings, context_in(tmp_path))
    problems = task.problems(32, seed=9)

    def pass_rate(policy):
        return float(shop.batch(policy, problems, 0, 0).log_pass_rate([0]).detach().exp().mean())

    trained, rows = shop.train(Run(parse_method("maxrl", 8), 5e-3, 0), "sweep")
    # measured: 0.03 before, 0.89 after
    assert 0.01 < pass_rate(shop.base()) < 0.1
    assert pass_rate(trained) > 0.6
    rates = [row["pass_rate"] for row in rows if row["view"] == "dynamics"]
    assert np.mean(rates[:5]) < 0.2 < 0.5 < np.mean(rates[-5:])


class TestVotes:
    """Digits 1 + 2 and 3 + 3 modulo 5: right are 3 and 1."""

    def evaluation(self, tokens):
        problems = dataclasses.replace(SUM.problems(2), content=np.array([[1, 2], [3, 3]]))
        written = torch.tensor(tokens)
        lengths = torch.full(written.shape[:2], 2)
        ended = written[..., 1] == EOS
        zeros = torch.zeros(written.shape[:2])
        right = SUM.verify(problems.content, written, lengths)
        return Evaluation(problems, Answers(written, lengths, ended, zeros, zeros), right)

    @staticmethod
    def said(*digits):
        """Answers that say these digits, None being cut off."""
        return [[SUM.vocabulary.ids["0" if each is None else str(each)], 3 if each is None else EOS] for each in digits]

    @pytest.mark.parametrize(
        ("first", "second", "share"),
        [
            ((3, 3, 0, 0, 3), (1, 1, 1, 1, 1), 1.0),
            ((3, 3, 0, 0, 0), (0, 1, 0, 1, 1), 0.5),  # outvoted; right although the first is wrong
            ((3, 0, 0, 3, 4), (2, 1, 1, 2, 4), 0.5),  # equally frequent: the one drawn first
            ((0, 1, 2, 3, 4), (0, 2, 3, 4, 1), 0.0),
            ((None, None, 3, 3, None), (None, 1, 1, None, 1), 0.5),  # those cut off vote together, and are wrong
        ],
    )
    def test_by_hand(self, first, second, share):
        assert self.evaluation([self.said(*first), self.said(*second)]).majority(SUM) == share

    def test_rows_by_hand(self):
        found = self.evaluation([self.said(3, 3, 0, 0), self.said(1, 0, 2, 2)])
        assert found.correct.tolist() == [2, 1]
        # pass@4 of 4 samples is certain, pass@1 the mean of 2/4 and 1/4; the second vote is 2, which is wrong
        assert found.rows(SUM) == [
            {"samples": 4, "majority": 0.5, "k": 1, "pass_at_k": pytest.approx(0.375)},
            {"samples": 4, "majority": 0.5, "k": 4, "pass_at_k": pytest.approx(1.0)},
        ]


BAD = [
    (maze_scaling, {"size": 8}, "a Prim maze needs an odd size, got 8"),
    (maze_scaling, {"size": 35}, "size must lie in 5..33, got 35"),
    (maze_scaling, {"answer_length": 5}, "the shortest way of 7 x 7 mazes takes 10 tokens, got 5"),
    (maze_scaling, {"rollouts": (1, 4)}, "rloo needs at least 2 rollouts in a group, got N = 1"),
    (maze_scaling, {"rollouts": (4, 4)}, "rollouts must be distinct, got 4 4"),
    (maze_scaling, {"rollouts": ()}, "rollouts needs at least one value, got none"),
    (maze_scaling, {"sweep_rollouts": 1}, "rloo needs at least 2 rollouts in a group, got N = 1"),
    (maze_scaling, {"estimators": ()}, "methods needs at least one value, got none"),
    (maze_scaling, {"estimators": ("rloo", "maxrl", "rloo")}, "methods must be distinct, got rloo maxrl rloo"),
    (
        maze_scaling,
        {"estimators": ("pkpo:k=2", "pkpo:k=N/2"), "rollouts": (4,)},
        "methods must be distinct, got pkpo:k=2 pkpo:k=2",
    ),
    (maze_scaling, {"learning_rates": (1e-3, 0.0)}, "learning rates must be positive and finite, got 0.0"),
    (maze_scaling, {"learning_rates": ()}, "learning_rates needs at least one value, got none"),
    (maze_scaling, {"pretrain_rate": math.nan}, "learning rates must be positive and finite, got nan"),
    (maze_scaling, {"precision": "float16"}, "unknown precision 'float16'; choose one of: float32, bfloat16"),
    (maze_scaling, {"memory": 0.0}, "memory must be positive and finite, got 0.0"),
    (maze_scaling, {"samples": 3}, "samples must be a whole number >= 4, got 3"),
    (maze_scaling, {"processes": -1}, "processes must be a whole number >= 0, got -1"),
    (maze_scaling, {"seeds": 0}, "seeds must be a whole number >= 1, got 0"),
    (maze_scaling, {"pretrain_steps": 0}, "pretrain_steps must be a whole number >= 1, got 0"),
    (
        maze_baselines,
        {"methods": ("grpo | greedy",)},
        "unknown surrogate 'greedy'; choose one of: sequence_sum, token_mean, rollout_mean, entropy_bonus, "
        "differential_smoothing, greedy_gate",
    ),
    (
        maze_baselines,
        {"methods": ("grpo | entropy_bonus",)},
        "surrogate 'entropy_bonus' needs the option 'coefficient', as in 'entropy_bonus:coefficient=4'",
    ),
    (
        maze_baselines,
        {"methods": ("grpo | greedy_gate", "maxrl", "grpo|greedy_gate")},
        "methods must be distinct, got grpo | greedy_gate maxrl grpo | greedy_gate",
    ),
    (
        maze_baselines,
        {"methods": ("grpo", "grpo | sequence_sum")},
        "methods must be distinct, got grpo grpo",
    ),
    (coverage, {"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
    (coverage, {"top_p": 1.5}, "top_p must lie in (0, 1], got 1.5"),
    (coverage, {"coverage_samples": 0}, "coverage_samples must be a whole number >= 1, got 0"),
    (gradient_signal, {"examples": 0}, "examples must be a whole number >= 1, got 0"),
    (gradient_signal, {"modulus": 1}, "modulus must be a whole number >= 2, got 1"),
    (maze_trajectories, {"mazes": 7}, "mazes must be at most held_out = 6, got 7"),
    (maze_trajectories, {"kept": 0}, "kept must be a whole number >= 1, got 0"),
    (data_scarce, {"tasks": ("chess",)}, "unknown task 'chess'; choose one of: modular_sum, countdown"),
    (data_scarce, {"tasks": ("countdown", "countdown")}, "tasks must be distinct, got countdown countdown"),
    (data_scarce, {"training_set": 10}, "training_set must be a multiple of prompts = 4, got 10"),
    (data_scarce, {"training_set": 2}, "training_set must be a multiple of prompts = 4, got 2"),
    (data_scarce, {"rollouts": 1}, "rloo needs at least 2 rollouts in a group, got N = 1"),
]


@pytest.mark.parametrize(
    ("module", "changes", "message"), BAD, ids=lambda each: each if isinstance(each, str) else None
)
def test_bad_settings(module, changes, message, refuses):
    with refuses(message):
        dataclasses.replace(module.PRESETS["smoke"], **changes)


def test_sizes_of_the_policy_are_checked_at_once():
    for changes in ({"width": 15}, {"heads": 3}, {"layers": 0}, {"mlp": 0}):
        with pytest.raises(ValueError, match="got") as error:
            dataclasses.replace(SMALL, **changes)
        assert "\n" not in str(error.value)


def test_memory_that_does_not_hold_one_prompts_answers_is_one_line(tmp_path):
    shop = Workshop(SUM, dataclasses.replace(SMALL, memory=1e-9), context_in(tmp_path))
    with pytest.raises(ValueError, match=r"\A.* needs? .* GiB, memory is 1e-09 GiB.*\Z"):
        shop.train(Run(parse_method("maxrl", 4), 1e-3, 0), "report")
