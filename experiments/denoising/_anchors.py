"""Parts 2 and 3 of `diffusion_sampler`: surrogates with m anchors against the exact path, on random denoisers."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from envs.canvas import Canvas
from maxrl_lab.denoising.importance import divergences, weighted_moments
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.likelihoods import mean_field
from maxrl_lab.denoising.moments import Problem, ScoreMoments
from maxrl_lab.denoising.samplers import EntropyBounded
from maxrl_lab.policies.masked import PairwiseDenoiser
from maxrl_lab.rows import Row, Tables
from maxrl_lab.settings import Count, Each, Interval, Positive, Settings, Whole

ESTIMATOR = "maxrl"


@dataclass(frozen=True)
class Surrogates(Settings):
    """Surrogates: log-linear denoisers with random parameters, whose gradients can be listed."""

    scale: Positive = 1.0
    """Standard deviation of the denoisers' parameters."""
    digits: Annotated[int, Whole(2)] = 4
    """Number of digits of the denoisers, the base of their answers."""
    group: Count = 16
    """Number N of rollouts in the groups whose noise is measured."""
    caps: Annotated[tuple[float, ...], Each(Interval())] = (1.0, 2.0)
    """Caps C of the importance weights; no cap, and no weights, are always measured too."""
    entropy_bounds: Annotated[tuple[float, ...], Each(Interval(closed_low=True))] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    """Entropy bounds in nats under which the bias of d1 is measured; infinity is always one more."""


def measure(settings: Surrogates, canvas: Canvas, seed: int) -> Tables:
    """Return the rows of one random denoiser: one problem of each verifier."""
    lattice = Lattice(canvas.length, settings.digits)
    policy = PairwiseDenoiser(canvas.length, settings.digits, scale=settings.scale, seed=seed)
    tables: Tables = {"anchors": [], "steps": [], "sets": []}
    for verifier in canvas.verifiers:
        problems = Canvas((verifier,), canvas.length, settings.digits)
        prompt = problems.problems(1, seed=seed)
        right = problems.right(prompt, lattice.answers[None])[0]
        head = {"seed": seed, "verifier": verifier}
        problem = Problem(policy, prompt[0], right, lattice)
        tables["anchors"] += [{**head, **row} for row in _anchors(problem, settings)]
        tables["sets"] += [{**head, **row} for row in _sets(policy, lattice, right, settings)]
    tables["steps"] = [{"seed": seed, **row} for row in _steps(problem)]
    return tables


def _anchors(problem: Problem, settings: Surrogates) -> list[Row]:
    """Return bias and noise for every number of anchors, without weights and with weights of every cap."""
    exact = problem.moments("path").estimate(ESTIMATOR, settings.group).mean
    rows: list[Row] = []
    for count in range(1, problem.forms.length + 1):
        name = f"anchors:count={count}"
        made: dict[str, ScoreMoments] = {"none": problem.moments(name)}
        if count < problem.forms.length:  # the path's own weights are 1
            made |= {f"cap {cap:g}": weighted_moments(problem, name, cap) for cap in settings.caps}
            made["uncapped"] = weighted_moments(problem, name)
        for weights, moments in made.items():
            estimate = moments.estimate(ESTIMATOR, settings.group)
            rows.append(
                {
                    "anchors": count,
                    "weights": weights,
                    "pass_rate": float(problem.pass_rate),
                    **_against(estimate.mean, exact),
                    "noise": float(estimate.variance.sqrt() / exact.norm()),
                }
            )
    return rows


def _steps(problem: Problem) -> list[Row]:
    """Return the divergence of the surrogate from the policy at each step; no verifier changes it."""
    rows: list[Row] = []
    for count in range(1, problem.forms.length):
        values = divergences(problem, f"anchors:count={count}").clamp(min=0.0)
        rows += [{"anchors": count, "step": step, "divergence": value} for step, value in enumerate(values.tolist())]
    return rows


def _sets(policy: nn.Module, lattice: Lattice, right: Tensor, settings: Surrogates) -> list[Row]:
    """Return the bias of the mean field where the sampler is entropy-bounded: 0 where it fills all places at once."""
    table = policy.log_probs(torch.zeros(1, 1, dtype=torch.long), lattice.states)  # type: ignore[operator]
    rows: list[Row] = []
    for bound in (*settings.entropy_bounds, math.inf):
        decoded = lattice.decode(table, EntropyBounded(bound))
        chances = decoded.log_probs.detach().exp()
        pass_rate = (chances * right).sum()
        weights = chances * (right.to(chances) - pass_rate)  # p (1-p) (s1 - s0) is the mean of (r - p) grad l
        ours, exact = (
            _gradient((weights * values).sum(), policy) for values in (mean_field(lattice, table), decoded.log_probs)
        )
        cost = float((chances * decoded.evaluations).sum())
        rows.append({"bound": bound, "evaluations": cost, "pass_rate": float(pass_rate), **_against(ours, exact)})
    return rows


def _gradient(value: Tensor, policy: nn.Module) -> Tensor:
    parts = torch.autograd.grad(value, list(policy.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


def _against(ours: Tensor, exact: Tensor) -> Row:
    """Return the relative bias of a mean gradient, and its cosine with the exact one."""
    return {
        "relative_bias": float((ours - exact).norm() / exact.norm()),
        "cosine": float(torch.cosine_similarity(ours, exact, dim=0)),
    }
