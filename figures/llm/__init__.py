"""Figures of the experiments in `experiments/llm`."""
