"""A job as the command-line arguments of verl 0.9."""

from pathlib import Path
from typing import Any

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs import verl_files
from maxrl_lab.llm.jobs.recipes import Job
from maxrl_lab.llm.problems import rewards
from maxrl_lab.llm.verl import config as verl_config

_LOSS = "actor_rollout_ref.actor.loss_agg_mode"
_PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""The chat format of prompts that the model just continues."""


def overrides(job: Job, folder: Path, nodes: int, gpus: int) -> list[str]:
    """Return the arguments of verl's `main_ppo` that say what the recipe says, for files in `folder`.

    The job is on-policy: one update uses all rollouts, and the next one samples new ones. There is no KL term, no
    entropy bonus and no truncation of the sampled distribution; AdamW has no weight decay, as TRL's. Raises
    `InputError` for rollouts that do not split over the GPUs, and for float32 arithmetic, which verl's actor lacks.
    """
    devices = specs.check_count("--nodes", nodes) * specs.check_count("--gpus", gpus)
    job.accumulation(devices)
    if job.precision != "bfloat16":
        raise InputError(f"verl computes in bfloat16; this recipe says precision = {job.precision!r}")
    asked = {
        **_algorithm(job),
        **_problems(job, folder),
        **_actor(job, folder),
        **_rollout(job),
        **_trainer(job, folder, nodes, gpus),
    }
    return [f"{key}={_text(value)}" for key, value in asked.items()]


def _algorithm(job: Job) -> dict[str, Any]:
    name, options = specs.parse(job.estimator, job.rollouts)
    asked: dict[str, Any] = {"algorithm.adv_estimator": _Name(verl_config.PREFIX + name)}
    asked |= {f"+algorithm.{verl_config.SECTION}.{option}": value for option, value in options.items()}
    if job.token_mean:
        asked[f"+algorithm.{verl_config.SECTION}.allow"] = [_LOSS]
    return {**asked, "algorithm.use_kl_in_reward": False}


def _problems(job: Job, folder: Path) -> dict[str, Any]:
    train, *tests = verl_files.problem_files(job, folder)
    return {
        "data.train_files": str(train),
        "data.val_files": [str(test) for test in tests],
        "data.train_batch_size": job.prompts,
        "data.max_prompt_length": job.prompt_length,
        "data.max_response_length": job.answer_length,
        "data.filter_overlong_prompts": True,
        "data.seed": job.seed,
        "reward.custom_reward_function.path": rewards.__file__,
        "reward.custom_reward_function.name": _Name(rewards.compute_score.__name__),
    }


def _actor(job: Job, folder: Path) -> dict[str, Any]:
    actor, model = "actor_rollout_ref.actor", "actor_rollout_ref.model"
    asked: dict[str, Any] = {
        f"{model}.path": str(folder / "model") if verl_files.has_own_model(job) else job.model,
        f"{model}.enable_gradient_checkpointing": job.checkpointing,
        f"{model}.lora_rank": job.lora,
        f"{model}.lora_alpha": 2 * job.lora or 16,
        f"{actor}.optim.lr": job.learning_rate,
        f"{actor}.optim.weight_decay": 0.0,
        f"{actor}.grad_clip": job.clip,
        f"{actor}.ppo_mini_batch_size": job.prompts,
        f"{actor}.ppo_micro_batch_size_per_gpu": job.micro_batch,
        f"{actor}.ppo_epochs": 1,
        f"{actor}.use_kl_loss": False,
        f"{actor}.entropy_coeff": 0,
        _LOSS: _Name("token-mean" if job.token_mean else "seq-mean-token-sum"),
    }
    return asked if job.chat else {**asked, f"{model}.custom_chat_template": _PLAIN}


def _rollout(job: Job) -> dict[str, Any]:
    rollout = "actor_rollout_ref.rollout"
    return {
        f"{rollout}.name": _Name("vllm"),
        f"{rollout}.n": job.rollouts,
        f"{rollout}.temperature": job.temperature,
        f"{rollout}.top_p": 1.0,
        f"{rollout}.top_k": -1,
        f"{rollout}.tensor_model_parallel_size": 1,
        f"{rollout}.log_prob_micro_batch_size_per_gpu": job.micro_batch,
        f"{rollout}.val_kwargs.n": job.samples,
        f"{rollout}.val_kwargs.do_sample": job.test_temperature > 0,
        f"{rollout}.val_kwargs.temperature": job.test_temperature,
        f"{rollout}.val_kwargs.top_p": job.test_top_p,
    }


def _trainer(job: Job, folder: Path, nodes: int, gpus: int) -> dict[str, Any]:
    return {
        "trainer.nnodes": nodes,
        "trainer.n_gpus_per_node": gpus,
        "trainer.total_training_steps": job.steps,
        "trainer.total_epochs": job.steps,  # never the shorter of the two: an epoch has at least one update
        "trainer.save_freq": job.save_every,
        "trainer.test_freq": job.steps,  # before and after training, as jobs.train: thousands of answers each
        "trainer.max_actor_ckpt_to_keep": 1,
        "trainer.default_local_dir": str(folder / "checkpoints"),
        "trainer.validation_data_dir": str(folder / "validation"),
        "trainer.logger": ["console"],
    }


class _Name(str):
    """A text that needs no quotation marks."""


def _text(value: Any) -> str:
    """Return a value as hydra reads it; texts in quotation marks, so that no sign in a path means anything."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, str) and not isinstance(value, _Name):
        return '"' + value.replace('"', '\\"') + '"'
    return str(value)
