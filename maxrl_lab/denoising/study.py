"""Training denoisers on a few problems: bases of different seeds, and runs with the same number of backward passes.

A base has learnt a few solutions of every problem, with noise. From it each run trains through its own surrogate, with
as many updates as its backward passes allow: one that makes one pass for each answer has L times the updates of the
path's score.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from torch import Tensor, nn

from maxrl_lab.denoising.batch import DenoisingBatch
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.moments import tabulate
from maxrl_lab.denoising.pretraining import Task
from maxrl_lab.denoising.samplers import Uniform
from maxrl_lab.denoising.surrogates import resolve
from maxrl_lab.errors import InputError
from maxrl_lab.policies.masked import SMALL, MaskedPolicy
from maxrl_lab.policies.masked_mlp import MaskedMlp
from maxrl_lab.policies.stack import Stack, seeded
from maxrl_lab.rows import Row, Tables
from maxrl_lab.settings import Choice, Count, Settings, Whole
from maxrl_lab.training import fit
from maxrl_lab.training.groups import DivergedError
from maxrl_lab.training.methods import Sampled

_START = 5.0
"""Factor on the transformer's first weights, which are otherwise too flat to learn digits that depend on each other."""


@dataclass(frozen=True)
class Network(Settings):
    """Policy: a network that reads the prompt and the partly filled answer."""

    architecture: Annotated[str, Choice(("mlp", "transformer"))] = "mlp"
    """Kind of the network: `mlp`, which learns a few problems in seconds, or `transformer`."""
    width: Annotated[int, Whole(4)] = 32
    """Number of hidden units of the MLP's layers, or width of the transformer's residual stream."""
    layers: Count = 2
    """Number of layers of the transformer."""

    def make(self, task: Task, words: int, prompt_length: int, seed: int) -> nn.Module:
        """Return an untrained policy, whose parameters are the seed's."""
        if self.architecture == "mlp":
            sizes = {"base": task.base, "length": task.length, "words": words, "prompt_length": prompt_length}
            return seeded(lambda: MaskedMlp(**sizes, width=self.width), "denoiser", seed)
        shape = replace(SMALL, width=self.width, layers=self.layers, mlp=2 * self.width, tied=False)
        return seeded(lambda: MaskedPolicy(shape, base=task.base, words=words, start=_START), "denoiser", seed)


@dataclass(frozen=True)
class Trial:
    """One training: through which surrogate, with how many rollouts, at which rate, on which seed."""

    surrogate: str
    rollouts: int
    learning_rate: float
    seed: int
    estimator: str = "maxrl"

    def row(self) -> Row:
        """Return the columns that name the trial."""
        return {
            "method": self.surrogate,
            "rollouts": self.rollouts,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
        }

    def updates(self, length: int, path_updates: int) -> int:
        """Return the number of updates with the backward passes of so many of the path's; `InputError` if it is 0."""
        updates = path_updates * length // resolve(self.surrogate).passes(length)
        if updates < 1:
            raise InputError(f"{path_updates} updates of the path pay for none of {self.surrogate}")
        return updates


def train(
    policy: nn.Module,
    task: Task,
    prompts: Tensor,
    trial: Trial,
    *,
    path_updates: int,
    measurements: int,
    save: fit.Checkpoint,
) -> list[Row]:
    """Train a policy in place; return the exact pass rates (averaged over prompts) now and then.

    The columns: those of the trial, `share` of the backward passes that are spent, `updates`, `pass_rate`,
    `log_pass_rate`, and `solved` (the share of prompts with a pass rate above 1/2). Raises `InputError` if the policy
    diverges.
    """
    updates = trial.updates(task.length, path_updates)

    def measure(step: int) -> Tables:
        rates = pass_rates(policy, task, prompts)
        if not bool(rates.isfinite().all()):
            raise DivergedError(0, step)
        reached = {
            "pass_rate": float(rates.mean()),
            "log_pass_rate": float(rates.clamp(min=1e-300).log().mean()),
            "solved": float((rates > 0.5).double().mean()),
        }
        return {"training": [{**trial.row(), "share": step / updates, "updates": step, **reached}]}

    optimisation = fit.Optimisation(updates, "adam", measure_every=max(1, updates // measurements))
    try:
        tables = fit.fit(
            Stack([policy]),
            [Sampled(trial.estimator, trial.rollouts)],
            [trial.learning_rate],
            optimisation,
            batch=lambda step: DenoisingBatch(
                policy, prompts, task.right, task.length, task.base, trial.surrogate, seed=trial.seed, step=step
            ),
            checkpoint=save,
            measure=measure,
        )
    except DivergedError as error:
        raise InputError(f"{trial} has diverged: its policy is NaN after {error.step} updates") from None
    return tables["training"]


def pass_rates(policy: nn.Module, task: Task, prompts: Tensor) -> Tensor:
    """Return the exact pass rates (B,) float64 of the sampler that fills places in a uniform order."""
    lattice = Lattice(task.length, task.base)
    right = lattice.judged(task.right, prompts)
    return lattice.pass_rate(tabulate(policy, prompts, lattice), Uniform(), right)
