"""The same recipe for verl 0.9, on a cluster: its files, its settings, its command.

    python -m experiments.llm.verl_job qwen3_4b_polaris --estimator maxrl --nodes 4 --gpus 8         # write and print
    python -m experiments.llm.verl_job qwen3_4b_polaris --estimator pkpo:k=8 --nodes 4 --gpus 8 --run
    python -m experiments.llm.verl_job qwen3_4b_polaris --dry-run                                    # no GPU, no Ray

`--run` starts verl in this environment, on the head of a Ray cluster with the GPUs (`ray start --head`, then `ray start
--address=HEAD:6379` on the others); OUT must be on a disk that all nodes see, and the lab installed on all of them.
The 4 nodes of 8 H200s are the paper's. The dry run checks all that verl can check on a CPU: its configuration, its data
set, its reward function and its advantages. Not its workers: sampling by vLLM and training under Ray need GPUs.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs import training
from maxrl_lab.llm.jobs.recipe import EMBEDDED
from maxrl_lab.llm.jobs.recipes import RECIPES, Settings, settings_of
from maxrl_lab.llm.problems import data, rewards
from maxrl_lab.llm.verl import config as verl_config
from maxrl_lab.runs import files
from maxrl_lab.runs.command_line import Parser, add_settings, guarded, read_settings

COMMAND = "python -m experiments.llm.verl_job"
MODULE = "verl.trainer.main_ppo"
JOB = "settings.json"
"""Of a job, in its folder, written once its files are there."""
_PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""The chat format of prompts that the model just continues."""
_LOSS = "actor_rollout_ref.actor.loss_agg_mode"


def main(arguments: Sequence[str]) -> int:
    """Write the job's files and print its command, run it, or check all of it."""
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"usage: {COMMAND} RECIPE [flags]; RECIPE is one of: {', '.join(RECIPES)}")
    name = arguments[0]
    parser = Parser(f"{COMMAND} {name}", (__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1, help="machines of the Ray cluster")
    parser.add_argument("--gpus", type=int, default=8, help="GPUs of each")
    parser.add_argument("--out", type=Path, help="folder of the job (default: results/verl/NAME/ESTIMATOR-SEED)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--run", action="store_true", help="start verl, instead of printing the command")
    what.add_argument("--dry-run", action="store_true", help="check all of it on the CPU, with a tiny model")
    defaults = settings_of(name)
    add_settings(parser, defaults)
    flags = parser.parse_args(list(arguments[1:]))
    settings = read_settings(flags, defaults)
    if flags.dry_run:
        from maxrl_lab.llm.jobs import verl_dry_run

        for line in verl_dry_run.check(settings, flags.nodes, flags.gpus):
            print(line)
        return 0
    place = files.file_name(f"{settings.estimator}-{settings.seed}")
    folder = (flags.out or Path("results/verl") / name / place).absolute()
    asked = overrides(settings, folder, flags.nodes, flags.gpus)
    verl_config.check_config(verl_config.compose(asked))
    refuse_other_job(folder, settings)
    write(settings, folder)
    files.write_json(folder / JOB, asdict(settings))
    command = [sys.executable, "-m", MODULE, *asked]
    if flags.run:
        return subprocess.run(command).returncode
    print(shlex.join(["python", *command[1:]]))
    return 0


def refuse_other_job(folder: Path, settings: Settings) -> None:
    """Raise `ValueError` if the folder holds a job with other settings, which verl would continue."""
    file, wanted = folder / JOB, json.loads(json.dumps(asdict(settings)))
    try:
        found = json.loads(file.read_text()) if file.exists() else wanted
    except ValueError as error:
        raise InputError(f"{file} is not readable JSON ({error}); choose another --out") from None
    if name := files.first_difference(found, wanted):
        raise InputError(
            f"{folder} holds a job with other settings ({name} = {found.get(name)!r} there, {wanted[name]!r} now); "
            "choose another --out"
        )


def write(settings: Settings, folder: Path) -> None:
    """Write the problems for verl, and the model where it differs from the one on the hub; all or nothing at first."""
    local = Path(settings.data) if settings.data else None
    problems = training.training_set(settings, settings.seed, local)
    sets = training.held_out_sets(settings, local if local is None or local.is_dir() else None)
    policy = training.load_policy(settings, torch.device("cpu")) if _own_model(settings) else None
    for file, each in zip(_files(settings, folder), [problems, *sets.values()], strict=True):
        data.to_verl(each, file)
    if policy is not None:
        policy.model.save_pretrained(folder / "model")  # with all its end tokens, which vLLM reads there
        policy.tokenizer.save_pretrained(folder / "model")


def _own_model(settings: Settings) -> bool:
    return settings.model == EMBEDDED or bool(settings.end)


def _files(settings: Settings, folder: Path) -> list[Path]:
    """The file of training problems and those of the collections evaluated on."""
    tests = [f"test-{source.replace('/', '-')}" for source in settings.tests or (settings.source,)]
    return [folder / f"{name}.parquet" for name in ("train", *tests)]


def overrides(settings: Settings, folder: Path, nodes: int, gpus: int) -> list[str]:
    """Return the arguments of verl's `main_ppo` that say what the recipe says, for files in `folder`.

    On-policy: one update of all rollouts, then new ones. No KL term, no entropy bonus, no truncation of the sampled
    distribution. AdamW without weight decay, as TRL's. Raises `ValueError` for rollouts that do not split over the
    GPUs, and for float32 arithmetic, which verl's actor does not have.
    """
    devices = specs.check_count("--nodes", nodes) * specs.check_count("--gpus", gpus)
    settings.accumulation(devices)
    if settings.precision != "bfloat16":
        raise InputError(f"verl computes in bfloat16; this recipe says precision = {settings.precision!r}")
    asked = {
        **_algorithm(settings),
        **_problems(settings, folder),
        **_actor(settings, folder),
        **_rollout(settings),
        **_trainer(settings, folder, nodes, gpus),
    }
    return [f"{key}={_text(value)}" for key, value in asked.items()]


def _algorithm(settings: Settings) -> dict[str, Any]:
    name, options = specs.parse(settings.estimator, settings.rollouts)
    asked: dict[str, Any] = {"algorithm.adv_estimator": _Name(verl_config.PREFIX + name)}
    asked |= {f"+algorithm.{verl_config.SECTION}.{option}": value for option, value in options.items()}
    if settings.token_mean:
        asked[f"+algorithm.{verl_config.SECTION}.allow"] = [_LOSS]
    return {**asked, "algorithm.use_kl_in_reward": False}


def _problems(settings: Settings, folder: Path) -> dict[str, Any]:
    train, *tests = _files(settings, folder)
    return {
        "data.train_files": str(train),
        "data.val_files": [str(each) for each in tests],
        "data.train_batch_size": settings.prompts,
        "data.max_prompt_length": settings.prompt_length,
        "data.max_response_length": settings.answer_length,
        "data.filter_overlong_prompts": True,
        "data.seed": settings.seed,
        "reward.custom_reward_function.path": rewards.__file__,
        "reward.custom_reward_function.name": _Name(rewards.compute_score.__name__),
    }


def _actor(settings: Settings, folder: Path) -> dict[str, Any]:
    actor, model = "actor_rollout_ref.actor", "actor_rollout_ref.model"
    asked: dict[str, Any] = {
        f"{model}.path": str(folder / "model") if _own_model(settings) else settings.model,
        f"{model}.enable_gradient_checkpointing": settings.checkpointing,
        f"{model}.lora_rank": settings.lora,
        f"{model}.lora_alpha": 2 * settings.lora or 16,
        f"{actor}.optim.lr": settings.learning_rate,
        f"{actor}.optim.weight_decay": 0.0,
        f"{actor}.grad_clip": settings.clip,
        f"{actor}.ppo_mini_batch_size": settings.prompts,
        f"{actor}.ppo_micro_batch_size_per_gpu": settings.micro_batch,
        f"{actor}.ppo_epochs": 1,
        f"{actor}.use_kl_loss": False,
        f"{actor}.entropy_coeff": 0,
        _LOSS: _Name("token-mean" if settings.token_mean else "seq-mean-token-sum"),
    }
    return asked if settings.chat else {**asked, f"{model}.custom_chat_template": _PLAIN}


def _rollout(settings: Settings) -> dict[str, Any]:
    rollout = "actor_rollout_ref.rollout"
    return {
        f"{rollout}.name": _Name("vllm"),
        f"{rollout}.n": settings.rollouts,
        f"{rollout}.temperature": settings.temperature,
        f"{rollout}.top_p": 1.0,
        f"{rollout}.top_k": -1,
        f"{rollout}.tensor_model_parallel_size": 1,
        f"{rollout}.log_prob_micro_batch_size_per_gpu": settings.micro_batch,
        f"{rollout}.val_kwargs.n": settings.samples,
        f"{rollout}.val_kwargs.do_sample": settings.test_temperature > 0,
        f"{rollout}.val_kwargs.temperature": settings.test_temperature,
        f"{rollout}.val_kwargs.top_p": settings.test_top_p,
    }


def _trainer(settings: Settings, folder: Path, nodes: int, gpus: int) -> dict[str, Any]:
    return {
        "trainer.nnodes": nodes,
        "trainer.n_gpus_per_node": gpus,
        "trainer.total_training_steps": settings.steps,
        "trainer.total_epochs": settings.steps,  # never the shorter of the two: an epoch has at least one update
        "trainer.save_freq": settings.save_every,
        "trainer.test_freq": settings.save_every,
        "trainer.max_actor_ckpt_to_keep": 1,
        "trainer.default_local_dir": str(folder / "checkpoints"),
        "trainer.validation_data_dir": str(folder / "validation"),
        "trainer.logger": ["console"],
    }


class _Name(str):
    """A value that needs no quotation marks."""


def _text(value: Any) -> str:
    """Return a value as hydra reads it; texts in quotation marks, so that no sign in a path means anything."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, str) and not isinstance(value, _Name):
        return '"' + value.replace('"', '\\"') + '"'
    return str(value)


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
