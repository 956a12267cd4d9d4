"""The address of a trained policy: settings but those declared, the run, the task, the code but not its prose."""

import copy
import dataclasses
import importlib.util
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import numpy as np
import pytest
import torch
from small_study import SMALL, SUM, run_of, same_tables, study_in

from envs.modular_sum import ModularSum
from maxrl_lab.fields import fields_of
from maxrl_lab.runs import fingerprint, workers
from maxrl_lab.tokens import pretraining, training
from maxrl_lab.tokens import trained as rooms
from maxrl_lab.tokens.comparison import compare
from maxrl_lab.tokens.decoding import Vocabulary
from maxrl_lab.tokens.settings import CHANGE_NO_BASE, CHANGE_NO_RUN, TokenSettings
from maxrl_lab.tokens.simple import SimpleTask
from maxrl_lab.tokens.trained import address_of_base, address_of_run
from maxrl_lab.training.methods import Sampled
from maxrl_lab.training.sweep import Run


@pytest.fixture(autouse=True)
def a_fresh_look_at_the_code():
    """Every test is a process of its own, as far as the code is concerned."""
    rooms._loaded.cache_clear()
    yield
    rooms._loaded.cache_clear()


FIELDS = [field.name for field in fields_of(TokenSettings)]
OTHER = {
    "width": 20,
    "heads": 4,
    "precision": "bfloat16",
    "pretrain_until": 0.5,
    "pretrain_rate": 2e-3,
    "learning_rates": (1e-3, 2e-3),
    "memory": 0.5,
}
"""Another value of a setting; one more than in `SMALL` where it is a whole number."""


def changed(name):
    return dataclasses.replace(SMALL, **{name: OTHER[name] if name in OTHER else getattr(SMALL, name) + 1})


class TestSettings:
    def test_what_is_declared_to_change_nothing_is_a_setting(self):
        assert set(FIELDS) > CHANGE_NO_BASE > CHANGE_NO_RUN

    @pytest.mark.parametrize("name", FIELDS)
    def test_two_values_share_an_address_only_where_that_is_declared(self, tmp_path, name):
        first, second = study_in(tmp_path), study_in(tmp_path, settings=changed(name))
        run = run_of("maxrl")
        assert (address_of_base(first, 0) == address_of_base(second, 0)) == (name in CHANGE_NO_BASE)
        shared = address_of_run(first, run, "report") == address_of_run(second, run, "report")
        assert shared == (name in CHANGE_NO_RUN)

    def test_a_new_setting_is_a_part_of_the_address(self, tmp_path):
        """Nobody has to think of it: the addresses of two values differ as soon as a study holds the setting."""

        @dataclass(frozen=True)
        class Further(TokenSettings):
            dropout: float = 0.0

        study = study_in(tmp_path)
        addresses = []
        for value in (0.0, 0.1):
            object.__setattr__(study, "settings", Further(**dataclasses.asdict(SMALL), dropout=value))
            addresses.append((address_of_base(study, 0), address_of_run(study, run_of("maxrl"), "report")))
        assert addresses[0][0] != addresses[1][0]
        assert addresses[0][1] != addresses[1][1]

    def watched(self, study, declared):
        """Make the study's settings refuse to be asked for what is declared to change nothing."""

        class Watched(TokenSettings):
            def __getattribute__(self, name):
                if name in declared:
                    raise AssertionError(f"{name} is declared to change nothing, and was read")
                return super().__getattribute__(name)

        object.__setattr__(study.settings, "__class__", Watched)
        return study

    def test_pretraining_does_not_read_what_is_declared(self, tmp_path):
        study = self.watched(study_in(tmp_path), CHANGE_NO_BASE)
        pretraining.pretrain(study, 0, study.context.checkpoint)

    def test_the_watch_sees_a_setting_that_is_read(self, tmp_path):
        study = self.watched(study_in(tmp_path), {"pretrain_batch"})
        with pytest.raises(AssertionError, match="pretrain_batch is declared to change nothing, and was read"):
            pretraining.pretrain(study, 0, study.context.checkpoint)

    def test_training_does_not_read_what_is_declared(self, tmp_path):
        study = study_in(tmp_path)
        policy = rooms.base(study, 0)
        self.watched(study, CHANGE_NO_RUN)
        training.train(study, policy, run_of("maxrl"), "report", study.context.checkpoint)


class TestRuns:
    @pytest.mark.parametrize(
        "other",
        [run_of("maxrl", seed=1), run_of("maxrl", rate=2e-3), run_of("maxrl", 8), run_of("maxrl | token_mean")],
    )
    def test_another_run_has_another_address(self, tmp_path, other):
        study = study_in(tmp_path)
        assert address_of_run(study, run_of("maxrl"), "report") != address_of_run(study, other, "report")
        assert address_of_run(study, other, "sweep") != address_of_run(study, other, "report")

    def test_the_training_set_counts_in_a_run_alone(self, tmp_path):
        first, second = study_in(tmp_path), study_in(tmp_path, training_set=8)
        assert address_of_base(first, 0) == address_of_base(second, 0)
        assert address_of_run(first, run_of("maxrl"), "report") != address_of_run(second, run_of("maxrl"), "report")

    def test_a_function_has_no_name_that_tells_it_apart(self, tmp_path):
        def own(rewards):
            return rewards.double() - rewards.double().mean(-1, keepdim=True)

        message = "a trained policy is kept by the name of its estimator, got a function: "
        with pytest.raises(ValueError, match=message):
            address_of_run(study_in(tmp_path), Run(Sampled(own, 4), 1e-3, 0), "report")

    @pytest.mark.parametrize(
        "other", [ModularSum(2, 6), ModularSum(3, 5), ModularSum(2, 5, scratchpad=True), ModularSum(2, 5, False, 3)]
    )
    def test_another_task_has_another_address(self, tmp_path, other):
        assert address_of_base(study_in(tmp_path), 0) != address_of_base(study_in(tmp_path, other), 0)

    def test_a_plain_attribute_of_a_task_counts_although_its_key_does_not_tell(self, tmp_path):
        class Letters(SimpleTask):
            name = "letters"
            vocabulary = Vocabulary.of("a b")
            answer_length = 2

            def __init__(self, twice):
                self.twice, self._log = twice, []

            def sample_one(self, random):
                return "ab"[random.integers(2)] * (1 + self.twice)

            def prompt(self, problem):
                return list(problem)

            def is_right(self, problem, answer):
                self._log.append(answer)
                return answer == [problem[0]]

        once, twice = (address_of_base(study_in(tmp_path, Letters(value)), 0) for value in (False, True))
        assert once != twice
        asked = Letters(False)
        asked.is_right("a", ["a"])  # what a task has seen does not count
        assert address_of_base(study_in(tmp_path, asked), 0) == once

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ([1, 2], [7, 8]),
            ({"a": 1}, {"a": 2}),
            ({1, 2}, {1, 3}),
            (np.int64(3), np.int64(4)),
            (np.bool_(False), np.bool_(True)),
            (np.zeros(2), np.ones(2)),
            (np.zeros((2, 1)), np.zeros((1, 2))),
            (torch.zeros(2), torch.ones(2)),
            ([np.zeros(2)], [np.ones(2)]),
            (Vocabulary.of("a"), Vocabulary.of("b")),
            ({"a": 1, "b": 2}, [["a", 1], ["b", 2]]),
        ],
    )
    def test_every_attribute_of_a_task_counts_by_content(self, tmp_path, first, second):
        texts = []
        for value in (first, second, copy.deepcopy(first)):
            task = ModularSum(2, 5)
            task.terms = value
            texts.append(json.dumps(address_of_base(study_in(tmp_path, task), 0)))
        assert texts[0] == texts[2] != texts[1]

    def test_an_attribute_that_cannot_be_described_is_named(self, tmp_path):
        task = ModularSum(2, 5)
        task.judge = [lambda answer: answer]
        with pytest.raises(ValueError, match=r"and judge of .* cannot be described: list; hold numbers"):
            address_of_base(study_in(tmp_path, task), 0)

    def test_what_a_task_computes_late_changes_no_address(self, tmp_path):
        class Late(ModularSum):
            @cached_property
            def table(self):
                return object()

        task = Late(2, 5)
        before = address_of_base(study_in(tmp_path, task), 0)
        assert task.table
        assert task.vocabulary.ids
        task._seen = object()
        assert address_of_base(study_in(tmp_path, task), 0) == before


class TestCode:
    @pytest.fixture
    def tree(self, tmp_path, monkeypatch):
        """A repository of three files, which the modules that train are said to be."""
        (tmp_path / "maxrl_lab").mkdir()
        self.write(tmp_path, "__init__", "")
        self.write(tmp_path, "training", '"""It trains."""\nfrom maxrl_lab import step\n\nRATE = 1\n')
        self.write(tmp_path, "step", "def step(x):\n    return x + 1\n")
        monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
        return tmp_path

    @staticmethod
    def write(root, name, text):
        (root / "maxrl_lab" / f"{name}.py").write_text(text)

    @staticmethod
    def code():
        rooms._loaded.cache_clear()
        return rooms._code(SUM, ModuleType("maxrl_lab.training"))

    def test_prose_changes_no_address(self, tree):
        before = self.code()
        self.write(tree, "step", '"""A step."""\n\n\ndef step(x):\n    """Add one."""\n    return x + 1  # one\n')
        assert self.code() == before

    def test_code_does(self, tree):
        before = self.code()
        self.write(tree, "step", "def step(x):\n    return x + 2\n")
        assert self.code() != before

    def test_but_not_for_who_has_loaded_the_code_before(self, tree):
        before = self.code()
        self.write(tree, "step", "def step(x):\n    return x + 2\n")
        assert rooms._code(SUM, ModuleType("maxrl_lab.training")) == before

    def test_so_does_a_renamed_file(self, tree):
        before = self.code()
        assert "maxrl_lab/step.py" in before
        (tree / "maxrl_lab" / "step.py").rename(tree / "maxrl_lab" / "update.py")
        self.write(tree, "training", '"""It trains."""\nfrom maxrl_lab import update\n\nRATE = 1\n')
        after = self.code()
        assert after != before
        assert "maxrl_lab/update.py" in after

    def test_the_rooms_that_train_are_followed(self, tmp_path):
        code = address_of_run(study_in(tmp_path), run_of("maxrl"), "report")["code"]
        wanted = ("tokens/training.py", "tokens/gradients.py", "training/fit.py", "policies/transformer.py")
        assert {f"maxrl_lab/{name}" for name in wanted} | {"envs/modular_sum.py"} <= set(code)
        assert not any("/llm/" in name or "workers" in name for name in code)

    OWN = (
        "from maxrl_lab.tokens.decoding import Vocabulary\nfrom maxrl_lab.tokens.simple import SimpleTask\n"
        "class Own(SimpleTask):\n    name = 'own'\n    vocabulary = Vocabulary.of('a')\n    answer_length = 2\n"
        "    def sample_one(self, random):\n        return {value}{comment}\n"
        "    def prompt(self, problem):\n        return ['a']\n"
        "    def is_right(self, problem, answer):\n        return True\n"
    )

    @pytest.mark.parametrize(
        ("value", "comment", "is_same"), [("'a'", "  # always the same", True), ("'b'", "", False)]
    )
    def test_of_a_task_in_a_users_own_file(self, tmp_path, monkeypatch, value, comment, is_same):
        def address(file, **parts):
            (tmp_path / file).write_text(self.OWN.format(**parts))
            spec = importlib.util.spec_from_file_location("own_task", tmp_path / file)
            module = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, "own_task", module)
            spec.loader.exec_module(module)
            return address_of_base(study_in(tmp_path, module.Own()), 0)

        first = address("one.py", value="'a'", comment="")
        assert (address("two.py", value=value, comment=comment) == first) == is_same


def test_a_checkpoint_of_other_code_is_not_continued(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "cache"))
    study, run = study_in(tmp_path, steps=22), run_of("rloo")
    rooms.trained(study, run, "report")
    rooms._loaded.cache_clear()
    monkeypatch.setattr(rooms, "fingerprint", lambda module: {module: "other code"})
    rooms.trained(study, run, "report")
    assert len(list((tmp_path / "checkpoint" / "run").glob("run-*.pt"))) == 2


def test_processes_change_no_row(tmp_path, monkeypatch):
    # settings that no other test has, as the second process keeps its policies in the cache of all tests
    changes = {"pretrain_rate": 1.7e-3, "seeds": 1}

    def run(processes):
        study = study_in(tmp_path / str(processes), **changes, processes=processes)
        return compare(study, ("rloo", "maxrl"), (4,)).tables

    together = run(2)
    assert workers._pool.cache_info().currsize == 1
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(workers, "_pool", lambda count: pytest.fail("a process was started"))
    same_tables(run(1), together)


def test_the_longest_runs_start_first_and_tables_keep_their_order(tmp_path, monkeypatch):
    started = []

    def in_parallel(function, jobs, processes, progress):
        jobs = list(jobs)
        if function is rooms._train_job:
            started.extend((run.method.rollouts, run.seed) for _, run, _ in jobs)
        return [(job[1].method.rollouts, job[1].seed) if len(job) == 3 else None for job in jobs]

    monkeypatch.setattr(rooms, "in_parallel", in_parallel)
    runs = [run_of("rloo", rollouts, seed=seed) for seed in (0, 1) for rollouts in (4, 8)]
    tables = rooms.train_all(study_in(tmp_path), runs, "report")
    assert started == [(8, 0), (8, 1), (4, 0), (4, 1)]
    assert tables == [(4, 0), (8, 0), (4, 1), (8, 1)]


@pytest.mark.parametrize(("sweep_steps", "swept"), [(2, 2), (0, 3)])
def test_runs_of_the_sweep_may_be_shorter(tmp_path, monkeypatch, sweep_steps, swept):
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "cache"))
    changes = {"pretrain_rate": 1.6e-3, "seeds": 1, "steps": 3, "sweep_steps": sweep_steps, "measurements": 1}
    study, lengths = study_in(tmp_path, **changes), {}
    trainer = rooms.training.train

    def train(study, policy, run, stage, checkpoint):
        lengths[stage] = study.settings.steps
        return trainer(study, policy, run, stage, checkpoint)

    monkeypatch.setattr(rooms.training, "train", train)
    tables = compare(study, ("rloo",), (4,)).tables
    assert lengths == {"sweep": swept, "report": 3}
    assert max(row["step"] for row in tables["dynamics"]) == 3
    assert len(tables["sweep"]) == 1
