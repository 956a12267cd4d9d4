"""Token training: it learns, it resumes to identical tables, and it says who has diverged and when."""

import itertools

import numpy as np
import pytest
import torch
from small_study import SUM, run_of, same_tables, study_in

from envs.modular_sum import ModularSum
from maxrl_lab.policies.stack import seeded
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.tokens import pretraining
from maxrl_lab.tokens.comparison import compare
from maxrl_lab.tokens.study import FRESH, Study
from maxrl_lab.tokens.trained import base, base_tables, trained
from maxrl_lab.training import fit


@pytest.fixture
def own_policies(tmp_path, monkeypatch):
    """A cache of this test alone: nothing that another test has trained is read."""
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "cache"))


# Two runs and their sweep, 22 updates each: a checkpoint after 10 and 20 of them.
RESUMED = {"steps": 22, "seeds": 1, "pretrain_steps": 56, "measurements": 2}


def resumable(folder, monkeypatch):
    """The tables of two methods, trained and checkpointed below a folder."""
    with monkeypatch.context() as patch:
        patch.setenv("MAXRL_LAB_CACHE", str(folder / "cache"))
        return compare(study_in(folder, **RESUMED), ("rloo", "maxrl"), (4,)).tables


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
    def test_a_killed_run_ends_with_identical_tables(self, whole, tmp_path, monkeypatch, name, stops):
        owner, attribute = {
            "batch": (Study, "batch"),
            "evaluate": (Study, "evaluate"),
            "pretraining": (pretraining, "Solutions"),
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
        same_tables(resumable(tmp_path, monkeypatch), whole)
        before = {"batch": 88, "evaluate": 13, "pretraining": 112}[name]
        assert len(calls) < before  # it did continue

    def test_a_finished_run_is_read_and_not_trained_again(self, tmp_path, monkeypatch):
        run = run_of("maxrl")
        first, tables = trained(study_in(tmp_path / "one"), run, "report")
        monkeypatch.setattr(Study, "batch", lambda *_arguments: pytest.fail("trained again"))
        again, tables_again = trained(study_in(tmp_path / "two"), run, "report")
        assert tables == tables_again
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


ENTROPY = "grpo | entropy_bonus:coefficient=0.1"
"""A method with a gradient in every update, whether anything was right or not."""


class TestDiverged:
    def test_the_error_names_method_rate_seed_and_step(self, tmp_path, refuses):
        message = (
            "modular_sum: grpo | entropy_bonus:coefficient=0.1, N = 4, learning rate 1e+30, seed 2 has diverged: "
            "its policy is NaN after 1 updates; leave that rate out, with --out or --force (the last "
            "checkpoint is kept)"
        )
        with refuses(message):
            compare(study_in(tmp_path, learning_rates=(1e-3, 1e30)), (ENTROPY,), (4,))

    def test_in_the_last_update_too(self, tmp_path, refuses):
        message = (
            "modular_sum: grpo | entropy_bonus:coefficient=0.1, N = 4, learning rate 1e+30, seed 0 has diverged: "
            "its policy is NaN after 1 updates; leave that rate out, with --out or --force (the last "
            "checkpoint is kept)"
        )
        with refuses(message):
            trained(study_in(tmp_path, steps=1), run_of(ENTROPY, rate=1e30), "report")

    def test_pretraining(self, tmp_path, refuses):
        message = (
            "modular_sum: pretraining with lr 1e+30 has diverged: its policy is NaN after 2 updates; "
            "lower pretrain_rate"
        )
        with refuses(message):
            base(study_in(tmp_path, pretrain_rate=1e30), 0)

    def test_the_last_checkpoint_stays_and_is_sound(self, tmp_path, monkeypatch, own_policies):
        honest = Study.batch

        def poisoned(self, policy, problems, seed, step):
            if step == 13:
                with torch.no_grad():
                    policy.embedding.fill_(torch.nan)
            return honest(self, policy, problems, seed, step)

        study, run = study_in(tmp_path, steps=22), run_of("rloo")
        with monkeypatch.context() as patch:
            patch.setattr(Study, "batch", poisoned)
            with pytest.raises(ValueError, match=r"rate 0\.001, seed 0 has diverged: its policy is NaN after 13 "):
                trained(study, run, "report")
        (file,) = (tmp_path / "checkpoint" / "run").glob("run-*.pt")
        state = Checkpoint(file.with_suffix("")).load()
        assert state["step"] == 10
        assert all(bool(value.isfinite().all()) for value in state["stack"].values())
        assert len(trained(study, run, "report")[1]["dynamics"]) == 22  # and can be continued from

    def test_what_has_diverged_is_not_saved(self, tmp_path, monkeypatch, own_policies):
        """The update after which a checkpoint is due makes the policy NaN."""
        honest, made = fit.take_step, []

        def poisoned(losses, optimiser, clip=None):
            honest(losses, optimiser, clip)
            made.append(1)
            if len(made) == 20:
                with torch.no_grad():
                    optimiser.param_groups[0]["params"][0].fill_(torch.nan)

        study, run = study_in(tmp_path, steps=22), run_of("rloo")
        base(study, 0)
        monkeypatch.setattr(fit, "take_step", poisoned)
        with pytest.raises(ValueError, match="its policy is NaN after 20 updates"):
            trained(study, run, "report")
        (file,) = (tmp_path / "checkpoint" / "run").glob("run-*.pt")
        assert Checkpoint(file.with_suffix("")).load()["step"] == 10


class TestPretraining:
    SIZES = {"width": 32, "mlp": 64, "pretrain_batch": 32, "pretrain_rate": 5e-3}  # noqa: RUF012

    def rows(self, folder, **changes):
        study = study_in(folder, ModularSum(1, 10), **{**self.SIZES, **changes})
        return base_tables(study, 0)["bases"], study

    def test_it_ends_at_the_first_check_that_reaches_the_pass_rate(self, tmp_path):
        (row,), study = self.rows(tmp_path, pretrain_until=0.2, pretrain_steps=200)
        assert row["seed"] == 0
        assert row["updates"] % 10 == 0
        assert 0 < row["updates"] < 200
        problems = study.pretraining(0, FRESH, 128)
        rate = study.batch(base(study, 0), problems, 0, 0).log_pass_rate([0]).detach().exp().double().mean()
        # 2,048 answers: four standard errors
        assert row["pass_rate"] == pytest.approx(float(rate), abs=4 * 0.5 / 2048**0.5)
        assert row["pass_rate"] >= 0.2
        (fewer,), _ = self.rows(tmp_path / "shorter", pretrain_until=0.2, pretrain_steps=row["updates"] - 10)
        assert fewer["pass_rate"] < 0.2

    def test_it_makes_all_updates_where_the_rate_is_not_reached_or_one(self, tmp_path):
        for until in (0.99, 1.0):
            (row,), _ = self.rows(tmp_path / str(until), pretrain_until=until, pretrain_steps=12)
            assert row["updates"] == 12

    def test_one_that_was_killed_ends_where_an_unbroken_one_does(self, tmp_path, monkeypatch, own_policies):
        wanted, _ = self.rows(tmp_path / "whole", pretrain_until=0.2, pretrain_steps=200)
        monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "other cache"))
        honest, calls = pretraining.Solutions, []

        def counted(*arguments):
            calls.append(1)
            if len(calls) == wanted[0]["updates"]:
                raise KeyboardInterrupt
            return honest(*arguments)

        monkeypatch.setattr(pretraining, "Solutions", counted)
        with pytest.raises(KeyboardInterrupt):
            self.rows(tmp_path / "killed", pretrain_until=0.2, pretrain_steps=200)
        assert self.rows(tmp_path / "killed", pretrain_until=0.2, pretrain_steps=200)[0] == wanted


def test_pretraining_samples_nothing(tmp_path, refuses):
    solutions = pretraining.Solutions(study_in(tmp_path), None, 0, 0)
    with refuses("pretraining samples nothing, got a request for 4 rollouts of runs [0]"):
        solutions.rollout([0], 4)


def test_maxrl_learns_from_its_own_answers(tmp_path):
    """A sum of one digit, answered directly, from a half-trained base; pass rates are exact, by enumeration."""
    task = ModularSum(1, 10)
    sizes = {"width": 32, "mlp": 64, "pretrain_steps": 30, "pretrain_batch": 32, "pretrain_rate": 5e-3}
    study = study_in(tmp_path, task, **sizes, steps=80, prompts=16, held_out=2)
    problems = task.problems(32, seed=9)

    def pass_rate(policy):
        return float(study.batch(policy, problems, 0, 0).log_pass_rate([0]).detach().exp().mean())

    policy, tables = trained(study, run_of("maxrl", 8, 5e-3), "sweep")
    # measured: 0.03 before, 0.89 after
    assert 0.01 < pass_rate(base(study, 0)) < 0.1
    assert pass_rate(policy) > 0.6
    rates = [row["pass_rate"] for row in tables["dynamics"]]
    assert np.mean(rates[:5]) < 0.2 < 0.5 < np.mean(rates[-5:])


@pytest.mark.parametrize(("clip", "moves"), [(1e-15, False), (1.0, True)])
def test_gradients_of_training_and_pretraining_are_clipped(tmp_path, clip, moves):
    """A gradient far below the epsilon of AdamW, 1e-8, moves nothing."""
    study = study_in(tmp_path, ModularSum(1, 10), clip=clip, pretrain_steps=3, steps=2, prompts=16)
    shape = base(study, 0).shape
    start = seeded(lambda: Transformer(shape), 0)
    policies = [start, base(study, 0), trained(study, run_of("maxrl", 8, 1e-2), "sweep")[0]]
    weights = [torch.cat([weight.detach().flatten() for weight in policy.parameters()]) for policy in policies]
    moved = [float((after - before).abs().max()) for before, after in itertools.pairwise(weights)]
    assert [step > 1e-4 for step in moved] == [moves, moves], moved


def test_memory_that_does_not_hold_one_prompts_answers_is_one_line(tmp_path):
    study = study_in(tmp_path, SUM, memory=1e-9)
    with pytest.raises(ValueError, match=r"\A.* needs? .* GiB, memory is 1e-09 GiB.*\Z"):
        trained(study, run_of("maxrl"), "report")
