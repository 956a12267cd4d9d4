"""The lab's estimators inside TRL."""

from maxrl_lab.llm.trl.trainer import EstimatorTrainer

__all__ = ["EstimatorTrainer"]
