"""What a recipe names, loaded: the model with its tokenizer, the training problems, the problems of the evaluation."""

from pathlib import Path
from typing import Any

import torch

from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs.recipe import EMBEDDED, Recipe
from maxrl_lab.llm.models import weights
from maxrl_lab.llm.models.loading import Policy, add_end, load
from maxrl_lab.llm.problems import data, tasks

_SHOTS_SEED = data.MAX_SEED
"""Seed of the worked examples, so that no smaller seed trains on them."""


def load_policy(recipe: Recipe, device: torch.device) -> Policy:
    """Return the recipe's model in float32, whose answers the recipe's `end` also ends; `InputError` as in `load`."""
    model = location(recipe)
    try:
        policy = load(model)
    except InputError as error:
        raise InputError(f"{error}; offline: --model {EMBEDDED}, or a local folder") from None
    add_end(policy, recipe.end)
    return Policy(policy.model.to(device), policy.tokenizer)


def location(recipe: Recipe) -> Path | str:
    """Return the folder of the recipe's model, or its name on the hub."""
    return weights.embedded() if recipe.model == EMBEDDED else recipe.model


def training_set(recipe: Recipe, seed: int, path: Path | None = None) -> Any:
    """Return the training problems as a data set.

    `path` is a local file in the source's schema, or a folder with one for each collection, such as
    `gsm8k-train.jsonl`.
    """
    return _problems(recipe, recipe.source, "train", recipe.train_problems, seed, path)


def held_out_sets(recipe: Recipe, path: Path | None = None) -> dict[str, Any]:
    """Return the problems of the evaluation, by the name of their collection; they are the same for every seed."""
    sources = recipe.tests or (recipe.source,)
    return {source: _problems(recipe, source, "test", recipe.test_problems, 0, path) for source in sources}


def _problems(recipe: Recipe, source: str, split: str, count: int, seed: int, path: Path | None) -> Any:
    form = data.TEMPLATES.get(recipe.template, recipe.template)
    return data.load(
        source,
        count=count or None,
        seed=seed,
        split=split,
        template=_shots(recipe, form) + form,
        chat=recipe.chat,
        extraction=recipe.extraction,
        config=recipe.task_config() if source == recipe.source else None,
        path=local_file(path, source, split) if path and path.is_dir() else path,
    )


def local_file(folder: Path, source: str, split: str) -> Path | None:
    """Return the file of a collection in a folder, None for problems that are made; raise `InputError` without one."""
    if source.startswith(tasks.PREFIX):
        return None
    files = sorted(file for file in folder.glob(f"{source}-{split}.*") if file.is_file())
    if len(files) != 1:
        raise InputError(f"expected one file {source}-{split}.jsonl (or .json, .csv, .parquet) in {folder}")
    return files[0]


def _shots(recipe: Recipe, form: str) -> str:
    """Return worked examples of the training split, one on a line, in the form of the question."""
    if not recipe.shots:
        return ""
    examples = data.reasoning_gym_problems(
        recipe.source.removeprefix(tasks.PREFIX), recipe.shots, _SHOTS_SEED, recipe.task_config(), "train"
    )
    return "".join(f"{data.filled(form, example).strip()} {example['answer']}\n" for example in examples)
