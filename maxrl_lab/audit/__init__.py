"""Which objective does an advantage function optimise? Asked of the function itself, by calling it."""

from maxrl_lab.audit.report import Noise, Report, audit, load

__all__ = ["Noise", "Report", "audit", "load"]
