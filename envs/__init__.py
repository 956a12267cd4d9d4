"""Where rollouts come from: tasks that know nothing of estimators."""

from envs.foreign import tabulate
from envs.registration import register

__all__ = ["tabulate"]

register()
