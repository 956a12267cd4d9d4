"""Figures of the experiments in `experiments/tokens`."""
