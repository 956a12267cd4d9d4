"""What becomes of MaxRL when the likelihood of an answer is only bounded, or replaced, as in masked diffusion?

A policy fills the empty places of an answer in a random order, so that the answer's likelihood is a sum over orders.
Systems for diffusion language models put something else in its place: a bound by random masks (BGPO,
arXiv:2510.11683v3; VRPO), the mean field (d1, arXiv:2504.12216), the two-times mean field (DiFFPO, arXiv:2510.02212, a
reconstruction), a mask with its complement (coupled-GRPO, arXiv:2506.20639), or bounds on both sides (SPG). On small
answers everything that they approximate is exact, so that the experiment says how wrong each is, for which estimator,
and at which cost. The policies are small networks that have learnt a few solutions of some problems (`envs.canvas`),
with noise.

    maxrl-lab run diffusion_likelihood        (a minute; `standard`: four)

Tables: `moments` (a row per seed, prompt, estimator and surrogate: bias and noise against the path's own score, exact),
`uniform` (the same at the uniform policy), `off_policy` (a row per seed, number of steps and objective), `bytes` (what
autograd keeps, by number of masks), `gaps` (a row per seed, prompt and block length), `sweep` and `training` (exact
pass rates in training, with equal numbers of backward passes).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

from torch import Tensor, nn

from envs.canvas import Canvas
from experiments._shared import KnownRates, Readable, check_estimators, known_rates
from experiments.denoising._measured import PATH, byte_rows, gap_rows, moment_rows, off_policy_rows, uniform_rows
from maxrl_lab.denoising.forms import Forms
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.pretraining import Pretraining, pretrain
from maxrl_lab.denoising.study import Network, Trial, train
from maxrl_lab.denoising.surrogates import resolve
from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.workers import in_parallel
from maxrl_lab.settings import Count, Counts, Each, Names, Processes, Rate, Rates, Whole
from maxrl_lab.settings import Settings as Group
from maxrl_lab.training.sweep import choose_learning_rates, name_of_row

Surrogates = Annotated[tuple[str, ...], Each(Readable(resolve))]
"""Text forms of surrogates."""


@dataclass(frozen=True)
class Problems(Group):
    """Problems: answers of L digits base V, under three verifiers."""

    length: Annotated[int, Whole(2, 6)] = 4
    """Number L of places in an answer; it is even, and all L! orders are listed."""
    base: Annotated[int, Whole(2)] = 4
    """Number V of digits."""
    prompts: Count = 24
    """Number of prompts that a seed trains on; the verifiers take turns."""

    @property
    def canvas(self) -> Canvas:
        """The task."""
        return Canvas(length=self.length, base=self.base)


@dataclass(frozen=True)
class Moments(Group):
    """Moments: bias and noise of one group's estimate, exactly."""

    estimators: Names = ("rloo", "grpo", "maxrl", "maxrl_no_baseline", "maxrl_control_variate", "maxrl_centred:order=4")
    """Estimators that are compared."""
    surrogates: Surrogates = (
        PATH,
        "own_step",
        "elbo",
        "elbo:samples=2",
        "elbo:samples=4",
        "elbo:samples=16",
        "two_times",
        "mean_field",
        "coupled",
        "spg",
        "spg:samples=2",
    )
    """Surrogates that stand for the log-likelihood of an answer."""
    group: Annotated[int, Whole(2)] = 16
    """Number N of rollouts in a group."""
    measured_prompts: Count = 6
    """Number of prompts of each seed whose moments are listed."""


@dataclass(frozen=True)
class OffPolicy(Group):
    """Off-policy: what the objectives are worth after steps on rollouts of the base."""

    steps: Annotated[tuple[int, ...], Each(Whole(0))] = (0, 1, 2, 4, 8, 16)
    """Numbers of updates after which the objectives are measured."""
    masks: Counts = (1, 2, 4, 16)
    """Numbers of masks of VRPO, and those whose memory is measured."""
    off_policy_rate: Rate = 0.002
    """Learning rate of Adam in these updates."""


@dataclass(frozen=True)
class Training(Group):
    """Training: equal numbers of backward passes through every surrogate, with MaxRL's Algorithm 1."""

    trained: Surrogates = (PATH, "own_step", "elbo", "elbo:samples=4", "two_times", "mean_field")
    """Surrogates that are trained through."""
    rollouts: Counts = (4, 16, 64)
    """Numbers N of rollouts of each prompt in an update."""
    path_updates: Count = 16
    """Number of updates through the path; other surrogates have the same number of backward passes."""
    learning_rates: Rates = (0.003, 0.01, 0.03, 0.1)
    """Learning rates of Adam that are swept alike for every surrogate, at the middle N."""
    measurements: Count = 8
    """Number of measurements in a run, beside the one before training."""
    seeds: Count = 5
    """Number of reported seeds; a seed redraws problems, their known solutions, the base and all rollouts."""
    sweep_seeds: Count = 1
    """Number of seeds of the sweep that chooses learning rates; none of them is reported."""
    processes: Processes = 0
    """Number of processes that train side by side; 0 for one a core. Results do not depend on it."""


@dataclass(frozen=True)
class Settings(Training, OffPolicy, Moments, KnownRates, Pretraining, Network, Problems):
    """Problems, policies, moments, off-policy steps and training."""

    def __post_init__(self) -> None:
        """Check also that the problems, the estimators and the surrogates exist."""
        super().__post_init__()
        self.canvas.problems(self.prompts)
        Forms(self.length)
        Lattice(self.length, self.base)
        check_estimators(self.estimators, (self.group,))
        check_estimators(("maxrl",), self.rollouts)
        for name in (*self.surrogates, *self.trained):
            resolve(name).law(self.length)
        for name in self.trained:
            Trial(name, 1, 1.0, 0).updates(self.length, self.path_updates)
        if self.measured_prompts > self.prompts:
            raise InputError(
                f"measured_prompts must be at most the {self.prompts} prompts, got {self.measured_prompts}"
            )

    def problems(self, seed: int) -> Tensor:
        """Return the prompts of a seed, (B, P)."""
        return self.canvas.problems(self.prompts, seed=seed)


SMOKE: dict[str, Any] = {
    "base": 2,
    "width": 4,
    "prompts": 3,
    "pretrain_steps": 3,
    "pretrain_copies": 1,
    "group": 4,
    "measured_prompts": 3,
    "estimators": ("rloo", "maxrl", "maxrl_no_baseline"),
    "surrogates": (PATH, "elbo", "elbo:samples=4", "two_times", "mean_field"),
    "steps": (0, 2),
    "masks": (1, 2),
    "trained": (PATH, "elbo", "mean_field"),
    "rollouts": (2, 4),
    "path_updates": 2,
    "learning_rates": (0.003, 0.01),
    "measurements": 2,
    "seeds": 2,
    "sweep_seeds": 1,
}
PRESETS = {
    "smoke": Settings(**SMOKE),
    "quick": Settings(base=3, seeds=3, fixed_rates=known_rates("diffusion_likelihood")),
    "standard": Settings(),
    "full": Settings(
        base=5,
        architecture="transformer",
        width=32,
        pretrain_steps=1500,
        pretrain_rate=0.003,
        path_updates=128,
        seeds=10,
        sweep_seeds=3,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the tables of all seeds, and the sweep."""
    quiet = replace(context, quiet=True)
    swept = range(settings.seeds, settings.seeds + settings.sweep_seeds) if _unknown(settings) else ()
    jobs = [(settings, quiet, seed) for seed in (*range(settings.seeds), *swept)]
    started = in_parallel(_start, jobs, settings.processes, context.progress("diffusion_likelihood: bases"))
    tables: Tables = {"uniform": uniform_rows(settings.canvas)}
    for base in started[: settings.seeds]:
        append(tables, base.tables)
    bases = {base.seed: base.state for base in started}
    sweep = [row for row in _train(settings, context, bases, _swept(settings), "sweep") if row["share"] == 1]
    by_sweep = choose_learning_rates(sweep, "pass_rate")
    trials = [
        Trial(name, count, settings.fixed.get(name_of_row(name, count)) or by_sweep[name, _middle(settings)], seed)
        for seed in range(settings.seeds)
        for count in settings.rollouts
        for name in settings.trained
    ]
    tables |= {"sweep": sweep} if sweep else {}
    return {**tables, "training": _train(settings, context, bases, trials, "training")}


class Started(NamedTuple):
    """A seed's base, and what is measured on it."""

    seed: int
    state: dict[str, Tensor]
    tables: Tables


def _start(job: tuple[Settings, Context, int]) -> Started:
    """Pretrain a seed's base; measure it if the seed is reported."""
    settings, context, seed = job
    policy, prompts, canvas = _network(settings, seed), settings.problems(seed), settings.canvas
    pretrain(policy, canvas, prompts, settings, seed, context.checkpoint.stage(f"base-{seed}"))
    tables: Tables = {}
    if seed < settings.seeds:
        measured = prompts[: settings.measured_prompts]
        tables = {
            "moments": moment_rows(canvas, policy, measured, settings.estimators, settings.surrogates, settings.group),
            "off_policy": off_policy_rows(
                canvas,
                policy,
                prompts,
                group=settings.group,
                steps=settings.steps,
                masks=settings.masks,
                rate=settings.off_policy_rate,
                seed=seed,
            ),
            "gaps": gap_rows(canvas, policy, prompts),
            "bytes": byte_rows(canvas, policy, prompts, settings.group, settings.masks) if seed == 0 else [],
        }
    named = {name: [{"seed": seed, **row} for row in rows] for name, rows in tables.items()}
    return Started(seed, policy.state_dict(), named)


def _network(settings: Settings, seed: int) -> nn.Module:
    canvas = settings.canvas
    return settings.make(canvas, canvas.words, canvas.prompt_length, seed)


def _train(
    settings: Settings, context: Context, bases: dict[int, dict[str, Tensor]], trials: Sequence[Trial], stage: str
) -> list[Row]:
    """Return the rows of all trials, each from the base of its seed."""
    quiet = replace(context, quiet=True)
    jobs = [(settings, quiet, bases[trial.seed], trial, stage) for trial in trials]
    if not jobs:
        return []
    progress = context.progress(f"diffusion_likelihood: {stage}")
    return [row for rows in in_parallel(_trained, jobs, settings.processes, progress) for row in rows]


def _trained(job: tuple[Settings, Context, dict[str, Tensor], Trial, str]) -> list[Row]:
    settings, context, state, trial, stage = job
    policy = _network(settings, trial.seed)
    policy.load_state_dict(state)
    name = f"{stage}-{trial.surrogate}-{trial.rollouts}-{trial.learning_rate:g}-{trial.seed}".replace(":", "-")
    return train(
        policy,
        settings.canvas,
        settings.problems(trial.seed),
        trial,
        path_updates=settings.path_updates,
        measurements=settings.measurements,
        save=context.checkpoint.stage(name),
    )


def _middle(settings: Settings) -> int:
    return sorted(settings.rollouts)[len(settings.rollouts) // 2]


def _unknown(settings: Settings) -> list[str]:
    """Return the surrogates whose rate is not known at every N."""
    known = settings.fixed
    return [name for name in settings.trained if any(name_of_row(name, n) not in known for n in settings.rollouts)]


def _swept(settings: Settings) -> list[Trial]:
    """Return the trials of the sweep: every rate at the middle N, which serves all N."""
    return [
        Trial(name, _middle(settings), rate, seed)
        for seed in range(settings.seeds, settings.seeds + settings.sweep_seeds)
        for name in _unknown(settings)
        for rate in settings.learning_rates
    ]
