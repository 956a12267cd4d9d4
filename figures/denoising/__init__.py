"""Figures of the experiments in `experiments/denoising`."""
