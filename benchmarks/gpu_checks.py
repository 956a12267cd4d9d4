"""Does the device compute what the CPU does? One function a check: how far it is off, and how far it may be."""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gpu_work import Step, Work, levels
from maxrl_lab.rows import Row


def checks(work: Work) -> Iterator[Row]:
    """Yield for every check whether the device computes what the CPU does; then raise if one did not."""
    failed = []
    for check in (_advantages, _weights, _tallies, _pass_rates, _answers, _gradients):
        row: Row = {"check": check.__name__.strip("_"), "passed": True}
        try:
            row["deviation"], row["allowed"] = check(work)
            row["passed"] = row["deviation"] <= row["allowed"]
        except Exception as error:  # the other checks are still worth knowing
            row |= {"passed": False, "error": f"{type(error).__name__}: {error}"}
        failed += [] if row["passed"] else [row["check"]]
        yield row
    if failed:
        raise RuntimeError(f"checks that failed: {', '.join(failed)}")


def _advantages(work: Work) -> tuple[float, float]:
    from maxrl_lab import estimators

    rewards = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    names = ("rloo", "grpo", "maxrl", "pkpo:k=2")
    pairs = ((estimators.resolve(name)(rewards), estimators.resolve(name)(rewards.to(work.device))) for name in names)
    return max(_deviation(here, there) for here, there in pairs), 1e-6


def _weights(work: Work) -> tuple[float, float]:
    from maxrl_lab import exact

    p = torch.linspace(0.001, 0.999, 99, dtype=torch.float64)
    here = exact.weight("grpo", rollouts=64, pass_rate=p)
    return _deviation(here, exact.weight("grpo", rollouts=64, pass_rate=p.to(work.device))), 1e-10


def _tallies(work: Work) -> tuple[float, float]:
    """Counts of classes have the frequencies that were asked for: within five standard errors each."""
    from maxrl_lab.classification import ClassificationBatch

    log_probs = torch.linspace(-3, 0, 20, device=work.device).log_softmax(0)
    labels = torch.zeros(1, 1, dtype=torch.long, device=work.device)
    group = ClassificationBatch(log_probs[None, None], labels, [0], 0, tally=True).rollout([0], 100_000)
    p = log_probs.double().exp()
    errors = (group.counts[0, 0] - 1e5 * p) / (1e5 * p * (1 - p)).sqrt()
    return float(errors.abs().max()), 5.0


def _pass_rates(work: Work) -> tuple[float, float]:
    """Sampled pass rates are the exact ones, within five standard errors."""
    tasks = levels(work)
    log_policy = torch.zeros(tasks.shape, device=work.device).log_softmax(-1)
    rates = tasks.pass_rate(log_policy)
    group = tasks.rollout(log_policy, 20_000, torch.Generator(work.device).manual_seed(0))
    errors = (group.rewards.double().mean(-1) - rates) / (rates * (1 - rates) / 20_000 + 1e-12).sqrt()
    return float(errors.abs().max()), 5.0


def _answers(work: Work) -> tuple[float, float]:
    """Log-probabilities of answers that were sampled on the device, scored again on the CPU."""
    from maxrl_lab.tokens.scoring import read, score

    step = Step(work, prompts=2, rollouts=3, answer=6)
    written = step.write()
    policy, (tokens, lengths) = step.policy.cpu(), (part.cpu() for part in step.prompts)
    with torch.no_grad():
        again, _ = score(policy, read(policy, tokens, lengths), written.tokens.cpu(), written.lengths.cpu())
    return _deviation(again, written.log_probs), 1e-3


def _gradients(work: Work) -> tuple[float, float]:
    """The gradient of given answers, on the device and on the CPU, relative to its largest entry."""
    from maxrl_lab.tokens.gradients import accumulate
    from maxrl_lab.tokens.sampling import Answers
    from maxrl_lab.tokens.writing import Prompts

    step = Step(work, prompts=2, rollouts=3, answer=6)
    written, slopes, sides = step.write(), torch.tensor([[1.0, -1, 2], [0.5, 0, -1]]), []
    for device in (work.device, torch.device("cpu")):
        policy = step.policy.to(device)
        prompts, answers = (
            kind(*(part.to(device) for part in parts)) for kind, parts in ((Prompts, step.prompts), (Answers, written))
        )
        there = slopes.to(device)
        parameters = list(policy.parameters())
        parts = accumulate(policy, parameters, prompts, answers, step.writing, there, torch.zeros_like(there))
        sides.append(torch.cat([part.flatten().cpu() for part in parts]))
    return _deviation(*sides) / float(sides[1].abs().max()), 1e-3


def _deviation(here: Tensor, there: Tensor) -> float:
    return float((here.double().cpu() - there.double().cpu()).abs().max())
