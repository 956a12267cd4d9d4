"""Figures of the experiments in `experiments/feedback`."""
