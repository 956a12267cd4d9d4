"""Studies that take a second: modular sums under the smallest settings, in a folder of the test's own."""

import dataclasses

import pandas as pd
import torch

from envs.modular_sum import ModularSum
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.tokens.settings import SMALLEST, TokenSettings
from maxrl_lab.tokens.study import Study
from maxrl_lab.training.methods import parse_method
from maxrl_lab.training.sweep import Run

SUM = ModularSum(2, 5)
WIDER = ModularSum(2, 7)
"""A task with enough problems that differ in more than the order of their digits."""
SMALL = TokenSettings(**{**SMALLEST, "held_out": 4})


def context_in(folder):
    return Context(torch.device("cpu"), Checkpoint(folder / "checkpoint" / "run"), quiet=True)


def study_in(folder, task=SUM, training_set=None, settings=SMALL, **changes):
    return Study(task, dataclasses.replace(settings, **changes), context_in(folder), training_set)


def run_of(name, rollouts=4, rate=1e-3, seed=0):
    return Run(parse_method(name, rollouts), rate, seed)


def same_tables(first, second):
    """Assert that two runs left the same tables, but for what they took of time."""
    assert first.keys() == second.keys()
    for name in first.keys() - {"timings"}:
        pd.testing.assert_frame_equal(pd.DataFrame(first[name]), pd.DataFrame(second[name]), check_exact=True)
    assert len(first["timings"]) == len(second["timings"])
