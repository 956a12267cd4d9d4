"""Group estimators: rewards of a group's N rollouts in, one advantage per rollout out."""

from maxrl_lab.estimators.table import *  # noqa: F403
