"""The measuring bench for policy gradients with right-or-wrong outcomes: what is optimised, how biased, how noisy."""

from maxrl_lab import audit, estimators, evaluate, exact, objectives

__all__ = ["audit", "estimators", "evaluate", "exact", "objectives"]
