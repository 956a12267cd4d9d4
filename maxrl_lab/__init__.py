"""The measuring bench for policy gradients with right-or-wrong outcomes: what is optimised, how biased, how noisy."""
