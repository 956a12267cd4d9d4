"""The training of a recipe with TRL: an estimator trains the policy, and a killed training continues.

accelerate decides on the devices: `accelerate launch` starts a process for each, and all of them come through here.
"""

import gc
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from maxrl_lab import exact
from maxrl_lab.llm import need
from maxrl_lab.llm.jobs import inputs
from maxrl_lab.llm.jobs.recipe import Recipe
from maxrl_lab.llm.models.loading import Policy
from maxrl_lab.llm.problems import rewards
from maxrl_lab.rows import Row

LOGGED = {
    "group/pass_rate": "pass_rate",
    "group/with_success": "with_success",
    "group/none_right": "none_right",
    "group/all_right": "all_right",
    "group/weight": "weight",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "cut_off",
    "entropy": "entropy",
    "grad_norm": "gradient_norm",
}
"""The trainer's name of each column of `update_rows`, and ours."""

_VLLM = {"vllm_importance_sampling_correction": False}
"""TRL's correction drops answers to which vLLM gives another probability; their rewards would still count in K."""


class Trained(NamedTuple):
    """A trained policy, and how its training went."""

    policy: Policy
    updates: list[Row]
    """One row an update, see `update_rows`."""
    timings: list[Row]
    """One row an update, see `timing_rows`."""


def train(
    recipe: Recipe,
    estimator: exact.AnyEstimator,
    policy: Policy,
    problems: Any,
    folder: Path,
    *,
    seed: int,
    keep: Path | None = None,
    callbacks: Sequence[Any] = (),
) -> Trained:
    """Train the policy, or go on from the last checkpoint in `folder`.

    With low-rank adapters the policy comes back with them. `keep` is a folder for the trained policy, gathered from all
    processes, as safetensors; where the processes have sharded it, the returned policy is this process's shard.
    `callbacks` are transformers'.
    """
    from maxrl_lab.llm.trl import trainer as trl  # imports TRL

    transformers = need("transformers")
    device = policy.model.device
    trainer = trl.EstimatorTrainer(
        policy.model,
        rewards.correct,
        trainer_settings(recipe, folder, seed, device),
        estimator=estimator,
        allow=("loss_type",) if recipe.token_mean else (),
        train_dataset=problems,
        processing_class=policy.tokenizer,
        peft_config=_adapters(recipe),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if (last := trl.last_checkpoint(folder)) and _state(last)["global_step"] >= recipe.steps:
        trl.refuse_other_record(last, trainer._record)
        del trainer
        return _finished(recipe, last, device, keep)
    trainer.train(resume_from_checkpoint=True)
    if keep is not None:
        trainer.save_model(str(keep))
        (keep / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nobody needs
    history = trainer.state.log_history
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # float32 again, as it is loaded
    del trainer
    gc.collect()
    return Trained(Policy(model, policy.tokenizer), update_rows(history), timing_rows(history))


def trainer_settings(recipe: Recipe, folder: Path, seed: int, device: torch.device) -> Any:
    """Return the recipe as TRL's `GRPOConfig`, for the processes that accelerate has started."""
    from maxrl_lab.llm.trl import config as trl  # imports TRL

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    loss = {"loss_type": "dapo", "importance_sampling_level": "token"} if recipe.token_mean else {}
    engine = {"use_vllm": True, "vllm_mode": "colocate", **_VLLM} if recipe.vllm else {}
    return trl.settings(
        folder,
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.accumulation(processes),
        num_generations=recipe.rollouts,
        max_completion_length=recipe.answer_length,
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=recipe.clip,
        temperature=recipe.temperature,
        bf16=recipe.precision == "bfloat16",
        gradient_checkpointing=recipe.checkpointing,
        seed=seed,
        save_steps=recipe.save_every,
        save_total_limit=2,  # the older one is whole while the newer is written
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type != "cpu",
        **loss,
        **engine,
    )


def _state(checkpoint: Path) -> Any:
    """Return the trainer's account of its updates so far."""
    return json.loads((checkpoint / "trainer_state.json").read_text())


def _finished(recipe: Recipe, checkpoint: Path, device: torch.device, keep: Path | None) -> Trained:
    """Return what the last checkpoint of a finished training holds; transformers would make one update more."""
    policy = inputs.load_policy(replace(recipe, model=str(checkpoint)), device)
    if keep is not None and os.environ.get("RANK", "0") == "0":
        policy.model.save_pretrained(keep)
        policy.tokenizer.save_pretrained(keep)
    history = _state(checkpoint)["log_history"]
    return Trained(policy, update_rows(history), timing_rows(history))


def _adapters(recipe: Recipe) -> Any:
    """Return peft's settings of the recipe's low-rank adapters, None without."""
    if not recipe.lora:
        return None
    return need("peft").LoraConfig(
        r=recipe.lora, lora_alpha=2 * recipe.lora, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def update_rows(history: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row an update from the trainer's log: the number of the update, and `LOGGED`."""
    return [
        {"step": logged["step"], **{ours: logged[theirs] for theirs, ours in LOGGED.items()}}
        for logged in _updates(history)
    ]


def timing_rows(history: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row an update from the trainer's log: the seconds of its parts, and the tokens computed in a second.

    `seconds_update` is the time of the gradient, without the optimiser's own step.
    """
    rows, computed = [], 0.0
    for logged in _updates(history):
        tokens, computed = logged["num_tokens"] - computed, logged["num_tokens"]
        rows.append(
            {
                "step": logged["step"],
                "seconds_sample": logged["sample_time"],
                "seconds_update": logged["step_time"] - logged["sample_time"],
                "tokens_per_second": tokens / logged["step_time"],
            }
        )
    return rows


def _updates(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries of the trainer's log that describe an update."""
    return [logged for logged in history if "group/pass_rate" in logged]
