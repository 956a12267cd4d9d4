"""A real language model learns from right and wrong: SmolLM2-135M on arithmetic, with GRPO and with MaxRL.

The scheme of Sec. 6.3 and 6.4 of arXiv:2602.02710v1 at the smallest scale: every weight of an instruction-tuned model
is trained on-policy with TRL, whose advantages are replaced by an estimator's; unbiased pass@k on held-out problems
before and after, with intervals over problems. `quick` shows that the path works, on a laptop, in 20 minutes: a few
updates, one seed, one task. `full` is for a GPU. Needs `make llm`. Recipes of the paper's own size: `llm.recipes`.

    maxrl-lab run llm        (20 minutes on 2 cores)
"""

import itertools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments._shared import check_estimators
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.llm.jobs import training
from maxrl_lab.llm.jobs.recipe import Recipe
from maxrl_lab.llm.models.loading import Policy
from maxrl_lab.llm.problems import data
from maxrl_lab.rows import Row
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.files import file_name
from maxrl_lab.settings import check_lists

BASE = "base"
"""The policy that is not trained."""


@dataclass(frozen=True)
class Settings(Recipe):
    """A recipe, and what is compared on it."""

    config: str = '{"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}'
    """Of a reasoning-gym task, as JSON: sums and differences of two numbers of one or two digits."""
    template: str = "plain"
    """A name of `data.TEMPLATES`, or a text with {question} in it."""
    chat: bool = False
    """Whether the prompt is a user's turn in the model's chat format, or plain text that the model continues."""
    extraction: str = "line"
    """Where the answer stands: boxed, line, tag or number."""
    end: str = "\n"
    """A token that ends an answer besides the model's own."""
    train_problems: int = 2000
    """Training problems; 0 is all of a collection."""
    test_problems: int = 100
    """Problems evaluated on, of each collection; 0 is all."""
    prompts: int = 4
    """B, problems in an update."""
    rollouts: int = 16
    """N, answers to each."""
    steps: int = 20
    """Updates."""
    prompt_length: int = 32
    """Most tokens of a prompt, for what is computed of memory and speed."""
    answer_length: int = 6
    """Most tokens of an answer; longer ones are cut off, and wrong."""
    save_every: int = 10
    """Updates between checkpoints."""
    estimators: tuple[str, ...] = ("grpo", "maxrl")
    """Compared."""
    seeds: tuple[int, ...] = (0,)
    """Of the training problems, their order and the answers drawn."""

    def __post_init__(self) -> None:
        """Check also what is compared."""
        super().__post_init__()
        check_lists(seeds=self.seeds)
        for seed in self.seeds:
            if specs.check_count("seeds", seed, minimum=0) > data.MAX_SEED:
                raise InputError(f"seeds must be at most {data.MAX_SEED}, got {seed}")
        check_estimators(self.estimators, (self.rollouts,))


PRESETS = {
    "smoke": Settings(steps=1, prompts=1, rollouts=2, micro_batch=2, train_problems=4, test_problems=2, samples=4),
    "quick": Settings(),
    "full": Settings(
        steps=500,
        prompts=32,
        rollouts=32,
        micro_batch=128,
        precision="bfloat16",
        test_problems=512,
        samples=64,
        train_problems=20_000,
        save_every=100,
        estimators=("rloo", "grpo", "maxrl"),
        seeds=(0, 1, 2),
    ),
}


def run(settings: Settings, context: Context) -> list[Row]:
    """Return rows of view problem (right samples of each held-out one, before and after) and view training."""
    training.check_devices(context.device)
    rows = _evaluated(settings, context, BASE, 0, training.load_policy(settings, context.device))
    for seed, name in itertools.product(settings.seeds, settings.estimators):
        rows += _trained(settings, context, name, seed)
    return rows


def _trained(settings: Settings, context: Context, name: str, seed: int) -> list[Row]:
    """The rows of one run, and of its policy's evaluation; kept once it is done."""
    place = file_name(f"{name}-{seed}")
    done = context.checkpoint.stage(f"{place}-rows")
    if state := done.load():
        kept: list[Row] = state["rows"]
        return kept
    policy, updates = training.train(
        settings,
        name,
        training.load_policy(settings, context.device),
        training.training_set(settings, seed),
        context.checkpoint.path / place,
        seed=seed,
        callbacks=[_bar(context, f"llm: {name}")],
    )
    rows = [_labelled(settings, "training", name, seed, row) for row in updates]
    rows += _evaluated(settings, context, name, seed, policy)
    done.save({"rows": rows})
    shutil.rmtree(context.checkpoint.path / place, ignore_errors=True)  # gigabytes, which nobody needs any more
    return rows


def _bar(context: Context, label: str) -> Any:
    """A progress bar over the trainer's updates."""
    callback: Any = need("transformers").TrainerCallback

    class Bar(callback):  # type: ignore[misc]
        """Follows the trainer's state."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            self.steps = iter(context.progress(label)(range(state.global_step, state.max_steps)))
            next(self.steps, None)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            next(self.steps, None)

    return Bar()


def _evaluated(settings: Settings, context: Context, name: str, seed: int, policy: Policy) -> list[Row]:
    engine, sets = training.engine(settings, policy), training.held_out_sets(settings)
    found = training.evaluate(engine, sets, context.checkpoint, f"{name}-{seed}")
    return [_labelled(settings, "problem", name, seed, row) for row in found]


def _labelled(settings: Settings, view: str, name: str, seed: int, row: Mapping[str, Any]) -> Row:
    return {"view": view, "estimator": name, "seed": seed, "rollouts": settings.rollouts, **row}
