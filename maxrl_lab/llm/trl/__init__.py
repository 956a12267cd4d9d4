"""The lab's estimators inside TRL: `EstimatorTrainer`, and the `settings` that leave the objective to the estimator."""

from maxrl_lab.llm.trl.config import check_settings, settings
from maxrl_lab.llm.trl.trainer import EstimatorTrainer

__all__ = ["EstimatorTrainer", "check_settings", "settings"]
