"""The evaluation of a recipe: an engine for its policy, and a row for each held-out problem."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maxrl_lab.llm.jobs.recipe import Recipe
from maxrl_lab.llm.models import engines, evaluation
from maxrl_lab.llm.models.loading import Policy
from maxrl_lab.rows import Row
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.files import file_name


def engine(recipe: Recipe, policy: Policy | Path | str) -> engines.Engine:
    """Return the engine that samples a policy's answers to held-out problems.

    A policy in memory is sampled by transformers, on its own device; one in a folder or on the hub by vLLM, if
    `engines.has_vllm`, on the first GPU.
    """
    model, tokenizer = policy if isinstance(policy, Policy) else (policy, None)
    return engines.engine(model, tokenizer, recipe.sampling(), "cuda" if torch.cuda.is_available() else "cpu")


def evaluate(engine: engines.Engine, sets: Mapping[str, Any], checkpoint: Checkpoint, name: str) -> list[Row]:
    """Return `evaluation.evaluate`'s rows of every collection, with its name as `source`; `name` is the policy's."""
    rows: list[Row] = []
    for source, problems in sets.items():
        key = file_name(f"{name}-{source}")
        judged = evaluation.evaluate(engine, list(problems), checkpoint.stage(key), key=key)
        rows += [{"source": source, **row} for row in judged]
    return rows
