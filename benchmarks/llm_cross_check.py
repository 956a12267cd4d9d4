"""Are the lab's own trainer and TRL with `EstimatorTrainer` the same algorithm? Same policy, problems and optimiser.

    python -m benchmarks.llm --cross-check        (five minutes; needs the extra `llm`)

`gradients`: on the same answers, the gradients of a step; they should differ by rounding. `curves`: each trainer
samples its own answers and trains for a while; their pass rates should differ by chance, which an interval bounds.
"""

import copy
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from envs.maze import Maze
from maxrl_lab.policies.stack import seeded
from maxrl_lab.policies.transformer import PAPER_MAZE, Shape, Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.tokens import pretrained, qwen2
from maxrl_lab.tokens.batch import TokenBatch, Verify
from maxrl_lab.tokens.decoding import PAD, Vocabulary, padded
from maxrl_lab.tokens.scoring import read, score
from maxrl_lab.tokens.tasks import Problems, TokenTask
from maxrl_lab.tokens.writing import Prompts, Writing, write
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Sampled
from maxrl_lab.training.step import run_losses, take_step

VerifyAt = Callable[[list[int], Tensor, Tensor], Tensor]
"""Indices of B problems, answers (B, N, T) and lengths (B, N) to (B, N) bool: which are right."""
Named = dict[str, Tensor]
"""Tensors under the names of `Qwen2ForCausalLM`."""


class Judge:
    """A verifier as TRL's reward function; keeps the pass rate of every call."""

    __name__ = "judge"

    def __init__(self, verify: VerifyAt, rollouts: int) -> None:
        self.verify, self.rollouts = verify, rollouts
        self.pass_rates: list[float] = []

    def __call__(self, completion_ids: list[list[int]], index: list[int], **_: Any) -> list[float]:
        """Return 0 or 1 for each of the answers, N in a row for each problem."""
        written, lengths = (part.unflatten(0, (-1, self.rollouts)) for part in padded(completion_ids))
        rewards = self.verify(index[:: self.rollouts], written, lengths).flatten().float()
        self.pass_rates.append(float(rewards.mean()))
        return rewards.tolist()


@dataclass(frozen=True)
class Update:
    """The settings of both trainers."""

    estimator: str = "maxrl"
    prompts: int = 16
    """Number B of problems in each update."""
    rollouts: int = 8
    """Number N of answers to each problem."""
    answer_length: int = 18
    """Largest number T of tokens in an answer."""
    temperature: float = 1.0
    learning_rate: float = 5e-4
    clip: float = 1.0
    """Largest norm that a gradient may have; 0 is no bound."""
    updates: int = 1

    def writing(self) -> Writing:
        """Return how the lab samples and scores answers."""
        return Writing(self.answer_length, temperature=self.temperature)


def trl_trainer(
    policy: Transformer,
    words: Vocabulary,
    problems: Problems,
    judge: Judge,
    update: Update,
    folder: Path,
    **others: Any,
) -> Any:
    """Return `EstimatorTrainer` on the lab's policy, saved and opened by `transformers`; B problems an update."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    from maxrl_lab.llm.trl import EstimatorTrainer, settings

    pretrained.save(policy, folder, words.words)
    rows = zip(problems.prompts.tolist(), problems.lengths.tolist(), strict=True)
    texts = [" ".join(words.decode(ids[:length])) for ids, length in rows]
    count = update.prompts * update.rollouts
    accumulated = 2 if count % 2 == 0 else 1
    args = settings(
        folder / "out",
        num_generations=update.rollouts,
        per_device_train_batch_size=count // accumulated,
        gradient_accumulation_steps=accumulated,
        max_completion_length=update.answer_length,
        temperature=update.temperature,
        max_steps=update.updates,
        learning_rate=update.learning_rate,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=update.clip,
        **QUIET,
    )
    return EstimatorTrainer(
        AutoModelForCausalLM.from_pretrained(folder),
        judge,
        args,
        estimator=update.estimator,
        train_dataset=Dataset.from_dict({"prompt": texts, "index": list(range(len(texts)))}),
        processing_class=PreTrainedTokenizerFast.from_pretrained(folder),
        **others,
    )


QUIET = {
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "shuffle_dataset": False,
    "dataloader_pin_memory": False,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def lab_gradient(batch: TokenBatch, estimator: str, rollouts: int) -> Named:
    """Return the gradient of the lab's step on a batch."""
    batch.policy.zero_grad()
    run_losses(batch, [Sampled(estimator, rollouts)]).sum().backward()
    twin = copy.deepcopy(batch.policy)
    for copied, trained in zip(twin.parameters(), batch.policy.parameters(), strict=True):
        copied.data = torch.zeros_like(trained) if trained.grad is None else trained.grad.clone()
    return qwen2.to_qwen2(twin)


def trl_gradient(batch: TokenBatch, words: Vocabulary, update: Update) -> Named:
    """Return the gradient of TRL's step on the answers that the lab samples for the batch."""
    from transformers import TrainerCallback

    gradients: Named = {}

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
            gradients.update((name, weights.grad.clone()) for name, weights in model.named_parameters())

    stream = generator("answers", batch.seed, batch.step, update.rollouts)
    written = write(batch.policy, batch.prompts, update.rollouts, batch.writing, stream)
    rows = zip(written.tokens.flatten(0, 1).tolist(), written.lengths.flatten().tolist(), strict=True)
    sampled = [ids[:length] for ids, length in rows]

    def same(prompts: list[str], trainer: Any) -> dict[str, Any]:
        return {
            "prompt_ids": trainer.processing_class(prompts)["input_ids"],
            "completion_ids": sampled,
            "logprobs": None,
        }

    problems = Problems(*batch.prompts, np.arange(len(batch.prompts.tokens)))
    judge = Judge(lambda _, *answer: batch.verify(*answer), update.rollouts)
    with TemporaryDirectory() as folder:
        others = {"rollout_func": same, "callbacks": [Keep()]}
        train_quietly(trl_trainer(batch.policy, words, problems, judge, update, Path(folder), **others))
    return gradients


def without_padding(gradient: Named) -> Named:
    """Return it without the embedding of <pad>.

    A policy that has learnt nothing writes <pad> now and then; `transformers` embeds it without a gradient.
    """
    embedding = gradient["model.embed_tokens.weight"].clone()
    embedding[PAD] = 0
    return gradient | {"model.embed_tokens.weight": embedding}


def apart(gradient: Named, wanted: Named) -> float:
    """Return the norm of the difference over the norm of `wanted`, all tensors together."""
    if gradient.keys() != wanted.keys():
        raise ValueError(f"expected the tensors {', '.join(wanted)}, got {', '.join(gradient)}")
    gap = sum(float((gradient[name] - wanted[name]).double().square().sum()) for name in wanted)
    return float((gap / sum(float(tensor.double().square().sum()) for tensor in wanted.values())) ** 0.5)


def odd(written: Tensor, lengths: Tensor) -> Tensor:
    """Return which answers' ids sum to an odd number: half of those of a policy that has learnt nothing."""
    counted = torch.arange(written.shape[-1]) < lengths[..., None]
    return (written * counted).sum(-1) % 2 == 1


def paper_gaps(estimators: Sequence[str], prompts: int = 4) -> dict[str, float]:
    """Return each estimator's `apart` of TRL's and the lab's gradient: the paper's maze policy, 9 x 9 mazes, N = 8."""
    task = Maze(9)
    problems = task.problems(prompts)
    policy = seeded(lambda: Transformer(PAPER_MAZE), "cross-check", 0)
    gaps = {}
    for name in estimators:
        update = Update(name, prompts, answer_length=task.answer_length, clip=0.0)
        held = Prompts(problems.prompts, problems.lengths)
        batch = TokenBatch(policy, held, odd, update.writing(), seed=0, step=0)
        both = trl_gradient(batch, task.vocabulary, update), lab_gradient(batch, name, update.rollouts)
        gaps[name] = apart(*map(without_padding, both))
    return gaps


def briefly_pretrained(task: TokenTask, steps: int = 300, size: int = 32) -> Transformer:
    """Return a small policy that has seen `steps` batches of solutions: right now and then, far from always."""
    shape = Shape(len(task.vocabulary), width=32, layers=2, heads=2, kv_heads=1, mlp=64, context=128)
    policy = seeded(lambda: Transformer(shape), "cross-check", 0)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for step in range(steps):
        problems = task.problems(size, seed=1, step=step)
        solutions, lengths = task.solutions(problems.content, np.random.default_rng(step))
        prefix = read(policy, problems.prompts, problems.lengths)
        log_probs, _ = score(policy, prefix, solutions[:, None], lengths[:, None])
        optimiser.zero_grad()
        (-log_probs.mean()).backward()
        optimiser.step()
    return policy


def lab_curve(task: TokenTask, policy: Transformer, update: Update, seed: int) -> list[float]:
    """Return the pass rate of every update of the lab's trainer; the policy itself stays as it is."""
    policy = copy.deepcopy(policy)
    optimisation = fit.Optimisation(update.updates, "adam")  # AdamW without decay
    optimiser = fit.make_optimiser(optimisation, [policy], [update.learning_rate])
    method, curve = Sampled(update.estimator, update.rollouts), []
    for step in range(update.updates):
        problems = task.problems(update.prompts, seed=seed, step=step)
        held = Prompts(problems.prompts, problems.lengths)
        verify = _verifier(task, problems)
        batch = TokenBatch(policy, held, verify, update.writing(), seed, step)
        take_step(run_losses(batch, [method]), optimiser, update.clip)
        curve.append(batch.seen["pass_rate"])
    return curve


def _verifier(task: TokenTask, problems: Problems) -> Verify:
    return lambda written, lengths: task.verify(problems.content, written, lengths)


def trl_curve(task: TokenTask, policy: Transformer, update: Update, seed: int) -> list[float]:
    """Return the pass rate of every update of TRL's trainer on the same problems in the same order."""
    parts = [task.problems(update.prompts, seed=seed, step=step) for step in range(update.updates)]
    prompts = [ids[:length] for part in parts for ids, length in zip(part.prompts.tolist(), part.lengths, strict=True)]
    content = np.concatenate([part.content for part in parts])
    judge = Judge(lambda indices, *answer: task.verify(content[indices], *answer), update.rollouts)
    torch.manual_seed(seed)
    with TemporaryDirectory() as folder:
        problems = Problems(*padded(prompts), content)
        train_quietly(trl_trainer(policy, task.vocabulary, problems, judge, update, Path(folder)))
    return judge.pass_rates


def train_quietly(trainer: Any) -> None:
    """Train without the summary that `transformers` prints."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        trainer.train()


class Comparison(NamedTuple):
    """Pass rates of both trainers over seeds, and what separates them."""

    lab: np.ndarray
    """Pass rates of the lab's trainer, (R, updates)."""
    trl: np.ndarray
    """Pass rates of TRL's trainer, (R, updates)."""
    last: int
    """Number of updates at the end that are compared."""
    level: float
    """Probability that the interval holds the true difference."""

    def difference(self) -> tuple[float, float]:
        """Return the mean over seeds of TRL less the lab, over the last updates, and the half-width of its interval."""
        gaps = (self.trl - self.lab)[:, -self.last :].mean(1)
        factor = stats.t.ppf((1 + self.level) / 2, len(gaps) - 1)
        return float(gaps.mean()), float(factor * gaps.std(ddof=1) / len(gaps) ** 0.5)

    def gain(self) -> float:
        """Return how much the lab's pass rate grows from the first to the last updates."""
        return float(self.lab[:, -self.last :].mean() - self.lab[:, 0].mean())


def curves(seeds: int = 8, update: Update | None = None, last: int = 10, level: float = 0.99) -> Comparison:
    """Return both trainers' learning curves on 7 x 7 mazes, paired by seed; one false alarm in 100 at this level."""
    update = update or Update(updates=30)
    task = Maze(7, update.answer_length)
    policy = briefly_pretrained(task)
    both = [[curve(task, policy, update, seed) for seed in range(seeds)] for curve in (lab_curve, trl_curve)]
    return Comparison(*map(np.array, both), last, level)


def ask_nobody() -> None:
    """Keep the Hugging Face hub from being asked, and TRL from warning of `rollout_func`, in this process."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when huggingface_hub is imported
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def report() -> None:
    """Print both comparisons."""
    print("gradients of a step, TRL against the lab, same answers: |difference| / |gradient|", flush=True)
    for name, gap in paper_gaps(("maxrl", "grpo", "rloo")).items():
        print(f"  {name:<8} {gap:.1e}", flush=True)
    comparison = curves()
    difference, half_width = comparison.difference()
    print(
        f"pass rates of {len(comparison.lab)} seeds, {comparison.lab.shape[1]} updates of maxrl on 7 x 7 mazes, N = 8"
    )
    for name in ("lab", "trl"):
        print(f"  {name}: " + " ".join(f"{rate:.2f}" for rate in getattr(comparison, name).mean(0)))
    print(
        f"  TRL less lab over the last {comparison.last} updates: {difference:+.3f} +- {half_width:.3f} "
        f"({comparison.level:.0%} interval, Student's t over seeds); the lab gains {comparison.gain():+.2f}"
    )
