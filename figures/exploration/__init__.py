"""Figures of the experiments in `experiments/exploration`."""
