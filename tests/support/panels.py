"""What the tests of figures share: the tables of a smoke run as a figure reads them, and how to find what was drawn."""

import io
from dataclasses import replace

import torch

from maxrl_lab.runs.context import Context
from maxrl_lab.runs.folder import execute


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
