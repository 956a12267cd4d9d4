"""Does a small language model learn more from right and wrong answers with MaxRL than with GRPO?

SmolLM2-135M learns arithmetic. This is the scheme of Sec. 6.3 and 6.4 of arXiv:2602.02710v1 at the smallest scale:
every weight of an instruction-tuned model is trained on-policy with TRL, whose advantages an estimator of the lab
computes instead; unbiased pass@k on held-out problems is measured before and after, with intervals over problems.
`quick` shows on a laptop, in 20 minutes, that the path works: a few updates, one seed, one task. `full` is for a GPU.
The experiment needs `make llm`. Recipes of the paper's own size are in `maxrl_lab.llm.jobs.recipes`.

    maxrl-lab run llm        (20 minutes on 2 cores)
"""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from experiments._shared import check_estimators
from maxrl_lab.llm import need
from maxrl_lab.llm.jobs import evaluating, inputs, training
from maxrl_lab.llm.jobs.processes import check_devices
from maxrl_lab.llm.jobs.recipe import Recipe
from maxrl_lab.llm.jobs.recipes import RECIPES
from maxrl_lab.llm.models.loading import Policy
from maxrl_lab.llm.problems import data
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.files import file_name
from maxrl_lab.settings import Each, Names, Whole

BASE = "base"
"""The name of the policy that is not trained."""


@dataclass(frozen=True)
class Settings(Recipe):
    """The comparison."""

    estimators: Names = ("grpo", "maxrl")
    """Estimators that are compared."""
    seeds: Annotated[tuple[int, ...], Each(Whole(0, data.MAX_SEED))] = (0,)
    """Seeds of the training problems, of their order and of the answers that are sampled."""

    def __post_init__(self) -> None:
        """Check also that the estimators exist at N and differ."""
        super().__post_init__()
        check_estimators(self.estimators, (self.rollouts,))


_FULL = Settings(
    **vars(RECIPES["smollm2_135m_offline"]), estimators=("rloo", "grpo", "maxrl"), seeds=(0, 1, 2)
)  # sums and differences of two numbers of one or two digits
_QUICK = replace(
    _FULL,
    train_problems=2000,
    steps=20,
    prompts=4,
    rollouts=16,
    save_every=10,
    test_problems=100,
    samples=16,
    micro_batch=32,
    precision="float32",
    hardware="a laptop, or one GPU",
    estimators=("grpo", "maxrl"),
    seeds=(0,),
)
PRESETS = {
    "smoke": replace(
        _QUICK, train_problems=4, steps=1, prompts=1, rollouts=2, micro_batch=2, test_problems=2, samples=4
    ),
    "quick": _QUICK,
    "standard": replace(_QUICK, seeds=(0, 1, 2)),
    "full": _FULL,
}


def run(settings: Settings, context: Context) -> Tables:
    """Return `problems` (right samples of each held-out problem, before and after), `training` and `timings`."""
    check_devices(context.device)
    base = inputs.load_policy(settings, context.device)
    tables: Tables = {"problems": _evaluated(settings, context, BASE, 0, base)}
    for seed, name in itertools.product(settings.seeds, settings.estimators):
        append(tables, _trained(settings, context, name, seed))
    return tables


def _trained(settings: Settings, context: Context, name: str, seed: int) -> Tables:
    """Return the tables of one training and of its policy's evaluation; they are kept once it is done."""
    stage = file_name(f"{name}-{seed}")
    done = context.checkpoint.stage(f"{stage}-tables")
    if state := done.load():
        kept: Tables = state["tables"]
        return kept
    folder = context.checkpoint.path / stage
    trained = training.train(
        settings,
        name,
        inputs.load_policy(settings, context.device),
        inputs.training_set(settings, seed),
        folder,
        seed=seed,
        callbacks=[_bar(context, f"llm: {name}")],
    )
    tables = {
        "problems": _evaluated(settings, context, name, seed, trained.policy),
        "training": _labelled(name, seed, trained.updates),
        "timings": _labelled(name, seed, trained.timings),
    }
    done.save({"tables": tables})
    shutil.rmtree(folder, ignore_errors=True)  # gigabytes, which nobody needs any more
    return tables


def _bar(context: Context, label: str) -> Any:
    """Return a callback of transformers that shows a progress bar over the trainer's updates."""
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
    """Return the rows of a policy's evaluation."""
    engine, sets = evaluating.engine(settings, policy), inputs.held_out_sets(settings)
    return _labelled(name, seed, evaluating.evaluate(engine, sets, context.checkpoint, f"{name}-{seed}"))


def _labelled(name: str, seed: int, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [{"estimator": name, "seed": seed, **row} for row in rows]
