"""What the tests of figures share: rows of a smoke run as a figure reads them, and how to find what was drawn."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.folder import execute
from maxrl_lab.runs.tables import TIMING_COLUMNS


def run_smoke(module, folder, **changes):
    """Rows of an experiment near its smoke preset, read back as the figure reads them; without the timings.

    A policy that learnt for a second is right about never, so its values are replaced by ones that can be told apart.
    """
    context = Context(torch.device("cpu"), Checkpoint(folder / "checkpoint" / "run"), quiet=True)
    rows = pd.DataFrame(module.run(replace(module.PRESETS["smoke"], **changes), context))
    rows = rows.drop(columns=[name for name in TIMING_COLUMNS if name in rows])
    random = np.random.default_rng(0)
    for column in {"pass_at_k", "pass_rate", "gradient_norm"} & set(rows):
        rows[column] = rows[column].where(rows[column].isna(), random.random(len(rows)))
    return pd.read_csv(io.StringIO(rows.to_csv(index=False)), keep_default_na=False, na_values=[""])


def smoke_tables(module, folder, **changes):
    """The tables of an experiment near its smoke preset, read back as the figure reads them, and the settings."""
    settings = replace(module.PRESETS["smoke"], **changes)
    name = module.__name__.rpartition(".")[2]

    def compute(checkpoint):
        return module.run(settings, Context(torch.device("cpu"), checkpoint, quiet=True))

    return execute(folder / name, name, settings, compute), settings


def line_called(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def panel(figure, word):
    """The first panel whose title or y-label has that word."""
    return next(ax for ax in figure.axes if word in ax.get_title() + ax.get_ylabel())


def drawn(figure):
    """The panels that a reader sees; none of them is empty, and the picture can be saved."""
    figure.set_layout_engine("none")  # where things go is not looked at here, and takes long
    figure.savefig(io.BytesIO(), dpi=10)
    seen = [ax for ax in figure.axes if ax.get_visible()]
    assert all(ax.has_data() for ax in seen)
    return seen
