"""What stops policy gradients and model learners on a sphere of actions: the estimator, or the information?

Three bandits with right-or-wrong outcomes, after arXiv:2102.04168. A needle: right within an angle of an unknown
direction, wrong elsewhere. A hill: smooth. Two layers: a hill, and on it perhaps a bump in one of many directions; the
truth has one (`real_bump`) or has none (`phantom_bump`). Virtual ascent (ViOL, a reconstruction: with the derivatives
of its source, or by values alone) and optimism over a version space are given the class of models. RLOO and MaxRL train
a softmax policy with logits <w, a>. The exact likelihood gradient is told the chances that all others have to find out.
Every pull counts, those for derivatives too. Learning rates are swept alike, on seeds that are not reported. A seed
samples the truth, the outcomes and the tangents; actions and models are the same for all.

    maxrl-lab run nonlinear_bandit        (a minute; `standard`: two)

Tables: `needles` (the closed-form chance of a uniform action, by dimension), `sweep` (the mean reward of every swept
run), `curves` (a row per bandit, method, seed and number of pulls: the chance of success of what is played then) and
`runs` (a row per bandit, method and seed).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from envs import sphere
from experiments._shared import Seeds, check_estimators
from experiments.exploration import _sphere
from experiments.exploration._sphere import Case
from maxrl_lab.errors import InputError
from maxrl_lab.exploration.bandit_batch import BanditBatch
from maxrl_lab.exploration.pulling import Play, Trace
from maxrl_lab.exploration.version_space import optimism
from maxrl_lab.exploration.viol import WITH_DERIVATIVES, Derivatives, viol
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Each, Names, Rates, StrictProbability, Whole
from maxrl_lab.settings import Settings as Base
from maxrl_lab.training.methods import Exact, Method, Sampled
from maxrl_lab.training.step import run_losses, take_step
from maxrl_lab.training.sweep import Run, compare

Dimensions = Annotated[tuple[int, ...], Each(Whole(2))]
CLOSED_FORM = (2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Dimensions in which, besides those played, the chance of a uniform action to be within the needle is computed."""


@dataclass(frozen=True)
class Bandits(Base):
    """Bandits: actions and candidate models on the sphere."""

    needle_dimensions: Dimensions = (3, 6, 10)
    """Dimensions d of the sphere with a needle."""
    needle_threshold: StrictProbability = 0.8
    """Cosine of the angle to the needle's direction within which an action is right."""
    needle_budget: Count = 512
    """Number of pulls of each run on a needle, where each point is pulled once: its outcomes are certain."""
    dimension: Annotated[int, Whole(2)] = 6
    """Dimension d of the other bandits."""
    actions: Annotated[int, Whole(2)] = 512
    """Number of actions, which are also the needles' directions; more pulls than actions could try all."""
    hills: Count = 512
    """Number of candidate hills of the bandit with one layer."""
    slopes: Count = 16
    """Number of candidate hills of the bandit with two layers."""
    bumps: Count = 64
    """Number of candidate bumps of the bandit with two layers."""


@dataclass(frozen=True)
class Climbing(Base):
    """Climbing: policies with logits <w, a>, which plain gradient descent trains from w = 0."""

    estimators: Names = ("rloo", "maxrl")
    """Estimators that are compared."""
    rollouts: Counts = (4, 64)
    """Numbers N of pulls in each update."""
    learning_rates: Rates = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
    """Learning rates that are swept alike for every method."""


@dataclass(frozen=True)
class Settings(Climbing, Bandits, Play, Derivatives, Seeds):
    """Bandits, players and policies."""

    seeds: Count = 20
    """Number of reported runs of each method."""
    sweep_seeds: Count = 4
    """Number of seeds of the sweep that chooses learning rates; none of them is reported."""

    def __post_init__(self) -> None:
        """Check also that every estimator exists at N, that bumps are on actions, and that a round fits the budgets."""
        super().__post_init__()
        check_estimators(self.estimators, self.rollouts)
        if self.bumps > self.actions:
            raise InputError(f"bumps must be at most the {self.actions} actions, got {self.bumps}")
        for name, budget, pulls in (("budget", self.budget, self.pulls), ("needle_budget", self.needle_budget, 1)):
            most = max(WITH_DERIVATIVES * pulls, *self.rollouts)
            if budget < most:
                raise InputError(f"{name} must be at least {most}, the pulls of one round or update, got {budget}")

    def cases(self) -> list[Case]:
        """Return every bandit, with the truths of reported seeds and of those of the sweep."""
        seeds = self.seeds + self.sweep_seeds
        bump = partial(_sphere.bump, dimension=self.dimension, actions=self.actions, hills=self.slopes, seeds=seeds)
        return [
            *(_sphere.needle(d, self.actions, self.needle_threshold, seeds) for d in self.needle_dimensions),
            _sphere.hill(self.dimension, self.actions, self.hills, seeds),
            *(bump(name, bumps=self.bumps) for name in ("phantom_bump", "real_bump")),
        ]

    def play(self, case: Case) -> Play:
        """Return how often the actions of a bandit are pulled."""
        needle = case.name == "needle"
        return Play(self.needle_budget, 1) if needle else Play(self.budget, self.pulls)

    def methods(self) -> list[Method]:
        """Return the gradients that train policies: every estimator at every N, and the exact likelihood gradient."""
        sampled = [Sampled(name, count) for count in self.rollouts for name in self.estimators]
        return [*sampled, Exact("maximum_likelihood")]


PRESETS = {
    "smoke": Settings(
        needle_dimensions=(3,),
        needle_budget=64,
        dimension=3,
        actions=32,
        hills=16,
        slopes=4,
        bumps=4,
        rollouts=(4, 16),
        learning_rates=(1.0, 3.0),
        budget=64,
        pulls=2,
        seeds=3,
        sweep_seeds=1,
    ),
    "quick": Settings(),
    "standard": Settings(needle_budget=1024, sweep_seeds=8),
    "full": Settings(
        needle_dimensions=(3, 4, 6, 8),
        needle_budget=4096,
        actions=4096,
        hills=4096,
        slopes=32,
        bumps=128,
        budget=16384,
        seeds=40,
        sweep_seeds=8,
    ),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the closed-form chances, the sweep of learning rates, the curves, and the ends of all runs."""
    dimensions = sorted({*CLOSED_FORM, *settings.needle_dimensions})
    tables: Tables = {"needles": [_closed_form(settings, dimension) for dimension in dimensions]}
    for case in context.progress("nonlinear_bandit")(settings.cases()):
        append(tables, _players(settings, case))
        append(tables, _policies(settings, case))
    return tables


def _closed_form(settings: Settings, dimension: int) -> Row:
    chance = sphere.needle_probability(dimension, settings.needle_threshold)
    return {"dimension": dimension, "probability": chance}


def _players(settings: Settings, case: Case) -> Tables:
    """Return the curves and ends of those who know the models: virtual ascent and optimism."""
    play, seeds = settings.play(case), range(settings.seeds)
    truths = case.truths[: settings.seeds]
    derivatives = Derivatives(settings.step, settings.clip)
    known = (case.rewards, case.actions, truths, play)
    traces = {
        "viol": viol(*known, seeds=seeds, derivatives=derivatives),
        "viol_values": viol(*known, seeds=seeds),
        "optimism": optimism(*known, seeds=seeds),
    }
    tables: Tables = {}
    for method, trace in traces.items():
        named = [{**_named(case), "method": method, "rollouts": None, "seed": seed} for seed in seeds]
        append(tables, {"curves": _curves(named, trace.values, int(trace.pulls[0]), play.budget)})
        append(tables, {"runs": _ends(named, case, trace)})
    return tables


def _named(case: Case) -> Row:
    return {"bandit": case.name, "dimension": case.dimension}


def _curves(named: Sequence[Row], values: Tensor, per_round: int, budget: int) -> list[Row]:
    """Return a row per run (R) and power of two: the chance of success of what is played at that pull.

    values: (R, T) in rounds of `per_round` pulls; a budget that ends within a round is filled with the last round.
    """
    times = [2**power for power in range(budget.bit_length()) if 2**power <= budget]
    rounds = [min((pulls - 1) // per_round, values.shape[1] - 1) for pulls in times]
    table = values[:, rounds].tolist()
    return [
        {**row, "pulls": pulls, "value": value}
        for row, line in zip(named, table, strict=True)
        for pulls, value in zip(times, line, strict=True)
    ]


def _ends(named: Sequence[Row], case: Case, trace: Trace) -> list[Row]:
    """Return a row per run: what it gained, its losses, and whether its end is a local maximum of the truth.

    The end is where gradient ascent of the learnt mean model leads from the last action.
    """
    truths = case.truths[: len(named)]
    ends = sphere.ascend(case.rewards, trace.weights, case.actions[trace.actions[:, -1]])
    gradient, eigenvalue = sphere.steepness_at(case.rewards, truths, ends)
    best = case.chances[: len(named)].amax(1)
    columns = {
        "best": best,
        "final": trace.values[:, -1],
        "pulls_to_half": _pulls_to_half(trace.values, best, int(trace.pulls[0])),
        "mean_reward": trace.mean_reward,
        "mixture_loss": trace.mixture_loss,
        "truth_loss": trace.truth_loss,
        "log_models": torch.full_like(trace.mean_reward, len(trace.weights[0])).log(),
        "gradient": gradient,
        "eigenvalue": eigenvalue,
    }
    return [{**row, **{name: float(column[run]) for name, column in columns.items()}} for run, row in enumerate(named)]


def _pulls_to_half(values: Tensor, best: Tensor, per_round: int) -> Tensor:
    """Return the pull (R,) at which runs first play what has half the best chance of success; NaN if they never do.

    values: (R, T) in rounds of `per_round` pulls; best: (R,).
    """
    good = values >= best[:, None] / 2
    first = good.double().argmax(1) * per_round + 1.0
    return torch.where(good.any(1), first, torch.nan)


def _policies(settings: Settings, case: Case) -> Tables:
    """Return the sweep, curves and ends of policies that are trained on outcomes, or with exact gradients."""
    budget = settings.play(case).budget

    def sweep(runs: Sequence[Run]) -> list[Row]:
        values = climb(case, runs, budget, max(settings.rollouts))
        return [
            {**_named(case), **run.row(values[index].shape[0]), "mean_reward": float(values[index].mean())}
            for index, run in enumerate(runs)
        ]

    def report(runs: Sequence[Run]) -> Tables:
        tables: Tables = {}
        for run, values in zip(runs, climb(case, runs, budget, max(settings.rollouts)), strict=True):
            row = {**_named(case), "method": run.method.name, "rollouts": run.method.rollouts, "seed": run.seed}
            per_update, best = run.method.rollouts or max(settings.rollouts), case.chances[[run.seed]].amax(1)
            end = {
                "best": float(best),
                "final": float(values[-1]),
                "pulls_to_half": float(_pulls_to_half(values[None], best, per_update)),
                "mean_reward": float(values.mean()),
            }
            append(tables, {"curves": _curves([row], values[None], per_update, budget), "runs": [{**row, **end}]})
        return tables

    return compare(
        settings.methods(),
        settings.learning_rates,
        seeds=settings.seeds,
        sweep_seeds=settings.sweep_seeds,
        score="mean_reward",
        sweep=sweep,
        report=report,
    ).tables


def climb(case: Case, runs: Sequence[Run], budget: int, exact_rollouts: int) -> list[Tensor]:
    """Return the exact chance of success (T,) of every run's policy before each of its updates.

    Runs with equal numbers of rollouts train together. An exact gradient makes as many updates as sampled ones do
    with `exact_rollouts`.
    """
    values: dict[int, Tensor] = {}
    for count in dict.fromkeys(run.method.rollouts for run in runs):
        members = [index for index, run in enumerate(runs) if run.method.rollouts == count]
        curves = _climb(case, [runs[index] for index in members], budget // (count or exact_rollouts))
        values.update(zip(members, curves, strict=True))
    return [values[index] for index in range(len(runs))]


def _climb(case: Case, runs: Sequence[Run], updates: int) -> Tensor:
    """Return the chances (R, T) of runs that make T updates."""
    seeds = [run.seed for run in runs]
    chances = case.chances[seeds]
    rates = torch.tensor([run.learning_rate for run in runs], dtype=torch.float64)
    weights = torch.zeros(len(runs), case.dimension, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([weights], lr=1.0)  # each run's loss is multiplied by its own rate
    values = []
    for update in range(updates):
        log_policy = (weights @ case.actions.T).log_softmax(1)
        values.append((log_policy.detach().exp() * chances).sum(1))
        batch = BanditBatch(log_policy, chances, seeds, update)
        take_step(rates * run_losses(batch, [run.method for run in runs]), optimiser)
    return torch.stack(values, 1)
