"""Captured steps beside the ordinary ones: whether both compute the same, and how long each takes.

On a CPU nothing is captured: the same functions are called on the same buffers, which compares what they compute.
"""

import copy
import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu_sections import ARITHMETICS, floor_of_rollouts, floors
from benchmarks.gpu_work import Step, Work, levels, odd, small
from maxrl_lab.rows import Row

ALLOWED = 1e-3
"""How far captured float32 may be off: log-probabilities in nats, gradients relative to their largest entry, steps of
the optimiser in learning rates."""
ALLOWED_SHARE = 0.01
"""Share of answers or rollouts that may differ, because a random number fell between two roundings."""
PAPER_ARITHMETICS = ("float32", "bfloat16")
RATE = 1e-3
"""Learning rate of the updates."""


class Pair(NamedTuple):
    """One piece of work, done in both ways."""

    ordinary: Callable[[], object]
    captured: Callable[[], object]
    differences: Callable[[], Row]
    """How far the two are apart, by names such as `difference`, and shares, by names such as `different_answers`."""
    floor: Callable[[], Row]
    """The least seconds that the card needs, `floor_seconds`; it is asked after the timing."""
    exact: bool = True
    """Whether the two may differ by the rounding of float32 only."""


Case = tuple[Row, Callable[[], Pair]]
"""What a row begins with, and what makes its pair."""


def captured_sampling(work: Work) -> Iterator[Row]:
    """Yield the time of writing answers, each token by one replay, and without."""
    yield from _compare(work, _steps(work, _sampling))


def captured_update(work: Work) -> Iterator[Row]:
    """Yield the time of a whole update with sampling, gradient and optimiser step captured, and without."""
    yield from _compare(work, _steps(work, _updating))


def captured_table_rollouts(work: Work) -> Iterator[Row]:
    """Yield the time of table rollouts with their gradient, captured and not, for growing N."""
    counts = work.sizes.table_rollouts
    yield from _compare(
        work, [({"rollouts": count}, lambda count=count: _rolling_out(work, count)) for count in counts]
    )


def _compare(work: Work, cases: Iterable[Case]) -> Iterator[Row]:
    """Yield a row a case, then raise if one failed; a case is left out when the one before took longer than is left."""
    failed, last = [], 0.0
    for head, make in cases:
        if work.left <= last:
            yield head | {"left_out": f"{work.left:.0f} s are left"}
            continue
        before = work.left
        try:
            row = head | _measured(work, make())
        except Exception as error:  # the other cases are still worth knowing
            row = head | {"passed": False, "error": f"{type(error).__name__}: {error}"}
        last = before - work.left
        failed += [", ".join(map(str, head.values()))] if row["passed"] is False else []
        yield row
        gc.collect()  # captured functions and what they belong to hold each other
        if work.device.type == "cuda":
            torch.cuda.empty_cache()
    if failed:
        raise RuntimeError(f"captured work that failed or differs: {'; '.join(failed)}")


def _measured(work: Work, pair: Pair) -> Row:
    """Return how far the two ways are apart, and their times; the first captured call records."""
    recording = work.seconds(pair.captured)
    row: Row = {"seconds_recording": recording, **pair.differences()}
    row["ordinary_seconds"] = work.median(pair.ordinary, rounds=3)
    row["seconds"] = work.median(pair.captured, rounds=3)
    allowed = {"difference": ALLOWED, "different": ALLOWED_SHARE}
    apart = {name: value for name, value in row.items() if name.startswith("differen")}
    is_near = all(value <= allowed[name.partition("_")[0]] for name, value in apart.items())
    return row | {"passed": is_near if pair.exact else None} | pair.floor()


def _steps(work: Work, pair: Callable[[Work, Step, str], Pair]) -> Iterator[Case]:
    """Yield the small policy's cases, for growing N, and the paper's smaller one in each arithmetic."""
    here = small(work, work.device)
    prompts = work.sizes.small_prompts
    for count in work.sizes.small_rollouts:
        head = {"policy": "small", "prompts": prompts, "rollouts": count, "arithmetic": "float32"}
        yield head, lambda count=count: pair(work, Step(here, prompts, count), "float32")
    prompts, count = work.sizes.prompts[0], work.sizes.rollouts
    for name in PAPER_ARITHMETICS:
        head = {"policy": "paper", "prompts": prompts, "rollouts": count, "arithmetic": name}
        precision, _ = ARITHMETICS[name]
        yield (
            head,
            lambda name=name, precision=precision: pair(work, Step(work, prompts, count, precision=precision), name),
        )


def _sampling(work: Work, step: Step, name: str) -> Pair:
    from maxrl_lab.tokens.captured_writing import CapturedWriting

    writer = CapturedWriting(step.policy, step.writing)

    def captured() -> object:
        stream = torch.Generator(work.device).manual_seed(0)
        return writer.write(step.prompts, step.rollouts, stream)

    def differences() -> Row:
        stream = torch.Generator(work.device).manual_seed(0)
        answers, wanted = writer.write(step.prompts, step.rollouts, stream), step.write()
        equal = (answers.tokens == wanted.tokens).all(-1)
        apart = (answers.log_probs - wanted.log_probs).abs().masked_fill(~equal, 0.0)
        return {"difference": float(apart.max()), "different_answers": 1 - float(equal.double().mean())}

    def floor() -> Row:
        row = floors(work, step, name)
        return {"floor_seconds": row["floor_seconds_sampling"]} if row else {}

    return Pair(step.write, captured, differences, floor, exact=name == "float32")


def _updating(work: Work, step: Step, name: str) -> Pair:
    from maxrl_lab.tokens.captured_step import CapturedStep
    from maxrl_lab.tokens.gradients import accumulate
    from maxrl_lab.training.methods import Sampled

    policy = copy.deepcopy(step.policy)
    there = CapturedStep(policy, step.writing, Sampled("maxrl", step.rollouts), _adamw(policy))

    def differences() -> Row:
        """Compare the gradients of the same answers, and the optimisers' steps along the same gradient."""
        policy.load_state_dict(step.policy.state_dict())
        answers = step.write()
        slopes = torch.ones_like(answers.log_probs)
        slopes[:, ::2] = -0.5
        there.gradient.zero()
        there.gradient.accumulate(step.prompts, answers, slopes)
        parameters, none = list(step.policy.parameters()), torch.zeros_like(slopes)
        wanted = accumulate(step.policy, parameters, step.prompts, answers, step.writing, slopes, none)
        largest = max(float(slope.abs().max()) for slope in wanted)
        moves = _difference_of_moves(there)
        return {"difference": _apart(there.gradient.totals, wanted) / largest, "difference_of_moves": moves}

    def captured() -> object:
        return there.update(step.prompts, odd, 0, 0)

    def floor() -> Row:
        row = floors(work, step, name)
        return {"floor_seconds": row["floor_seconds"]} if row else {}

    return Pair(step.update, captured, differences, floor, exact=name == "float32")


def _difference_of_moves(there: Any) -> float:
    """Return how far the parameters are apart after a captured and an ordinary step of AdamW, in learning rates."""
    policy = copy.deepcopy(there.policy)
    ordinary = _adamw(policy)
    ordinary.load_state_dict(copy.deepcopy(there.optimiser.state_dict()))
    for group in ordinary.param_groups:
        group.update(lr=RATE, capturable=False)
    for parameter, total in zip(policy.parameters(), there.gradient.totals, strict=True):
        parameter.grad = total.clone()
    ordinary.step()
    there.move()
    return _apart(policy.parameters(), there.policy.parameters()) / RATE


def _rolling_out(work: Work, count: int) -> Pair:
    from maxrl_lab.tabular.captured_rollout import CapturedRollouts
    from maxrl_lab.tabular.rollout import sample_uniforms
    from maxrl_lab.training.groups import Group

    tasks = levels(work)
    policy = torch.zeros(tasks.shape, device=work.device).log_softmax(-1).requires_grad_()
    rollouts = CapturedRollouts(tasks)

    def ordinary() -> Group:
        policy.grad = None
        group: Group = tasks.rollout(policy, count, torch.Generator(work.device).manual_seed(0))
        group.log_probs.sum().backward()
        return group

    def captured() -> Group:
        policy.grad = None
        uniforms = sample_uniforms(tasks, count, torch.Generator(work.device).manual_seed(0))
        group = rollouts.roll_out(tasks.checked(policy), uniforms[None], [0])
        group.log_probs.sum().backward()
        return group

    def differences() -> Row:
        wanted, slope = ordinary(), policy.grad
        group = captured()
        apart = _apart([group.log_probs[0]], [wanted.log_probs])
        slopes = _apart([policy.grad], [slope]) / float(slope.abs().max())
        different = (group.rewards[0] != wanted.rewards) | (group.lengths[0] != wanted.lengths)
        return {"difference": max(apart, slopes), "different_rollouts": float(different.double().mean())}

    return Pair(ordinary, captured, differences, lambda: floor_of_rollouts(work, float(ordinary().lengths.sum())))


def _adamw(policy: torch.nn.Module) -> torch.optim.Optimizer:
    from maxrl_lab.training import fit

    return fit.make_optimiser(fit.Optimisation(steps=1, optimiser="adamw"), [policy], [RATE])


def _apart(one: Iterable[Tensor], other: Iterable[Tensor]) -> float:
    """Return the largest difference between tensors."""
    return max(float((mine.detach() - theirs.detach()).abs().max()) for mine, theirs in zip(one, other, strict=True))
