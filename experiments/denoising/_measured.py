"""What `diffusion_likelihood` measures on a base: moments, objectives after off-policy steps, memory and gaps."""

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from envs.canvas import Canvas
from maxrl_lab import exact
from maxrl_lab.bernstein import binomial_mean
from maxrl_lab.denoising import likelihoods
from maxrl_lab.denoising.forms import Forms
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.moments import Denoiser, Problem, ScoreMoments, tabulate
from maxrl_lab.denoising.off_policy import Kept, kept_bytes, values_after
from maxrl_lab.denoising.samplers import Blocks, MostConfident, Sampler, Uniform, sample
from maxrl_lab.denoising.surrogates import resolve
from maxrl_lab.estimators import look_up
from maxrl_lab.policies.masked_mlp import MaskedMlp
from maxrl_lab.policies.stack import seeded
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row

PATH = "path"
_UNIFORM = ("own_step", "elbo", "two_times", "mean_field", "coupled")
"""Surrogates that are measured at the uniform policy."""


def moment_rows(
    canvas: Canvas, policy: nn.Module, prompts: Tensor, estimators: Sequence[str], surrogates: Sequence[str], group: int
) -> list[Row]:
    """Return a row for every prompt, estimator and surrogate: bias and noise in units of the path's mean gradient."""
    lattice = Lattice(canvas.length, canvas.base)
    right = lattice.judged(canvas.right, prompts)
    rows = []
    for index, prompt in enumerate(prompts):
        problem = Problem(policy, prompt, right[index], lattice)
        true = problem.moments(PATH)
        head = {"prompt": index, "verifier": canvas.verifier_of(prompts)[index]}
        for name in surrogates:
            moments = problem.moments(name)
            passes = resolve(name).passes(canvas.length)
            for estimator in estimators:
                rows.append({**head, "surrogate": name, "passes": passes, **_errors(moments, true, estimator, group)})
    return rows


def _errors(moments: ScoreMoments, true: ScoreMoments, estimator: str, group: int) -> Row:
    """Return bias, noise, and what of the mean is the second term, m E[grad l]; all relative to the true mean."""
    p = moments.pass_rate
    wanted = true.estimate(estimator, group).mean
    made = moments.estimate(estimator, group)
    weight = exact.weight(estimator, rollouts=group, pass_rate=p)
    success, failure = exact.coefficients(estimator, rollouts=group)
    mean_advantage = p * binomial_mean(success[1:], p) + (1 - p) * binomial_mean(failure[:-1], p)
    first = weight * p * (1 - p) * (moments.means[0] - moments.means[1])
    second = mean_advantage * (p * moments.means[0] + (1 - p) * moments.means[1])
    unit = wanted.norm()
    return {
        "estimator": estimator,
        "rollouts": group,
        "pass_rate": float(p),
        "relative_bias": float((made.mean - wanted).norm() / unit),
        "cosine": float(torch.cosine_similarity(made.mean, wanted, dim=0)),
        "noise": float(made.variance.sqrt() / unit),
        "drift": float(second.norm() / unit),
        "residual": float((made.mean - first - second).norm() / made.mean.norm()),
    }


def uniform_rows(canvas: Canvas) -> list[Row]:
    """Return for each surrogate its contrast s1 - s0 on `sum` at the uniform policy, in units of the path's.

    The policy is an MLP whose last layer is 0. `off` is the distance from the path's contrast.
    """
    lattice = Lattice(canvas.length, canvas.base)
    prompt = next(row for row in canvas.problems(3) if canvas.verifier_of(row[None]) == ["sum"])
    right = canvas.right(prompt[None], lattice.answers[None])[0]
    sizes = {"base": canvas.base, "length": canvas.length, "words": canvas.words, "prompt_length": len(prompt)}
    policy = seeded(lambda: MaskedMlp(**sizes), "uniform")
    for parameter in policy.out.parameters():
        nn.init.zeros_(parameter)
    problem = Problem(policy, prompt, right, lattice)
    true = problem.moments(PATH).means
    unit = (true[0] - true[1]).norm()
    rows = []
    for name in _UNIFORM:
        means = problem.moments(name).means
        off = ((means - true)[0] - (means - true)[1]).norm()
        rows.append(
            {"surrogate": name, "contrast": float((means[0] - means[1]).norm() / unit), "off": float(off / unit)}
        )
    return rows


def off_policy_rows(
    canvas: Canvas,
    base: nn.Module,
    prompts: Tensor,
    *,
    group: int,
    steps: Sequence[int],
    masks: Sequence[int],
    rate: float,
    seed: int,
) -> list[Row]:
    """Return what every objective is worth after so many updates of BGPO on rollouts of the base."""
    policy = deepcopy(base)
    lattice, forms = Lattice(canvas.length, canvas.base), Forms(canvas.length)
    right = lattice.judged(canvas.right, prompts)
    old = forms.tokens(lattice, tabulate(policy, prompts, lattice))
    kept = keep(canvas, policy, prompts, group, max(masks), seed)
    optimiser = torch.optim.Adam(policy.parameters(), lr=rate)
    rows = []
    for step in range(max(steps) + 1):
        if step in steps:
            new = forms.tokens(lattice, tabulate(policy, prompts, lattice))
            values = values_after(forms, old, new, right, estimator="maxrl", rollouts=group, samples=masks)
            spread = float(values.pop("spread").mean())
            rows += [
                {"steps": step, "objective": name, "value": float(value.mean()), "spread": spread}
                for name, value in values.items()
            ]
        optimiser.zero_grad()
        for make in kept.bgpo_losses():
            make().backward()
        optimiser.step()
    return rows


def byte_rows(canvas: Canvas, policy: nn.Module, prompts: Tensor, group: int, masks: Sequence[int]) -> list[Row]:
    """Return what autograd keeps for one backward pass of VRPO and of BGPO, for every number of masks."""
    rows = []
    for count in masks:
        kept = keep(canvas, policy, prompts, group, count, seed=0)
        sizes = {"vrpo": kept_bytes(kept.vrpo_loss), "bgpo": max(map(kept_bytes, kept.bgpo_losses()))}
        rows += [{"objective": name, "samples": count, "bytes": size} for name, size in sizes.items()]
    return rows


def keep(canvas: Canvas, policy: nn.Module, prompts: Tensor, group: int, samples: int, seed: int) -> Kept:
    """Return rollouts of the policy with MaxRL's advantages, and masks for each."""
    denoiser = cast(Denoiser, policy)
    stream = generator("off-policy", seed)
    written = sample(
        lambda states: denoiser.log_probs(prompts, states),
        Uniform(),
        prompts=len(prompts),
        rollouts=group,
        length=canvas.length,
        base=canvas.base,
        stream=stream,
    )
    success, failure = exact.coefficients("maxrl", rollouts=group)
    advantages = look_up(success, failure, canvas.right(prompts, written.answers).long(), None).float()
    return Kept(denoiser, prompts, written.answers, advantages, samples, canvas.base, stream)


def gap_rows(canvas: Canvas, policy: nn.Module, prompts: Tensor) -> list[Row]:
    """Return how far the bound is below log p(x), in nats, for blocks of every length and for the confident sampler.

    `above` is the probability of an answer whose bound is above its log-probability.
    """
    lattice = Lattice(canvas.length, canvas.base)
    table = tabulate(policy, prompts, lattice)
    blocks = [size for size in range(1, canvas.length + 1) if canvas.length % size == 0]
    samplers: list[tuple[str, Sampler, int | None]] = [(f"blocks of {size}", Blocks(size), size) for size in blocks]
    rows = []
    for name, sampler, size in (*samplers, ("most confident", MostConfident(), None)):
        log_probs = lattice.answer_log_probs(table, sampler)
        gaps = log_probs - likelihoods.elbo(lattice, table, size)
        is_written = log_probs > -100  # an answer that is never written has no gap
        mean = (log_probs.exp() * gaps).where(is_written, 0.0).sum(1)
        above = (log_probs.exp() * (gaps < -1e-9)).where(is_written, 0.0).sum(1)
        rows += [
            {"prompt": index, "verifier": verifier, "sampler": name, "block": size, "gap": gap, "above": share}
            for index, (verifier, gap, share) in enumerate(
                zip(canvas.verifier_of(prompts), mean.tolist(), above.tolist(), strict=True)
            )
        ]
    return rows
