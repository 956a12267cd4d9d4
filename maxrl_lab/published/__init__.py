"""The index of papers: which estimator a method is, and what that estimator optimises at N rollouts.

`methods` lists names, sources and text forms; everything else in the table is computed from the coefficients (`facts`).

    >>> from maxrl_lab.published import METHODS, facts_of
    >>> facts_of(METHODS["GRPO"], rollouts=3).objective
    'expected_reward'
"""

from maxrl_lab.published.facts import Facts, facts_of
from maxrl_lab.published.methods import METHODS, Method

__all__ = ["METHODS", "Facts", "Method", "facts_of"]
