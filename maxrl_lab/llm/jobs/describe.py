"""A recipe as text: its hardware, tokens, memory and commands; and the results of its run."""

import os
import shlex
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs.memory import memory
from maxrl_lab.llm.jobs.recipe import Recipe
from maxrl_lab.llm.jobs.recipes import Job, job_of
from maxrl_lab.llm.models import evaluation

DEVICES = (1, 8, 32)
"""Numbers of devices for which the memory is shown."""
_TRAIN = "-m maxrl_lab.llm.jobs.train"


def text(name: str, job: Job) -> str:
    """Return the description of a recipe."""
    updates, tests = job.steps, ", ".join(job.tests or (f"{job.source} (held out)",))
    problems = str(job.train_problems or "all")
    together = job.rollouts * job.prompts
    return "\n".join(
        [
            f"{name}: {job.model}, trained by {job.estimator} on {job.source} ({problems} problems)",
            f"hardware: {job.hardware}",
            f"an update: {job.prompts} problems x {job.rollouts} answers = {together:,} rollouts, on-policy; "
            f"at most {job.tokens_per_step:,} tokens ({job.prompt_length} + {job.answer_length} each)",
            f"{updates:,} updates: at most {updates * job.tokens_per_step:.3g} tokens; AdamW, constant "
            f"{job.learning_rate:g}; no KL, no entropy; loss "
            + ("averaged over the batch's tokens" if job.token_mean else "summed over each answer's tokens"),
            f"evaluated before and after on {tests}: {job.samples} answers each, temperature "
            f"{job.test_temperature:g}, top-p {job.test_top_p:g}, on one device",
            "",
            "memory, GiB a device, computed (jobs.memory), without what allocators and kernels add:",
            memory_table(job),
            "",
            "commands:",
            *(f"  {command}" for command in commands(name, job)),
        ]
    )


def memory_table(recipe: Recipe) -> str:
    """Return a line for each number of `DEVICES`, or one line that says that the model's size is not known."""
    try:
        table = pd.DataFrame([{"devices": count, **memory(recipe, count)} for count in DEVICES])
    except InputError as error:
        return f"  ({error})"
    lines = table.to_string(index=False, float_format=lambda value: f"{value:.1f}").splitlines()
    return "\n".join(f"  {line}" for line in lines)


def commands(name: str, job: Job) -> list[str]:
    """Return how to try the recipe, and how to run it on one GPU, eight, several nodes, and with verl."""
    flags = shlex.join([name, *_changes(name, job)])
    folder = Path(os.path.relpath(Path(__file__).parent / "accelerate"))
    launch = "accelerate launch --config_file"
    nodes = 4 if _splits(job, 32) else 1
    listed = [f"python {_TRAIN} {flags} --dry-run", f"{launch} {folder / 'one_gpu.yaml'} {_TRAIN} {flags}"]
    if _splits(job, 8):
        listed.append(f"{launch} {folder / 'eight_gpus.yaml'} {_TRAIN} {flags}")
    if nodes > 1:
        machine = "--machine_rank R --main_process_ip IP"
        listed.append(f"{launch} {folder / 'several_nodes.yaml'} {machine} {_TRAIN} {flags} --out /shared/run")
    return [*listed, f"python -m maxrl_lab.llm.jobs.verl_job {flags} --nodes {nodes} --gpus 8 --run"]


def _changes(name: str, job: Job) -> list[str]:
    """Return the flags of what differs from the recipe, and of the estimator."""
    flags = ["--estimator", job.estimator]
    for field, value in asdict(job).items():
        if field != "estimator" and value != getattr(job_of(name), field):
            flags += [f"--{field.replace('_', '-')}", *map(str, value if isinstance(value, tuple | list) else [value])]
    return flags


def _splits(recipe: Recipe, devices: int) -> bool:
    return recipe.prompts * recipe.rollouts % (devices * recipe.micro_batch) == 0


def results(problems: pd.DataFrame, samples: int) -> str:
    """Return pass@k of `samples` answers before and after training, with intervals over problems, as a table."""
    lines = []
    for (source, when), part in problems.groupby(["source", "when"], sort=False):
        for row in evaluation.summary(part.to_dict("records"), samples, sorted({1, min(128, samples), samples})):
            shown = {name: row[name] for name in ("k", "pass_at_k", "low", "high", "majority", "tokens_mean")}
            lines.append({"source": source, "when": when, **shown})
    return str(pd.DataFrame(lines).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
