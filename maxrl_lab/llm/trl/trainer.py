"""TRL's `GRPOTrainer` with an estimator of the lab in the place of its advantages.

    trainer = EstimatorTrainer(model, reward, settings("out", num_generations=16), estimator="maxrl",
                               train_dataset=problems, processing_class=tokenizer)

TRL gathers the rewards of whole groups over all processes before it computes advantages. There the estimator computes
them instead, and each process takes the share of its own rollouts; micro-batches, several processes and reuse of
rollouts stay TRL's. Two of TRL's methods are wrapped; their names are private, hence the narrow range of versions.

On-policy, as TRL is by default, the gradient is (1/BN) sum_i A_i S_i over B prompts and N rollouts of each, with S_i
summed over an answer's tokens (with `loss_type="dr_grpo"` divided by the constant `max_completion_length`). With
`num_iterations` above 1, or `steps_per_generation` above the accumulation, later updates follow TRL's clipped ratios of
answers that an older policy has sampled: the advantages are still the estimator's, the gradient is no longer exact, and
a run that is resumed between two updates of one generation samples that generation again.

A rollout for which no reward function has an answer ends the training, or with `lost="leave_out"` is left out of its
group. With TRL's `mask_truncated_completions` so is an answer that was cut off: what is optimised then is the chance
that an answer is right if it comes to an end, exactly so for estimators whose advantages sum to zero in every group.

Settings that would silently make it another objective are refused (`config`).
"""

import hashlib
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from maxrl_lab import estimators, exact, probe, specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm.trl import groups
from maxrl_lab.llm.trl.config import RULES, check_model, check_settings, refusal
from maxrl_lab.llm.trl.groups import Tables, combine, describe_groups
from maxrl_lab.runs.files import first_difference, write_json

# isort: split
from trl import GRPOConfig, GRPOTrainer  # after `config`, which says how to install it

RECORD = "maxrl_lab.json"
"""A file that is written last into every checkpoint, with its estimator and a digest of each other file; a checkpoint
without it is not complete."""


class EstimatorTrainer(GRPOTrainer):  # type: ignore[misc]
    """`GRPOTrainer` whose advantages an estimator computes, given as text (`pkpo:k=4`), as an object, or as a callable.

    A callable is read once for each N, as its table of 2(N+1) coefficients. `lost` is "refuse" or "leave_out" (see
    above); groups that are then too small end the training, unless the estimator is made by
    `estimators.zero_if_too_small`. `allow` names settings that `check_settings` would
    refuse and that are meant all the same, for example `loss_type` for the token mean of arXiv:2602.02710v1, App. F.
    All other arguments are `GRPOTrainer`'s. Besides TRL's own metrics, those of `describe_groups` are logged. Raises
    `InputError` for settings that are refused, for an estimator that does not exist at N = `num_generations`, and,
    while training, for rewards that are not 0 or 1.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any,
        args: GRPOConfig,
        *,
        estimator: exact.AnyEstimator,
        lost: str = "refuse",
        allow: Collection[str] = (),
        **others: Any,
    ) -> None:
        check_settings(args, allow)
        count = args.num_generations
        self._may_be_lost = specs.lookup({"refuse": False, "leave_out": True}, "value of lost", lost)
        self._tables = Tables(estimator)
        table = exact.coefficients(estimator, rollouts=count)
        self._record = record(probe.name_of(estimators.resolve(estimator, count)), table, args, allow) | {"lost": lost}
        self._rewards_per_function: Tensor | None = None
        self._updates_before = 0
        if isinstance(model, str):
            args.model_init_kwargs = {"use_safetensors": True, **(args.model_init_kwargs or {})}
        super().__init__(model=model, reward_funcs=reward_funcs, args=args, **others)
        named: Any = zip(self.reward_funcs, self.reward_func_names, strict=True)
        self.reward_funcs: list[Any] = [groups.check_answers(function, name) for function, name in named]
        if self.aux_loss_enabled and "router_aux_loss_coef" not in allow:
            raise InputError(refusal("router_aux_loss_coef", self.router_aux_loss_coef))
        if "generation_kwargs" not in allow:
            check_model(self.accelerator.unwrap_model(self.model))

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return TRL's rewards (B N, functions) of all processes, group after group; keep them for the advantages."""
        self._rewards_per_function = super()._calculate_rewards(*args, **kwargs)
        return self._rewards_per_function

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return TRL's batch of this process, with the estimator's advantages."""
        start = time.perf_counter()
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return batch
        self._metrics["train"]["sample_time"].append(time.perf_counter() - start)
        if self._rewards_per_function is None:
            raise RuntimeError("TRL made a batch without calling _calculate_rewards: its internals have moved")
        rewards, left = combine(self._rewards_per_function, self.reward_weights, may_be_lost=self._may_be_lost)
        if self.args.mask_truncated_completions:
            left &= self.accelerator.gather(batch["completion_mask"].any(1))  # TRL has masked what was cut off
        rewards, left = (column.unflatten(0, (-1, self.num_generations)) for column in (rewards, left))
        advantages = groups.advantages(self._tables, rewards, left).flatten()
        first = self.accelerator.process_index * len(inputs)
        batch["advantages"] = advantages[first : first + len(inputs)].to(batch["advantages"])
        for name, value in describe_groups(rewards, left, self._tables.weight).items():
            self._metrics["train"][name].append(value)
        self._logs["advantages"].extend(advantages.tolist())  # replaces TRL's: the log holds one batch
        return batch

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """Return TRL's sampler, in a resumed run beyond the epochs that are over, whose order TRL would repeat."""
        sampler = super()._get_train_sampler(dataset)
        batches = len(sampler) // self.args.generation_batch_size
        updates = max(1, -(-batches // self.args.gradient_accumulation_steps))
        for _ in range(self._updates_before // updates):
            next(iter(sampler), None)  # samples the order of one epoch
        return sampler

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        file = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}" / RECORD
        if self.args.should_save:
            file.unlink(missing_ok=True)  # left by an older checkpoint with the same number
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes the state of its random numbers
        if self.args.should_save:
            write_json(file, self._record | {"files": digests(file.parent)})

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, **others: Any) -> Any:
        """Train as `GRPOTrainer.train`; True resumes from the last complete checkpoint, or starts if there is none.

        Raises `InputError` for a checkpoint of another estimator, N or loss, for one with a damaged file, and where not
        one step was trained.
        """
        checkpoint: Any = resume_from_checkpoint
        if checkpoint is True:
            checkpoint = last_checkpoint(Path(self.args.output_dir))
        self._updates_before = 0
        if checkpoint:
            refuse_other_record(Path(checkpoint), self._record)
            self._updates_before = int(json.loads((Path(checkpoint) / "trainer_state.json").read_text())["global_step"])
        result = super().train(resume_from_checkpoint=str(checkpoint) if checkpoint else None, **others)
        if not self.state.global_step:
            prompts = self.args.generation_batch_size // self.num_generations
            raise InputError(f"nothing was trained: a generation takes {prompts} prompts, more than the data set has")
        return result


def record(name: str, table: tuple[Tensor, Tensor], args: GRPOConfig, allow: Collection[str]) -> dict[str, Any]:
    """Return what a checkpoint must share with its run: the estimator and its table, N, the settings of `RULES`."""
    digest = hashlib.sha256(json.dumps([column.tolist() for column in table]).encode()).hexdigest()
    names = (
        *RULES,
        "mask_truncated_completions",
        "importance_sampling_level",
        "temperature",
        "num_iterations",
        "steps_per_generation",
        "gradient_accumulation_steps",
        "max_completion_length",
        "learning_rate",
    )
    return {
        "estimator": name,
        "table_sha256": digest,
        "num_generations": args.num_generations,
        "allow": sorted(allow),
        **{name: getattr(args, name) for name in names},
    }


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint below `folder`, None if there is none."""
    complete = [file.parent for file in folder.glob(f"checkpoint-*/{RECORD}")]
    return max(complete, key=lambda checkpoint: int(checkpoint.name.rpartition("-")[2]), default=None)


def digests(checkpoint: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a checkpoint but the record, by its path in it."""
    names = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(checkpoint).as_posix(): _sha256(path) for path in names}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_other_record(checkpoint: Path, wanted: dict[str, Any]) -> None:
    """Raise `InputError` unless the checkpoint, whole, was written by a trainer with the same record."""
    file = checkpoint / RECORD
    try:
        written = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint} is no complete checkpoint of this trainer: {file.name}: {error}") from None
    plain = json.loads(json.dumps(wanted))
    if name := first_difference(written, plain):
        raise InputError(f"{checkpoint} was trained with {name} = {written.get(name)!r}, now it is {plain[name]!r}")
    if name := first_difference(digests(checkpoint), written.get("files") or {"its digests": ""}):
        raise InputError(
            f"{checkpoint} is damaged ({name}): remove it to go on from the one before, or all to start anew"
        )
