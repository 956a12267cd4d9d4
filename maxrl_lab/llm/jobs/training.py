"""Run a recipe with TRL: load the model and the problems, train with an estimator, evaluate; a killed run continues.

accelerate decides on the devices: `accelerate launch` starts a process for each, and all of them come through here.
"""

import gc
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from maxrl_lab import exact
from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.llm.jobs.recipe import EMBEDDED, Recipe
from maxrl_lab.llm.models import evaluation, weights
from maxrl_lab.llm.models.loading import Policy, add_end, load
from maxrl_lab.llm.problems import data, rewards, tasks
from maxrl_lab.rows import Row
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.files import file_name

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
"""What the trainer logs, and its name in our rows."""

_SHOTS_SEED = 2047
_VLLM = {"vllm_importance_sampling_correction": False}
"""TRL's correction drops answers to which vLLM gives another probability; their rewards would still count in K."""


def load_policy(recipe: Recipe, device: torch.device) -> Policy:
    """Return the recipe's model, in float32, whose answers the recipe's `end` ends, too; `ValueError` as `load`."""
    need("transformers")
    place = place_of(recipe)
    try:
        policy = load(place)
    except ValueError as error:
        raise InputError(f"{error}; offline: --model {EMBEDDED}, or a local folder") from None
    add_end(policy, recipe.end)
    return Policy(policy.model.to(device), policy.tokenizer)


def place_of(recipe: Recipe) -> Path | str:
    """Return the folder of the recipe's model, or its name on the hub."""
    return weights.embedded() if recipe.model == EMBEDDED else recipe.model


def training_set(recipe: Recipe, seed: int, path: Path | None = None) -> Any:
    """Return the training problems as a data set.

    `path` is a local file in the source's schema, or a folder with one for each collection, `gsm8k-train.jsonl`, say.
    """
    return _problems(recipe, recipe.source, "train", recipe.train_problems, seed, path)


def held_out_sets(recipe: Recipe, path: Path | None = None) -> dict[str, Any]:
    """Return the problems evaluated on, by the name of their collection; the same for every seed; `path` as above."""
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
    """Return the file of a collection in a folder, None for problems that are made; `ValueError` if it is missing."""
    if source.startswith(tasks.PREFIX):
        return None
    found = sorted(each for each in folder.glob(f"{source}-{split}.*") if each.is_file())
    if len(found) != 1:
        raise InputError(f"expected one file {source}-{split}.jsonl (or .json, .csv, .parquet) in {folder}")
    return found[0]


def _shots(recipe: Recipe, form: str) -> str:
    """Worked examples of the training split, a line each, in the form of the question."""
    if not recipe.shots:
        return ""
    shown = data.reasoning_gym_problems(
        recipe.source.removeprefix(tasks.PREFIX), recipe.shots, _SHOTS_SEED, recipe.task_config(), "train"
    )
    return "".join(f"{data.filled(form, each).strip()} {each['answer']}\n" for each in shown)


def trainer_settings(recipe: Recipe, folder: Path, seed: int, device: torch.device) -> Any:
    """Return the recipe as TRL's `GRPOConfig`, for the processes that accelerate has started."""
    from maxrl_lab.llm.trl import trainer as trl

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
) -> tuple[Policy, list[Row]]:
    """Train the policy, or go on from the last checkpoint in `folder`; return it with a row an update.

    The rows hold `LOGGED`, and where the seconds went. With low-rank adapters the policy comes back with them. `keep`
    is a folder for the trained policy, gathered from all processes, as safetensors; where they have sharded it, what
    is returned is this process's shard. `callbacks` are transformers'.
    """
    from maxrl_lab.llm.trl import trainer as trl

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
    if (last := trl.last_checkpoint(folder)) and _history(last)["global_step"] >= recipe.steps:
        trl.refuse_other_record(last, trainer._record)
        del trainer
        return _finished(recipe, last, device, keep)
    trainer.train(resume_from_checkpoint=True)
    if keep is not None:
        trainer.save_model(str(keep))
        (keep / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nobody needs
    rows = update_rows(trainer.state.log_history)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # float32 again, as it is loaded
    del trainer
    gc.collect()
    return Policy(model, policy.tokenizer), rows


def _history(checkpoint: Path) -> Any:
    """The trainer's account of its updates so far."""
    return json.loads((checkpoint / "trainer_state.json").read_text())


def _finished(recipe: Recipe, checkpoint: Path, device: torch.device, keep: Path | None) -> tuple[Policy, list[Row]]:
    """Return what the last checkpoint of a whole training holds; transformers would make an update more."""
    policy = load_policy(replace(recipe, model=str(checkpoint)), device)
    if keep is not None and os.environ.get("RANK", "0") == "0":
        policy.model.save_pretrained(keep)
        policy.tokenizer.save_pretrained(keep)
    return policy, update_rows(_history(checkpoint)["log_history"])


def _adapters(recipe: Recipe) -> Any:
    if not recipe.lora:
        return None
    return need("peft").LoraConfig(
        r=recipe.lora, lora_alpha=2 * recipe.lora, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def update_rows(history: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return a row an update from the trainer's log: `LOGGED`, seconds, and tokens computed a second.

    `seconds_update` is the gradient's, without the optimiser's own step.
    """
    rows, seen = [], 0.0
    for logged in history:
        if "group/pass_rate" not in logged:
            continue
        tokens, seen = logged["num_tokens"] - seen, logged["num_tokens"]
        rows.append(
            {
                "step": logged["step"],
                **{ours: logged[theirs] for theirs, ours in LOGGED.items()},
                "seconds_sample": logged["sample_time"],
                "seconds_update": logged["step_time"] - logged["sample_time"],
                "tokens_per_second": tokens / logged["step_time"],
            }
        )
    return rows


def engine(recipe: Recipe, policy: Policy | Path | str) -> evaluation.Engine:
    """Return what draws a policy's answers to held-out problems.

    A policy in memory is sampled by transformers, where it is; one in a folder or on the hub by vLLM, if
    `engines.has_vllm`, on the first GPU.
    """
    model, tokenizer = policy if isinstance(policy, Policy) else (policy, None)
    return evaluation.engine(model, tokenizer, recipe.sampling(), "cuda" if torch.cuda.is_available() else "cpu")


def evaluate(engine: evaluation.Engine, sets: Mapping[str, Any], checkpoint: Checkpoint, name: str) -> list[Row]:
    """Return `evaluation.evaluate`'s rows of every collection, with its name as `source`; `name` is the policy's."""
    rows: list[Row] = []
    for source, problems in sets.items():
        place = file_name(f"{name}-{source}")
        found = evaluation.evaluate(engine, list(problems), checkpoint.stage(place), key=place)
        rows += [{"source": source, **row} for row in found]
    return rows


def check_devices(device: torch.device) -> None:
    """Raise `ValueError` unless the trainer would take this device: the first GPU of a process's own, or the CPU."""
    processes, visible = int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.device_count()
    if device.type == "cuda" and processes == 1 and (visible > 1 or device.index):
        raise InputError(
            f"expected one visible GPU, or a process for each (accelerate launch), got {device} of {visible}; "
            f"set CUDA_VISIBLE_DEVICES={device.index or 0}"
        )
