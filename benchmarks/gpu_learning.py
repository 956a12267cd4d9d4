"""Learning on a GPU: updates of `maze_scaling --preset full`, and what bfloat16 does to what a small policy learns."""

import copy
import importlib.util
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from benchmarks.gpu_work import Work
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.rows import Row

PRECISIONS = ("float32", "bfloat16")


def maze_scaling(work: Work) -> Iterator[Row]:
    """Yield pass@k of the base, a row an update while there is time, and pass@k at the end."""
    if work.left <= 0:
        yield {"left_out": "no time is left"}
        return
    sizes = work.sizes
    study, policy, row = _pretrained(work, sizes.preset, 0.4 * work.left)
    yield row

    def measure(step: int) -> Row:
        evaluation = study.evaluate(policy, study.held_out(), sizes.samples, study.writing(), 0, step)
        return {"update": step, **{f"pass_at_{row['k']}": row["pass_at_k"] for row in evaluation.coverage()}}

    start = time.monotonic()
    yield measure(0)
    evaluation_seconds = time.monotonic() - start
    update_once = _updates(study, policy, sizes.training_rollouts, sizes.learning_rate, None)
    slowest, update = 0.0, 0
    while update < sizes.most_updates and work.left > 1.5 * (evaluation_seconds + slowest):
        seen: Row = {}
        seconds = work.seconds(lambda update=update, seen=seen: seen.update(update_once(0, update)))
        slowest, update = max(slowest, seconds), update + 1
        yield {"update": update, "rollouts": sizes.training_rollouts, "seconds": seconds, **seen}
    yield measure(update)


def bfloat16_learning(work: Work) -> Iterator[Row]:
    """Yield pass@1 of one base before and after updates in float32 and in bfloat16, a row a pair.

    The two of a pair have the same training problems and the same random numbers; all are measured in float32, on the
    same held-out problems with the same random numbers.
    """
    if work.left <= 0:
        yield {"left_out": "no time is left"}
        return
    sizes = work.sizes
    study, base, row = _pretrained(work, sizes.small_preset, 0.4 * work.left)
    yield row
    updates, longest = 0, 0.0
    for seed in range(sizes.pairs):
        start = time.monotonic()
        if seed == 0:
            updates = _affordable(work, study, base)
        elif work.left < 1.1 * longest:
            break
        if not updates:
            yield {"seed": seed, "left_out": f"{work.left:.0f} s are left"}
            return
        head = {"seed": seed, "updates": updates, "rollouts": sizes.training_rollouts}
        yield head | _pair(work, study, base, seed, updates)
        longest = max(longest, time.monotonic() - start)


def _pair(work: Work, study: Any, base: Transformer, seed: int, updates: int) -> Row:
    """Return pass@1 of the base, and of what each precision makes of it, with the median seconds of an update."""
    row: Row = {"pass_at_1": _pass_at_1(work, study, base, seed)}
    for precision in PRECISIONS:
        policy = copy.deepcopy(base)
        update_once = _learn_in(work, study, policy, precision)
        seconds = sorted(work.seconds(partial(update_once, seed, step)) for step in range(updates))
        row[f"pass_at_1_{precision}"] = _pass_at_1(work, study, policy, seed)
        row[f"seconds_{precision}"] = seconds[len(seconds) // 2]
    return row


def _affordable(work: Work, study: Any, base: Transformer) -> int:
    """Return how many updates of both precisions, and three measurements, the time left can hold."""
    measuring = work.seconds(lambda: _pass_at_1(work, study, base, 0))
    an_update = 0.0
    for precision in PRECISIONS:
        update_once = _learn_in(work, study, copy.deepcopy(base), precision)
        update_once(0, 0)
        an_update += work.seconds(partial(update_once, 0, 1))
    return max(0, min(work.sizes.paired_updates, int((0.8 * work.left - 3 * measuring) / an_update)))


def _learn_in(work: Work, study: Any, policy: Transformer, precision: str) -> Callable[[int, int], Row]:
    """Return what makes an update in a precision."""
    there = replace(study, settings=replace(study.settings, precision=precision))
    return _updates(there, policy, work.sizes.training_rollouts, work.sizes.small_learning_rate, study.settings.clip)


def _pass_at_1(work: Work, study: Any, policy: Transformer, seed: int) -> float:
    evaluation = study.evaluate(policy, study.held_out(), work.sizes.samples, study.writing(), seed)
    return float(evaluation.coverage()[0]["pass_at_k"])


def _updates(
    study: Any, policy: Transformer, rollouts: int, rate: float, clip: float | None
) -> Callable[[int, int], Row]:
    """Return a function of seed and step that makes an update of MaxRL, and returns what its answers were like."""
    from maxrl_lab.training import fit
    from maxrl_lab.training.methods import Sampled
    from maxrl_lab.training.step import run_losses, take_step

    optimiser = fit.make_optimiser(fit.Optimisation(study.settings.steps, "adamw"), [policy], [rate])
    method = Sampled("maxrl", rollouts)

    def update_once(seed: int, step: int) -> Row:
        batch = study.batch(policy, study.problems(seed, step), seed, step)
        take_step(run_losses(batch, [method]), optimiser, clip)
        seen: Row = batch.seen
        return seen

    return update_once


def _pretrained(work: Work, preset: str, seconds: float) -> tuple[Any, Transformer, Row]:
    """Return the study of a preset, a base that was pretrained for so many seconds at most, and a row on that."""
    _allow_missing_progress_bars()
    from experiments.tokens.maze_scaling import PRESETS
    from maxrl_lab.runs.checkpoint import Checkpoint
    from maxrl_lab.runs.context import Context
    from maxrl_lab.tokens.pretraining import pretrain

    end = time.monotonic() + seconds

    class Timed(Context):
        """A context whose loops end when their time is over."""

        def progress(self, name: str) -> Callable[[Iterable[Any]], Iterable[Any]]:  # noqa: ARG002
            return lambda items: takewhile(lambda _: time.monotonic() < end, items)

    settings = PRESETS[preset]
    memory = max(settings.memory, min(4.0, work.memory))  # `standard` is for processors, where small parts are quicker
    settings = replace(settings, processes=1, memory=memory)
    with tempfile.TemporaryDirectory() as folder:
        study = settings.study(Timed(work.device, Checkpoint(Path(folder) / "state"), quiet=True))
        start = time.monotonic()
        policy, _ = pretrain(study, 0, study.context.checkpoint)
    row = {"pretraining_seconds": time.monotonic() - start, "most_pretraining_updates": settings.pretrain_steps}
    return study, policy, row


def _allow_missing_progress_bars() -> None:
    """Let the experiments be imported where tqdm, which is no base dependency, is not installed."""
    if importlib.util.find_spec("tqdm") is None:
        stand_in = types.ModuleType("tqdm")
        stand_in.tqdm = lambda items, **_options: items  # type: ignore[attr-defined]
        sys.modules["tqdm"] = stand_in
