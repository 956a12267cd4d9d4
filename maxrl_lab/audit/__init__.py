"""Which objective does an advantage function optimise? The audit asks the function itself, by calling it.

    >>> print(audit(lambda rewards: rewards - rewards.mean(), rollouts=8, batched=False).text())

The audit reads the function's coefficients a(K), b(K), computes the exact weight w_N(p) of its mean gradient, names
the objective with that weight (`identify`), and lists what goes wrong at the edges (`traps`). `exact` has the theory.
"""

from maxrl_lab.audit.examine import audit
from maxrl_lab.audit.noise import Noise
from maxrl_lab.audit.report import Report
from maxrl_lab.audit.target import load

__all__ = ["Noise", "Report", "audit", "load"]
