"""Figures of the experiments in `experiments/classification`."""
