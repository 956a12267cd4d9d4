"""The files of a job for verl: its problems, its model where the hub has another, and its settings, written last."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs import inputs
from maxrl_lab.llm.jobs.recipe import EMBEDDED
from maxrl_lab.llm.jobs.recipes import Job
from maxrl_lab.llm.problems import data
from maxrl_lab.runs import files

SETTINGS = "settings.json"
"""The file of the job's settings, which is written once the other files are there."""


def write(job: Job, folder: Path) -> None:
    """Write the job's files; nothing is written before all problems and the model have been read."""
    local = Path(job.data) if job.data else None
    problems = inputs.training_set(job, job.seed, local)
    sets = inputs.held_out_sets(job, local if local is None or local.is_dir() else None)
    policy = inputs.load_policy(job, torch.device("cpu")) if has_own_model(job) else None
    for file, dataset in zip(problem_files(job, folder), [problems, *sets.values()], strict=True):
        data.to_verl(dataset, file)
    if policy is not None:
        policy.model.save_pretrained(folder / "model")  # with all its end tokens, which vLLM reads there
        policy.tokenizer.save_pretrained(folder / "model")


def write_settings(job: Job, folder: Path) -> None:
    """Write the job's settings, by which `refuse_other_job` knows it."""
    files.write_json(folder / SETTINGS, asdict(job))


def refuse_other_job(folder: Path, job: Job) -> None:
    """Raise `InputError` if the folder holds a job with other settings, which verl would continue."""
    file, wanted = folder / SETTINGS, json.loads(json.dumps(asdict(job)))
    try:
        written = json.loads(file.read_text()) if file.exists() else wanted
    except ValueError as error:
        raise InputError(f"{file} is not readable JSON ({error}); choose another --out") from None
    if name := files.first_difference(written, wanted):
        raise InputError(
            f"{folder} holds a job with other settings ({name} = {written.get(name)!r} there, {wanted[name]!r} now); "
            "choose another --out"
        )


def has_own_model(job: Job) -> bool:
    """Return whether the model differs from the one on the hub, so that verl reads it from the job's folder."""
    return job.model == EMBEDDED or bool(job.end)


def problem_files(job: Job, folder: Path) -> list[Path]:
    """Return the file of the training problems and those of the collections of the evaluation."""
    tests = [f"test-{source.replace('/', '-')}" for source in job.tests or (job.source,)]
    return [folder / f"{name}.parquet" for name in ("train", *tests)]
