"""What the tests of the navigation experiments share: a small world, its double, and tables as a run returns them."""

import dataclasses

import pandas as pd
import torch

from experiments.navigation._shared import GridSettings
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context

GRID = GridSettings(size=7, distances=(2, 4), levels=2, horizon=8, width=4)


def context_in(folder):
    return Context(torch.device("cpu"), Checkpoint(folder / "checkpoint" / "run"), quiet=True)


def doubled(world):
    """The same world in double precision, where rounding cannot be mistaken for a difference."""
    splits = {name: dataclasses.replace(split, inputs=split.inputs.double()) for name, split in world.splits.items()}
    return dataclasses.replace(world, splits=splits, network=lambda: world.network().double())


def frames(tables):
    """Tables of rows as data frames."""
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}
