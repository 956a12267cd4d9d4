"""The parts of a verl job that a CPU can check: settings, problems, rewards and advantages, all by verl's own code."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from maxrl_lab import estimators
from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.llm.jobs import dry_run, verl_files
from maxrl_lab.llm.jobs.recipes import Job
from maxrl_lab.llm.jobs.verl_overrides import overrides
from maxrl_lab.llm.verl import advantages as verl
from maxrl_lab.llm.verl import config as verl_config

NOT_CHECKED = "not checked: Ray's workers, sampling by vLLM, the update itself and verl's checkpoints; they need GPUs"


def check(job: Job, nodes: int, gpus: int) -> list[str]:
    """Return a line for everything that is checked, and one for what is not; raise `InputError` where a check fails."""
    with TemporaryDirectory() as name, _quiet():
        folder = Path(name)
        ready = dry_run.prepared(dry_run.small(job), folder)
        ready = replace(job, model=ready.model, data=ready.data, train_problems=8, test_problems=2)
        ready = replace(ready, prompt_length=max(dry_run.BYTES, job.prompt_length))
        verl_files.write(ready, folder)
        config, lines = _configured(ready, folder, nodes, gpus)
        lines += _problems(config)
        lines.append(_advantages(ready, config))
    return [*(f"ok: {line}" for line in lines), NOT_CHECKED]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what verl says of the accelerators and engines that are not here."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _configured(job: Job, folder: Path, nodes: int, gpus: int) -> tuple[Any, list[str]]:
    """Return verl's whole configuration, and what the lab and verl's own checks say of it."""
    asked = overrides(job, folder, nodes, gpus)
    config = verl_config.compose(asked)
    notes = verl_config.check_config(config)
    try:
        need("verl.utils.config").validate_config(config, use_reference_policy=False, use_critic=False)
    except (AssertionError, ValueError) as error:
        raise InputError(f"verl refuses its configuration: {error}") from None
    line = f"configuration: {len(asked)} settings composed by verl, whose own checks and the lab's pass"
    return config, [line, *(f"note: {note}" for note in notes)]


def _problems(config: Any) -> list[str]:
    """Read every file as verl's data set, and score a right and a wrong answer by the function that verl would load."""
    model = need("verl.utils.config").omega_conf_to_dataclass(config.actor_rollout_ref.model)
    score = need("verl.trainer.ppo.reward").get_custom_reward_fn(config)
    kind = need("verl.utils.dataset.rl_dataset").RLHFDataset
    counts = []
    for file in (config.data.train_files, *config.data.val_files):
        dataset = kind(file, tokenizer=model.tokenizer, config=config.data)
        for row in (dataset[index] for index in range(len(dataset))):
            _check_scores(score, row)
        counts.append(f"{len(dataset)} of {Path(file).stem}")
    text = model.tokenizer.apply_chat_template(
        list(dataset[0]["raw_prompt"]), tokenize=False, add_generation_prompt=True
    )
    return [
        f"problems: {', '.join(counts)}, read by verl's data set",
        f"prompts: {text[:60]!r}...",
        f"rewards: right and wrong answers to all of them told apart by {config.reward.custom_reward_function.name}",
    ]


def _check_scores(score: Any, row: Any) -> None:
    """Raise `InputError` unless a problem's own answer is right and another wrong."""
    known, info = row["reward_model"]["ground_truth"], row["extra_info"]
    for answer, expected in ((known, 1.0), ("-987654", 0.0)):
        text = dry_run.as_extracted(answer, info["extraction"])
        got = score(data_source=row["data_source"], solution_str=text, ground_truth=known, extra_info=info)
        dry_run.require(got == expected, f"a reward of {expected} for {text!r}, got {got}")


def _advantages(job: Job, config: Any) -> str:
    """Compare verl's advantages of two groups, shuffled, with the estimator's."""
    verl.register()
    count = job.rollouts
    rewards = torch.zeros(2, count)
    rewards[0, 0], rewards[1, : count // 2] = 1.0, 1.0
    order = torch.randperm(2 * count, generator=torch.Generator().manual_seed(0))
    token_level = torch.stack([torch.zeros(2 * count), rewards.flatten()[order]], -1)
    batch = need("verl").DataProto.from_dict(
        tensors={"token_level_rewards": token_level, "response_mask": torch.ones(2 * count, 2)},
        non_tensors={"uid": np.array([f"prompt {index // count}" for index in order.tolist()], dtype=object)},
    )
    trainer = need("verl.trainer.ppo.ray_trainer")
    computed = trainer.compute_advantage(batch, config.algorithm.adv_estimator, config=config.algorithm)
    estimator = estimators.resolve(job.estimator, count)
    wanted = torch.as_tensor(estimator(rewards)).flatten()[order]
    dry_run.require(
        torch.allclose(computed.batch["advantages"], wanted[:, None].expand(-1, 2)),
        "the estimator's advantages from verl",
    )
    return f"advantages: verl's compute_advantage of 2 x {count} rollouts gives {job.estimator}"
