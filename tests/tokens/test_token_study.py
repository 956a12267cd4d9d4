"""Which problems a study trains on, and which it measures on; that it holds no settings but its own."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from small_study import SMALL, SUM, WIDER, context_in, run_of, study_in
from torch.nn.utils import parameters_to_vector

from envs.modular_sum import ModularSum
from maxrl_lab.tokens.settings import TokenSettings
from maxrl_lab.tokens.study import Study
from maxrl_lab.tokens.trained import base
from maxrl_lab.tokens.training import train

FIXED = 8


def digests(problems):
    return WIDER.digests(problems.content)


def test_runs_that_differ_in_the_method_only_see_the_same_prompts(tmp_path, monkeypatch):
    honest, seen = Study.batch, []

    def spy(self, policy, problems, seed, step):
        seen.append((seed, step, tuple(digests(problems))))
        return honest(self, policy, problems, seed, step)

    monkeypatch.setattr(Study, "batch", spy)
    study = study_in(tmp_path, WIDER)
    by_run = {}
    for number, (name, rollouts, rate, seed) in enumerate(
        [("rloo", 4, 1e-3, 0), ("maxrl", 8, 1e-2, 0), ("grpo | greedy_gate", 4, 1e-3, 0), ("rloo", 4, 1e-3, 1)]
    ):
        seen.clear()
        checkpoint = study.context.checkpoint.stage(str(number))
        train(study, base(study, seed), run_of(name, rollouts, rate, seed), "report", checkpoint)
        assert [each[:2] for each in seen] == [(seed, step) for step in range(SMALL.steps)]
        by_run[name, rollouts, seed] = [each[2] for each in seen]
    assert by_run["rloo", 4, 0] == by_run["maxrl", 8, 0] == by_run["grpo | greedy_gate", 4, 0]
    assert by_run["rloo", 4, 0] != by_run["rloo", 4, 1]


def test_an_epoch_visits_every_problem_of_the_fixed_training_set_once(tmp_path):
    study = study_in(tmp_path, WIDER, FIXED)
    epochs = [
        [digest for step in (2 * epoch, 2 * epoch + 1) for digest in digests(study.problems(seed, step))]
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert all(len(epoch) == len(set(epoch)) == FIXED for epoch in epochs)
    sets = [tuple(sorted(epoch)) for epoch in epochs]
    assert sets[0] == sets[1] != sets[2] == sets[3]  # the same problems in every epoch, other ones for another seed
    assert len(set(map(tuple, epochs))) == 4  # in another order every time
    assert digests(study.problems(1, 3)) == digests(study.problems(1, 3))


@pytest.mark.parametrize("training_set", [None, FIXED])
def test_held_out_problems_are_never_trained_on(tmp_path, training_set):
    study = study_in(tmp_path, WIDER, training_set)
    held_out = set(digests(study.held_out()))
    assert len(held_out) == SMALL.held_out
    for seed in range(3):
        trained = {digest for step in range(20) for digest in digests(study.problems(seed, step))}
        validation = set(digests(study.validation(seed)))
        pretrained = {digest for step in range(20) for digest in digests(study.pretraining(seed, step, 8))}
        assert not held_out & (trained | validation | pretrained)
        if training_set:
            assert len(validation) == SMALL.held_out
            assert not validation & trained
            assert len(trained) == training_set


def test_a_seed_redraws_pretraining_training_and_validation(tmp_path):
    study = study_in(tmp_path, WIDER)
    parts = [
        tuple(digests(problems))
        for seed in (0, 1)
        for problems in (study.pretraining(seed, 0, 8), study.problems(seed, 0), study.validation(seed))
    ]
    assert len(set(parts)) == 6
    first, second = (parameters_to_vector(base(study, seed).parameters()) for seed in (0, 1))
    assert not torch.allclose(first, second)


def test_fresh_problems_are_other_ones_in_every_update(tmp_path):
    study = study_in(tmp_path, WIDER)
    sampled = [tuple(digests(study.problems(seed, step))) for seed in (0, 1) for step in range(5)]
    assert len(set(sampled)) == 10


def test_a_study_holds_no_setting_but_its_own(tmp_path):
    @dataclass(frozen=True)
    class Wider(TokenSettings):
        colour: str = "blue"

    study = Study(SUM, Wider(**dataclasses.asdict(SMALL), colour="red"), context_in(tmp_path))
    assert study.settings == SMALL
    assert type(study.settings) is TokenSettings


def test_validation_problems_are_like_the_training_set(tmp_path):
    """Distinct problems come in the order of how frequent they are: the last ones are rare, and here they are large."""

    class Skewed(ModularSum):
        def sample(self, count, random):
            return (random.random((count, self.length)) ** 4 * self.modulus).astype(np.int64)

    study = study_in(tmp_path, Skewed(2, 11), 24, held_out=8)
    means = [[study._fixed(seed).content[rows].mean() for seed in range(40)] for rows in (slice(24), slice(24, None))]
    # without the shuffle the second is larger in nearly every seed
    assert 10 <= sum(first > second for first, second in zip(*means, strict=True)) <= 30
