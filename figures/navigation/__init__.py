"""Figures of the experiments in `experiments/navigation`."""
