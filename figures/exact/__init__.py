"""Figures of the experiments in `experiments/exact`."""
