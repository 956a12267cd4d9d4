"""What a recipe takes, as text: hardware, tokens, memory, and the commands that run it; and what a run has found."""

import os
import shlex
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from maxrl_lab.llm.jobs.recipe import Recipe, memory
from maxrl_lab.llm.jobs.recipes import Settings, settings_of
from maxrl_lab.llm.models import evaluation

DEVICES = (1, 8, 32)
"""For which memory is shown."""
_TRAIN = "-m experiments.llm.train"


def text(name: str, settings: Settings) -> str:
    """Return the description of a recipe."""
    updates, tests = settings.steps, ", ".join(settings.tests or (f"{settings.source} (held out)",))
    problems = str(settings.train_problems or "all")
    together = settings.rollouts * settings.prompts
    return "\n".join(
        [
            f"{name}: {settings.model}, trained by {settings.estimator} on {settings.source} ({problems} problems)",
            f"hardware: {settings.hardware}",
            f"an update: {settings.prompts} problems x {settings.rollouts} answers = {together:,} rollouts, on-policy; "
            f"at most {settings.tokens_per_step:,} tokens ({settings.prompt_length} + {settings.answer_length} each)",
            f"{updates:,} updates: at most {updates * settings.tokens_per_step:.3g} tokens; AdamW, constant "
            f"{settings.learning_rate:g}; no KL, no entropy; loss "
            + ("averaged over the batch's tokens" if settings.token_mean else "summed over each answer's tokens"),
            f"evaluated before and after on {tests}: {settings.samples} answers each, temperature "
            f"{settings.test_temperature:g}, top-p {settings.test_top_p:g}, on one device",
            "",
            "memory, GiB a device, computed (llm.recipe.memory), without what allocators and kernels add:",
            memory_table(settings),
            "",
            "commands:",
            *(f"  {command}" for command in commands(name, settings)),
        ]
    )


def memory_table(recipe: Recipe) -> str:
    """Return a line for each number of `DEVICES`; one line that says so if the model's size is not known."""
    try:
        table = pd.DataFrame([{"devices": count, **memory(recipe, count)} for count in DEVICES])
    except ValueError as error:
        return f"  ({error})"
    lines = table.to_string(index=False, float_format=lambda value: f"{value:.1f}").splitlines()
    return "\n".join(f"  {line}" for line in lines)


def commands(name: str, settings: Settings) -> list[str]:
    """Return how to try the recipe, and how to run it on one GPU, eight, several nodes, and with verl."""
    flags = shlex.join([name, *_changes(name, settings)])
    folder = Path(os.path.relpath(Path(__file__).parent / "accelerate"))
    launch = "accelerate launch --config_file"
    nodes = 4 if _splits(settings, 32) else 1
    listed = [f"python {_TRAIN} {flags} --dry-run", f"{launch} {folder / 'one_gpu.yaml'} {_TRAIN} {flags}"]
    if _splits(settings, 8):
        listed.append(f"{launch} {folder / 'eight_gpus.yaml'} {_TRAIN} {flags}")
    if nodes > 1:
        each = "--machine_rank R --main_process_ip IP"
        listed.append(f"{launch} {folder / 'several_nodes.yaml'} {each} {_TRAIN} {flags} --out /shared/run")
    return [*listed, f"python -m experiments.llm.verl_job {flags} --nodes {nodes} --gpus 8 --run"]


def _changes(name: str, settings: Settings) -> list[str]:
    """The flags of what differs from the recipe, and the estimator."""
    flags = ["--estimator", settings.estimator]
    for field, value in asdict(settings).items():
        if field != "estimator" and value != getattr(settings_of(name), field):
            flags += [f"--{field}", *map(str, value if isinstance(value, tuple | list) else [value])]
    return flags


def _splits(recipe: Recipe, devices: int) -> bool:
    return recipe.prompts * recipe.rollouts % (devices * recipe.micro_batch) == 0


def results(rows: pd.DataFrame) -> str:
    """Return pass@k before and after training, with intervals over problems, as a table."""
    found = []
    problems = rows[rows["view"] == "problem"]
    for (source, when), part in problems.groupby(["source", "when"], sort=False):
        samples = int(part["samples"].iloc[0])
        ks = sorted({1, samples // 4 or 1, samples})
        for row in evaluation.summary(part.astype({"correct": int}).to_dict("records"), ks):
            shown = {name: row[name] for name in ("k", "pass_at_k", "low", "high", "majority", "tokens_mean")}
            found.append({"source": source, "when": when, **shown})
    return str(pd.DataFrame(found).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
