"""The run of a recipe with TRL: its policy is evaluated, trained with one estimator, saved, and evaluated again."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs import evaluating, inputs, training
from maxrl_lab.llm.jobs.processes import Processes, check_devices
from maxrl_lab.llm.jobs.recipes import Job
from maxrl_lab.llm.models import engines, sampling
from maxrl_lab.rows import Row, Tables
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.fingerprint import fingerprint
from maxrl_lab.runs.folder import execute, made_in

POLICY = "policy"
"""The folder of the trained policy, inside of the run's."""


def run(
    name: str,
    job: Job,
    folder: Path,
    device: str,
    *,
    force: bool = False,
    stale: bool = False,
    callbacks: Sequence[Any] = (),
) -> dict[str, pd.DataFrame] | None:
    """Run the job in `folder`, or continue it, and return its tables; in every process but the first, return None.

    If the folder holds a complete run, its tables are returned and nothing is run.

    The tables are `problems` (a row for each held-out problem, before and after the training), `training` and `timings`
    (a row for each update). `force` and `stale` are as in `runs.folder.execute`; `callbacks` are transformers', for the
    training.
    """
    if job.vllm and find_spec("vllm") is None:
        raise InputError(f"{name} samples answers with vLLM, which is not installed: pip install vllm, or --vllm False")
    processes = Processes(device)
    check_devices(processes.device)
    if not processes.is_first:
        if (state := processes.agree()) is not None:
            train(job, Checkpoint(state), processes.device, callbacks)
        return None

    def compute(checkpoint: Checkpoint) -> Tables:
        before = evaluate(job, job.model, "before", checkpoint, processes.device)
        done = checkpoint.stage("training-tables")
        if (trained := done.load()) is None:
            processes.agree(checkpoint.path)
            trained = train(job, checkpoint, processes.device, callbacks)
            done.save(trained)
        after = evaluate(job, str(made_in(checkpoint) / POLICY), "after", checkpoint, processes.device)
        return {"problems": before + after, **trained}

    try:
        return execute(
            folder,
            f"recipe {name}",
            job,
            compute,
            device=str(processes.device),
            code=fingerprint(__name__),
            force=force,
            stale=stale,
        )
    finally:
        processes.agree(None)


def train(job: Job, checkpoint: Checkpoint, device: torch.device, callbacks: Sequence[Any]) -> Tables:
    """Return the tables `training` and `timings`; the policy is in the run's folder, in `POLICY`, afterwards.

    All processes do this together.
    """
    policy = inputs.load_policy(job, device)
    problems = inputs.training_set(job, job.seed, _data(job))
    trained = training.train(
        job,
        job.estimator,
        policy,
        short_enough(problems, policy.tokenizer, job.prompt_length),
        checkpoint.path / "trainer",
        seed=job.seed,
        keep=made_in(checkpoint) / POLICY,
        callbacks=callbacks,
    )
    return {"training": trained.updates, "timings": trained.timings}


def short_enough(problems: Any, tokenizer: Any, limit: int) -> Any:
    """Return the problems whose prompts have at most `limit` tokens, and say on standard error how many have more.

    Raises `InputError` if no prompt is short enough.
    """
    lengths = [len(sampling.encode(tokenizer, problem["prompt"])) for problem in problems]
    short = [index for index, length in enumerate(lengths) if length <= limit]
    if not short:
        raise InputError(f"none of the {len(problems)} prompts has at most prompt_length = {limit} tokens")
    if len(short) == len(problems):
        return problems
    print(f"{len(problems) - len(short)} prompts of more than {limit} tokens are left out", file=sys.stderr)
    return problems.select(short)


def evaluate(job: Job, model: str, when: str, checkpoint: Checkpoint, device: torch.device) -> list[Row]:
    """Return a row for each problem of each collection, by `evaluating.evaluate`."""
    data = _data(job)
    sets = inputs.held_out_sets(job, data if data is None or data.is_dir() else None)
    evaluated = replace(job, model=model)
    # vLLM takes whole models, with the end tokens that their folder names
    by_name = engines.has_vllm(str(device)) and not job.lora and (not job.end or when == "after")
    policy = inputs.location(evaluated) if by_name else inputs.load_policy(evaluated, device)
    engine = evaluating.engine(evaluated, policy)
    rows = evaluating.evaluate(engine, sets, checkpoint, when)
    engine.close()  # the trainer needs the room
    return [{"when": when, **row} for row in rows]


def _data(job: Job) -> Path | None:
    return Path(job.data) if job.data else None
